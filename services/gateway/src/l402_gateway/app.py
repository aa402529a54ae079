"""The gateway's story: sell a challenge, take a paid step to the settler, receive a gradient. It keeps no state of its own.

It verifies without asking anybody, and decides nothing about money: the settler does, and its refusals pass through.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import msgspec
import structlog
from l402core.documents import Accepted, Statement, Terms, UploadReceipt, commitment_of
from l402core.errors import (
    Conflict,
    Exhausted,
    Malformed,
    NotFound,
    TooEarly,
    TooLarge,
    TooLate,
    Unauthorized,
)
from l402core.events import (
    ChannelsView,
    ClaimCredit,
    CreditView,
    FeeMint,
    FeeMinted,
    PeerStanding,
    Question,
    ReadChannels,
    ReadRound,
    ReadStanding,
    ReadSubmission,
    RegisterAccepted,
    RegisterLocks,
    RegisterUpload,
    RoundView,
    SubmissionOpen,
    SubmissionView,
)
from l402core.l402 import Credential, Macaroon, Request, RootKeys, Verified, verify
from l402core.objects import ObjectStore
from l402core.signing import Signed, open_signed

from l402_gateway import challenge
from l402_gateway.challenge import CREDIT_MARK, Unpaid
from l402_gateway.config import Config
from l402_gateway.problems import Meaningless
from l402_gateway.reads import Shared
from l402_gateway.routes import Paid
from l402_gateway.seeing import LOOK_TIMEOUT_S, Reads
from l402_gateway.sponsors import Sponsors

log = structlog.get_logger()
LATE_FEE_S = 7 * 86_400
"""A credential outlives its round: presented too late it opens nothing, and its fee becomes a credit."""
A = TypeVar("A", bound=msgspec.Struct)
D = TypeVar("D", bound=msgspec.Struct)


REQUIRED = frozenset({"round", "commitment"})
"""Caveats without which no token opens anything."""
MAX_INVOICES = 64
CHANNELS_CACHE_MIN_MS = 250
"""Its answer costs a call on the node, so that it is kept for a moment whatever other reads are."""
UPLOADS_EACH = 2
"""At once: a connection that broke unseen, and the one that tries again."""


class Asks(Protocol):
    """Questions over the bus. Raises Unavailable, and whatever the answering side refuses with."""

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float) -> A: ...


class Shelf(Protocol):
    """What may be forgotten: unpaid challenges and limits. Raises Unavailable, Limited."""

    async def unpaid(self, key: str) -> Unpaid | None: ...
    async def keep(self, key: str, unpaid: Unpaid, *, for_s: int) -> None: ...
    async def count(self, limit: str, subject: str, *, at_most: int, window_s: int) -> None: ...
    def alone(self, key: str, *, wait_s: float) -> AbstractAsyncContextManager[None]: ...


class Proof(msgspec.Struct, frozen=True):
    """Who asks, and what they paid with."""

    peer: str
    verified: Verified

    @property
    def credit(self) -> bool:
        """Whether the token stands for a fee that bought nothing before."""
        return self.verified.caveats[:1] == (CREDIT_MARK,)


class Upload(msgspec.Struct, frozen=True):
    """What the headers of an upload claim. Hashes in hex."""

    payload_hash: str
    nonce: str
    length: int | None


class Locks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/locks`: one hold invoice per rung, lowest first."""

    bolt11s: tuple[str, ...]


class Gateway:
    """Every step, as plain calls; HTTP is told elsewhere."""

    def __init__(
        self, config: Config, bus: Asks, shelf: Shelf, store: ObjectStore, keys: Callable[[], RootKeys], *,
        now_ms: Callable[[], int], clock: Callable[[], float], rng_bytes: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        self.config, self._bus, self._shelf, self._store, self._keys = config, bus, shelf, store, keys
        self.now_ms, self._rng_bytes = now_ms, rng_bytes
        ttl_s = config.read_cache_ms / 1_000
        self.rounds: Shared[int, RoundView] = Shared(self._read_round, ttl_s=ttl_s, clock=clock)
        self.submissions: Shared[tuple[int, str], SubmissionView] = Shared(
            self._read_submission, ttl_s=ttl_s, clock=clock
        )
        channels_ttl_s = max(config.read_cache_ms, CHANNELS_CACHE_MIN_MS) / 1_000
        self._channels: Shared[None, ChannelsView] = Shared(self._read_channels, ttl_s=channels_ttl_s, clock=clock)
        self._selling: Shared[tuple[Paid, str, str], Unpaid] = Shared(self._sell_alone, ttl_s=0.0, clock=clock)
        # The same step sent many times at once is one question, and all of its senders get the one answer.
        self._steps: Shared[Question, SubmissionView] = Shared(self._ask_step, ttl_s=0.0, clock=clock)
        self.seen = Reads(self._look, clock)
        self._receiving: Counter[str] = Counter()
        self.sponsors = Sponsors(config, bus, shelf, clock=clock)

    # --- selling -----------------------------------------------------------------------------------------------------

    async def sell(self, paid: Paid, peer: str, client: str) -> tuple[Macaroon, Unpaid]:
        """A challenge for this submission: the same one until it expires.

        Raises NotFound, TooLate, Exhausted where no fee is sold; Limited, Unavailable.
        """
        view = await self.rounds.get(paid.round)
        challenge.may_sell(view, terms_of(view), now_ms=self.now_ms())
        base = msgspec.structs.replace(paid, step="", path="")
        unpaid = await self._shelf.unpaid(_key(base, peer)) or await self._selling.get((base, peer, client))
        return challenge.token(self._keys(), unpaid, base, peer), unpaid

    async def _sell_alone(self, who: tuple[Paid, str, str]) -> Unpaid:
        paid, peer, client = who
        await self._limit(peer, client)
        async with self._shelf.alone(_key(paid, peer), wait_s=self.config.bus_timeout_s):
            known = await self._shelf.unpaid(_key(paid, peer))
            if known is not None:
                return known
            if peer:
                await self._may_owe(peer)
            unpaid = await self._mint(paid)
            kept_s = challenge.keep_for_s(unpaid, now_ms=self.now_ms(), margin_s=self.config.challenge_margin_s)
            await self._shelf.keep(_key(paid, peer), unpaid, for_s=kept_s)
            log.info("challenge.made", round=paid.round, commitment=paid.commitment, payment_hash=unpaid.payment_hash)
            return unpaid

    async def _limit(self, peer: str, client: str) -> None:
        config = self.config
        window_s = config.mint_window_s
        await self._shelf.count("client", client, at_most=config.mints_per_client, window_s=window_s)
        if peer:
            await self._shelf.count("peer", peer, at_most=config.mints_per_peer, window_s=window_s)
        await self._shelf.count("gateway", "all", at_most=config.mints_in_all, window_s=window_s)

    async def _may_owe(self, peer: str) -> None:
        """Raises Exhausted for a peer that leaves as much hanging as may be: it gets no new challenge."""
        standing = await self._ask(ReadStanding(peer=peer), PeerStanding)
        if not standing.available:
            raise Exhausted("peer_exposure", standing.unavailable_reason)

    async def _mint(self, paid: Paid) -> Unpaid:
        terms = terms_of(await self.rounds.get(paid.round))
        life_s = challenge.invoice_life_s(terms, now_ms=self.now_ms(), longest_s=self.config.fee_expiry_s)
        question = FeeMint(round=paid.round, commitment=paid.commitment, amount_msat=terms.fee_msat, expiry_s=life_s)
        minted = await self._ask(question, FeeMinted)
        return Unpaid(
            payment_hash=minted.payment_hash,
            bolt11=minted.bolt11,
            token_id=self._keys().new_token_id(self._rng_bytes).hex(),
            expires_at_ms=minted.expires_at_ms,
            fee_msat=terms.fee_msat,
            terms=terms.digest(),
            valid_until_s=terms.judge_by_ms // 1_000 + LATE_FEE_S,
        )

    # --- verifying ---------------------------------------------------------------------------------------------------

    def check(self, credential: Credential, paid: Paid, method: str, claimed_peer: str) -> Verified:
        """Whether the credential is good for this request by this peer, whose signature is checked later.

        Raises Malformed, Unauthorized. Asks nobody.
        """
        marked = credential.macaroon.caveats[:1] == (CREDIT_MARK,)
        request = Request(
            method=method, path=paid.path, now_unix=self.now_ms() // 1_000, round=paid.round,
            commitment=paid.commitment, peer=claimed_peer or None, service="credit" if marked else None,
        )  # fmt: skip
        try:
            return verify(credential, self._keys(), request, REQUIRED)
        except Unauthorized as error:
            if error.code == "caveat_peer" and not claimed_peer:
                raise Unauthorized("peer_unsigned", "the credential is a peer's own: sign the request") from None
            raise

    # --- the paid steps ----------------------------------------------------------------------------------------------

    async def open(self, paid: Paid, proof: Proof, body: bytes) -> SubmissionView:
        """Open the submission with the peer's signed statement. The same body again gets the same answer."""
        statement = _signed(body, Statement.tag, Statement, proof.peer)
        _same(
            "statement", (statement.round, paid.round, "round"), (statement.commitment, paid.commitment, "commitment"),
            (statement.peer, proof.peer, "peer"), (statement.token_id, proof.verified.token_id.hex(), "token id"),
        )  # fmt: skip
        question = SubmissionOpen(
            round=paid.round, commitment=paid.commitment, peer=proof.peer, token_id=proof.verified.token_id.hex(),
            payment_hash=proof.verified.payment_hash.hex(), credit=proof.credit,
            statement=_read(body, Signed), request_hash=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        return await self._step(paid, question)

    async def locks(self, paid: Paid, proof: Proof, body: bytes) -> SubmissionView:
        """Hand in the peer's reward invoices; the settler checks each against the offer."""
        bolt11s = _read(body, Locks).bolt11s
        if len(bolt11s) > MAX_INVOICES:
            raise Meaningless("ladder_length", f"{len(bolt11s)} invoices, and no ladder has more than {MAX_INVOICES}")
        question = RegisterLocks(round=paid.round, commitment=paid.commitment, peer=proof.peer, bolt11s=bolt11s)
        return await self._step(paid, question)

    async def accepted(self, paid: Paid, proof: Proof, body: bytes) -> SubmissionView:
        """Take the peer's word that every rung waits at its node."""
        claim = _signed(body, Accepted.tag, Accepted, proof.peer)
        _same(
            "accepted", (claim.round, paid.round, "round"), (claim.commitment, paid.commitment, "commitment"),
            (claim.peer, proof.peer, "peer"),
        )  # fmt: skip
        question = RegisterAccepted(
            round=paid.round, commitment=paid.commitment, peer=proof.peer, accepted=_read(body, Signed)
        )
        return await self._step(paid, question)

    async def upload(self, paid: Paid, proof: Proof, claimed: Upload, chunks: AsyncIterable[bytes]) -> SubmissionView:
        """Receive the sealed gradient. What cannot be taken is refused before a byte of it is read."""
        known = await self._read_submission((paid.round, paid.commitment))
        if known.peer != proof.peer:
            raise Unauthorized("peer_foreign", "this submission belongs to another peer")
        if _uploaded(known, claimed.payload_hash):
            return known
        terms = terms_of(await self.rounds.get(paid.round))
        may_upload(known, terms, claimed, paid, now_ms=self.now_ms())
        limit = min(terms.payload_max_bytes, self.config.payload_max_bytes)
        with self._slot(paid.commitment):
            payload = await self._store.put_stream(_hashed(chunks, claimed.payload_hash), max_bytes=limit)
        question = RegisterUpload(round=paid.round, commitment=paid.commitment, peer=proof.peer, payload=payload)
        return await self._step(paid, question)

    @contextlib.contextmanager
    def _slot(self, commitment: str) -> Iterator[None]:
        """Room for one upload. One submission has few, or its slow uploads would keep all others out."""
        going = self._receiving.total()
        if going >= self.config.uploads_at_once:
            raise Exhausted("uploads_busy", f"{going} uploads are being received; send it again in a moment")
        if self._receiving[commitment] >= UPLOADS_EACH:
            raise Exhausted("upload_twice", "this submission is already being uploaded; send it again in a moment")
        self._receiving[commitment] += 1
        try:
            yield
        finally:
            self._receiving[commitment] -= 1
            self._receiving += Counter()  # drops those at zero

    async def claim_credit(self, peer: str, payment_hash: str) -> tuple[Macaroon, CreditView]:
        """The credit that stands for a fee of this peer, as a token. Raises NotFound where none is open."""
        proposed = self._keys().new_token_id(self._rng_bytes).hex()
        question = ClaimCredit(peer=peer, payment_hash=payment_hash, token_id=proposed)
        credit = await self._ask(question, CreditView)
        try:
            return self._credit_token(credit, peer), credit
        except Unauthorized:  # its root key was retired meanwhile: the credit stands, and gets a token id of this ring
            if self._keys().is_revoked_token(bytes.fromhex(credit.token_id)):
                raise
            question = msgspec.structs.replace(question, replaces=credit.token_id)
            credit = await self._ask(question, CreditView)
            log.info("credit.renamed", payment_hash=payment_hash)
            return self._credit_token(credit, peer), credit

    def _credit_token(self, credit: CreditView, peer: str) -> Macaroon:
        return challenge.credit_token(
            self._keys(), payment_hash=credit.payment_hash, token_id=credit.token_id, peer=peer
        )

    # --- asking ------------------------------------------------------------------------------------------------------

    def forget(self, round_: int, commitment: str) -> None:
        """Something happened to these: what was read before is out of date."""
        for key in (0, round_):
            self.rounds.drop(key)
        if commitment:
            self.submissions.drop((round_, commitment))

    async def channels(self) -> ChannelsView:
        """The coordinator's channels. Raises NotFound where its operator shows them to nobody; Unavailable."""
        if not self.config.show_channels:
            raise NotFound("channels_hidden", "this coordinator does not show its channels")
        return await self._channels.get(None)

    async def _step(self, paid: Paid, question: Question) -> SubmissionView:
        try:
            return await self._steps.get(question)
        finally:
            self.forget(paid.round, paid.commitment)

    async def _ask_step(self, question: Question) -> SubmissionView:
        return await self._ask(question, SubmissionView)

    async def _read_round(self, round_: int) -> RoundView:
        return await self._ask(ReadRound(round=round_), RoundView)

    async def _read_channels(self, _key: None) -> ChannelsView:
        return await self._ask(ReadChannels(), ChannelsView)

    async def _read_submission(self, key: tuple[int, str]) -> SubmissionView:
        return await self._ask(ReadSubmission(round=key[0], commitment=key[1]), SubmissionView)

    async def _look(self, question: Question, answer: type[A]) -> A:
        timeout_s = min(LOOK_TIMEOUT_S, self.config.bus_timeout_s)
        return await self._bus.ask(question, answer, timeout_s=timeout_s)

    async def _ask(self, question: Question, answer: type[A]) -> A:
        try:
            return await self._bus.ask(question, answer, timeout_s=self.config.bus_timeout_s)
        except Malformed as error:
            # Its form was checked here; what the other side refuses is the meaning.
            raise Meaningless(error.code, error.detail) from error


def terms_of(view: RoundView) -> Terms:
    """The round's terms. The settler's answer is ours, so its signature is for others to check."""
    return msgspec.json.decode(view.terms.body, type=Terms)


def may_upload(view: SubmissionView, terms: Terms, claimed: Upload, paid: Paid, *, now_ms: int) -> None:
    """Raises TooEarly, TooLate, TooLarge or Meaningless before a byte is read; the settler has the last word."""
    if view.phase == "commit":
        raise TooEarly("commits_open", "uploads begin once the round's commits are closed")
    if view.phase != "upload" or now_ms >= terms.upload_until_ms:
        raise TooLate("upload_closed", f"round {view.round} takes no more uploads")
    if view.state in ("opened", "offered", "locking"):
        raise TooEarly("not_locked", "the reward is not locked yet; keep the gradient until it is")
    if view.state != "locked":
        raise TooLate("upload_closed", f"this submission takes no upload any more: it is {view.state}")
    if claimed.length is not None and claimed.length > terms.payload_max_bytes:
        raise TooLarge(
            "payload_too_large", f"a payload of {claimed.length} bytes is above the limit of {terms.payload_max_bytes}"
        )
    expected = commitment_of(
        payload_hash=claimed.payload_hash, peer=view.peer, round_=view.round, checkpoint=terms.checkpoint.sha256,
        nonce=claimed.nonce,
    )  # fmt: skip
    if expected != paid.commitment:
        raise Meaningless("commitment_mismatch", "payload hash and nonce do not give the commitment of this submission")


def _uploaded(view: SubmissionView, payload_hash: str) -> bool:
    """Whether this very payload is there already. Raises Conflict for another one."""
    if view.upload is None:
        return False
    receipt = msgspec.json.decode(view.upload.body, type=UploadReceipt)
    if receipt.payload_hash != payload_hash:
        raise Conflict("other_payload", "another payload was uploaded for this submission")
    return True


async def _hashed(chunks: AsyncIterable[bytes], claimed: str) -> AsyncIterator[bytes]:
    """The same chunks. Raises Meaningless at their end where they are not what was signed, so that nothing is kept."""
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != claimed:
        raise Meaningless("payload_hash_mismatch", "the body's sha256 is not the one that L402-Payload-Hash names")


def _signed(body: bytes, tag: str, kind: type[D], peer: str) -> D:
    """The document in the body, signed by the peer. Raises Malformed, Unauthorized with a `peer_…` code."""
    try:
        return open_signed(_read(body, Signed), tag, kind, signer=peer)
    except Unauthorized as error:
        raise Unauthorized(f"peer_{kind.__name__.lower()}", error.detail) from error


def _read(body: bytes, kind: type[D]) -> D:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Malformed("bad_json", f"the body is not a {kind.__name__.removeprefix('_')} in JSON: {error}") from None


def _same(what: str, *pairs: tuple[object, object, str]) -> None:
    for told, known, name in pairs:
        if told != known:
            raise Meaningless(f"{what}_mismatch", f"the signed {what} names another {name} than the request")


def _key(paid: Paid, peer: str) -> str:
    return f"{paid.round}:{paid.commitment}:{peer or '-'}"
