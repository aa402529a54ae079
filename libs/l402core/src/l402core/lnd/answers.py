"""LND's sentences, read: which mean done, which mean never, and that everything else is transient. It makes no call."""

from typing import Final

import grpc.aio

from l402core.errors import Conflict, L402Error, Malformed, NotFound, TooLate, Unauthorized, Unavailable

PAYMENT_KNOWN: Final = frozenset({"payment_initiated", "payment_in_flight", "payment_succeeded"})
"""Codes of a Conflict that answers SendPaymentV2: this hash has its payment already."""

_KNOWN: Final[tuple[tuple[str, type[L402Error], str], ...]] = (
    ("invoice still open", Conflict, "invoice_open"),
    ("invoice already canceled", Conflict, "invoice_canceled"),
    ("invoice already settled", Conflict, "invoice_settled"),
    ("unable to locate invoice", NotFound, "invoice_unknown"),
    ("there are no existing invoices", NotFound, "invoice_unknown"),
    ("invoice with payment hash already exists", Conflict, "invoice_exists"),
    ("payment already exists", Conflict, "payment_initiated"),
    ("payment is in transition", Conflict, "payment_in_flight"),
    ("invoice is already paid", Conflict, "payment_succeeded"),
    ("payment isn't initiated", NotFound, "payment_unknown"),
    ("self-payments not allowed", Conflict, "self_payment"),
    ("invoice expired", TooLate, "invoice_expired"),
    ("permission denied", Unauthorized, "lnd_macaroon"),
    ("expected 1 macaroon", Unauthorized, "lnd_macaroon"),
    ("cannot get macaroon", Unauthorized, "lnd_macaroon"),
    ("verification failed", Unauthorized, "lnd_macaroon"),
    ("cltv limit", Malformed, "lnd_refused"),
    ("total time lock", Malformed, "lnd_refused"),
    ("CLTV delta", Malformed, "lnd_refused"),
    ("amount must", Malformed, "lnd_refused"),
    ("memo too large", Malformed, "lnd_refused"),
    ("greater than max expiry", Malformed, "lnd_refused"),
    ("is too large", Malformed, "lnd_refused"),
    ("negative", Malformed, "lnd_refused"),
    ("not for current active network", Malformed, "lnd_refused"),
    ("invalid hash length", Malformed, "lnd_refused"),
    ("invalid preimage length", Malformed, "lnd_refused"),
    ("wallet locked", Unavailable, "lnd_locked"),
    ("wallet not created", Unavailable, "lnd_no_wallet"),
    ("waiting to start, RPC services", Unavailable, "lnd_starting"),
    ("RPC server is in the process of starting", Unavailable, "lnd_starting"),
)
"""What LND says (under gRPC UNKNOWN, mostly), as an error of ours. Nothing was done in any of these cases."""

_BY_STATUS: Final[dict[grpc.StatusCode, tuple[type[L402Error], str]]] = {
    grpc.StatusCode.NOT_FOUND: (NotFound, "lnd_not_found"),
    grpc.StatusCode.INVALID_ARGUMENT: (Malformed, "lnd_refused"),
    grpc.StatusCode.PERMISSION_DENIED: (Unauthorized, "lnd_macaroon"),
    grpc.StatusCode.UNAUTHENTICATED: (Unauthorized, "lnd_macaroon"),
}

_TOO_LATE: Final = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""Both ends count the deadline down. Where LND's clock is first, it resets the call before ours says anything, and the
caller sees CANCELLED; a call that we cancel ourselves never comes here (asyncio.CancelledError)."""


def fault_of(error: grpc.aio.AioRpcError, uri: str) -> L402Error:
    """The error of our tree for a failed call. What is unknown is Unavailable: it may have had its effect."""
    sentence = error.details() or ""
    for known, kind, code in _KNOWN:
        if known in sentence:
            return kind(code, f"LND answers {uri}: {sentence}")
    status = error.code()
    if status in _BY_STATUS:
        kind, code = _BY_STATUS[status]
        return kind(code, f"LND answers {uri}: {sentence}")
    if status in _TOO_LATE:
        return Unavailable("lnd_deadline", f"LND did not answer {uri} in time; what was asked may have been done")
    return Unavailable("lnd_unavailable", f"LND does not answer {uri} ({status.name}): {sentence}")
