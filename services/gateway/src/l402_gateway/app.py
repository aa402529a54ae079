"""The gateway's story: sell a challenge, take a paid step to the settler, receive a gradient. It keeps no state of its own.

It verifies without asking anybody, and decides nothing about money: the settler does, and its refusals pass through.
"""

import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
import structlog
from l402core.documents import Accepted, Statement
from l402core.errors import (
    Malformed,
    NotFound,
    Unauthorized,
)
from l402core.events import (
    ChannelsView,
    ClaimCredit,
    CreditView,
    Question,
    ReadChannels,
    ReadRound,
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
from l402core.signing import Signed

from l402_gateway import challenge
from l402_gateway.bodies import Locks, read, same, signed_by
from l402_gateway.challenge import CREDIT_MARK
from l402_gateway.config import Config
from l402_gateway.problems import Meaningless
from l402_gateway.reads import Shared
from l402_gateway.routes import Paid
from l402_gateway.seeing import LOOK_TIMEOUT_S, Reads
from l402_gateway.selling import Selling, Shelf
from l402_gateway.sponsors import Sponsors
from l402_gateway.uploading import Places, Upload, as_claimed, is_there, may_upload
from l402_gateway.views import terms_of

log = structlog.get_logger()
A = TypeVar("A", bound=msgspec.Struct)
REQUIRED = frozenset({"round", "commitment"})
"""Caveats without which no token opens anything."""
MAX_INVOICES = 64
CHANNELS_CACHE_MIN_MS = 250
"""Its answer costs a call on the node, so that it is kept for a moment whatever other reads are."""


class Asks(Protocol):
    """Questions over the bus. Raises Unavailable, and whatever the answering side refuses with."""

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float) -> A: ...


class Proof(msgspec.Struct, frozen=True):
    """Who asks, and what they paid with."""

    peer: str
    verified: Verified

    @property
    def credit(self) -> bool:
        """Whether the token stands for a fee that bought nothing before."""
        return self.verified.caveats[:1] == (CREDIT_MARK,)


class Gateway:
    """Every step, as plain calls; HTTP is told elsewhere."""

    def __init__(
        self, config: Config, bus: Asks, shelf: Shelf, store: ObjectStore, keys: Callable[[], RootKeys], *,
        now_ms: Callable[[], int], clock: Callable[[], float], rng_bytes: Callable[[int], bytes],
        takes_uploads: Callable[[], Awaitable[bool]],
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
        self.selling = Selling(
            config, self._ask, shelf, self.rounds, keys, now_ms=now_ms, clock=clock, rng_bytes=rng_bytes,
            takes_uploads=takes_uploads,
        )  # fmt: skip
        # The same step sent many times at once is one question, and all of its senders get the one answer.
        self._steps: Shared[Question, SubmissionView] = Shared(self._ask_step, ttl_s=0.0, clock=clock)
        self.seen = Reads(self._look, clock)
        self._places = Places(config.uploads_at_once)
        self.sponsors = Sponsors(config, bus, shelf, clock=clock)

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
        statement = signed_by(body, Statement.tag, Statement, proof.peer)
        same(
            "statement", (statement.round, paid.round, "round"), (statement.commitment, paid.commitment, "commitment"),
            (statement.peer, proof.peer, "peer"), (statement.token_id, proof.verified.token_id.hex(), "token id"),
        )  # fmt: skip
        question = SubmissionOpen(
            round=paid.round, commitment=paid.commitment, peer=proof.peer, token_id=proof.verified.token_id.hex(),
            payment_hash=proof.verified.payment_hash.hex(), credit=proof.credit,
            statement=read(body, Signed), request_hash=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        return await self._step(paid, question)

    async def locks(self, paid: Paid, proof: Proof, body: bytes) -> SubmissionView:
        """Hand in the peer's reward invoices; the settler checks each against the offer."""
        bolt11s = read(body, Locks).bolt11s
        if len(bolt11s) > MAX_INVOICES:
            raise Meaningless("ladder_length", f"{len(bolt11s)} invoices, and no ladder has more than {MAX_INVOICES}")
        question = RegisterLocks(round=paid.round, commitment=paid.commitment, peer=proof.peer, bolt11s=bolt11s)
        return await self._step(paid, question)

    async def accepted(self, paid: Paid, proof: Proof, body: bytes) -> SubmissionView:
        """Take the peer's word that every rung waits at its node."""
        claim = signed_by(body, Accepted.tag, Accepted, proof.peer)
        same(
            "accepted", (claim.round, paid.round, "round"), (claim.commitment, paid.commitment, "commitment"),
            (claim.peer, proof.peer, "peer"),
        )  # fmt: skip
        question = RegisterAccepted(
            round=paid.round, commitment=paid.commitment, peer=proof.peer, accepted=read(body, Signed)
        )
        return await self._step(paid, question)

    async def upload(self, paid: Paid, proof: Proof, claimed: Upload, chunks: AsyncIterable[bytes]) -> SubmissionView:
        """Receive the sealed gradient. What cannot be taken is refused before a byte of it is read."""
        known = await self._read_submission((paid.round, paid.commitment))
        if known.peer != proof.peer:
            raise Unauthorized("peer_foreign", "this submission belongs to another peer")
        if is_there(known, claimed.payload_hash):
            return known
        terms = terms_of(await self.rounds.get(paid.round))
        may_upload(known, terms, claimed, paid, now_ms=self.now_ms())
        limit = min(terms.payload_max_bytes, self.config.payload_max_bytes)
        with self._places.one(paid.commitment):
            payload = await self._store.put_stream(as_claimed(chunks, claimed.payload_hash), max_bytes=limit)
        question = RegisterUpload(round=paid.round, commitment=paid.commitment, peer=proof.peer, payload=payload)
        return await self._step(paid, question)

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
