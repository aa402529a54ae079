"""One payment channel: two balances and the HTLCs between them. It knows no invoices, no routes and no clock."""

from dataclasses import dataclass, field

import msgspec

MAX_HTLCS = 483
"""`max_accepted_htlcs` of BOLT 2: HTLCs in flight per direction."""
RESERVE_PART = 100
"""LND's default reserve is 1/100 of the capacity, which a sender must keep."""
MIN_HTLC_MSAT = 1_000
"""LND's default policy for outgoing HTLCs."""


class Htlc(msgspec.Struct, frozen=True):
    """Money in flight from one side to the other, in msat, until the preimage, a failure or `expiry_height`."""

    index: int
    payment_hash: bytes
    amount_msat: int
    expiry_height: int


@dataclass(slots=True)
class Channel:
    """A channel between the nodes named `ends`; `ends[0]` opened it.

    Invariant: the two balances and all HTLCs in flight add up to `capacity_msat`, less what was swept on-chain.
    """

    channel_id: int
    ends: tuple[str, str]
    capacity_msat: int
    balances: dict[str, int]
    closed: bool = False
    outgoing: dict[str, dict[int, Htlc]] = field(init=False)
    sent_msat: dict[str, int] = field(init=False)
    updates: int = 0
    _next_index: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.outgoing = {end: {} for end in self.ends}
        self.sent_msat = dict.fromkeys(self.ends, 0)
        self._next_index = dict.fromkeys(self.ends, 0)

    @property
    def reserve_msat(self) -> int:
        """What each side must keep."""
        return self.capacity_msat // RESERVE_PART

    @property
    def in_flight_msat(self) -> int:
        """All HTLCs of both directions."""
        return sum(htlc.amount_msat for side in self.outgoing.values() for htlc in side.values())

    def peer_of(self, end: str) -> str:
        """The other side."""
        return self.ends[1] if end == self.ends[0] else self.ends[0]

    def bandwidth_msat(self, sender: str) -> int:
        """What `sender` could put into one more HTLC; 0 when closed or all slots are taken."""
        if self.closed or len(self.outgoing[sender]) >= MAX_HTLCS:
            return 0
        return max(0, self.balances[sender] - self.reserve_msat)

    def carries(self, sender: str, amount_msat: int) -> bool:
        """Whether an HTLC of this amount fits now."""
        return MIN_HTLC_MSAT <= amount_msat <= self.bandwidth_msat(sender)

    def offer(self, sender: str, payment_hash: bytes, amount_msat: int, expiry_height: int) -> Htlc:
        """Put an HTLC in flight. Raises ValueError when it does not fit: the router asked `carries` first."""
        if not self.carries(sender, amount_msat):
            raise ValueError(f"channel {self.channel_id} does not carry {amount_msat} msat from {sender}")
        index = self._next_index[sender]
        self._next_index[sender] = index + 1
        htlc = Htlc(index, payment_hash, amount_msat, expiry_height)
        self.balances[sender] -= amount_msat
        self.outgoing[sender][index] = htlc
        self.updates += 1
        return htlc

    def settle(self, sender: str, index: int) -> None:
        """The receiver showed the preimage: the HTLC's amount becomes the receiver's."""
        htlc = self.outgoing[sender].pop(index)
        self.balances[self.peer_of(sender)] += htlc.amount_msat
        self.sent_msat[sender] += htlc.amount_msat
        self.updates += 1

    def fail(self, sender: str, index: int) -> None:
        """Failed, canceled or timed out: the HTLC's amount is the sender's again."""
        htlc = self.outgoing[sender].pop(index)
        self.balances[sender] += htlc.amount_msat
        self.updates += 1
