"""How a sponsor's tranche is judged. Pure: every fact is an argument, and no key, clock or database is known."""

from l402core.documents import Terms
from l402core.errors import Contradiction
from l402core.events import CheckpointMeasured
from l402core.pledges import Announcement, TrancheReceipt, is_earned


def check_tranche(terms: Terms, announced: Announcement | None) -> None:
    """The round's terms name a tranche as it was announced. Raises Contradiction."""
    tranche = terms.tranche
    assert tranche is not None
    if announced is None or not 0 <= tranche.tranche < len(announced.hashes):
        raise Contradiction("tranche_unknown", f"round {terms.round} names a tranche that was never announced")
    said = (tranche.sponsorship, tranche.payment_hash, tranche.amount_msat, tranche.margin)
    if said != (
        announced.sponsorship, announced.hashes[tranche.tranche], announced.amount_msat, announced.margin,
    ):  # fmt: skip
        raise Contradiction("tranche_other", f"round {terms.round} names a tranche unlike what was announced")


def decide(
    terms: Terms, *, child: str, root: str, shards: tuple[int, ...], measured: CheckpointMeasured | None
) -> TrancheReceipt:
    """The one decision on a tranche. Without a measurement nothing is earned: the round changed nothing."""
    tranche, parent = terms.tranche, terms.checkpoint.sha256
    assert tranche is not None
    fits = measured is not None and (measured.parent, measured.checkpoint, measured.shards) == (parent, child, shards)
    seen = measured if measured is not None and fits and not measured.failure else None
    earned = seen is not None and is_earned(seen.drop_low, tranche.margin)
    return TrancheReceipt(
        sponsorship=tranche.sponsorship, tranche=tranche.tranche, payment_hash=tranche.payment_hash,
        amount_msat=tranche.amount_msat, round=terms.round, terms=terms.digest(), parent=parent, checkpoint=child,
        root=root, shards=shards if seen else (), sequences=seen.sequences if seen else 0,
        drop_mean=seen.drop_mean if seen else 0, drop_low=seen.drop_low if seen else 0,
        drop_high=seen.drop_high if seen else 0, margin=tranche.margin, earned=earned,
        reason=_reason(seen, measured, tranche.margin, parent=parent, child=child), hardware=seen.hardware if seen else "",
        losses=seen.losses if seen else None,
    )  # fmt: skip


def _reason(
    seen: CheckpointMeasured | None, measured: CheckpointMeasured | None, margin: int, *, parent: str, child: str
) -> str:
    if seen is not None:
        share = (
            f"at least {seen.drop_low / 1e9:.4f} nats per token better than its parent; {margin / 1e9:.4f} was agreed"
        )
        return f"The new checkpoint is {share}."
    if parent == child:
        return "The round left the checkpoint as it was."
    if measured is None:
        return "No hidden shards were left of its own."
    return f"It could not be measured on our side ({measured.failure or 'another checkpoint was measured'})."
