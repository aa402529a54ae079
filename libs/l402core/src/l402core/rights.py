"""What each user of the bus may say and hear: from who writes an event, who answers a question, who consumes what.

Pure. Whoever is not named here may say nothing; nobody hears the answers to another's questions.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from l402core.bus import DEAD
from l402core.delivering import Consumer
from l402core.events import (
    EVENTS,
    FACTS,
    QUESTIONS,
    WORK,
    EndRound,
    EscrowFrozen,
    EscrowThawed,
    Event,
    Freeze,
    OwedSettle,
    Pardon,
    Question,
    ReadStops,
    Reconcile,
    SayAgain,
    Thaw,
    WriteOff,
)
from l402core.jetstream import inbox

SERVICES: Final = ("gateway", "invoicer", "settler", "attestor", "worker")
OPERATOR: Final = "operator"
"""Whoever runs `l402-train`: gives orders and follows the facts, and states none."""
MIGRATION: Final = "migrate"
"""Declares streams and consumers, and nothing else."""
USERS: Final = (*SERVICES, OPERATOR, MIGRATION)

ORDERS: Final[tuple[type[Question], ...]] = (Freeze, Thaw, OwedSettle, WriteOff, SayAgain, EndRound, Pardon, Reconcile)
"""Questions that only an operator may ask."""
ASKED: Final[dict[str, tuple[type[Question], ...]]] = {"invoicer": (ReadStops,)}
"""Questions of services that have no peer behind them; a gateway asks all others."""
OVERHEARD: Final[dict[str, tuple[type[Event], ...]]] = {
    "gateway": tuple(event for event in EVENTS if event.stream == FACTS),
    "invoicer": (EscrowFrozen, EscrowThawed),
}
"""Facts that each process of a service hears as they are said, beside what its consumers are handed: hints for pages, and
for whichever invoicer has a lock in hand."""
KEEPERS: Final = ("settler", "attestor")
"""They keep a database, and declare again a stream that was lost."""
ANSWER_WITHIN: Final = "30s"


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """Subjects, with NATS's wildcards. What is not in a list is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False
    """May publish to whatever subject a question names for its answer, once."""


def rights_of(user: str, consumers: Iterable[Consumer]) -> Rights:
    """What one of USERS may do. Raises KeyError for anybody else."""
    if user == MIGRATION:
        return Rights(publish=("$JS.API.>",), subscribe=(f"{inbox(user)}.>",))
    if user == OPERATOR:
        return _operator()
    if user not in SERVICES:
        raise KeyError(user)
    answered = [question.name for question, _ in QUESTIONS if question.answered_by == user]
    own = [consumer for consumer in consumers if consumer.service == user]
    said = [f"{event.name}.>" for event in EVENTS if event.writer == user]
    asked = [question.name for question in _asked(user)]
    heard = [f"{event.name}.>" for event in OVERHEARD.get(user, ())]
    return Rights(
        publish=tuple(sorted({*said, *asked, *_reading(own), *(_keeping() if user in KEEPERS else ())})),
        subscribe=tuple(sorted({f"{inbox(user)}.>", *answered, *heard})),
        answers=bool(answered),
    )


def _asked(user: str) -> tuple[type[Question], ...]:
    others = {*ORDERS, *(question for of_one in ASKED.values() for question in of_one)}
    return tuple(one for one, _ in QUESTIONS if one not in others) if user == "gateway" else ASKED.get(user, ())


def _reading(consumers: Iterable[Consumer]) -> Iterable[str]:
    """What a durable pull consumer says to the server."""
    for consumer in consumers:
        where = f"{consumer.event.stream}.{consumer.durable}"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{where}"
        yield f"$JS.ACK.{where}.>"


def _keeping() -> Iterable[str]:
    """What `l402core.streams` says to the server."""
    for stream in (FACTS, WORK, DEAD):
        yield from (f"$JS.API.STREAM.{call}.{stream}" for call in ("INFO", "CREATE"))
        yield f"$JS.API.CONSUMER.LIST.{stream}"
        yield from (f"$JS.API.CONSUMER.{call}.{stream}.>" for call in ("CREATE", "DURABLE.CREATE"))


def _operator() -> Rights:
    """Orders and looks, and an ordered consumer of the facts that nobody else shares."""
    asked = {question.name for question, _ in QUESTIONS if question in ORDERS or "read" in question.name}
    follow = (
        f"$JS.API.STREAM.INFO.{FACTS}", f"$JS.API.CONSUMER.CREATE.{FACTS}", f"$JS.API.CONSUMER.CREATE.{FACTS}.>",
        f"$JS.API.CONSUMER.INFO.{FACTS}.>", f"$JS.API.CONSUMER.DELETE.{FACTS}.>", "$JS.FC.>",
    )  # fmt: skip
    return Rights(publish=(*sorted(asked), *follow), subscribe=(f"{inbox(OPERATOR)}.>",))
