"""Who takes part in a history, and how each peer behaves. It acts on nothing."""

from enum import StrEnum

import msgspec

from tests.simulation.chance import Chance


class Manner(StrEnum):
    """How a peer treats the coordinator."""

    HONEST = "is honest"
    GARBAGE = "uploads garbage"
    VANISHES = "vanishes"
    LEAVES_THE_NETWORK = "vanishes with its node"
    CLAIMS_EARLY = "claims acceptance of what did not arrive"
    NEVER_CLAIMS = "never says that its rungs are accepted"
    OUT_OF_REACH = "is out of reach when its rungs are sent"
    REFUSES_RUNGS = "turns the rungs away"
    NEVER_CANCELS = "never cancels"
    NEVER_SETTLES = "never settles"
    SETTLES_LATE = "settles late"
    WRONG_INVOICES = "hands in invoices of another amount"
    REUSES_TOKEN = "presents one token twice"


BEHAVED = frozenset({Manner.HONEST, Manner.GARBAGE})
"""Nobody may lose money to these, and these lose none they did not owe."""


class Part(msgspec.Struct, frozen=True):
    """One peer: the units it earns (None: it uploads garbage), and its manner. `when` is a number of its own effects."""

    name: str
    units: int | None = 31
    manner: Manner = Manner.HONEST
    when: int = 0

    def __str__(self) -> str:
        earns = "garbage" if self.units is None else f"{self.units} units"
        after = f" after {self.when} effects" if self.when else ""
        return f"{self.name} {self.manner}{after} ({earns})"


class Cast(msgspec.Struct, frozen=True):
    """The peers, how many rounds they play, and whether a hub lies between them and the coordinator."""

    parts: tuple[Part, ...] = (Part("ada"),)
    rounds: int = 1
    hub: bool = False
    margin: int = 0
    """Where not 0, a sponsor pledges a tranche for progress of so many nano-nats."""


NAMES = ("ada", "bob", "cyd")


def draw(chance: Chance) -> Cast:
    """One to three peers, most of them honest."""
    many = 1 + chance.happens(0.45) + chance.happens(0.15)
    parts = tuple(_part(chance, name) for name in NAMES[:many])
    margin = (0, 0, 0, 1_000_000, 90_000_000)[chance.below(5)]
    return Cast(parts=parts, rounds=2 if chance.happens(0.15) else 1, hub=chance.happens(0.3), margin=margin)


def _part(chance: Chance, name: str) -> Part:
    if chance.happens(0.6):
        return Part(name, chance.below(64))
    manners = list(Manner)
    manner = manners[chance.below(len(manners))]
    units = None if manner is Manner.GARBAGE else chance.below(64)
    away = manner in (Manner.VANISHES, Manner.LEAVES_THE_NETWORK)
    return Part(name, units, manner, 1 + chance.below(34) if away else 0)
