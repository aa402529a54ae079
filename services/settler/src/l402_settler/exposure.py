"""How much may be out or promised: to one peer and payee, of one day, by our node. Pure: what is held is an argument."""

import msgspec
from l402core.errors import Exhausted, L402Error


class Need(msgspec.Struct, frozen=True):
    """What one more ladder takes."""

    msat: int
    rungs: int

    def routed_msat(self, fee_limit_msat: int) -> int:
        """With the most that its routes may cost: so much must be there to send it."""
        return self.msat + self.rungs * fee_limit_msat


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What is out, or promised, to one peer or payee."""

    msat: int
    rungs: int
    promised_rungs: int
    """Those of them that hold no HTLC slot yet."""
    promised_msat: int
    """What those are worth, which has not left a channel yet."""


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """The most that may be."""

    msat: int
    rungs: int


class ExposureCaps(msgspec.Struct, frozen=True, kw_only=True):
    """For one peer's key, and for one payee's node, which may serve many peers."""

    peer: Cap
    payee: Cap


def over_cap(whose: str, held: Exposure, cap: Cap, more_msat: int, more_rungs: int) -> L402Error | None:
    """Why one more ladder is too much, if so: until hanging rungs return, no new ones are promised."""
    if held.msat + more_msat <= cap.msat and held.rungs + more_rungs <= cap.rungs:
        return None
    return Exhausted(
        f"{whose}_exposure",
        f"{held.rungs} rungs of {held.msat} msat are out or promised to this {whose}, and {cap.rungs} rungs or "
        f"{cap.msat} msat may be; settle or cancel what hangs",
    )


def over_channels(held: Exposure, need: Need, *, sendable_msat: int | None, slots: int | None) -> L402Error | None:
    """Why our channels to a payee's node cannot carry one more ladder beside what is promised there, if so.

    None is what they have left where we share no channel with it: then some way over others' may be found, or none. On a
    channel of our own a route costs nothing.
    """
    if slots is not None and slots - held.promised_rungs < need.rungs:
        return Exhausted("channel_slots", "the channels to this payee's node are short of HTLC slots")
    if sendable_msat is not None and sendable_msat - held.promised_msat < need.msat:
        return Exhausted("channel_liquidity", "the channels to this payee's node are short of outbound liquidity")
    return None


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What the day and our node have left beside every ladder that is promised, in all rounds."""

    day_msat: int
    liquidity_msat: int
    """Routing fees of what is promised are off already."""
    fee_limit_msat: int
    """The most that the route of one rung may cost."""
    slots: int
    node_trouble: str
    """Why our node cannot lock now; '' when it can."""

    def refusal(self, need: Need) -> L402Error | None:
        """Why one more ladder is too much, if so."""
        if self.node_trouble:
            return Exhausted("node", self.node_trouble)
        if self.day_msat < need.msat:
            return Exhausted("day_cap", "the day's cap on locked rewards is reached")
        if self.liquidity_msat < need.routed_msat(self.fee_limit_msat):
            return Exhausted("liquidity", "the coordinator's node is short of outbound liquidity")
        if self.slots < need.rungs:
            return Exhausted("slots", "the coordinator's channels are short of HTLC slots")
        return None
