"""What our node says of one payment hash, and whether that rules out for good that its HTLC still moves. Pure.

A node that knows nothing of a hash proves nothing alone: an HTLC lives in a channel, whatever else the node forgot.
"""

import msgspec
from l402core.lnd.port import InvoiceView, PaymentView
from l402core.lnd.stranded import MARGIN_BLOCKS


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. The channels are asked first: what left them since shows in the payment or invoice."""

    out: bool
    """An HTLC of this hash is in a channel, active or not."""
    closing: int
    """Channels that are being closed: what those hold is not told."""
    height: int
    """0 where it is not known."""
    payment: PaymentView | None = None
    invoice: InvoiceView | None = None

    def is_over(self, expiry_height: int) -> bool:
        """No HTLC of this hash can move any more: it has expired, and is in no channel, open or closing."""
        expired = bool(expiry_height) and self.height > expiry_height + MARGIN_BLOCKS
        return expired and not self.out and not self.closing
