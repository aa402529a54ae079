"""The life of an escrow and of its rungs, as tables. Pure: it knows no clock, no database and no Lightning node."""

from l402core.escrow.states import Again, AskAgain, Escrow, Rung, Sight, Trigger
from l402core.escrow.tables import (
    IGNORED,
    MOVES,
    OPEN_RUNG,
    RECOVER,
    RUNG_IGNORED,
    RUNG_MOVES,
    RUNG_RECOVER,
    move,
    see,
)

__all__ = [
    "IGNORED",
    "MOVES",
    "OPEN_RUNG",
    "RECOVER",
    "RUNG_IGNORED",
    "RUNG_MOVES",
    "RUNG_RECOVER",
    "Again",
    "AskAgain",
    "Escrow",
    "Rung",
    "Sight",
    "Trigger",
    "move",
    "see",
]
