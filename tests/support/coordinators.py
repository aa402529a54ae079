"""A whole coordinator in one object, on a simulated node: what a peer's agent talks to when a test has no services."""

import asyncio
import hashlib
import time
from collections.abc import Callable

import msgspec
from l402_peer_agent.journal import Token
from l402core import bolt11
from l402core.documents import Accepted, Locked, ObjectRef, Offer, Receipt, Recipe, Statement, Terms, UploadReceipt
from l402core.errors import Conflict, NotFound, TooEarly
from l402core.events import GradientScored, RoundView, SubmissionView
from l402core.l402 import Challenge
from l402core.l402.identifier import Identifier
from l402core.l402.macaroon import mint
from l402core.lnd.grpc import GrpcNode
from l402core.sealing import UnsealingKey, seal
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey, open_signed

SETTLER, ATTESTOR = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
READING = UnsealingKey(b"\x03" * 32)
SEED = b"\x04" * 32
FEE_MSAT, UNIT_MSAT = 500_000, 100_000
CHECKPOINT = b"a checkpoint"
ACCEPTED_UNITS = 0b100101


def now_ms() -> int:
    """The clock of every part here."""
    return time.time_ns() // 1_000_000


def some_terms(round_: int, *, seconds: float) -> Terms:
    """A round whose phases each last so long."""
    start, phase = now_ms(), int(seconds * 1_000)
    return Terms(
        network="simnet", round=round_, model_id="m", reference_previous=0, seed_commitment=_sha(SEED),
        checkpoint=ObjectRef(uri="file:///c", sha256=_sha(CHECKPOINT), size=len(CHECKPOINT)),
        opened_at_ms=start, commit_until_ms=start + phase, lock_by_ms=start + 2 * phase,
        upload_until_ms=start + 3 * phase, judge_by_ms=start + 4 * phase, reveal_by_height=10_000, fee_msat=FEE_MSAT,
        unit_msat=UNIT_MSAT, places=8, budget_msat=10**9, phi_ppm=600_000, eval_tokens=1_024, cltv_min=60,
        cltv_max=200, invoice_expiry_min_s=600, payload_max_bytes=1 << 20, expected_peers=(),
        settler=SETTLER.public, attestor=ATTESTOR.public, attestor_url="http://127.0.0.1:1",
        reading_key=READING.public,
        recipe=Recipe(
            inner_steps=1, batch=1, sequence_length=128, learning_rate_ppm=1, feedback_decay_ppm=1,
            outer_rate_ppm=1, chunk_k=1,
        ),
    )  # fmt: skip


class Coordinator:
    """Gateway, settler, attestor and invoicer at once, each honest. Statements, uploads and tokens count once."""

    def __init__(self, node: GrpcNode, *, units: int = ACCEPTED_UNITS, seconds: float = 15.0) -> None:
        self._node, self._units, self._seconds = node, units, seconds
        self.rounds: dict[int, Terms] = {}
        self.views: dict[str, SubmissionView] = {}
        self.statements: dict[str, Signed] = {}
        self.uploads: dict[str, bytes] = {}
        self.credits: dict[str, str] = {}
        self.serves_offers = True
        self.paying: set[asyncio.Task[object]] = set()

    def open_round(self, round_: int) -> Terms:
        """A new round, which becomes the current one."""
        self.rounds[round_] = some_terms(round_, seconds=self._seconds)
        return self.rounds[round_]

    async def round(self, round_: int | None = None) -> RoundView:
        terms = self.rounds[round_ or max(self.rounds)]
        return RoundView(
            round=terms.round, phase="commit", terms=SETTLER.sign(Terms.tag, terms), root=None, opened=0, uploaded=0,
            scored=0, places_left=8, available=True, unavailable_reason="",
        )  # fmt: skip

    async def checkpoint(self, ref: ObjectRef, *, max_bytes: int) -> bytes:
        assert ref.size <= max_bytes
        return CHECKPOINT

    async def challenge(self, round_: int, commitment: str) -> Challenge:
        invoice = await self._node.add_invoice(amount_msat=FEE_MSAT, memo="fee", expiry_s=600, cltv_expiry=80)
        token_id = hashlib.sha256(invoice.payment_hash).digest()
        macaroon = mint(Secret(b"\x09" * 32), Identifier(invoice.payment_hash, token_id).encode(), (), b"")
        return Challenge(macaroon, invoice.bolt11, bolt11.decode(invoice.bolt11))

    async def claim_credit(self, payment_hash: str) -> Token:
        if payment_hash not in self.credits:
            raise NotFound("no_credit", "none is open")
        token_id = self.credits[payment_hash]
        identifier = Identifier(bytes.fromhex(payment_hash), bytes.fromhex(token_id)).encode()
        macaroon = mint(Secret(b"\x09" * 32), identifier, (), b"")
        return Token(
            macaroon=Secret(macaroon.encode()),
            payment_hash=payment_hash,
            token_id=token_id,
            amount_msat=FEE_MSAT,
            credit=True,
        )

    async def open(
        self, round_: int, commitment: str, token: Token, preimage: Secret, statement: Signed
    ) -> SubmissionView:
        assert hashlib.sha256(preimage.reveal()).hexdigest() == token.payment_hash
        if self.statements.setdefault(commitment, statement) != statement:
            raise Conflict("other_statement", "the submission was opened with another body")
        said = msgspec.json.decode(statement.body, type=Statement)
        assert (said.token_id, said.commitment) == (token.token_id, commitment)
        if commitment not in self.views:
            offer = self._offer(self.rounds[round_], said) if self.serves_offers else None
            self.views[commitment] = _fresh_view(round_, commitment, said.peer, offer)
        return self.views[commitment]

    async def locks(
        self, round_: int, commitment: str, token: Token, preimage: Secret, bolt11s: list[str]
    ) -> SubmissionView:
        for text in bolt11s:
            known = await self._node.lookup_payment(bolt11.decode(text).payment_hash)
            if known is None:
                task = asyncio.create_task(self._node.pay(text, timeout_s=5, fee_limit_msat=0, cltv_limit=0))
                self.paying.add(task)
        return self.views[commitment]

    async def accepted(
        self, round_: int, commitment: str, token: Token, preimage: Secret, accepted: Signed
    ) -> SubmissionView:
        view = self.views[commitment]
        said = open_signed(accepted, Accepted.tag, Accepted, signer=view.peer)
        locked = Locked(
            commitment=commitment, round=round_, peer=view.peer, payment_hashes=said.payment_hashes,
            expiry_height=min(said.expiry_heights), locked_at_ms=now_ms(),
        )  # fmt: skip
        return self._change(commitment, state="locked", phase="upload", locked=SETTLER.sign(Locked.tag, locked))

    async def upload(
        self, round_: int, commitment: str, token: Token, preimage: Secret, sealed: bytes, nonce: str
    ) -> SubmissionView:
        view = self.views[commitment]
        if view.locked is None:
            raise TooEarly("not_locked", "not before it is locked")
        self.uploads[commitment] = sealed
        receipt = UploadReceipt(
            commitment=commitment, round=round_, peer=view.peer, payload_hash=_sha(sealed), size=len(sealed),
            uploaded_at_ms=now_ms(),
        )  # fmt: skip
        self._change(commitment, state="uploaded", upload=SETTLER.sign(UploadReceipt.tag, receipt))
        return self._judge(commitment, self.rounds[round_])

    async def submission(self, round_: int, commitment: str) -> SubmissionView:
        if commitment not in self.views:
            raise NotFound("no_submission", "never opened")
        return self.views[commitment]

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored:
        raise NotFound("undecided", "not decided")

    async def listen(self, round_: int, commitment: str, on_hint: Callable[[], None]) -> None:
        await asyncio.Event().wait()

    def _offer(self, terms: Terms, said: Statement) -> Signed:
        offer = Offer(
            commitment=said.commitment, round=terms.round, seq=1, peer=said.peer, seal_to=said.seal_to,
            terms=terms.digest(), key_id="k1", amounts_msat=terms.rung_msat(), attempt=1,
            lock_by_ms=terms.lock_by_ms, upload_until_ms=terms.upload_until_ms, judge_by_ms=terms.judge_by_ms,
            reveal_by_height=terms.reveal_by_height, cltv_min=terms.cltv_min, cltv_max=terms.cltv_max,
            reward_hashes=tuple(_sha(preimage(said.commitment, index)) for index in range(6)),
        )  # fmt: skip
        return ATTESTOR.sign(Offer.tag, offer)

    def _judge(self, commitment: str, terms: Terms) -> SubmissionView:
        view, units = self.views[commitment], self._units
        reference, floor = 10**9, 6 * 10**8
        quality = -(-units * 2_000_000 // 63)
        drop = floor + quality * (reference - floor) // 10**6
        statement = msgspec.json.decode(self.statements[commitment].body, type=Statement)
        receipt = Receipt(
            commitment=commitment, round=terms.round, peer=view.peer, verdict="accepted" if units else "rejected",
            reasons=("Because.",), checks=(), checkpoint=terms.checkpoint.sha256,
            payload_hash=_sha(self.uploads[commitment]), content_key="", terms=terms.digest(), seed=SEED.hex(),
            root="", shards=(), eval_tokens=1, drop_mean=drop, drop_low=drop - 1, drop_high=drop + 1,
            reference=reference, floor=floor, quality_ppm=quality, units=units, mask=units,
            reward_msat=units * terms.unit_msat, model_id=terms.model_id, losses=None, previous="",
        )  # fmt: skip
        revealed = [preimage(commitment, index) for index in range(6) if units >> index & 1]
        return self._change(
            commitment,
            state="scored",
            receipt=ATTESTOR.sign(Receipt.tag, receipt),
            sealed_preimages=tuple(seal(one, statement.seal_to).hex() for one in revealed),
            mask=units,
        )

    def _change(self, commitment: str, **changes: object) -> SubmissionView:
        self.views[commitment] = msgspec.structs.replace(self.views[commitment], **changes)
        return self.views[commitment]


def preimage(commitment: str, index: int) -> bytes:
    """The oracle's, for one rung."""
    return hashlib.sha256(f"{commitment}{index}".encode()).digest()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fresh_view(round_: int, commitment: str, peer: str, offer: Signed | None) -> SubmissionView:
    return SubmissionView(
        round=round_, commitment=commitment, peer=peer, state="offered", phase="commit", seq=1, offer=offer,
        locked=None, upload=None, receipt=None, sealed_preimages=(), mask=0, verdict="", reasons=(), rungs=(),
        cancel=(), fee_msat=FEE_MSAT, credit_available=False, trace_id="",
    )  # fmt: skip
