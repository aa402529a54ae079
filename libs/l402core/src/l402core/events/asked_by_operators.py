"""Orders and questions of whoever runs the coordinator: freezes, the books, what is owed, channels."""

import msgspec

from l402core.events.base import Question
from l402core.money import Msat


class Freeze(Question, frozen=True, kw_only=True):
    """An operator's order: nothing that moves or promises money happens about this any more."""

    name = "money.freeze.v1"
    answered_by = "settler"

    wanted: str
    """A commitment, a payment hash of a fee, rung or tranche, or the beginning of one, 8 hex digits at least."""
    by: str
    reason: str


class Thaw(Question, frozen=True, kw_only=True):
    """An operator has looked: what was held is done now, once, or dropped by name of this order."""

    name = "money.thaw.v1"
    answered_by = "settler"

    wanted: str
    by: str
    reason: str
    drop_held: bool = False


class FreezeView(msgspec.Struct, frozen=True, kw_only=True):
    """What was frozen or thawed, and the messages that wait, or were taken or dropped, by their names."""

    what: str
    """submission, tranche or fee."""
    about: str
    state: str
    frozen: bool
    held: tuple[str, ...]


class Reconcile(Question, frozen=True, kw_only=True):
    """Compare the books with our node's own lists, now."""

    name = "ledger.reconcile.v1"
    answered_by = "settler"


class LedgerDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the books and LND see differently."""

    weight: str
    """lag (the next look joins it), contradiction (frozen, somebody is woken), foreign (not in the books at all),
    routing (another fee on the way than is booked),
    undecided (only the chain can tell, when a channel is closed) or explained (a contradiction that a person wrote off)."""
    what: str
    """rung, fee, tranche, payment or routing."""
    payment_hash: str
    commitment: str
    books: str
    lnd: str
    amount_msat: Msat


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """How many were compared, and what differs."""

    at_ms: int
    rungs: int
    fees: int
    tranches: int = 0
    differences: tuple[LedgerDifference, ...]
    """The gravest first."""
    untold: int = 0
    """How many more there are: a message has an end."""


class OwedSettle(Question, frozen=True, kw_only=True):
    """An operator has paid what stayed owed after the last offer, and closes the books of it."""

    name = "owed.settle.v1"
    answered_by = "settler"

    wanted: str
    """A commitment or the beginning of one."""
    payment_hash: str
    """Of the payment that our own node made; '' where it was paid elsewhere."""
    by: str
    reason: str


class OwedSettled(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is owed for it any more."""

    commitment: str
    peer: str
    amount_msat: Msat


class WriteOff(Question, frozen=True, kw_only=True):
    """An operator explains for good what the books and our node cannot both be right about; what it cost is written off.

    And what our node did that the books know nothing of: it is booked as outside of the protocol.
    """

    name = "money.write_off.v1"
    answered_by = "settler"

    payment_hash: str
    """Of a rung, a fee or a tranche, or of what reconcile calls foreign."""
    by: str
    reason: str
    ended: str = ""
    """paid or returned: the operator's word, where our node has lost what is open in the books; else not asked for."""


class WrittenOff(msgspec.Struct, frozen=True, kw_only=True):
    """It is in the books, and freezes nothing any more."""

    payment_hash: str
    what: str
    """rung, fee or tranche; payment or receipt where it is outside of the protocol."""
    about: str
    """The submission's commitment, or the payment hash of anything else."""
    lost_msat: int
    """What it cost, routing included; negative where our node has more than the books said, 0 where no money differs."""


class SayAgain(Question, frozen=True, kw_only=True):
    """Say again, under fresh ids, what rounds wait for: a request that became a dead letter is lost otherwise."""

    name = "oracle.say_again.v1"
    answered_by = "attestor"


class SaidAgain(msgspec.Struct, frozen=True, kw_only=True):
    """The subjects."""

    said: tuple[str, ...]


class EndRound(Question, frozen=True, kw_only=True):
    """End a round that the oracle has frozen: nobody in it is judged, and the next one opens on the same checkpoint."""

    name = "oracle.end_round.v1"
    answered_by = "attestor"

    round: int
    by: str
    reason: str


class RoundEnded(msgspec.Struct, frozen=True, kw_only=True):
    """It is over, for good."""

    round: int
    trouble: str
    """Why it was frozen."""
    checkpoint: str
    """sha256 of what the next round begins with."""


class Pardon(Question, frozen=True, kw_only=True):
    """Let a peer have offers again whose payloads workers did not survive: it was not its doing."""

    name = "oracle.pardon.v1"
    answered_by = "attestor"

    peer: str
    """Its key, or the beginning of it, 8 hex digits at least."""
    by: str
    reason: str


class Pardoned(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the peer up to this round is forgiven."""

    peer: str
    round: int
    commitment: str
    """Of the newest payload that workers did not survive."""


class ReadChannels(Question, frozen=True, kw_only=True):
    """The coordinator's channels, and what flowed over them since the books began."""

    name = "channels.read.v1"
    answered_by = "settler"


class RoundFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What one round brought in fees and paid in rewards, whether or not all of it is decided yet."""

    round: int
    fees_msat: Msat = 0
    rewards_msat: Msat = 0

    @property
    def net_msat(self) -> int:
        """What it left with the coordinator; negative where peers earned more than they paid."""
        return self.fees_msat - self.rewards_msat


class NodeFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What the submissions that name one payout node paid in fees and were paid in rewards."""

    node: str
    """Public key; "" for all nodes together that no channel of ours leads to."""
    fees_msat: Msat
    rewards_msat: Msat
    rounds: tuple[RoundFlow, ...]
    """The newest ones in which anything flowed, oldest first."""


class ChannelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of the coordinator's node, as the node tells of it now."""

    channel_id: str
    node: str
    """Public key of the other side."""
    active: bool
    capacity_msat: Msat
    local_msat: Msat
    """Ours; what is locked in flight belongs to neither side."""
    remote_msat: Msat
    slots_used: int
    """Outgoing HTLCs."""
    slots_free: int
    warning: str
    """Why it may soon carry no ladder; "" where it will."""
    reserve_msat: Msat = 0
    """What must stay in it on our side."""
    needed_msat: Msat = 0
    """What the next round may take of it: what the dearest of the last ones took, and one more ladder."""

    @property
    def sendable_msat(self) -> int:
        """What can be sent over it at most."""
        return max(0, self.local_msat - self.reserve_msat)


class ChannelsView(msgspec.Struct, frozen=True, kw_only=True):
    """Every channel, the flow per node, and whether the next round can be carried."""

    at_ms: int
    channels: tuple[ChannelStanding, ...]
    """Widest first."""
    flows: tuple[NodeFlow, ...]
    """One for each node that a channel leads to, and one for all others where anything flowed to them."""
    sendable_msat: int
    """Over active channels: a bound, for a route may not find all of it."""
    needed_msat: int
    """For a full next round: places x (ladder + routing)."""
    slots_free: int
    slots_needed: int
    warning: str
    """Why the next round may run short; "" where it will not."""
