"""A receipt in words: why this amount, where it stands in its round, and what would have earned more. Pure.

It judges nothing: every number is one that the oracle signed. Drops are in nano-nats per token.
"""

from collections.abc import Sequence

import msgspec

from l402core.documents import Check, Receipt, Terms
from l402core.money import show_sat

NANO = 1_000_000_000
PPM = 1_000_000
WORDS: dict[str, str] = {
    "duplicate": "Work of its own: the earlier commitment is paid, and whoever repeats it is not.",
    "mixture": "Work of its own: what is patched together of earlier commitments is not paid.",
    "not_own_data": "Training on the data that the terms assign to you, from the round's checkpoint: work on it helps "
    "there by more than on hidden data.",
    "harmful": "Steps in the other direction: train from the round's checkpoint with a smaller learning rate, and send "
    "start minus end.",
    "no_improvement": "A larger or surer gain: more inner steps on more text, until the whole interval lies above zero.",
    "not_finite": "Finite values: the update made the loss something that is no number.",
    "norm_insane": "A sane size: clip gradients; nothing beyond the norms of the round is counted anyway.",
    "zero_update": "An update: this one changes nothing.",
    "stale_checkpoint": "Training from this round's checkpoint, which the terms name.",
    "wrong_round": "A payload made for this round.",
    "wrong_model": "A payload of the model that the terms name.",
    "wrong_peer": "A payload packed under the key that committed to it.",
    "malformed": "A payload as the codec packs it: the reason names the first wrong byte.",
    "unsealable": "Sealing to the reading key that the terms name.",
    "too_large": "A payload within the terms' limit.",
}
"""What would have earned more, by the code of the check that failed."""
UNSCORED = "Nothing on your side: it was not judged, and the fee becomes a credit."
OTHER = "Passing the check that failed; its reason is above."


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One submission of the round on the line of drops."""

    peer: str
    drop: int
    low: int
    high: int
    units: int
    verdict: str
    mine: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer wants to know."""

    why: str
    more: str
    checks: tuple[Check, ...]
    places: tuple[Place, ...]
    """Everybody who was measured in this round, best first."""
    floor: int
    reference: int
    whole: int
    """The drop that earns the whole ladder."""


def explain(receipt: Receipt, terms: Terms, others: Sequence[Receipt]) -> Explanation:
    """`others`: the round's receipts, with or without this one."""
    everybody = {one.commitment: one for one in (*others, receipt)}
    measured = [one for one in everybody.values() if one.eval_tokens]
    return Explanation(
        why=why(receipt, terms), more=more(receipt, terms), checks=receipt.checks,
        places=tuple(_place(one, receipt) for one in sorted(measured, key=lambda one: -one.drop_mean)),
        floor=receipt.floor, reference=receipt.reference, whole=drop_for(ladder_units(terms), receipt, terms),
    )  # fmt: skip


def why(receipt: Receipt, terms: Terms) -> str:
    """Why this amount, in a sentence or two."""
    if not receipt.units:
        return f"Nothing was earned: {' '.join(receipt.reasons) or receipt.verdict}"
    ratio = receipt.quality_ppm / PPM
    return (
        f"It lowered the hidden loss by {nats(receipt.drop_mean)} nats per token (between {nats(receipt.drop_low)} and "
        f"{nats(receipt.drop_high)}). The round's reference was {nats(receipt.reference)}, and pay begins at "
        f"{nats(receipt.floor)}: quality {ratio:.2f} of at most {terms.quality_cap_ppm / PPM:g}, hence {receipt.units} of "
        f"{ladder_units(terms)} units of {show_sat(terms.unit_msat)}, {show_sat(receipt.reward_msat)}."
    )


def more(receipt: Receipt, terms: Terms) -> str:
    """What would have earned more, as exactly as the receipt tells."""
    if receipt.verdict == "unscored":
        return UNSCORED
    failed = next((check.code for check in receipt.checks if not check.passed), "")
    if failed == "below_floor":
        return f"A drop above {nats(receipt.floor)} nats per token, the floor; this one was {nats(receipt.drop_mean)}."
    if failed:
        return WORDS.get(failed, OTHER)
    if receipt.units >= ladder_units(terms):
        return "Nothing: the whole ladder was earned."
    following = drop_for(receipt.units + 1, receipt, terms)
    whole = drop_for(ladder_units(terms), receipt, terms)
    return (
        f"A drop of {nats(following)} nats per token for the next unit ({nats(following - receipt.drop_mean)} more), "
        f"and of {nats(whole)} for the whole ladder of {show_sat(terms.ladder_msat())}, beside the same others."
    )


def drop_for(units: int, receipt: Receipt, terms: Terms) -> int:
    """The smallest drop that earns so many units at the receipt's reference, as the terms' formula has it."""
    quality = -(-units * terms.quality_cap_ppm // ladder_units(terms))
    span = receipt.reference * (PPM - terms.phi_ppm)
    return -(-(receipt.reference * terms.phi_ppm + -(-quality * span // PPM)) // PPM)


def ladder_units(terms: Terms) -> int:
    """All units of a submission's ladder."""
    return sum(terms.rungs)


def nats(nano: int) -> str:
    """For people."""
    return f"{nano / NANO:.4f}"


def _place(one: Receipt, mine: Receipt) -> Place:
    return Place(
        peer=one.peer, drop=one.drop_mean, low=one.drop_low, high=one.drop_high, units=one.units, verdict=one.verdict,
        mine=one.commitment == mine.commitment,
    )  # fmt: skip
