"""A gateway tells the settler that it serves, whether or not it was heard the last time."""

import asyncio
from typing import TypeVar

import msgspec
from l402_gateway.awake import say_awake_forever
from l402core.errors import Unavailable
from l402core.events import GatewayAwake, Question

A = TypeVar("A", bound=msgspec.Struct)


class DeafBus:
    """Nobody answers the first questions."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.heard = asyncio.Event()

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float) -> A:
        self.asked.append(question)
        if len(self.asked) < 3:
            raise Unavailable("bus", "settler did not answer")
        self.heard.set()
        return msgspec.convert({"at_ms": 1}, answer)


async def always() -> bool:
    """The object store answers."""
    return True


async def test_a_gateway_says_that_it_serves_until_it_is_heard_and_on() -> None:
    """A settler that is away for a while does not end the saying, nor the gateway."""
    bus = DeafBus()
    saying = asyncio.create_task(say_awake_forever(bus, always, every_s=0.001))
    await asyncio.wait_for(bus.heard.wait(), 30)
    assert not saying.done()
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)
    assert {type(one) for one in bus.asked} == {GatewayAwake}


async def test_a_gateway_that_cannot_keep_what_is_uploaded_does_not_say_that_it_serves() -> None:
    """It is silent for as long as the object store is away, so that a missed upload is our outage, and no longer."""
    bus, looks = DeafBus(), 0
    asked_at: list[int] = []

    async def takes_uploads() -> bool:
        nonlocal looks
        looks += 1
        asked_at.append(len(bus.asked))
        return looks > 5

    saying = asyncio.create_task(say_awake_forever(bus, takes_uploads, every_s=0.001))
    await asyncio.wait_for(bus.heard.wait(), 30)
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)
    assert asked_at[:6] == [0] * 6
