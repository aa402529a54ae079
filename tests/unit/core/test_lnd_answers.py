"""What LND's refusals and silences mean to us: each gRPC status as the error of our tree that says whether it is known."""

import grpc
import grpc.aio
import pytest
from l402core.errors import NotFound, Unauthorized, Unavailable
from l402core.lnd.answers import fault_of

URI = "/routerrpc.Router/SendPaymentV2"


def failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """What grpc.aio raises for a call that ended so."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details, debug_error_string="")


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
        (grpc.StatusCode.CANCELLED, "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"),
    ],
)
def test_a_deadline_is_the_same_whichever_clock_was_first(code: grpc.StatusCode, details: str) -> None:
    """LND counts the deadline down as well, and resets the call where it is the first to see it pass."""
    assert fault_of(failure(code, details), URI).code == "lnd_deadline"


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable, "lnd_unavailable"),
        (grpc.StatusCode.NOT_FOUND, NotFound, "lnd_not_found"),
        (grpc.StatusCode.PERMISSION_DENIED, Unauthorized, "lnd_macaroon"),
    ],
)
def test_any_other_end_keeps_its_own_meaning(code: grpc.StatusCode, kind: type[Exception], name: str) -> None:
    """A deadline is a payment of unknown fate; a node that is away, or says no, is told apart."""
    error = fault_of(failure(code, "Socket closed"), URI)
    assert isinstance(error, kind)
    assert error.code == name
