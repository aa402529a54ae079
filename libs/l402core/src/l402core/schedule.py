"""The published schedule, computed again: from a round's signed terms and a receipt to what must be paid. Pure.

Settler and peer both hold every receipt against it, so that neither pays nor takes anything but what the terms say. The
measurement itself is anybody's to repeat; here is the way from the score to the amount.
"""

from l402core.documents import Receipt, Terms, mask_indices

PPM = 1_000_000
HOLD_PERCENT = (25, 250)
"""How far the reference may move from one round to the next."""


def difference(receipt: Receipt, terms: Terms) -> tuple[str, str] | None:
    """The first thing in which a receipt is not what the terms give, as a code and a sentence; None where it is all so."""
    expected = (
        ("terms", receipt.terms, terms.digest()),
        ("round", receipt.round, terms.round),
        ("reward", receipt.reward_msat, receipt.units * terms.unit_msat),
        ("mask_bits", receipt.mask >> len(terms.rungs), 0),
        ("mask", sum(terms.rungs[i] for i in mask_indices(receipt.mask, len(terms.rungs))), receipt.units),
    )
    for code, found, wanted in expected:
        if found != wanted:
            return code, f"the receipt says {found}, expected {wanted}"
    if receipt.verdict == "accepted":
        return _score_difference(receipt, terms)
    if receipt.units:
        return "verdict", f"{receipt.units} units for a verdict of {receipt.verdict!r}"
    return None


def _score_difference(receipt: Receipt, terms: Terms) -> tuple[str, str] | None:
    """quality = clip((drop - floor) / (reference - floor), 0, cap), in ppm; the terms' formula in whole numbers."""
    if receipt.drop_low <= 0 or receipt.reference <= 0:
        return "accepted", "accepted, but no improvement is shown"
    low, high = (terms.reference_previous * percent // 100 for percent in HOLD_PERCENT)
    if terms.reference_previous and not low - 1 <= receipt.reference <= high + 1:
        return "reference", f"the reference {receipt.reference} left its band of {low}..{high}"
    if abs(receipt.floor * PPM - receipt.reference * terms.phi_ppm) > PPM:
        return "floor", f"the floor {receipt.floor} is not the terms' share of the reference"
    quality = quality_ppm(receipt.drop_mean, receipt.reference, terms)
    if abs(quality - receipt.quality_ppm) > _rounding_ppm(receipt, terms):
        return "quality", f"a quality of {receipt.quality_ppm} ppm, and the terms give {quality}"
    units = units_of(receipt.quality_ppm, terms)
    if receipt.units != units:
        return "units", f"{receipt.units} units, and the terms give {units}"
    return None


def quality_ppm(drop: int, reference: int, terms: Terms) -> int:
    """A drop's quality beside the reference, both in nano-nats."""
    share = (drop * PPM - reference * terms.phi_ppm) * PPM
    return min(max(share // (reference * (PPM - terms.phi_ppm)), 0), terms.quality_cap_ppm)


def units_of(quality: int, terms: Terms) -> int:
    """The part of the ladder that a quality earns, floored to a unit."""
    return quality * sum(terms.rungs) // terms.quality_cap_ppm


def _rounding_ppm(receipt: Receipt, terms: Terms) -> int:
    """What rounding drop and reference to nano-nats can move the quality by, in ppm, and one for the floor."""
    return 2 + 3 * PPM * PPM // (receipt.reference * (PPM - terms.phi_ppm))
