"""BOLT 11 invoices: text to `Invoice` and back. It refuses to know whether an invoice is fair, expired or payable."""

from l402core.bolt11.decode import decode
from l402core.bolt11.encode import LND_FEATURES, encode
from l402core.bolt11.invoice import Fallback, Hop, InvalidInvoice, Invoice

__all__ = ["LND_FEATURES", "Fallback", "Hop", "InvalidInvoice", "Invoice", "decode", "encode"]
