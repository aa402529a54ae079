"""The peer's story: train, pay, submit, lock, upload, collect. Its decisions are in `policy`; it trusts nobody's word."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from l402core import telemetry
from l402core.documents import Accepted, ObjectRef, Offer, Statement, Terms, commitment_of
from l402core.errors import (
    CallerError,
    Contradiction,
    L402Error,
    NotFound,
    PeerError,
    TooEarly,
    TooLate,
    TooMany,
    Unavailable,
    WorldError,
)  # fmt: skip
from l402core.events import GradientScored, RoundView, SubmissionView
from l402core.sealing import UnsealingKey, seal_payload
from l402core.signing import Signed, SigningKey

from l402_peer_agent import ladder, policy
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.journal import Attempt, Token
from l402_peer_agent.outcome import Outcome, append_line

log = structlog.get_logger()
T = TypeVar("T")

RETRY_S = 0.5
ATTESTOR_EVERY = 4
"""After so many looks in vain at the settler's view, the attestor itself is asked."""


class Coordinator(Protocol):
    """The gateway, as `adapters.gateway.Gateway` speaks to it."""

    async def round(self, round_: int | None = None) -> RoundView: ...

    async def checkpoint(self, ref: ObjectRef, *, max_bytes: int) -> bytes: ...

    async def submission(self, round_: int, commitment: str) -> SubmissionView: ...

    async def open(
        self, round_: int, commitment: str, token: Token, preimage: bytes, statement: Signed
    ) -> SubmissionView: ...

    async def locks(
        self, round_: int, commitment: str, token: Token, preimage: bytes, bolt11s: list[str]
    ) -> SubmissionView: ...

    async def accepted(
        self, round_: int, commitment: str, token: Token, preimage: bytes, accepted: Signed
    ) -> SubmissionView: ...

    async def upload(
        self, round_: int, commitment: str, token: Token, preimage: bytes, sealed: bytes, nonce: str
    ) -> SubmissionView: ...

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored: ...

    async def listen(self, round_: int, on_hint: Callable[[], None]) -> None: ...


class Memory(Protocol):
    """The journal of attempts, as `adapters.journal.Journal` keeps it."""

    def attempt(self, round_: int) -> Attempt | None: ...

    def save(self, attempt: Attempt) -> None: ...

    def unfinished(self) -> list[Attempt]: ...

    def finished(self) -> int: ...

    def last_round(self) -> int: ...

    def owe_credit(self, payment_hash: str) -> None: ...

    def credit_spent(self, payment_hash: str) -> None: ...

    def pinned(self, name: str) -> str: ...

    def pin(self, name: str, value: str) -> None: ...


class Work(Protocol):
    """How a payload comes about, and what of it is remembered for the next round."""

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes: ...

    def opened(self, terms: Terms, packed: bytes) -> None: ...

    def conclude(self, round_: int, *, accepted: bool) -> None: ...


class Keys(msgspec.Struct, frozen=True):
    """The peer's own keys. They cannot be printed."""

    identity: SigningKey
    sealing: UnsealingKey


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the oracle decided, from whichever door it came."""

    receipt: Signed
    sealed_preimages: tuple[str, ...]


class Agent:
    """One peer. `payout_node` is its node's public key, `now_ms` the clock."""

    def __init__(
        self,
        config: Config,
        keys: Keys,
        gateway: Coordinator,
        node: ladder.Node,
        fees: Fees,
        memory: Memory,
        work: Work,
        *,
        payout_node: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._config, self._keys, self._gateway, self._node = config, keys, gateway, node
        self._fees, self._memory, self._work = fees, memory, work
        self._payout_node, self._now_ms = payout_node, now_ms
        self._hint = asyncio.Event()

    async def run(self) -> None:
        """Finish what was cut off, then play rounds until the limit, or until the network is done."""
        for attempt in self._memory.unfinished():
            await self._play(attempt)
        while not self._config.rounds or self._memory.finished() < self._config.rounds:
            view = await self._next_round()
            if view is None:
                log.info("network.done")
                return
            await self._begin(view)

    async def _next_round(self) -> RoundView | None:
        """A round that can still be entered and was not begun; None when none comes any more."""
        idle_since_ms = self._now_ms()
        while self._now_ms() - idle_since_ms < self._config.idle_exit_s * 1_000:
            try:
                view = await self._gateway.round()
                if view.round > self._memory.last_round() and view.phase == "commit":
                    return view
                if view.phase != "done":
                    idle_since_ms = self._now_ms()
            except (WorldError, NotFound, TooMany) as error:
                log.info("round.unread", code=error.code)
            await asyncio.sleep(self._config.poll_s)
        return None

    async def _begin(self, view: RoundView) -> None:
        """One round under one trace, from the terms to the last rung."""
        with telemetry.span("submission", attributes={"round": view.round, "peer": self._keys.identity.public}):
            attempt = Attempt(round=view.round, terms=view.terms, traceparent=telemetry.traceparent())
            self._memory.save(attempt)
            await self._conclude(attempt)

    async def _play(self, attempt: Attempt) -> None:
        """Go on with an attempt that a restart cut off, in its own trace."""
        with telemetry.span(
            "submission.resumed",
            parent=attempt.traceparent,
            attributes={"round": attempt.round, "peer": self._keys.identity.public},
        ):
            await self._conclude(attempt)

    async def _conclude(self, attempt: Attempt) -> None:
        """Play the round to its end, whatever that is; then write down how it went."""
        outcome = Outcome(round=attempt.round, kind=self._config.kind, trace_id=telemetry.trace_id())
        listening = asyncio.create_task(self._gateway.listen(attempt.round, self._hint.set))
        try:
            terms = self._read_terms(attempt.terms)
            outcome = await self._submit(attempt, terms, outcome)
        except Contradiction:
            raise
        except L402Error as error:
            log.warning("submission.failed", round=attempt.round, code=error.code, detail=error.detail)
            outcome = await self._give_up(attempt.round, outcome, error)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
        self._work.conclude(attempt.round, accepted=outcome.verdict == "accepted")
        append_line(self._config.data_dir / "rounds.jsonl", outcome)
        self._memory.save(msgspec.structs.replace(self._attempt(attempt.round), done=True))
        log.info("round.finished", round=outcome.round, verdict=outcome.verdict, reward_msat=outcome.reward_msat)

    async def _submit(self, attempt: Attempt, terms: Terms, outcome: Outcome) -> Outcome:
        """One submission, top to bottom. Each step may be repeated after a restart, by hash."""
        attempt, packed, sealed = await self._prepare(attempt, terms)
        outcome = outcome.with_(commitment=attempt.commitment)
        attempt, preimage = await self._paid(attempt, terms)
        token = _token(attempt)
        outcome = outcome.with_(fee_msat=0 if token.credit else token.amount_msat)
        attempt, offer = await self._open(attempt, terms, preimage)
        self._work.opened(terms, packed)
        attempt = await self._lock(attempt, terms, offer, preimage)
        outcome = outcome.with_(locked_msat=sum(offer.amounts_msat))
        attempt = await self._upload(attempt, terms, preimage, sealed)
        decision = await self._decision(attempt, terms)
        return await self._collect(attempt, terms, offer, decision, outcome)

    async def _prepare(self, attempt: Attempt, terms: Terms) -> tuple[Attempt, bytes, bytes]:
        """Train, pack and seal; the sealed bytes and their commitment are on disk before anybody hears of them."""
        folder = self._config.data_dir / "payloads"
        packed_file, sealed_file = folder / f"{terms.round}.packed", folder / f"{terms.round}.sealed"
        if attempt.commitment:
            return attempt, packed_file.read_bytes(), sealed_file.read_bytes()
        data = await self._until(
            terms.commit_until_ms,
            lambda: self._gateway.checkpoint(terms.checkpoint, max_bytes=self._config.checkpoint_max_bytes),
        )
        packed = await self._work.packed(terms, data)
        sealed = seal_payload(packed, terms.reading_key, secrets.token_bytes(32))
        if len(sealed) > min(terms.payload_max_bytes, self._config.payload_max_bytes):
            raise PeerError("payload_size", f"a payload of {len(sealed)} bytes is above the terms' limit")
        folder.mkdir(parents=True, exist_ok=True)
        packed_file.write_bytes(packed)
        sealed_file.write_bytes(sealed)
        nonce, payload_hash = secrets.token_bytes(32).hex(), policy.sha256(sealed)
        attempt = msgspec.structs.replace(
            attempt,
            nonce=nonce,
            payload_hash=payload_hash,
            commitment=commitment_of(
                payload_hash=payload_hash,
                peer=self._keys.identity.public,
                round_=terms.round,
                checkpoint=terms.checkpoint.sha256,
                nonce=nonce,
            ),
        )
        self._memory.save(attempt)
        log.info("gradient.made", round=terms.round, commitment=attempt.commitment, size=len(sealed))
        return attempt, packed, sealed

    async def _paid(self, attempt: Attempt, terms: Terms) -> tuple[Attempt, bytes]:
        """A token and its preimage; asked for until commits close."""
        return await self._until(
            terms.commit_until_ms, lambda: self._fees.paid_token(self._attempt(attempt.round), terms)
        )

    async def _open(self, attempt: Attempt, terms: Terms, preimage: bytes) -> tuple[Attempt, Offer]:
        """Spend the token, then wait for the attestor's offer and check it."""
        token = _token(attempt)
        if attempt.offer is None:
            statement = attempt.statement or self._statement(attempt, terms, token)
            attempt = self._keep(attempt, statement=statement)
            view = await self._opened(attempt, terms, preimage, statement)
            if token.credit:
                self._memory.credit_spent(token.payment_hash)
            if view.offer is None:
                view = await self._view(attempt, terms.lock_by_ms, lambda view: view.offer is not None)
            attempt = self._keep(attempt, offer=view.offer)
            log.info("submission.opened", round=attempt.round, commitment=attempt.commitment, seq=view.seq)
        assert attempt.offer is not None
        return attempt, self._read_offer(attempt.offer, attempt, terms)

    async def _opened(self, attempt: Attempt, terms: Terms, preimage: bytes, statement: Signed) -> SubmissionView:
        """The opened submission; where every reply was lost, what the coordinator made of it is read."""
        token = _token(attempt)
        try:
            return await self._until(
                terms.commit_until_ms,
                lambda: self._gateway.open(attempt.round, attempt.commitment, token, preimage, statement),
            )
        except (WorldError, TooLate) as lost:
            try:
                return await self._gateway.submission(attempt.round, attempt.commitment)
            except (WorldError, NotFound):
                raise lost from None

    async def _lock(self, attempt: Attempt, terms: Terms, offer: Offer, preimage: bytes) -> Attempt:
        """Make the rungs, hand them in, see them ACCEPTED at our node, say so, and have the settler's word."""
        if attempt.locked:
            return attempt
        round_, commitment, token = attempt.round, attempt.commitment, _token(attempt)
        bolt11s = await self._until(
            terms.lock_by_ms, lambda: ladder.make(self._node, offer, terms, name=self._config.name)
        )
        await self._until(terms.lock_by_ms, lambda: self._gateway.locks(round_, commitment, token, preimage, bolt11s))
        heights = await ladder.all_accepted(self._node, offer, seconds=(terms.lock_by_ms - self._now_ms()) / 1_000)
        accepted = self._accepted(attempt, offer, heights)
        await self._until(
            terms.lock_by_ms, lambda: self._gateway.accepted(round_, commitment, token, preimage, accepted)
        )
        view = await self._view(attempt, terms.upload_until_ms, lambda view: view.locked is not None)
        assert view.locked is not None
        locked = policy.check_locked(view.locked, terms, offer)
        log.info("escrow.locked", commitment=commitment, expiry_height=locked.expiry_height)
        return self._keep(attempt, locked=True)

    async def _upload(self, attempt: Attempt, terms: Terms, preimage: bytes, sealed: bytes) -> Attempt:
        """Once the money is locked and commits are closed, and not before, the gradient leaves this machine."""
        round_, commitment, token = attempt.round, attempt.commitment, _token(attempt)
        if not attempt.uploading:
            await self._view(attempt, terms.upload_until_ms, lambda view: view.phase != "commit")
            attempt = self._keep(attempt, uploading=True)
        try:
            view = await self._until(
                terms.upload_until_ms,
                lambda: self._gateway.upload(round_, commitment, token, preimage, sealed, attempt.nonce),
            )
            if view.upload is not None:
                policy.check_upload(view.upload, terms, commitment=commitment, payload_hash=attempt.payload_hash)
            log.info("gradient.uploaded", commitment=commitment)
        except (WorldError, CallerError) as unsure:
            # It may have arrived all the same (a lost reply, a restart): what the oracle decides is still ours.
            log.warning("gradient.unconfirmed", commitment=commitment, code=unsure.code, detail=unsure.detail)
        return attempt

    async def _decision(self, attempt: Attempt, terms: Terms) -> Decision:
        """From the settler's view or, where that stays silent, from the attestor itself.

        Raises TooLate where the coordinator has none by the deadline, Unavailable where nobody answers.
        """
        until_ms = max(terms.judge_by_ms, self._now_ms()) + int(self._config.grace_s * 1_000)
        looks, over, silent = 0, False, True
        while self._now_ms() < until_ms and not over:
            looks += 1
            with contextlib.suppress(WorldError, NotFound, TooMany):
                view = await self._gateway.submission(attempt.round, attempt.commitment)
                silent = False
                if view.receipt is not None:
                    return Decision(receipt=view.receipt, sealed_preimages=view.sealed_preimages)
                over = view.phase == "done" and view.state in {"failed", "ended"}
            if over or looks % ATTESTOR_EVERY == 0:
                with contextlib.suppress(WorldError, CallerError):
                    scored = await self._gateway.decision(terms.attestor_url, attempt.commitment)
                    return Decision(receipt=scored.receipt, sealed_preimages=scored.sealed_preimages)
            await self._pause()
        if silent:
            raise Unavailable("decision_unread", "neither the coordinator nor the attestor answers")
        raise TooLate("unscored", "no decision came by its deadline")

    async def _collect(
        self, attempt: Attempt, terms: Terms, offer: Offer, decision: Decision, outcome: Outcome
    ) -> Outcome:
        """Settle every rung that a preimage opens, cancel the others, then hold the receipt against the terms."""
        preimages = policy.matching_preimages(decision.sealed_preimages, self._keys.sealing, offer)
        reward_msat = await ladder.settle(self._node, offer, preimages)
        await ladder.cancel(self._node, offer, keep=preimages)
        outcome = outcome.with_(reward_msat=reward_msat)
        try:
            receipt = policy.check_receipt(
                decision.receipt,
                terms,
                commitment=attempt.commitment,
                peer=self._keys.identity.public,
                payload_hash=attempt.payload_hash,
            )
        except CallerError as wrong:
            log.warning("receipt.wrong", commitment=attempt.commitment, code=wrong.code, detail=wrong.detail)
            return outcome.with_(verdict="disputed", reasons=(f"{wrong.code}: {wrong.detail}",))
        if reward_msat != receipt.reward_msat:
            log.error("reward.short", commitment=attempt.commitment, due=receipt.reward_msat, settled=reward_msat)
        return outcome.judged(receipt)

    async def _give_up(self, round_: int, outcome: Outcome, error: L402Error) -> Outcome:
        """Cancel the open rungs, keep a claim to the fee's credit, and say why."""
        attempt = self._attempt(round_)
        unread = error.code == "decision_unread"
        if attempt.offer is not None and not unread:
            # Where nobody answers there may be a decision: then the rungs stay, and our node's auto-cancel ends them.
            terms = self._read_terms(attempt.terms)
            await ladder.cancel(self._node, self._read_offer(attempt.offer, attempt, terms), keep={})
        if attempt.token is not None:
            self._memory.owe_credit(attempt.token.payment_hash)
        verdict = "unscored" if unread or error.code == "unscored" else "missed"
        return outcome.with_(commitment=attempt.commitment, verdict=verdict, reasons=(f"{error.code}: {error.detail}",))

    def _read_terms(self, signed: Signed) -> Terms:
        """Checked against the keys we were given, or those we saw first."""
        settler = self._config.settler or self._memory.pinned("settler") or signed.signer
        attestor = self._config.attestor or self._memory.pinned("attestor")
        terms = policy.read_terms(signed, settler=settler, attestor=attestor, network=self._config.lnd_network)
        self._memory.pin("settler", terms.settler)
        self._memory.pin("attestor", terms.attestor)
        return terms

    def _read_offer(self, signed: Signed, attempt: Attempt, terms: Terms) -> Offer:
        return policy.check_offer(
            signed,
            terms,
            commitment=attempt.commitment,
            peer=self._keys.identity.public,
            seal_to=self._keys.sealing.public,
        )

    def _accepted(self, attempt: Attempt, offer: Offer, heights: tuple[int, ...]) -> Signed:
        return self._keys.identity.sign(
            Accepted.tag,
            Accepted(
                commitment=attempt.commitment,
                round=attempt.round,
                peer=self._keys.identity.public,
                payment_hashes=offer.reward_hashes,
                expiry_heights=heights,
            ),
        )

    def _statement(self, attempt: Attempt, terms: Terms, token: Token) -> Signed:
        return self._keys.identity.sign(
            Statement.tag,
            Statement(
                round=attempt.round,
                checkpoint=terms.checkpoint.sha256,
                commitment=attempt.commitment,
                peer=self._keys.identity.public,
                seal_to=self._keys.sealing.public,
                token_id=token.token_id,
                terms=terms.digest(),
                payout_node=self._payout_node,
            ),
        )

    def _keep(self, attempt: Attempt, **changes: Any) -> Attempt:
        """The attempt one step further, on disk before anything else happens."""
        attempt = msgspec.structs.replace(attempt, **changes)
        self._memory.save(attempt)
        return attempt

    def _attempt(self, round_: int) -> Attempt:
        attempt = self._memory.attempt(round_)
        if attempt is None:
            raise Contradiction("attempt_lost", f"the journal has lost the attempt at round {round_}")
        return attempt

    async def _view(self, attempt: Attempt, until_ms: int, ready: Callable[[SubmissionView], bool]) -> SubmissionView:
        """The submission's view once it is `ready`. Raises TooLate at the deadline or when it has failed."""
        while True:
            view = await self._until(until_ms, lambda: self._gateway.submission(attempt.round, attempt.commitment))
            if ready(view):
                return view
            if view.state in {"failed", "ended"}:
                reason = "; ".join(view.reasons) or "no reason was given"
                raise TooLate("submission_failed", f"the coordinator says {view.state}: {reason}")
            if self._now_ms() >= until_ms:
                raise TooLate("phase_missed", "the deadline passed before the coordinator was through")
            await self._pause()

    async def _until(self, until_ms: int, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it works; what may work later is tried again until the deadline. Raises the last error then."""
        while True:
            try:
                return await call()
            except (WorldError, TooEarly, TooMany) as error:
                if self._now_ms() + RETRY_S * 1_000 >= until_ms:
                    raise
                log.info("step.again", code=error.code, detail=error.detail)
            await self._pause()

    async def _pause(self) -> None:
        """Until a hint comes, or the poll interval is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.poll_s):
                await self._hint.wait()
                await asyncio.sleep(0.02)  # the hint and what it hints at come by different ways
        self._hint.clear()


def _token(attempt: Attempt) -> Token:
    if attempt.token is None:
        raise Contradiction("token_lost", f"the journal has lost the token of round {attempt.round}")
    return attempt.token
