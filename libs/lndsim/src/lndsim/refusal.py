"""What a node answers when it will not: LND's own sentences with their gRPC status names. It knows no gRPC."""

from enum import StrEnum
from typing import Final


class Code(StrEnum):
    """Names of gRPC status codes, as far as LND uses them. Nearly every refusal of LND is UNKNOWN with a sentence."""

    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"


class Refusal(Exception):
    """The node refuses; `sentence` is what LND says, word for word."""

    def __init__(self, sentence: str, code: Code = Code.UNKNOWN) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


INVOICE_STILL_OPEN: Final = "invoice still open"
INVOICE_ALREADY_CANCELED: Final = "invoice already canceled"
INVOICE_ALREADY_SETTLED: Final = "invoice already settled"
INVOICE_NOT_FOUND: Final = "unable to locate invoice"
NO_INVOICES: Final = "there are no existing invoices"
"""Of a node that has never made one."""
INVOICE_EXISTS: Final = "invoice with payment hash already exists"
PAYMENT_EXISTS: Final = "payment already exists"
PAYMENT_IN_FLIGHT: Final = "payment is in transition"
PAYMENT_SUCCEEDED: Final = "invoice is already paid"
PAYMENT_UNKNOWN: Final = "payment isn't initiated"
SELF_PAYMENT: Final = "self-payments not allowed"
AMOUNT_MISSING: Final = "amount must be specified when paying a zero amount invoice"
AMOUNT_UNWANTED: Final = "amount must not be specified when paying a non-zero amount invoice"
PERMISSION_DENIED: Final = "permission denied"
WALLET_LOCKED: Final = "wallet locked, unlock it to enable full RPC access"
