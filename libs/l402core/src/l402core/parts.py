"""What a service needs, told over the bus as `/readyz` tells it over HTTP. It knows no service."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from l402core.control import Ready
from l402core.events import PartsView, Question, ReadParts

Q = TypeVar("Q", bound=Question)


class Answers(Protocol):
    """The bus, as far as this needs it."""

    def answer(self, question: type[Q], handler: Callable[[Q], Awaitable[msgspec.Struct]]) -> None: ...


def tell_parts(bus: Answers, question: type[ReadParts], ready: Ready) -> None:
    """Answer this service's own question. Call before the bus starts."""

    async def parts(_question: ReadParts) -> PartsView:
        return PartsView(parts=await ready())

    bus.answer(question, parts)
