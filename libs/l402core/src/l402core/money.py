"""Money is a whole number of millisatoshi: its bounds, and how people read it. It rounds nothing."""

from typing import Annotated

import msgspec

MSAT_PER_SAT = 1_000
MAX_MSAT = 21_000_000 * 100_000_000 * MSAT_PER_SAT
"""All the bitcoin there will ever be; anything above is a mistake."""

Msat = Annotated[int, msgspec.Meta(ge=0, le=MAX_MSAT)]
"""An amount. Whatever is read from outside as one is a non-negative integer within `MAX_MSAT`, or is refused: a fraction,
a sign and a float are all malformed."""


def show_sat(amount_msat: int) -> str:
    """For people: '1,234.5 sat', exact to the millisatoshi."""
    sign = "-" if amount_msat < 0 else ""
    sats, rest = divmod(abs(amount_msat), MSAT_PER_SAT)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{sign}{sats:,}{fraction} sat"
