"""How a peer comes by a token: a credit it is owed, or a fee it pays, once. It knows no training and no rewards."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import Contradiction, NotFound, TooLate, Unavailable
from l402core.l402 import Challenge
from l402core.l402.identifier import decode as decode_identifier
from l402core.l402.macaroon import append
from l402core.l402.macaroon import decode as decode_macaroon
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.secret import Secret

from l402_peer_agent.journal import Attempt, Payment, Token
from l402_peer_agent.policy import SpendingCaps, check_challenge, check_spending

log = structlog.get_logger()

MAX_INVOICES = 3
"""Fee invoices per round, each new one only after LND said FAILED of the one before."""
LOOK_PAUSE_S = 0.5
CLTV_LIMIT = 500
"""Blocks, three and a half days: so long at most may a fee hang on its way, whatever the coordinator's invoice asks for."""


class Node(Protocol):
    """What is needed of the peer's own node."""

    async def pay_and_wait(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int = 0
    ) -> PaymentView: ...

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...


class Asker(Protocol):
    """What is needed of the gateway."""

    async def challenge(self, round_: int, commitment: str) -> Challenge: ...

    async def claim_credit(self, payment_hash: str) -> Token: ...


class Ledger(Protocol):
    """What is needed of the journal."""

    def save(self, attempt: Attempt) -> None: ...

    def payment(self, payment_hash: str) -> Payment | None: ...

    def save_payment(self, payment: Payment) -> None: ...

    def committed_msat(self) -> int: ...

    def credits(self) -> list[str]: ...

    def credit_refused(self, payment_hash: str) -> None: ...


class Fees:
    """Tokens for submissions, within the owner's caps."""

    def __init__(
        self,
        node: Node,
        gateway: Asker,
        ledger: Ledger,
        *,
        caps: SpendingCaps,
        routing_fee_max_msat: int,
        look_s: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._node, self._gateway, self._ledger, self._caps = node, gateway, ledger, caps
        self._routing_fee_max_msat, self._look_s, self._now_ms = routing_fee_max_msat, look_s, now_ms

    async def paid_token(self, attempt: Attempt, terms: Terms) -> tuple[Attempt, Secret]:
        """The attempt with its token, and the preimage. Raises TooLate, TooLarge, Unavailable; never pays twice."""
        for _ in range(MAX_INVOICES):
            if attempt.token is None:
                attempt = await self._credited(attempt, terms) or await self._challenged(attempt, terms)
            assert attempt.token is not None
            preimage = await self._pay(attempt.token.payment_hash, terms.commit_until_ms)
            if preimage is not None:
                return attempt, preimage
            attempt = msgspec.structs.replace(attempt, token=None)
            self._ledger.save(attempt)
        raise TooLate("fee_unpayable", f"LND failed to pay {MAX_INVOICES} fee invoices")

    async def _credited(self, attempt: Attempt, terms: Terms) -> Attempt | None:
        """With the token of a fee that was paid before and bought nothing, narrowed to this submission."""
        for payment_hash in self._ledger.credits():
            payment = self._ledger.payment(payment_hash)
            if payment is None or payment.status != "settled" or payment.amount_msat < terms.fee_msat:
                continue
            try:
                token = await self._gateway.claim_credit(payment_hash)
            except NotFound:
                self._ledger.credit_refused(payment_hash)
                continue
            macaroon = decode_macaroon(token.macaroon.reveal())
            for caveat in (f"round={attempt.round}", f"commitment={attempt.commitment}"):
                macaroon = append(macaroon, caveat.encode())
            log.info("credit.claimed", round=attempt.round, payment_hash=payment_hash)
            return self._keep(attempt, msgspec.structs.replace(token, macaroon=Secret(macaroon.encode())))
        return None

    async def _challenged(self, attempt: Attempt, terms: Terms) -> Attempt:
        """With a fresh challenge, checked; the payment is in the journal before it is anywhere else."""
        challenge = await self._gateway.challenge(attempt.round, attempt.commitment)
        check_challenge(challenge, terms, now_s=self._now_ms() // 1_000)
        identifier = decode_identifier(challenge.macaroon.identifier)
        payment_hash = identifier.payment_hash.hex()
        self._intend(payment_hash, challenge.bolt11, terms.fee_msat)
        token = Token(
            macaroon=Secret(challenge.macaroon.encode()),
            payment_hash=payment_hash,
            token_id=identifier.token_id.hex(),
            amount_msat=terms.fee_msat,
        )
        return self._keep(attempt, token)

    def _intend(self, payment_hash: str, bolt11: str, amount_msat: int) -> None:
        """The intent to pay, within the caps. An invoice met before goes on from where its payment stands."""
        known = self._ledger.payment(payment_hash)
        if known is not None and known.bolt11 != bolt11:
            raise Contradiction("fee_hash_again", "two different invoices on one payment hash")
        if known is not None and known.status != "failed":
            return
        check_spending(amount_msat, committed_msat=self._ledger.committed_msat(), caps=self._caps)
        again = known is not None
        self._ledger.save_payment(
            Payment(payment_hash=payment_hash, bolt11=bolt11, amount_msat=amount_msat, again=again)
        )

    def _keep(self, attempt: Attempt, token: Token) -> Attempt:
        attempt = msgspec.structs.replace(attempt, token=token)
        self._ledger.save(attempt)
        return attempt

    async def _pay(self, payment_hash: str, until_ms: int) -> Secret | None:
        """The preimage; None where LND says FAILED. While the end is unknown the same hash is tracked."""
        payment = self._ledger.payment(payment_hash)
        if payment is None:
            raise Contradiction("fee_unknown", "a token without a payment in the journal")
        while payment.status == "pending":
            known = await self._look(payment, begin=self._now_ms() < until_ms)
            payment = _with(payment, known)
            self._ledger.save_payment(payment)
            if payment.status == "pending":
                if self._now_ms() >= until_ms:
                    raise TooLate("fee_pending", "the fee's payment has not ended in time; it is not sent again")
                await asyncio.sleep(LOOK_PAUSE_S)
        log.info("fee.paid" if payment.status == "settled" else "fee.failed", payment_hash=payment_hash)
        return payment.preimage if payment.status == "settled" else None

    async def _look(self, payment: Payment, *, begin: bool) -> PaymentView | None:
        """What LND knows of the hash; where it has never seen it, or failed an earlier try, and there is time, send it."""
        try:
            known = await self._node.lookup_payment(bytes.fromhex(payment.payment_hash))
            failed_before = payment.again and known is not None and known.status is PaymentStatus.FAILED
            if (known is not None and not failed_before) or not begin:
                return known
            with telemetry.span("pay", attributes={"amount_msat": payment.amount_msat}):
                return await self._node.pay_and_wait(
                    payment.bolt11, timeout_s=self._look_s, fee_limit_msat=self._routing_fee_max_msat,
                    cltv_limit=CLTV_LIMIT,
                )  # fmt: skip
        except Unavailable as silence:
            log.warning("fee.unknown", payment_hash=payment.payment_hash, code=silence.code)
            return None


def _with(payment: Payment, known: PaymentView | None) -> Payment:
    if known is None or known.status in {PaymentStatus.UNKNOWN, PaymentStatus.IN_FLIGHT}:
        return payment
    if known.status is PaymentStatus.FAILED:
        return msgspec.structs.replace(payment, status="failed", again=False)
    preimage = known.preimage
    if preimage is None or hashlib.sha256(preimage.reveal()).hexdigest() != payment.payment_hash:
        raise Contradiction("fee_preimage", "LND says SETTLED with a preimage that does not match the hash")
    return msgspec.structs.replace(payment, status="settled", preimage=preimage)
