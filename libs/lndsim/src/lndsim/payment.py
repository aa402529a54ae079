"""An outgoing payment, its attempt and their states; the payment hash is the idempotency key. It moves no money."""

from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from lndsim.channel import Channel
from lndsim.refusal import PAYMENT_EXISTS, PAYMENT_IN_FLIGHT, PAYMENT_SUCCEEDED, Code, Refusal

BLOCK_PADDING = 3
"""Blocks a payer adds to the final CLTV delta, in case some are mined on the way."""
MAX_CLTV_LIMIT = 2_016
"""LND's `--max-cltv-expiry`."""
DEFAULT_TIMEOUT_S = 60


class PaymentStatus(IntEnum):
    """LND's states. On the wire INITIATED is shown as IN_FLIGHT without HTLCs."""

    INITIATED = 0
    IN_FLIGHT = 1
    SUCCEEDED = 2
    FAILED = 3


class FailureReason(IntEnum):
    """`lnrpc.PaymentFailureReason`."""

    NONE = 0
    TIMEOUT = 1
    NO_ROUTE = 2
    ERROR = 3
    INCORRECT_PAYMENT_DETAILS = 4
    INSUFFICIENT_BALANCE = 5


class AttemptStatus(IntEnum):
    """`lnrpc.HTLCAttempt.HTLCStatus`."""

    IN_FLIGHT = 0
    SUCCEEDED = 1
    FAILED = 2


class Terms(msgspec.Struct, frozen=True):
    """What SendPaymentV2 was asked, after the payment request was read. Amounts in msat, limits in blocks."""

    payment_hash: bytes
    target: str
    amount_msat: int
    payment_addr: bytes
    final_cltv_delta: int
    fee_limit_msat: int
    cltv_limit: int = MAX_CLTV_LIMIT
    timeout_s: int = DEFAULT_TIMEOUT_S
    bolt11: str = ""
    allow_self: bool = False
    outgoing_channels: tuple[int, ...] = ()


@dataclass(slots=True)
class Hop:
    """One HTLC of an attempt, from `sender` over `channel`."""

    channel: Channel
    sender: str
    amount_msat: int
    expiry_height: int
    htlc_index: int = -1

    @property
    def receiver(self) -> str:
        return self.channel.peer_of(self.sender)


@dataclass(slots=True)
class Attempt:
    """HTLCs along one route. `locked` counts the hops, from the first, whose HTLC is still in flight."""

    attempt_id: int
    payer: str
    payment_hash: bytes
    hops: list[Hop]
    sent_ns: int
    locked: int
    status: AttemptStatus = AttemptStatus.IN_FLIGHT
    resolved_ns: int = 0
    preimage: bytes | None = None
    failure: FailureReason = FailureReason.NONE

    @property
    def decided(self) -> bool:
        """The end is known, even where it has not reached the payer yet."""
        return self.preimage is not None or self.failure is not FailureReason.NONE

    @property
    def fee_msat(self) -> int:
        return self.hops[0].amount_msat - self.hops[-1].amount_msat


@dataclass(slots=True)
class Payment:
    """One payment by hash. A retry after FAILED is a new record under the same hash."""

    terms: Terms
    index: int
    created_ns: int
    deadline_ns: int
    status: PaymentStatus = PaymentStatus.INITIATED
    failure: FailureReason = FailureReason.NONE
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def final(self) -> bool:
        return self.status in {PaymentStatus.SUCCEEDED, PaymentStatus.FAILED}

    def check_retry(self) -> None:
        """Raises LND's answer to a second SendPaymentV2 on this hash; only FAILED may be tried again."""
        answers = {
            PaymentStatus.INITIATED: PAYMENT_EXISTS,
            PaymentStatus.IN_FLIGHT: PAYMENT_IN_FLIGHT,
            PaymentStatus.SUCCEEDED: PAYMENT_SUCCEEDED,
        }
        if self.status in answers:
            raise Refusal(answers[self.status], Code.ALREADY_EXISTS)


def check_limits(terms: Terms) -> None:
    """LND's bounds on a payment's time lock, in blocks. Raises Refusal."""
    if terms.cltv_limit > MAX_CLTV_LIMIT:
        raise Refusal(f"total time lock of {terms.cltv_limit} exceeds max allowed {MAX_CLTV_LIMIT}")
    least = terms.final_cltv_delta + BLOCK_PADDING
    if terms.cltv_limit <= least:
        raise Refusal(f"cltv limit {terms.cltv_limit} should be greater than {least}")
