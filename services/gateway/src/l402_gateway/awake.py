"""That this gateway serves, told to the settler every few seconds. It says nothing of any peer, and waits for nobody.

A deadline that passes while no gateway was there, or none that could put down what peers send, is no peer's fault; only
the gateways can tell, since a peer's silence may be its own choice.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
from l402core.errors import L402Error
from l402core.events import AWAKE_EVERY_MS, GatewayAwake, GatewayHeard, Question

A = TypeVar("A", bound=msgspec.Struct)


class Asks(Protocol):
    """The bus, as far as this needs it."""

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float) -> A: ...


async def say_awake_forever(
    bus: Asks, takes_uploads: Callable[[], Awaitable[bool]], *, every_s: float = AWAKE_EVERY_MS / 1_000
) -> None:
    """For ever, while it can take a gradient. Where the settler does not hear it, the settler's own books say so."""
    while True:
        with contextlib.suppress(L402Error):
            if await takes_uploads():
                await bus.ask(GatewayAwake(), GatewayHeard, timeout_s=every_s)
        await asyncio.sleep(every_s)
