"""Double entry for every way money moves here. Pure: it makes transfers, and refuses to know how they are kept.

    account            what a credit balance means (debit for the first five)
    lightning          our node's balance (debit)
    rewards            what gradients have earned so far (debit)
    routing            routing fees paid (debit)
    written-off        what a person wrote off: the node and the books differed, or a rung was paid that nobody earned (debit)
    outside            what our node paid and was paid that was none of ours, as a person said (debit)
    ------------------------------------------------------------------------------------------------
    treasury           what the coordinator brought
    fees:unclaimed     fees that arrived and have opened nothing yet; zero when all is quiet
    fees:earned        fees that opened a submission
    credits:<peer>     fees that could not be served and may be used once more
    peer:<peer>        earned and not yet collected; zero when all is quiet
    owed:<peer>        earned, not deliverable on its ladder, to be paid through a new offer
    sponsors:<key>     what a sponsor's tranches brought: progress that was paid for

A reward's rung is pending (peer ← lightning) from the intent to lock until LND says SUCCEEDED (post) or FAILED (void).
The decision books the earned sum (rewards ← peer). A sponsor's tranche is pending (lightning ← sponsor) from ACCEPTED at
our node until LND says SETTLED (post) or CANCELED (void). Identities are deterministic, so that a repeat is a duplicate key.

`treasury`, `fees:earned`, every `credits:` and every `sponsors:` account never have more debits than credits, `rewards`
and `routing` never more credits than debits: the database refuses what would make them so. The others may cross zero for
a while, because facts come in any order: a fee may be presented before its payment is reported (`fees:unclaimed`), a rung
be collected before the decision is heard (`peer:`), and money be moved by the node's owner (`lightning`); LND has the last
word there.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec
from l402core.money import Msat

LIGHTNING = "lightning"
REWARDS = "rewards"
ROUTING = "routing"
TREASURY = "treasury"
UNCLAIMED = "fees:unclaimed"
EARNED = "fees:earned"
CREDITS = "credits:"
SPONSORS = "sponsors:"
OWED = "owed:"
WRITTEN_OFF = "written-off"
OUTSIDE = "outside"

ONLY_OWED = (
    f"name in ('{TREASURY}', '{EARNED}') or substr(name, 1, {len(CREDITS)}) = '{CREDITS}' "
    f"or substr(name, 1, {len(SPONSORS)}) = '{SPONSORS}' or substr(name, 1, {len(OWED)}) = '{OWED}'"
)
"""SQL for the accounts whose debits never exceed their credits."""
ONLY_SPENT = f"name in ('{REWARDS}', '{ROUTING}')"
"""SQL for the accounts whose credits never exceed their debits."""


class Phase(StrEnum):
    """`single` moves at once; `pending` reserves; `post` or `void` ends a pending transfer, once."""

    SINGLE = "single"
    PENDING = "pending"
    POST = "post"
    VOID = "void"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the books: `amount_msat` from the credited to the debited account."""

    id: str
    kind: str
    phase: Phase = Phase.SINGLE
    pending_id: str | None = None
    debit: str
    credit: str
    amount_msat: Msat
    commitment: str = ""


def peer_account(peer: str) -> str:
    """What we owe a peer."""
    return f"peer:{peer}"


def credit_account(peer: str) -> str:
    """A peer's fee credits."""
    return f"{CREDITS}{peer}"


def sponsor_account(sponsor: str) -> str:
    """What a sponsor has paid for progress."""
    return f"{SPONSORS}{sponsor}"


def owed_account(peer: str) -> str:
    """What could not be delivered to a peer in time."""
    return f"{OWED}{peer}"


def opening(amount_msat: Msat) -> Transfer:
    """The coordinator's money at the first start."""
    return Transfer(id="opening", kind="opening", debit=LIGHTNING, credit=TREASURY, amount_msat=amount_msat)


def fee_received(payment_hash: str, amount_msat: Msat) -> Transfer:
    """A fee invoice was paid."""
    return Transfer(
        id=f"fee:{payment_hash}", kind="fee received", debit=LIGHTNING, credit=UNCLAIMED, amount_msat=amount_msat
    )


def fee_earned(token_id: str, commitment: str, amount_msat: Msat) -> Transfer:
    """The fee opened a submission."""
    return Transfer(
        id=f"claim:{token_id}", kind="fee earned", debit=UNCLAIMED, credit=EARNED, amount_msat=amount_msat,
        commitment=commitment,
    )  # fmt: skip


def fee_credited(token_id: str, peer: str, commitment: str, amount_msat: Msat, *, was_earned: bool) -> Transfer:
    """The fee could not be served: it becomes a credit, from wherever it lay."""
    return Transfer(
        id=f"credit:{token_id}", kind="fee credited", debit=EARNED if was_earned else UNCLAIMED,
        credit=credit_account(peer), amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def credit_spent(token_id: str, peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """A credit opened a submission."""
    return Transfer(
        id=f"spend:{token_id}", kind="credit spent", debit=credit_account(peer), credit=EARNED,
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def rung_locked(payment_hash: str, peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """Intent to lock one rung."""
    return Transfer(
        id=f"lock:{payment_hash}", kind="rung", phase=Phase.PENDING, debit=peer_account(peer), credit=LIGHTNING,
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def rung_ended(payment_hash: str, peer: str, commitment: str, amount_msat: Msat, *, paid: bool) -> Transfer:
    """The rung's end: posted when LND says SUCCEEDED, voided when it says FAILED."""
    return Transfer(
        id=f"end:{payment_hash}", kind="rung", phase=Phase.POST if paid else Phase.VOID,
        pending_id=f"lock:{payment_hash}", debit=peer_account(peer), credit=LIGHTNING, amount_msat=amount_msat,
        commitment=commitment,
    )  # fmt: skip


def routing_paid(payment_hash: str, commitment: str, amount_msat: Msat) -> Transfer:
    """What the route kept."""
    return Transfer(
        id=f"routing:{payment_hash}", kind="routing", debit=ROUTING, credit=LIGHTNING, amount_msat=amount_msat,
        commitment=commitment,
    )  # fmt: skip


def reward_decided(peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """The oracle's decision: from now on the sum is owed."""
    return Transfer(
        id=f"reward:{commitment}", kind="reward", debit=REWARDS, credit=peer_account(peer), amount_msat=amount_msat,
        commitment=commitment,
    )  # fmt: skip


def reward_forfeited(payment_hash: str, peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """Revealed but never collected: the terms say that it falls back."""
    return Transfer(
        id=f"forfeit:{payment_hash}", kind="forfeit", debit=peer_account(peer), credit=REWARDS,
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def tranche_locked(payment_hash: str, sponsor: str, sponsorship: str, amount_msat: Msat) -> Transfer:
    """A sponsor's money waits at our node."""
    return Transfer(
        id=f"tranche:{payment_hash}", kind="tranche", phase=Phase.PENDING, debit=LIGHTNING,
        credit=sponsor_account(sponsor), amount_msat=amount_msat, commitment=sponsorship,
    )  # fmt: skip


def tranche_ended(payment_hash: str, sponsor: str, sponsorship: str, amount_msat: Msat, *, settled: bool) -> Transfer:
    """The tranche's end: posted when LND says SETTLED, voided when it says CANCELED."""
    return Transfer(
        id=f"end:{payment_hash}", kind="tranche", phase=Phase.POST if settled else Phase.VOID,
        pending_id=f"tranche:{payment_hash}", debit=LIGHTNING, credit=sponsor_account(sponsor),
        amount_msat=amount_msat, commitment=sponsorship,
    )  # fmt: skip


def reward_owed(peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """Decided, and too late for its ladder: it waits for a new offer."""
    return Transfer(
        id=f"owe:{commitment}", kind="owed", debit=peer_account(peer), credit=owed_account(peer),
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def owed_revealed(peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """The new offer's ladder is locked and revealed: what was owed is the peer's to collect."""
    return Transfer(
        id=f"owed:{commitment}", kind="owed revealed", debit=owed_account(peer), credit=peer_account(peer),
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def owed_settled(peer: str, commitment: str, amount_msat: Msat, *, by_our_node: bool) -> Transfer:
    """A person paid what stayed owed: from our node, or from elsewhere, which is the coordinator's own money too."""
    return Transfer(
        id=f"settle:{commitment}", kind="owed settled", debit=owed_account(peer),
        credit=LIGHTNING if by_our_node else TREASURY, amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def written_off(payment_hash: str, commitment: str, lost_msat: int) -> list[Transfer]:
    """What our node has less than the books said, or more where it is negative; nothing where it is none."""
    if lost_msat > 0:
        return [_write_off(payment_hash, commitment, WRITTEN_OFF, LIGHTNING, lost_msat)]
    if lost_msat < 0:
        return [_write_off(payment_hash, commitment, LIGHTNING, WRITTEN_OFF, -lost_msat)]
    return []


def _write_off(payment_hash: str, commitment: str, debit: str, credit: str, amount_msat: Msat) -> Transfer:
    return Transfer(
        id=f"write-off:{payment_hash}", kind="written off", debit=debit, credit=credit, amount_msat=amount_msat,
        commitment=commitment,
    )  # fmt: skip


def overpaid(payment_hash: str, peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """A rung was paid that no decision reveals: the peer has it, and has not earned it."""
    return Transfer(
        id=f"overpaid:{payment_hash}", kind="overpaid", debit=WRITTEN_OFF, credit=peer_account(peer),
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def earned_after_all(payment_hash: str, peer: str, commitment: str, amount_msat: Msat) -> Transfer:
    """A decision that came after the rung was written off reveals it."""
    return Transfer(
        id=f"earned:{payment_hash}", kind="earned after all", debit=peer_account(peer), credit=WRITTEN_OFF,
        amount_msat=amount_msat, commitment=commitment,
    )  # fmt: skip


def paid_outside(payment_hash: str, amount_msat: Msat, fee_msat: Msat) -> list[Transfer]:
    """Our node paid somebody outside of the protocol, and its route kept something, which is no routing of ours."""
    return [
        Transfer(id=f"{name}:{payment_hash}", kind=kind, debit=OUTSIDE, credit=LIGHTNING, amount_msat=msat)
        for name, kind, msat in (
            ("outside", "paid outside", amount_msat), ("outside-routing", "routing outside", fee_msat),
        )
        if msat
    ]  # fmt: skip


def received_outside(payment_hash: str, amount_msat: Msat) -> Transfer:
    """Our node was paid by somebody outside of the protocol."""
    return Transfer(
        id=f"outside-in:{payment_hash}", kind="received outside", debit=LIGHTNING, credit=OUTSIDE,
        amount_msat=amount_msat,
    )  # fmt: skip


def not_outside(line: Transfer) -> Transfer:
    """The books have learned whose it was: taken back, for its own lines follow."""
    return Transfer(
        id=f"back:{line.id}", kind="not outside", debit=line.credit, credit=line.debit, amount_msat=line.amount_msat
    )


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """An account's posted sums, and what is pending on it."""

    debits_msat: int
    credits_msat: int
    pending_debits_msat: int
    pending_credits_msat: int


def trial_balance(transfers: Iterable[Transfer]) -> dict[str, Balance]:
    """Every account's balance, from all transfers in any order."""
    lines = list(transfers)
    ended = {line.pending_id for line in lines if line.pending_id}
    sums: dict[str, list[int]] = {}
    for line in lines:
        posted = line.phase in (Phase.SINGLE, Phase.POST)
        open_ = line.phase is Phase.PENDING and line.id not in ended
        for account, column in ((line.debit, 0), (line.credit, 1)):
            row = sums.setdefault(account, [0, 0, 0, 0])
            row[column] += line.amount_msat if posted else 0
            row[column + 2] += line.amount_msat if open_ else 0
    return {
        account: Balance(debits_msat=d, credits_msat=c, pending_debits_msat=pd, pending_credits_msat=pc)
        for account, (d, c, pd, pc) in sorted(sums.items())
    }
