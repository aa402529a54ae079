"""Money: integer millisatoshi. It refuses floats, negatives where none may be, and silent rounding."""

from typing import NewType

Msat = NewType("Msat", int)
"""A whole number of millisatoshi. 1 sat = 1,000 msat."""

MSAT_PER_SAT = 1_000
MAX_MSAT = 21_000_000 * 100_000_000 * MSAT_PER_SAT
"""All the bitcoin there will ever be; anything above is a mistake."""


def msat(value: int) -> Msat:
    """Check that `value` is a plausible amount. Raises TypeError for a non-integer, ValueError outside [0, MAX_MSAT]."""
    if type(value) is not int:
        raise TypeError(f"an amount is an integer of millisatoshi, not {type(value).__name__}")
    if not 0 <= value <= MAX_MSAT:
        raise ValueError(f"{value} msat is outside 0..{MAX_MSAT}")
    return Msat(value)


def from_sat(value: int) -> Msat:
    """Whole satoshis as msat."""
    return msat(value * MSAT_PER_SAT)


def whole_sat(amount: Msat) -> int:
    """The amount in satoshis. Raises ValueError where it is not a whole number: nothing is floored in silence."""
    sats, rest = divmod(amount, MSAT_PER_SAT)
    if rest:
        raise ValueError(f"{amount} msat is not a whole number of satoshis")
    return sats


def show_sat(amount_msat: int) -> str:
    """For people: '1,234.5 sat', exact to the millisatoshi."""
    sign = "-" if amount_msat < 0 else ""
    sats, rest = divmod(abs(amount_msat), MSAT_PER_SAT)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{sign}{sats:,}{fraction} sat"
