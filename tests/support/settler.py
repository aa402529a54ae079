"""A settler with real SQLite books, a clock that a test turns, and a node that a test speaks for."""

import asyncio
import hashlib
import itertools
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from coincurve import PrivateKey
from l402_settler.adapters import books, journal
from l402_settler.adapters.freeze_books import SUBMISSION, is_frozen
from l402_settler.adapters.tables import outbox
from l402_settler.app import Settler
from l402_settler.config import Config
from l402_settler.ledger import LIGHTNING, trial_balance
from l402_settler.office import NodeSight, Office
from l402_settler.sponsorships import Sponsors
from l402_settler.thawing import Thawing
from l402_settler.tracking import record_sight
from l402core import bolt11
from l402core.documents import Accepted, ObjectRef, Offer, Receipt, Statement, Terms
from l402core.events import (
    CheckpointPublished,
    Event,
    FeeSettled,
    Freeze,
    FreezeView,
    GatewayAwake,
    GradientScored,
    OfferMade,
    RegisterAccepted,
    RegisterLocks,
    RegisterUpload,
    SubmissionOpen,
    SubmissionView,
    Thaw,
)
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.outbox import Database
from l402core.rings import SigningRing
from l402core.signing import SigningKey
from sqlalchemy.event import listen

from tests.support.databases import url_for

SETTLER, ATTESTOR, PEER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
NODE_KEY = bytes([9]) * 32
NODE_PUBLIC = PrivateKey(NODE_KEY).public_key.format().hex()


def _without_fsync(connection: Any, _record: object) -> None:
    """A test's machine may crash; its books need not survive."""
    connection.execute("PRAGMA synchronous=OFF")


def sha(text: str) -> str:
    """A stable 32-byte hash of a name, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Stage:
    """One settler and everybody around it, driven by a test."""

    def __init__(self, folder: Path, *, url: str = "", **overrides: Any) -> None:
        """Books of the folder's own, or those at the URL."""
        self.config = Config(
            database_url=url or url_for(folder, "l402_settler"),
            attestor_public=ATTESTOR.public,
            reading_public="ab" * 32,
            **{"places": 2, "answer_wait_ms": 10, **overrides},
        )
        self.now_ms = 1_000_000_000
        self.heard = asyncio.Event()
        """For a test to set."""
        self.database = Database(self.config.database_url, outbox, ahead=books.read_ahead)
        if self.database.engine.dialect.name == "sqlite":
            listen(self.database.engine, "connect", _without_fsync)
        ids = itertools.count()
        self.office = Office(
            self.config,
            keys=SigningRing.of(SETTLER),
            database=self.database,
            now_ms=lambda: self.now_ms,
            new_id=lambda: f"id{next(ids)}",
        )
        self.office.sight = NodeSight(height=100, liquidity_msat=10**10, slots=483, trouble="")
        self.settler = Settler(self.office, None, None)  # type: ignore[arg-type]  # neither is touched by these stories
        self.desk = self.settler.desk
        self.thawing = Thawing(self.office, self.settler, Sponsors(self.office, None, None))  # type: ignore[arg-type]  # as above

    @staticmethod
    def key(number: int) -> SigningKey:
        """Another peer's key."""
        return SigningKey(bytes([number]) * 32)

    async def open_round(self, round_: int = 1) -> Terms:
        """The oracle publishes a checkpoint; a round opens on it."""
        reference = ObjectRef(uri="file:///c", sha256=sha(f"checkpoint{round_}"), size=1)
        await self.settler.on_checkpoint(
            CheckpointPublished(
                id="c", occurred_at_ms=0, round=round_, checkpoint=reference, parent="", model_id="aa" * 32,
                seed_commitment="bb" * 32, reference_previous=0, held_out_before=0, held_out_after=0, accepted=(),
            )
        )  # fmt: skip
        return self.terms(round_)

    def terms(self, round_: int = 1) -> Terms:
        """The round's terms as its row has them."""
        with self.database.engine.connect() as connection:
            body = connection.execute(sa.text("select terms from rounds where round = :r"), {"r": round_}).scalar_one()
        return msgspec.json.decode(msgspec.json.decode(body)["body"], type=Terms)

    def opening(
        self, name: str, *, peer: SigningKey = PEER, round_: int = 1, credit: bool = False, **other: Any
    ) -> SubmissionOpen:
        """A paid request to open a submission, as the gateway passes it on."""
        terms = self.terms(round_)
        statement = Statement(
            round=round_, checkpoint=terms.checkpoint.sha256, commitment=sha(name), peer=peer.public, seal_to="cd" * 32,
            token_id=sha(f"token {name}"), terms=terms.digest(), payout_node=NODE_PUBLIC,
        )  # fmt: skip
        values = {
            "round": round_, "commitment": sha(name), "peer": peer.public, "token_id": sha(f"token {name}"),
            "payment_hash": sha(f"fee {name}"), "credit": credit, "request_hash": sha(f"body {name}"), **other,
        }  # fmt: skip
        return SubmissionOpen(statement=peer.sign(Statement.tag, statement), **values)

    def offer(self, name: str, round_: int = 1, **other: Any) -> OfferMade:
        """The oracle's signed offer."""
        terms = self.terms(round_)
        values: dict[str, Any] = {
            "commitment": sha(name), "round": round_, "seq": 1, "peer": PEER.public, "seal_to": "cd" * 32,
            "terms": terms.digest(), "key_id": "k1", "amounts_msat": terms.rung_msat(), "attempt": 1,
            "lock_by_ms": terms.lock_by_ms, "upload_until_ms": terms.upload_until_ms, "judge_by_ms": terms.judge_by_ms,
            "reveal_by_height": terms.reveal_by_height, "cltv_min": terms.cltv_min, "cltv_max": terms.cltv_max,
            "reward_hashes": tuple(sha(f"rung {name} {index}") for index in range(6)), **other,
        }  # fmt: skip
        signed = ATTESTOR.sign(Offer.tag, Offer(**values))
        return OfferMade(id="o", occurred_at_ms=0, round=round_, commitment=sha(name), offer=signed)

    def invoices(self, name: str, round_: int = 1, **other: Any) -> tuple[str, ...]:
        """The ladder that the peer's node makes."""
        made = []
        for index, amount in enumerate(self.terms(round_).rung_msat()):
            values: dict[str, Any] = {
                "payment_hash": bytes.fromhex(sha(f"rung {name} {index}")), "payment_secret": bytes(32),
                "timestamp": 1_000_000, "amount_msat": amount, "description": "", "expiry": 3600,
                "min_final_cltv": 80, "network": "simnet", **other,
            }  # fmt: skip
            made.append(bolt11.encode(NODE_KEY, **values))
        return tuple(made)

    def locks(self, name: str, round_: int = 1, **other: Any) -> RegisterLocks:
        """The gateway's question that carries them."""
        return RegisterLocks(
            round=round_, commitment=sha(name), peer=PEER.public, bolt11s=self.invoices(name, round_, **other)
        )

    async def fee(self, name: str) -> None:
        """The invoicer reports a paid fee."""
        event = FeeSettled(
            id="f", occurred_at_ms=0, payment_hash=sha(f"fee {name}"), amount_msat=500_000, settle_index=1
        )
        await self.settler.on_fee(event)

    async def seen(self, name: str, index: int, status: PaymentStatus, failure: str = "", *, height: int = 190) -> None:
        """Our node reports a rung's payment."""
        await record_sight(
            self.office,
            PaymentView(
                payment_hash=bytes.fromhex(sha(f"rung {name} {index}")), status=status, amount_msat=0, failure=failure,
                htlc_expiry_heights=(height,),
            ),
        )  # fmt: skip

    def accepted(self, name: str, round_: int = 1) -> RegisterAccepted:
        """The peer's signed word that every rung waits at its node."""
        claim = Accepted(
            commitment=sha(name), round=round_, peer=PEER.public,
            payment_hashes=tuple(sha(f"rung {name} {index}") for index in range(6)), expiry_heights=(180,) * 6,
        )  # fmt: skip
        return RegisterAccepted(
            round=round_, commitment=sha(name), peer=PEER.public, accepted=PEER.sign(Accepted.tag, claim)
        )

    def upload(self, name: str, round_: int = 1) -> RegisterUpload:
        """The payload arrived."""
        reference = ObjectRef(uri="file:///p", sha256=sha(f"payload {name}"), size=9)
        return RegisterUpload(round=round_, commitment=sha(name), peer=PEER.public, payload=reference)

    def decision(
        self, name: str, mask: int, *, verdict: str = "accepted", reward_msat: int | None = None
    ) -> GradientScored:
        """The oracle's one decision."""
        terms, reference = self.terms(), 10**9
        reward = terms.unit_msat * mask if reward_msat is None else reward_msat
        quality = -(-mask * 2_000_000 // 63)
        drop = 6 * 10**8 + quality * 4 * 10**8 // 10**6
        if mask == 0 and verdict == "accepted":
            verdict = "rejected"
        receipt = Receipt(
            commitment=sha(name), round=1, peer=PEER.public, verdict=verdict, reasons=(), checks=(), checkpoint="",
            payload_hash="", content_key="", terms=terms.digest(), seed="", root="", shards=(), eval_tokens=0,
            drop_mean=drop, drop_low=drop - 1, drop_high=drop + 1, reference=reference, floor=6 * 10**8,
            quality_ppm=quality, units=mask, mask=mask, reward_msat=reward,
            model_id="", losses=None, previous="",
        )  # fmt: skip
        return GradientScored(
            id="s", occurred_at_ms=0, round=1, commitment=sha(name), peer=PEER.public, mask=mask, reward_msat=reward,
            verdict=verdict, reasons=("why",), receipt=ATTESTOR.sign(Receipt.tag, receipt), sealed_preimages=(),
        )  # fmt: skip

    async def locked(self, name: str = "a") -> SubmissionView:
        """The story up to the signed `Locked`."""
        await self.desk.open(self.opening(name))
        await self.settler.on_offer(self.offer(name))
        await self.desk.register_locks(self.locks(name))
        for index in range(6):
            await self.seen(name, index, PaymentStatus.IN_FLIGHT)
        return await self.desk.register_accepted(self.accepted(name))

    async def uploaded(self, name: str = "a") -> SubmissionView:
        """The story up to the upload receipt."""
        await self.locked(name)
        await self.turn(commit=True)
        return await self.desk.register_upload(self.upload(name))

    async def turn(self, *, commit: bool = False, **clock: int) -> None:
        """Let the rounds turn, after setting the clock to a deadline of the terms."""
        terms = self.terms()
        if commit:
            self.now_ms = terms.commit_until_ms
        self.now_ms = clock.get("now_ms", self.now_ms)
        await self.database.transact(self.settler._turn)

    async def awake_until(self, now_ms: int, *, gateways: bool = True, every_ms: int = 2_000) -> None:
        """Time passes; the settler is there, and hears of a gateway now and then."""
        while self.now_ms < now_ms:
            self.now_ms = min(self.now_ms + every_ms, now_ms)
            if gateways:
                await self.settler.awake.on_gateway(GatewayAwake())
            await self.settler.awake.mark()

    async def freeze(self, wanted: str) -> FreezeView:
        """An operator stops it."""
        return await self.thawing.freeze(Freeze(wanted=wanted, by="ann", reason="it looks odd"))

    async def is_frozen(self, commitment: str) -> bool:
        """Whether it waits for a person."""
        return await self.database.read(lambda tx: is_frozen(tx, SUBMISSION, commitment))

    async def thaw(self, wanted: str, *, drop: bool = False) -> FreezeView:
        """An operator has looked."""
        return await self.thawing.thaw(Thaw(wanted=wanted, by="ann", reason="it was my mistake", drop_held=drop))

    def said(self, kind: type[Event]) -> list[Any]:
        """Events of a kind that wait in the outbox."""
        with self.database.engine.connect() as connection:
            bodies = connection.execute(
                sa.select(outbox.c.body).where(outbox.c.subject.like(f"{kind.name}.%")).order_by(outbox.c.id)
            ).scalars()
            return [msgspec.json.decode(body, type=kind) for body in bodies]

    def ids(self, kind: type[Event]) -> list[str]:
        """What the bus will tell these events by."""
        with self.database.engine.connect() as connection:
            named = sa.select(outbox.c.message_id).where(outbox.c.subject.like(f"{kind.name}.%"))
            return list(connection.execute(named.order_by(outbox.c.id)).scalars())

    async def ledger(self) -> dict[str, int]:
        """Every account's posted credits less debits, msat; zero balances left out. Also checks debits = credits."""
        balances = trial_balance(await self.database.transact(journal.all_transfers))
        assert sum(b.debits_msat for b in balances.values()) == sum(b.credits_msat for b in balances.values())
        sums = {name: b.credits_msat - b.debits_msat for name, b in balances.items()}
        return {name: amount for name, amount in sums.items() if amount}

    async def pending_msat(self) -> int:
        """What is locked and not ended."""
        balances = trial_balance(await self.database.transact(journal.all_transfers))
        return balances[LIGHTNING].pending_credits_msat if LIGHTNING in balances else 0
