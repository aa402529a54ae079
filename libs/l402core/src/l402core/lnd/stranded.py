"""A payment that LND calls in flight for ever: noted, and never sent. Pure: it weighs what a node tells, and asks nothing.

lnd notes an attempt before its HTLC is in a channel. Killed in between, lnd 0.21 leaves the payment IN_FLIGHT, through
restarts and beyond the HTLC's expiry. Whether it may still be paid, the channels say: an HTLC that is in none of them can
no longer get into one once it has expired, because no node takes an HTLC that is too old.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from l402core.lnd.port import PaymentStatus, PaymentView

STRANDED: Final = "EXPIRED_IN_NO_CHANNEL"
"""The failure that we give such a payment; none of LND's."""
MARGIN_BLOCKS: Final = 6
"""After its expiry, lnd has long begun to close the channel of an HTLC that is in one."""


def is_past(view: PaymentView, height: int) -> bool:
    """Whether LND still calls it in flight though every HTLC that it noted for it has expired."""
    noted = view.htlc_expiry_heights
    return view.status is PaymentStatus.IN_FLIGHT and bool(noted) and height > max(noted) + MARGIN_BLOCKS


def is_stranded(view: PaymentView, height: int, *, out: Collection[bytes], closing: int) -> bool:
    """Whether it can never be paid any more. Ask for the channels first, then for the payment.

    `out` are the hashes of all HTLCs that channels hold, active or not; `closing` is how many channels are being closed:
    what those still hold is not told, so while there are any, nothing is stranded.
    """
    return is_past(view, height) and view.payment_hash not in out and not closing


def ended(view: PaymentView) -> PaymentView:
    """The same payment as one that failed, for this reason."""
    return msgspec.structs.replace(view, status=PaymentStatus.FAILED, failure=STRANDED, htlc_expiry_heights=())
