"""What a person may have explained: the difference between books and node, and how something ended that the node lost."""

import msgspec
from l402core.errors import Malformed

from l402_settler import ledger

PAID, RETURNED = "paid", "returned"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What cannot be true of one payment hash, and what makes the books as our node is."""

    what: str
    about: str
    books: str
    lnd: str
    lost_msat: int
    lines: tuple[ledger.Transfer, ...]
    end: bool | None = None
    """Where it is open in the books: whether it ends as paid; None where it has ended."""


def told_end(ended: str) -> bool:
    """A person's word, asked for only where our node has none: True for paid. Raises Malformed."""
    if ended not in (PAID, RETURNED):
        raise Malformed("ended", f"our node cannot tell how it ended: say so yourself, {PAID} or {RETURNED}")
    return ended == PAID
