"""An attestor with real SQLite and a bus that a test reads, among a settler and peers that a test speaks for."""

import hashlib
import itertools
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from l402_oracle.adapters import tables
from l402_oracle.attestor.app import Attestor
from l402_oracle.attestor.parts import Parts
from l402_oracle.derive import yardstick_name
from l402_oracle.keys import AttestorKeys
from l402_oracle.similarity import Sketch
from l402core import events
from l402core.documents import Conditions, Locked, ObjectRef, Offer, Receipt, Recipe, RoundRoot, Terms, TrancheTerms
from l402core.errors import Unavailable
from l402core.events import (
    WORK,
    CheckpointPublished,
    CommitsClosed,
    EscrowLocked,
    Event,
    GradientMeasured,
    GradientScored,
    GradientScreened,
    GradientUploaded,
    OfferMade,
    OfferMake,
    RoundAggregated,
    RoundClosed,
    RoundOpened,
    YardstickMade,
)
from l402core.outbox import Database
from l402core.sealing import UnsealingKey, seal, seal_payload
from l402core.secret import Secret
from l402core.signing import SigningKey
from l402core.succession import Trusted
from sparseloco.corpus import load_corpus
from sqlalchemy.event import listen

from tests.support.databases import url_for

E = TypeVar("E", bound=Event)
SETTLER, ATTESTOR, STRANGER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
ANSWERS = UnsealingKey(bytes([11]) * 32)
"""What workers seal to the attestor."""
SEED_KEY, PREIMAGE_KEY = bytes([4]) * 32, bytes([5]) * 32
MODEL = "aa" * 32
NANO = 1_000_000_000
KINDS = {kind.name: kind for kind in events.EVENTS}
OPENED_MS, UPLOAD_UNTIL_MS, JUDGE_BY_MS = 1_000_000, 1_060_000, 1_100_000


def sha(text: str) -> str:
    """A stable 32-byte hash of a name, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def a_ref(name: str) -> ObjectRef:
    """A claim check on nothing."""
    return ObjectRef(uri=f"file:///{name}", sha256=sha(name), size=1)


def sealing_key(peer: str) -> UnsealingKey:
    """The peer's X25519 key."""
    return UnsealingKey(hashlib.sha256(f"seal {peer}".encode()).digest())


def sealed(secret: bytes) -> bytes:
    """As a worker tells the attestor."""
    return seal(secret, ANSWERS.public)


def a_sketch(name: str) -> bytes:
    """A sketch unlike that of any other name."""
    rng = np.random.default_rng(int(sha(name)[:8], 16))
    keys = np.concatenate([np.sort(rng.choice(4096, 64, replace=False)) + 4096 * chunk for chunk in range(4)])
    return Sketch(4, keys.astype(np.uint32), rng.normal(size=len(keys)).astype(np.float16)).to_bytes()


class Shelf:
    """An object store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes) -> ObjectRef:
        """Keep it."""
        return self.keep(data)

    def keep(self, data: bytes) -> ObjectRef:
        """Keep it, without waiting."""
        name = hashlib.sha256(data).hexdigest()
        self.kept[name] = data
        return ObjectRef(uri=f"file:///{name}", sha256=name, size=len(data))

    async def get(self, ref: ObjectRef) -> bytes:
        """Raises Unavailable when it is not there."""
        try:
            return self.kept[ref.sha256]
        except KeyError:
            raise Unavailable("object_missing", ref.sha256) from None


class Ears:
    """A bus that remembers what was said, in order, with its trace."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.ids: list[str] = []
        """What the bus tells equal messages by."""
        self.parents: dict[str, str] = {}
        self.bytes = b""

    async def publish_raw(self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = "") -> None:
        """As the bus does."""
        name = next(name for name in KINDS if subject.startswith(f"{name}."))
        event = msgspec.json.decode(body, type=KINDS[name])
        plain, _, since = message_id.partition(":since")
        assert (event.stream, event.subject, event.message_id) == (stream, subject, plain)
        assert not since or stream == WORK
        self.ids.append(message_id)
        self.heard.append(event)
        self.parents[subject] = parent
        self.bytes += body

    def all(self, kind: type[E]) -> list[E]:
        """Every event of a kind."""
        return [event for event in self.heard if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E:
        """The last of a kind."""
        return self.all(kind)[-1]


class Height:
    """A height that a test sets; None: not known."""

    def __init__(self) -> None:
        self.now: int | None = 100

    def recent(self) -> int | None:
        """As `Heights`."""
        return self.now


class Stage:
    """One attestor and everybody around it."""

    def __init__(self, folder: Path, *, preimage_keys: dict[str, bytes] | None = None, yardstick: bool = False) -> None:
        self.file = folder / "l402_oracle.sqlite3"
        self.database = Database(url_for(folder, "l402_oracle"), tables.outbox)
        if self.database.engine.dialect.name == "sqlite":
            listen(self.database.engine, "connect", _without_fsync)
        self.now_ms, self.height, self.shelf, self.ears = OPENED_MS, Height(), Shelf(), Ears()
        ids = itertools.count()
        keys = {"k1": PREIMAGE_KEY} if preimage_keys is None else preimage_keys
        secrets = {name: Secret(key) for name, key in keys.items()}
        self.keys = AttestorKeys(ATTESTOR, Secret(SEED_KEY), secrets, ANSWERS)
        self.parts = Parts(
            database=self.database, objects=self.shelf, heights=self.height,
            keyring=lambda: self.keys, corpus=load_corpus(), settler=Trusted.alone("settler", SETTLER.public),
            chosen_key_id="k1", init_seed=7, expiry_margin_blocks=24, aggregate_places=256,
            yardstick=yardstick, now_ms=lambda: self.now_ms, new_id=lambda: f"id{next(ids)}",
        )  # fmt: skip
        self.attestor = Attestor(self.parts)
        self.sponsored: TrancheTerms | None = None
        """What the terms of the rounds to come name."""

    async def hear(self, *said: Event) -> None:
        """Deliver events to the handlers of their names, then publish what they say."""
        for event in said:
            await getattr(self.attestor, event.name.removesuffix(".v1").replace(".", "_"))(event)
        await self.publish()

    async def publish(self) -> None:
        """Empty the outbox."""
        while await self.database._publish_batch(self.ears):
            pass

    async def tick(self, *, to_ms: int | None = None) -> None:
        """What the timer does, at a time."""
        self.now_ms = self.now_ms if to_ms is None else to_ms
        await self.attestor.judging.look_around()
        await self.publish()

    async def announce(self) -> None:
        """The first checkpoint is there: round 1 may open."""
        await self.attestor.begin()
        await self.hear(aggregated(0))

    async def offer(self, name: str, seq: int, round_: int = 1) -> Offer:
        """The offer that this peer gets."""
        await self.hear(self.offer_make(name, seq, round_))
        return msgspec.json.decode(self.ears.last(OfferMade).offer.body, type=Offer)

    def terms(self, round_: int = 1, **changes: Any) -> Terms:
        """The round's terms, on what was announced."""
        base = next(e for e in self.ears.all(CheckpointPublished) if e.round == round_)
        values: dict[str, Any] = {
            "network": "simnet", "round": round_, "checkpoint": base.checkpoint, "model_id": MODEL,
            "seed_commitment": base.seed_commitment, "opened_at_ms": OPENED_MS, "commit_until_ms": OPENED_MS + 40_000,
            "lock_by_ms": OPENED_MS + 50_000, "upload_until_ms": UPLOAD_UNTIL_MS, "judge_by_ms": JUDGE_BY_MS,
            "reveal_by_height": 124, "fee_msat": 500_000, "unit_msat": 100_000, "places": 8,
            "budget_msat": 50_400_000, "phi_ppm": 600_000, "reference_previous": base.reference_previous,
            "eval_tokens": 65_536, "cltv_min": 60, "cltv_max": 200, "invoice_expiry_min_s": 600,
            "payload_max_bytes": 1 << 24, "expected_peers": (), "settler": SETTLER.public,
            "attestor": ATTESTOR.public, "attestor_url": "http://127.0.0.1:1", "reading_key": "cc" * 32,
            "recipe": Recipe(
                inner_steps=20, batch=8, sequence_length=128, learning_rate_ppm=2_000, feedback_decay_ppm=950_000,
                outer_rate_ppm=1_000_000, chunk_k=64,
            ),
            "tranche": self.sponsored, "yardstick": base.yardstick,
        }  # fmt: skip
        return Terms(**{**values, **changes})

    def round_opened(self, round_: int = 1, **changes: Any) -> RoundOpened:
        """The settler's fact."""
        terms = SETTLER.sign(Terms.tag, self.terms(round_, **changes))
        return RoundOpened(id="s", occurred_at_ms=self.now_ms, round=round_, terms=terms)

    def offer_make(
        self, name: str, seq: int, round_: int = 1, *, attempt: int = 1, lock_by_ms: int = 0, reveal_by_height: int = 0
    ) -> OfferMake:
        """The settler's request."""
        return OfferMake(
            id="s", occurred_at_ms=self.now_ms, round=round_, commitment=sha(name), peer=sha(f"peer {name}"),
            seal_to=sealing_key(name).public, seq=seq, terms=self.round_opened(round_).terms, attempt=attempt,
            lock_by_ms=lock_by_ms, reveal_by_height=reveal_by_height,
        )  # fmt: skip

    def uploaded(self, name: str, round_: int = 1) -> GradientUploaded:
        """The settler's fact."""
        return GradientUploaded(
            id="s", occurred_at_ms=self.now_ms, round=round_, commitment=sha(name), peer=sha(f"peer {name}"),
            checkpoint=self.terms(round_).checkpoint.sha256, model_id=MODEL, payload=a_ref(f"payload {name}"),
        )  # fmt: skip

    def screened(
        self, name: str, round_: int = 1, *, like: str = "", code: str = "", detail: str = ""
    ) -> GradientScreened:
        """The worker's fact; `like` names whose work it copies."""
        return GradientScreened(
            id="w", occurred_at_ms=self.now_ms, round=round_, commitment=sha(name), passed=not code, code=code,
            detail=detail, norms=() if code else (1.0, 2.0),
            sketch=None if code else self.shelf.keep(sealed(a_sketch(like or name))),
            sealed_key=sealed(bytes.fromhex(sha(f"content {name}"))).hex(),
        )  # fmt: skip

    def yardstick_made(
        self, round_: int = 1, *, norms: tuple[float, ...] = (1.0, 2.0), failure: str = ""
    ) -> YardstickMade:
        """The worker's fact: an update of the oracle's own, and the memory it leaves."""
        base, name = self.terms(round_).checkpoint, sha(f"state {round_ - 1}")
        key = hashlib.sha256(f"yardstick {round_}".encode()).digest()
        payload = None if failure else self.shelf.keep(seal_payload(b"its bytes", sealing_key("reader").public, key))
        return YardstickMade(
            id="w", occurred_at_ms=self.now_ms, round=round_, yardstick=yardstick_name(round_, base.sha256),
            payload=payload, sealed_key=sealed(key).hex(), norms=() if failure else norms,
            state_before=name if round_ > 1 else "", state=None if failure else a_ref(f"state {round_}"), failure=failure,
            state_after="" if failure else sha(f"state {round_}"), state_object=name if round_ > 1 else "",
            sealed_state_key=sealed(key[::-1]).hex() if round_ > 1 else "",
        )  # fmt: skip


def _without_fsync(connection: Any, _record: object) -> None:
    """A test's machine may crash; its table need not survive."""
    connection.execute("PRAGMA synchronous=OFF")


def aggregated(round_: int, name: str = "") -> RoundAggregated:
    """The worker's fact."""
    return RoundAggregated(
        id="w", occurred_at_ms=0, round=round_, checkpoint=a_ref(name or f"checkpoint {round_}"), model_id=MODEL,
        held_out_before=5 * NANO, held_out_after=4 * NANO,
    )  # fmt: skip


def measured(name: str, drop: float, round_: int = 1, *, se: float = 0.001, failure: str = "") -> GradientMeasured:
    """The worker's fact: a drop in nats per token."""
    mean, half = round(drop * NANO), round(3 * se * NANO)
    return GradientMeasured(
        id="w", occurred_at_ms=0, round=round_, commitment=sha(name), drop_mean=mean, drop_low=mean - half,
        drop_high=mean + half, sequences=512, tokens=65_536, losses=a_ref(f"losses {name}"),
        conditions=Conditions(hardware="cpu"), failure=failure,
    )  # fmt: skip


def locked(offer: Offer, *, expiry: int = 160, by: SigningKey = SETTLER, **changes: Any) -> EscrowLocked:
    """The settler's signed word on an offer's ladder."""
    values: dict[str, Any] = {
        "commitment": offer.commitment, "round": offer.round, "peer": offer.peer,
        "payment_hashes": offer.reward_hashes, "expiry_height": expiry, "locked_at_ms": OPENED_MS + 45_000,
    }  # fmt: skip
    signed = by.sign(Locked.tag, Locked(**{**values, **changes}))
    return EscrowLocked(id="s", occurred_at_ms=0, round=offer.round, commitment=offer.commitment, locked=signed)


def the_root(*names: str, round_: int = 1) -> RoundRoot:
    """The ordered commitments."""
    return RoundRoot(round=round_, commitments=tuple(sha(name) for name in names))


def commits_closed(*names: str, round_: int = 1) -> CommitsClosed:
    """The settler's fact."""
    root = SETTLER.sign(RoundRoot.tag, the_root(*names, round_=round_))
    return CommitsClosed(id="s", occurred_at_ms=0, round=round_, root=root)


def round_closed(*names: str, uploaded: tuple[str, ...] | None = None, round_: int = 1) -> RoundClosed:
    """The settler's fact; all are uploaded unless said otherwise."""
    root = SETTLER.sign(RoundRoot.tag, the_root(*names, round_=round_))
    came = tuple(sha(name) for name in (names if uploaded is None else uploaded))
    return RoundClosed(id="s", occurred_at_ms=0, round=round_, root=root, uploaded=came)


def receipt_of(scored: GradientScored) -> Receipt:
    """What the attestor signed."""
    return msgspec.json.decode(scored.receipt.body, type=Receipt)
