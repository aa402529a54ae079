"""A gateway on a real bus and a real Redis, with a settler and an invoicer that answer from a table."""

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from l402_gateway.__main__ import running
from l402_gateway.config import Config
from l402core import errors, events
from l402core.bolt11 import encode
from l402core.bus import Bus
from l402core.documents import ObjectRef, Offer, Recipe, Statement, Terms, UploadReceipt, commitment_of
from l402core.l402 import keys as root_keys
from l402core.objects import FileStore
from l402core.peerauth import sign_request
from l402core.pledges import Pledge
from l402core.signing import Signed, SigningKey

from tests.support.nats import free_port, running_nats
from tests.support.status import Looks

BIN = Path(sys.executable).parent
SETTLER, ATTESTOR, PEER, OTHER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3, 4))
NODE_KEY = b"\x05" * 32
CHECKPOINT = b"the weights"
EMPTY = hashlib.sha256(b"").hexdigest()


@contextlib.asynccontextmanager
async def program(name: str, *arguments: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real server, ended with the block; yields once its port answers."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / name), *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[str, str, asyncio.subprocess.Process]]:
    """A real nats-server, and a real redis-server that keeps nothing on disk: both URLs, and the latter's process."""
    port = free_port()
    arguments = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with running_nats(folder / "nats") as nats_url:
        async with program("redis-server", *arguments, port=port) as redis:
            yield nats_url, f"redis://127.0.0.1:{port}/0", redis


def terms(round_: int = 1, **changes: Any) -> Terms:
    """A round that is open for a minute."""
    now_ms = time.time_ns() // 1_000_000
    made = Terms(
        network="regtest", round=round_,
        checkpoint=ObjectRef(uri="", sha256=hashlib.sha256(CHECKPOINT).hexdigest(), size=len(CHECKPOINT)),
        model_id="tiny", seed_commitment="00" * 32, opened_at_ms=now_ms, commit_until_ms=now_ms + 60_000,
        lock_by_ms=now_ms + 90_000, upload_until_ms=now_ms + 120_000, judge_by_ms=now_ms + 180_000,
        reveal_by_height=1_000, fee_msat=500_000, unit_msat=100_000, places=8, budget_msat=50_400_000,
        phi_ppm=600_000, reference_previous=0, eval_tokens=1_024, cltv_min=80, cltv_max=400,
        invoice_expiry_min_s=600, payload_max_bytes=100_000, expected_peers=(),
        recipe=Recipe(
            inner_steps=1, batch=1, sequence_length=8, learning_rate_ppm=1, feedback_decay_ppm=1, outer_rate_ppm=1,
            chunk_k=1,
        ),
        settler=SETTLER.public, attestor=ATTESTOR.public, attestor_url="http://127.0.0.1:1", reading_key="00" * 32,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


@dataclass
class Coordinator:
    """The other side of the bus: a settler and an invoicer in a few tables."""

    terms: Terms = field(default_factory=terms)
    phase: str = "commit"
    available: bool = True
    state: str = "locked"
    offer: bool = True
    fees: dict[str, bytes] = field(default_factory=dict)
    """Payment hash to preimage of every minted fee."""
    questions: list[events.Question] = field(default_factory=list)
    opened: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Commitment to peer, token id and request hash."""
    uploads: dict[str, ObjectRef] = field(default_factory=dict)
    credits: dict[str, str] = field(default_factory=dict)
    """Payment hash to peer of every open credit."""
    sponsorships: dict[str, events.SponsorshipView] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    """Payment hash to token id of every credit that was claimed."""
    effects: int = 0
    refuse: errors.L402Error | None = None
    looks: Looks = field(default_factory=Looks)
    """What the pages for people are told."""
    exposed: str = ""
    """Why no peer is sold another place."""

    def asked(self, kind: type[events.Question]) -> int:
        """How many questions of a kind came."""
        return sum(isinstance(question, kind) for question in self.questions)

    async def start(self, bus: Bus) -> None:
        """Answer on this bus."""
        bus.answer(events.FeeMint, self.mint)
        bus.answer(events.ReadRound, self.round)
        bus.answer(events.ReadStanding, self.standing)
        bus.answer(events.ReadSubmission, self.read)
        bus.answer(events.ReadChannels, self.channels)
        bus.answer(events.SubmissionOpen, self.open)
        bus.answer(events.RegisterLocks, self.step)
        bus.answer(events.RegisterAccepted, self.step)
        bus.answer(events.RegisterUpload, self.upload)
        bus.answer(events.ClaimCredit, self.credit)
        bus.answer(events.SponsorshipOpen, self.pledge)
        bus.answer(events.ReadSponsorship, self.sponsorship)
        self.looks.answer(bus)
        await bus.start()

    async def pledge(self, question: events.SponsorshipOpen) -> events.SponsorshipView:
        self.questions.append(question)
        if self.refuse is not None:
            raise self.refuse
        pledge = msgspec.json.decode(question.pledge.body, type=Pledge)
        return self.sponsorships.setdefault(
            pledge.sponsorship(),
            events.SponsorshipView(
                sponsorship=pledge.sponsorship(), sponsor=question.sponsor, state="asked", reason="",
                pledge=question.pledge, announcement=None, tranches=(),
            ),
        )  # fmt: skip

    async def sponsorship(self, question: events.ReadSponsorship) -> events.SponsorshipView:
        self.questions.append(question)
        if question.sponsorship not in self.sponsorships:
            raise errors.NotFound("sponsorship_unknown", "no such sponsorship was opened")
        return self.sponsorships[question.sponsorship]

    async def mint(self, question: events.FeeMint) -> events.FeeMinted:
        self.questions.append(question)
        preimage = os.urandom(32)
        payment_hash = hashlib.sha256(preimage).digest()
        self.fees[payment_hash.hex()] = preimage
        bolt11 = encode(
            NODE_KEY, payment_hash=payment_hash, payment_secret=os.urandom(32), timestamp=int(time.time()),
            amount_msat=question.amount_msat, expiry=question.expiry_s, network="regtest",
        )  # fmt: skip
        return events.FeeMinted(
            payment_hash=payment_hash.hex(), bolt11=bolt11,
            expires_at_ms=(int(time.time()) + question.expiry_s) * 1_000,
        )  # fmt: skip

    async def round(self, question: events.ReadRound) -> events.RoundView:
        self.questions.append(question)
        if question.round not in (0, self.terms.round):
            raise errors.NotFound("round_unknown", "no such round was opened")
        return events.RoundView(
            round=self.terms.round, phase=self.phase, terms=SETTLER.sign(Terms.tag, self.terms), root=None,
            opened=len(self.opened), uploaded=len(self.uploads), scored=0, places_left=8 - len(self.opened),
            available=self.available, unavailable_reason="" if self.available else "all places are taken",
        )  # fmt: skip

    async def standing(self, question: events.ReadStanding) -> events.PeerStanding:
        self.questions.append(question)
        return events.PeerStanding(
            peer=question.peer, exposed_msat=0, exposed_rungs=0, available=not self.exposed,
            unavailable_reason=self.exposed,
        )  # fmt: skip

    async def channels(self, question: events.ReadChannels) -> events.ChannelsView:
        self.questions.append(question)
        flow = events.NodeFlow(
            node="02" * 33, fees_msat=500_000, rewards_msat=700_000,
            rounds=(events.RoundFlow(round=1, fees_msat=500_000, rewards_msat=700_000),),
        )  # fmt: skip
        channel = events.ChannelStanding(
            channel_id="1", node="02" * 33, active=True, capacity_msat=9_000_000, local_msat=4_000_000,
            remote_msat=5_000_000, slots_used=6, slots_free=477, warning="it runs <short>",
        )  # fmt: skip
        return events.ChannelsView(
            at_ms=1, channels=(channel,), flows=(flow,), sendable_msat=4_000_000, needed_msat=50_880_000,
            slots_free=477, slots_needed=48, warning="a full next round takes more",
        )  # fmt: skip

    async def read(self, question: events.ReadSubmission) -> events.SubmissionView:
        self.questions.append(question)
        if question.commitment not in self.opened:
            raise errors.NotFound("submission_unknown", "no submission of this commitment was opened")
        return self.view(question.commitment)

    async def open(self, question: events.SubmissionOpen) -> events.SubmissionView:
        self.questions.append(question)
        if self.refuse is not None:
            raise self.refuse
        request = (question.peer, question.token_id, question.request_hash)
        if question.commitment not in self.opened:
            self.effects += 1
        if self.opened.setdefault(question.commitment, request) != request:
            raise errors.Conflict("other_request", "this commitment was opened by another request")
        return self.view(question.commitment)

    async def step(self, question: Any) -> events.SubmissionView:
        self.questions.append(question)
        if self.refuse is not None:
            raise self.refuse
        return self.view(question.commitment)

    async def upload(self, question: events.RegisterUpload) -> events.SubmissionView:
        self.questions.append(question)
        self.uploads[question.commitment] = question.payload
        self.effects += 1
        return self.view(question.commitment)

    async def credit(self, question: events.ClaimCredit) -> events.CreditView:
        self.questions.append(question)
        if self.credits.get(question.payment_hash) != question.peer:
            raise errors.NotFound("no_credit", "no open credit of yours stands for this payment hash")
        kept = self.kept.setdefault(question.payment_hash, question.token_id)
        if question.replaces == kept:
            kept = self.kept[question.payment_hash] = question.token_id
        return events.CreditView(
            payment_hash=question.payment_hash, token_id=kept, peer=question.peer, amount_msat=500_000
        )

    def view(self, commitment: str) -> events.SubmissionView:
        """The submission as the books would have it."""
        peer = self.opened[commitment][0]
        made = self.terms
        offer = Offer(
            commitment=commitment, round=made.round, seq=1, peer=peer, seal_to="00" * 32, terms=made.digest(),
            key_id="k1", amounts_msat=made.rung_msat(), attempt=0, lock_by_ms=made.lock_by_ms,
            upload_until_ms=made.upload_until_ms, judge_by_ms=made.judge_by_ms,
            reveal_by_height=made.reveal_by_height, cltv_min=80, cltv_max=400, reward_hashes=("00" * 32,) * 6,
        )  # fmt: skip
        payload = self.uploads.get(commitment)
        receipt = payload and UploadReceipt(
            commitment=commitment, round=made.round, peer=peer, payload_hash=payload.sha256, size=payload.size,
            uploaded_at_ms=1,
        )  # fmt: skip
        return events.SubmissionView(
            round=made.round, commitment=commitment, peer=peer, state="uploaded" if payload else self.state,
            phase=self.phase, seq=1, offer=ATTESTOR.sign(Offer.tag, offer) if self.offer else None, locked=None,
            upload=SETTLER.sign(UploadReceipt.tag, receipt) if receipt else None, receipt=None, sealed_preimages=(),
            mask=0, verdict="", reasons=(), rungs=(), cancel=(), fee_msat=500_000, credit_available=False,
            trace_id="",
        )  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A peer's submission before anybody was paid."""

    terms: Terms
    key: SigningKey = PEER
    payload: bytes = b"sealed gradient"
    nonce: str = "07" * 32

    @property
    def payload_hash(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def commitment(self) -> str:
        return commitment_of(
            payload_hash=self.payload_hash, peer=self.key.public, round_=self.terms.round,
            checkpoint=self.terms.checkpoint.sha256, nonce=self.nonce,
        )  # fmt: skip

    @property
    def path(self) -> str:
        return f"/v1/rounds/{self.terms.round}/submissions/{self.commitment}"

    def statement(self, token_id: str, **changes: Any) -> bytes:
        """The signed statement as a body."""
        made = Statement(
            round=self.terms.round, checkpoint=self.terms.checkpoint.sha256, commitment=self.commitment,
            peer=self.key.public, seal_to="00" * 32, token_id=token_id, terms=self.terms.digest(),
            payout_node="02" + "00" * 32,
        )  # fmt: skip
        return msgspec.json.encode(self.key.sign(Statement.tag, msgspec.structs.replace(made, **changes)))

    def signed(
        self, path: str, body: bytes = b"", *, method: str = "POST", body_sha256: str = "", now_ms: int = 0
    ) -> dict[str, str]:
        """The peer's headers on a request, made now unless told otherwise."""
        return sign_request(
            self.key, method=method, path=path, body_sha256=body_sha256 or hashlib.sha256(body).hexdigest(),
            now_ms=now_ms or time.time_ns() // 1_000_000,
        )  # fmt: skip


def signed(document: Any, key: SigningKey = PEER) -> bytes:
    """Any document, signed under its tag, as a body."""
    made: Signed = key.sign(document.tag, document)
    return msgspec.json.encode(made)


@dataclass
class Edge:
    """A running gateway, and what stands behind it."""

    url: str
    coordinator: Coordinator
    bus: Bus
    store: FileStore
    config: Config
    redis: asyncio.subprocess.Process
    objects: Path


@contextlib.asynccontextmanager
async def edge(folder: Path, **changes: Any) -> AsyncIterator[Edge]:
    """Everything real but the settler and the invoicer."""
    root_keys.save(root_keys.create(os.urandom), folder / "gateway.json")
    coordinator = Coordinator()
    async with servers(folder) as (nats_url, redis_url, redis):
        config = Config(
            nats_url=nats_url, redis_url=redis_url, data_dir=folder, key_file=folder / "gateway.json",
            objects_url=f"file://{folder}/objects", **changes,
        )  # fmt: skip
        bus = Bus(nats_url, "settler")
        await coordinator.start(bus)
        try:
            async with running(config) as (url, _bus, _objects):
                store = FileStore(folder / "objects")
                await store.put(CHECKPOINT)
                yield Edge(url, coordinator, bus, store, config, redis, folder / "objects")
        finally:
            await bus.stop()


@contextlib.contextmanager
def stopped(process: asyncio.subprocess.Process) -> Iterator[None]:
    """A part that does not answer for a while."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
