"""The page of the escrow's life: its diagrams, what is ignored and what a restart does, from the tables themselves."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from l402core import sponsorship
from l402core.escrow import IGNORED, MOVES, RECOVER, RUNG_IGNORED, RUNG_MOVES, RUNG_RECOVER, Escrow, Rung
from l402core.sponsorship import Tranche

from l402train.docs.pages import MADE

S = TypeVar("S", bound=StrEnum)
W = TypeVar("W", bound=StrEnum)


def page() -> str:
    """docs/escrow.md."""
    lines = [
        "# The life of an escrow",
        "",
        MADE,
        "",
        "Both tables stand in `l402core.escrow.tables`. A trigger that is in neither its moves nor what it ignores is a",
        "contradiction: the escrow is frozen, and somebody is woken.",
        "",
        "## An escrow",
        "",
        *_diagram(Escrow, MOVES),
        "",
        "Ignored, because they are redeliveries or lost races:",
        "",
        *_ignored(Escrow, IGNORED),
        "",
        "## A rung",
        "",
        *_diagram(Rung, RUNG_MOVES),
        "",
        "Ignored:",
        "",
        *_ignored(Rung, RUNG_IGNORED),
        "",
        "## After a restart",
        "",
        *_due("an escrow that is", MOVES, RECOVER),
        "",
        "In whatever state its escrow is:",
        "",
        *_due("a rung that is", RUNG_MOVES, RUNG_RECOVER),
        "",
        *_tranche(),
    ]
    return "\n".join(lines) + "\n"


def _tranche() -> list[str]:
    """A sponsor's hold invoice, whose payee is the coordinator's own node: `l402core.sponsorship`."""
    return [
        "## A sponsor's tranche",
        "",
        "Here our own node is the payee, so the settler alone settles or cancels. The tables stand in",
        "`l402core.sponsorship`.",
        "",
        *_diagram(Tranche, sponsorship.MOVES),
        "",
        "Ignored:",
        "",
        *_ignored(Tranche, sponsorship.IGNORED),
        "",
        "After a restart:",
        "",
        *_due("a tranche that is", sponsorship.MOVES, sponsorship.RECOVER),
    ]


def _due(title: str, moves: Mapping[tuple[S, W], S], recover: Mapping[S, tuple[StrEnum, ...]]) -> list[str]:
    """What a settler that starts does in each state."""
    moving = {state for state, _ in moves}
    return [
        f"| {title} | what the settler does |",
        "|---|---|",
        *(
            f"| {state} | {'; '.join(due) or ('waits' if state in moving else 'nothing: it is terminal')} |"
            for state, due in recover.items()
        ),
    ]


def _diagram(states: type[S], moves: Mapping[tuple[S, W], S]) -> list[str]:
    """Mermaid: states in their order, the first one entered, those without a way out left."""
    first, *_ = states
    final = [state for state in states if not any(source is state for source, _ in moves)]
    return [
        "```mermaid",
        "stateDiagram-v2",
        *(f"    {_name(state)} : {state}" for state in states if _name(state) != state),
        f"    [*] --> {_name(first)}",
        *(f"    {_name(source)} --> {_name(target)} : {trigger}" for (source, trigger), target in moves.items()),
        *(f"    {_name(state)} --> [*]" for state in final),
        "```",
    ]


def _ignored(states: type[S], pairs: Iterable[tuple[S, W]]) -> list[str]:
    known = set(pairs)
    told: dict[W, list[S]] = {}
    for state in states:
        for trigger in sorted(trigger for source, trigger in known if source is state):
            told.setdefault(trigger, []).append(state)
    return [f"- *{trigger}* in {', '.join(found)}" for trigger, found in sorted(told.items())]


def _name(state: StrEnum) -> str:
    return state.replace(" ", "_")
