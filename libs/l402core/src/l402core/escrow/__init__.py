"""The life of an escrow and of its rungs, as tables. Pure: it knows no clock, no database and no Lightning node."""

from l402core.escrow.states import Again, Escrow, Rung, Sight, Trigger
from l402core.escrow.tables import IGNORED, MOVES, RECOVER, RUNG_IGNORED, RUNG_MOVES, move, see

__all__ = [
    "IGNORED",
    "MOVES",
    "RECOVER",
    "RUNG_IGNORED",
    "RUNG_MOVES",
    "Again",
    "Escrow",
    "Rung",
    "Sight",
    "Trigger",
    "move",
    "see",
]
