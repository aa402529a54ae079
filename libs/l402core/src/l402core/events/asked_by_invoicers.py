"""What an invoicer asks the settler that it may have missed."""

import msgspec

from l402core.events.base import Question


class ReadStops(Question, frozen=True, kw_only=True):
    """What is frozen now, and how these stand; asked by an invoicer that was away when it may have been told."""

    name = "escrow.read_stops.v1"
    answered_by = "settler"

    about: tuple[str, ...] = ()
    """Commitments that it has noted as frozen."""


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a lock of one escrow may be sent, as `escrow.frozen` and `escrow.thawed` of this revision say."""

    commitment: str
    revision: int
    frozen: bool


class StopsView(msgspec.Struct, frozen=True, kw_only=True):
    """Every open escrow that is frozen, and each that was asked about and was ever frozen."""

    stands: tuple[Stand, ...]
