"""The peer's story of one round: train, pay, submit, lock, upload, collect. Its decisions are in `policy`."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from l402core.documents import Accepted, ObjectRef, Offer, Receipt, Statement, Terms, commitment_of
from l402core.errors import (
    CallerError,
    Contradiction,
    L402Error,
    NotFound,
    PeerError,
    TooLate,
    WorldError,
)
from l402core.events import GradientScored, RoundView, SubmissionView
from l402core.sealing import UnsealingKey, seal_payload
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey

from l402_peer_agent import ladder, policy
from l402_peer_agent.config import Config
from l402_peer_agent.decision import OVER, UNREAD, UNSCORED, Decision, wait_for_decision
from l402_peer_agent.fees import Fees
from l402_peer_agent.files import PayloadFiles
from l402_peer_agent.journal import Attempt, Payment, Token
from l402_peer_agent.outcome import Outcome
from l402_peer_agent.owed import kept_rungs
from l402_peer_agent.patience import Patience

log = structlog.get_logger()
T = TypeVar("T")


class Coordinator(Protocol):
    """The gateway, as `adapters.gateway.Gateway` speaks to it."""

    async def round(self, round_: int | None = None) -> RoundView: ...

    async def checkpoint(self, ref: ObjectRef, *, max_bytes: int) -> bytes: ...

    async def submission(self, round_: int, commitment: str) -> SubmissionView: ...

    async def open(
        self, round_: int, commitment: str, token: Token, preimage: Secret, statement: Signed
    ) -> SubmissionView: ...

    async def locks(
        self, round_: int, commitment: str, token: Token, preimage: Secret, bolt11s: list[str]
    ) -> SubmissionView: ...

    async def accepted(
        self, round_: int, commitment: str, token: Token, preimage: Secret, accepted: Signed
    ) -> SubmissionView: ...

    async def upload(
        self, round_: int, commitment: str, token: Token, preimage: Secret, sealed: bytes, nonce: str
    ) -> SubmissionView: ...

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored: ...

    async def listen(self, round_: int, commitment: str, on_hint: Callable[[], None]) -> None: ...


class Memory(Protocol):
    """The journal of attempts, as `adapters.journal.Journal` keeps it."""

    def attempt(self, round_: int) -> Attempt | None: ...

    def save(self, attempt: Attempt) -> None: ...

    def unfinished(self) -> list[Attempt]: ...

    def finished(self) -> int: ...

    def last_round(self) -> int: ...

    def owe_credit(self, payment_hash: str) -> None: ...

    def credit_spent(self, payment_hash: str) -> None: ...

    def owe(self, round_: int) -> None: ...

    def owing(self) -> list[Attempt]: ...

    def paid(self, round_: int) -> None: ...

    def payment(self, payment_hash: str) -> Payment | None: ...

    def pinned(self, name: str) -> str: ...

    def pin(self, name: str, value: str) -> None: ...


class Work(Protocol):
    """How a payload comes about, and what of it is remembered for the next round."""

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes: ...

    def opened(self, terms: Terms, packed: bytes) -> None: ...

    async def sent(self, terms: Terms, sealed: bytes) -> bytes: ...

    def conclude(self, round_: int, *, accepted: bool) -> None: ...


class Keys(msgspec.Struct, frozen=True):
    """The peer's own keys. They cannot be printed."""

    identity: SigningKey
    sealing: UnsealingKey


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a submission needs. `payout_node` is the public key of the peer's node, `now_ms` the clock."""

    config: Config
    keys: Keys
    gateway: Coordinator
    node: ladder.Node
    fees: Fees
    memory: Memory
    work: Work
    patience: Patience
    payout_node: str
    now_ms: Callable[[], int]


class Submission:
    """One round of one peer. Each step may be repeated after a restart, by hash: the journal is ahead of every act."""

    def __init__(self, parts: Parts, attempt: Attempt, terms: Terms, *, trace_id: str) -> None:
        self._parts, self._attempt, self._terms = parts, attempt, terms
        self._keys, self._gateway, self._node = parts.keys, parts.gateway, parts.node
        self._until, self._pause = parts.patience.until, parts.patience.pause
        self._files = PayloadFiles(parts.config.data_dir / "payloads", terms.round)
        self.outcome = Outcome(round=terms.round, kind=parts.config.kind, trace_id=trace_id)

    async def play(self) -> None:
        """From the terms to the last rung; afterwards `outcome` tells how it went. Raises Contradiction only."""
        try:
            await self._play()
        except Contradiction:
            raise
        except L402Error as error:
            log.warning("submission.failed", round=self._terms.round, code=error.code, detail=error.detail)
            await self._give_up(error)

    def tidy(self) -> None:
        """Let go of the payload once the round is over and nobody disputes it."""
        if self.outcome.verdict not in {"disputed", "unread"}:
            self._files.remove()

    async def _play(self) -> None:
        packed, sealed = await self._prepare()
        async with self._listening():
            await self._sell(packed, sealed)

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Hints about this submission and no other: among many peers, to hear of all would be to look all the time."""
        hint = self._parts.patience.hint
        listening = asyncio.create_task(self._gateway.listen(self._terms.round, self._attempt.commitment, hint))
        try:
            yield
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _sell(self, packed: bytes, sealed: bytes) -> None:
        """Everything after the training."""
        preimage = await self._pay()
        offer = await self._open(preimage)
        self._parts.work.opened(self._terms, packed)
        await self._lock(offer, preimage)
        await self._upload(sealed, preimage)
        decision = await wait_for_decision(
            self._gateway, self._terms, self._attempt.commitment,
            grace_ms=int(self._parts.config.grace_s * 1_000), now_ms=self._parts.now_ms, pause=self._pause,
        )  # fmt: skip
        await self._collect(offer, decision)

    async def _prepare(self) -> tuple[bytes, bytes]:
        """Train, pack and seal; the sealed bytes and their commitment are on disk before anybody hears of them."""
        terms = self._terms
        if not self._attempt.commitment:
            packed = await self._made()
            sealed = seal_payload(packed, terms.reading_key, secrets.token_bytes(32))
            if len(sealed) > min(terms.payload_max_bytes, self._parts.config.payload_max_bytes):
                raise PeerError("payload_size", f"a payload of {len(sealed)} bytes is above the terms' limit")
            self._files.write(packed, sealed)
            self._commit(policy.sha256(sealed))
            log.info("gradient.made", round=terms.round, commitment=self._attempt.commitment, size=len(sealed))
        self.outcome = self.outcome.with_(commitment=self._attempt.commitment)
        return self._files.read()

    async def _made(self) -> bytes:
        """The packed payload, from the checkpoint that the terms name."""
        limit = self._parts.config.checkpoint_max_bytes
        data = await self._until(
            self._terms.commit_until_ms, lambda: self._gateway.checkpoint(self._terms.checkpoint, max_bytes=limit)
        )
        return await self._parts.work.packed(self._terms, data)

    def _commit(self, payload_hash: str) -> None:
        """Choose the nonce, and remember what it binds us to."""
        nonce = secrets.token_bytes(32).hex()
        commitment = commitment_of(
            payload_hash=payload_hash,
            peer=self._keys.identity.public,
            round_=self._terms.round,
            checkpoint=self._terms.checkpoint.sha256,
            nonce=nonce,
        )
        self._keep(nonce=nonce, payload_hash=payload_hash, commitment=commitment)

    async def _pay(self) -> Secret:
        """The preimage of a paid token, asked for until commits close."""
        fees, terms = self._parts.fees, self._terms
        self._attempt, preimage = await self._until(
            terms.commit_until_ms,
            lambda: fees.paid_token(self._parts.memory.attempt(terms.round) or self._attempt, terms),
        )
        token = self._token()
        self.outcome = self.outcome.with_(fee_msat=0 if token.credit else token.amount_msat)
        return preimage

    async def _open(self, preimage: Secret) -> Offer:
        """Spend the token, then wait for the attestor's offer and check it."""
        if self._attempt.offer is None:
            statement = self._attempt.statement or self._statement()
            self._keep(statement=statement)
            view = await self._opened(statement, preimage)
            if self._token().credit:
                self._parts.memory.credit_spent(self._token().payment_hash)
            if view.offer is None:
                view = await self._view(self._terms.lock_by_ms, lambda view: view.offer is not None)
            self._keep(offer=view.offer)
            log.info("submission.opened", round=view.round, commitment=view.commitment, seq=view.seq)
        assert self._attempt.offer is not None
        return self._read_offer(self._attempt.offer)

    async def _opened(self, statement: Signed, preimage: Secret) -> SubmissionView:
        """The opened submission; where every reply was lost, what the coordinator made of it is read."""
        round_, commitment, token = self._terms.round, self._attempt.commitment, self._token()
        try:
            return await self._until(
                self._terms.commit_until_ms,
                lambda: self._gateway.open(round_, commitment, token, preimage, statement),
            )
        except (WorldError, TooLate) as lost:
            try:
                return await self._gateway.submission(round_, commitment)
            except (WorldError, NotFound):
                raise lost from None

    async def _lock(self, offer: Offer, preimage: Secret) -> None:
        """Make the rungs, hand them in, see them ACCEPTED at our node, say so, and have the settler's word."""
        terms, round_, commitment, token = self._terms, self._terms.round, self._attempt.commitment, self._token()
        if not self._attempt.locked:
            until_ms, name = terms.lock_by_ms, self._parts.config.name
            bolt11s = await self._until(until_ms, lambda: ladder.make(self._node, offer, terms, name=name))
            await self._until(until_ms, lambda: self._gateway.locks(round_, commitment, token, preimage, bolt11s))
            seconds = (until_ms - self._parts.now_ms()) / 1_000
            heights = await ladder.all_accepted(self._node, offer, seconds=seconds)
            accepted = self._accepted(offer, heights)
            await self._until(until_ms, lambda: self._gateway.accepted(round_, commitment, token, preimage, accepted))
            view = await self._view(terms.upload_until_ms, lambda view: view.locked is not None)
            assert view.locked is not None
            locked = policy.check_locked(view.locked, terms, offer, heights)
            self._keep(locked=True)
            log.info("escrow.locked", commitment=commitment, expiry_height=locked.expiry_height)
        self.outcome = self.outcome.with_(locked_msat=sum(offer.amounts_msat))

    async def _upload(self, sealed: bytes, preimage: Secret) -> None:
        """Once the money is locked and commits are closed, and not before, the gradient leaves this machine."""
        terms, attempt, token = self._terms, self._attempt, self._token()
        if not attempt.uploading:
            await self._view(terms.upload_until_ms, lambda view: view.phase != "commit")
            self._keep(uploading=True)
        sent = await self._parts.work.sent(terms, sealed)
        try:
            view = await self._until(
                terms.upload_until_ms,
                lambda: self._gateway.upload(terms.round, attempt.commitment, token, preimage, sent, attempt.nonce),
            )
            if view.upload is not None:
                policy.check_upload(
                    view.upload, terms, commitment=attempt.commitment, payload_hash=attempt.payload_hash
                )
            log.info("gradient.uploaded", commitment=attempt.commitment)
        except (WorldError, CallerError) as unsure:
            # It may have arrived all the same (a lost reply, a restart): what the oracle decides is still ours.
            log.warning("gradient.unconfirmed", commitment=attempt.commitment, code=unsure.code, detail=unsure.detail)

    async def _collect(self, offer: Offer, decision: Decision) -> None:
        """Settle every rung that a preimage opens, cancel the others, then hold the receipt against the terms."""
        preimages = policy.matching_preimages(decision.sealed_preimages, self._keys.sealing, offer)
        reward_msat = await ladder.settle(self._node, offer, preimages)
        keep: Collection[int] = preimages
        if not preimages and not decision.withheld:
            # Earned, and only the coordinator says that it is not to be had: on its word no earned rung is given up.
            keep = kept_rungs(msgspec.json.decode(decision.receipt.body, type=Receipt), offer)
        await ladder.cancel(self._node, offer, keep=keep)
        self.outcome = self.outcome.with_(reward_msat=reward_msat)
        commitment = self._attempt.commitment
        try:
            receipt = policy.check_receipt(
                decision.receipt,
                self._terms,
                commitment=commitment,
                peer=self._keys.identity.public,
                payload_hash=self._attempt.payload_hash,
            )
        except CallerError as wrong:
            log.warning("receipt.wrong", commitment=commitment, code=wrong.code, detail=wrong.detail)
            self.outcome = self.outcome.with_(verdict="disputed", reasons=(f"{wrong.code}: {wrong.detail}",))
            return
        if receipt.reward_msat and not preimages:
            self._keep(receipt=decision.receipt)
            self._parts.memory.owe(self._terms.round)
            self.outcome = self.outcome.with_(owed_msat=receipt.reward_msat)
            log.warning("reward.owed", commitment=commitment, amount_msat=receipt.reward_msat)
        elif reward_msat != receipt.reward_msat:
            log.error("reward.short", commitment=commitment, due=receipt.reward_msat, settled=reward_msat)
        self.outcome = self.outcome.judged(receipt)

    async def _give_up(self, error: L402Error) -> None:
        """Cancel the open rungs, keep a claim to the fee's credit, and say why."""
        attempt = self._parts.memory.attempt(self._terms.round) or self._attempt
        unread = error.code == UNREAD
        if attempt.offer is not None and not unread:
            # Where nobody answers there may be a decision: then the rungs stay, and our node's auto-cancel ends them.
            with contextlib.suppress(CallerError):  # on an offer that we refused, no rung was made
                await ladder.cancel(self._node, self._read_offer(attempt.offer), keep=())
        if attempt.token is not None:
            self._parts.memory.owe_credit(attempt.token.payment_hash)
        verdict = "unread" if unread else "unscored" if error.code == UNSCORED else "missed"
        self.outcome = self.outcome.with_(verdict=verdict, reasons=(f"{error.code}: {error.detail}",))

    async def _view(self, until_ms: int, ready: Callable[[SubmissionView], bool]) -> SubmissionView:
        """The submission's view once it is `ready`. Raises TooLate at the deadline or when it has failed."""
        round_, commitment = self._terms.round, self._attempt.commitment
        while True:
            view = await self._until(until_ms, lambda: self._gateway.submission(round_, commitment))
            if ready(view):
                return view
            if view.state in OVER:
                reason = "; ".join(view.reasons) or "no reason was given"
                raise TooLate("submission_failed", f"the coordinator says {view.state}: {reason}")
            if self._parts.now_ms() >= until_ms:
                raise TooLate("phase_missed", "the deadline passed before the coordinator was through")
            await self._pause()

    def _read_offer(self, signed: Signed) -> Offer:
        return policy.check_offer(
            signed,
            self._terms,
            commitment=self._attempt.commitment,
            peer=self._keys.identity.public,
            seal_to=self._keys.sealing.public,
        )

    def _statement(self) -> Signed:
        statement = Statement(
            round=self._terms.round,
            checkpoint=self._terms.checkpoint.sha256,
            commitment=self._attempt.commitment,
            peer=self._keys.identity.public,
            seal_to=self._keys.sealing.public,
            token_id=self._token().token_id,
            terms=self._terms.digest(),
            payout_node=self._parts.payout_node,
        )
        return self._keys.identity.sign(Statement.tag, statement)

    def _accepted(self, offer: Offer, heights: tuple[int, ...]) -> Signed:
        accepted = Accepted(
            commitment=offer.commitment,
            round=offer.round,
            peer=self._keys.identity.public,
            payment_hashes=offer.reward_hashes,
            expiry_heights=heights,
        )
        return self._keys.identity.sign(Accepted.tag, accepted)

    def _keep(self, **changes: Any) -> None:
        """The attempt one step further, on disk before anything else happens."""
        self._attempt = msgspec.structs.replace(self._attempt, **changes)
        self._parts.memory.save(self._attempt)

    def _token(self) -> Token:
        if self._attempt.token is None:
            raise Contradiction("token_lost", f"the journal has lost the token of round {self._terms.round}")
        return self._attempt.token
