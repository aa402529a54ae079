"""A real attestor and a real worker without a bus: what a settler and peers would say to them is said here.

Money is what the oracle's signed decisions are worth by the round's terms, less one fee for each submission.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.judgement import Submission, Verdict, assess, judge, late_faults, question_of, reference_of
from l402_oracle.measure import mean_loss
from l402_oracle.worker.app import Worker
from l402_oracle.worker.bench import TorchBench
from l402_peer_agent.training import Taken, Trainer
from l402core.documents import Offer, Receipt, Recipe, RoundRoot, Terms, commitment_of
from l402core.errors import TooLate
from l402core.events import (
    CheckpointPublished,
    Event,
    GradientMeasure,
    GradientMeasured,
    GradientScored,
    GradientUploaded,
    OfferMade,
    OfferMake,
    RoundAggregate,
    RoundAggregated,
    RoundAssessed,
    RoundClosed,
    RoundOpened,
    YardstickMade,
    YardstickMake,
)
from l402core.sealing import UnsealingKey, seal_payload
from l402core.signing import SigningKey
from sparseloco.data import held_out_windows, load_corpus, train_batches
from sparseloco.defaults import CONTEXT, FEEDBACK_DECAY, INNER_BATCH, INNER_LR, INNER_STEPS, OUTER_LR, TOP_K
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters
from sparseloco.train import AdamState, inner_steps
from torch import Tensor

from tests.support.oracle import ANSWERS, SETTLER, Stage, locked, receipt_of

SPEC = GPTShape().spec()
READING = UnsealingKey(bytes([6]) * 32)
PAYLOAD_MAX_BYTES = 1 << 24
RECIPE = Recipe(
    inner_steps=INNER_STEPS, batch=INNER_BATCH, sequence_length=CONTEXT, learning_rate_ppm=round(INNER_LR * 1e6),
    feedback_decay_ppm=round(FEEDBACK_DECAY * 1e6), outer_rate_ppm=round(OUTER_LR * 1e6), chunk_k=TOP_K,
)  # fmt: skip
"""What a network's settler puts into its terms by default."""


@dataclass
class Player:
    """One identity, what it paid and was paid (msat), and what was said of it."""

    name: str
    kind: str
    trainer: Trainer
    key: SigningKey
    fees_msat: int = 0
    paid_msat: int = 0
    verdicts: list[str] = field(default_factory=list)

    @property
    def net_msat(self) -> int:
        """What it was left with."""
        return self.paid_msat - self.fees_msat


@dataclass(frozen=True)
class Entry:
    """A submission of the round that is on."""

    player: Player
    commitment: str
    packed: bytes
    uploads: bool


@dataclass(frozen=True)
class Outcome:
    """A judged round: decisions by player, and what players would have been paid among themselves alone."""

    number: int
    receipts: dict[str, Receipt]
    terms: Terms

    def paid_msat(self, names: Sequence[str]) -> int:
        """The sum of these players' rewards."""
        return sum(self.receipts[name].reward_msat for name in names if name in self.receipts)


class Court:
    """One network's oracle, from a checkpoint of our choice."""

    def __init__(self, folder: Path, theta: Tensor, *, eval_tokens: int = 65_536, yardstick: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stage = Stage(folder, yardstick=yardstick)
        self._theta, self._eval_tokens = theta, eval_tokens
        self.bench = TorchBench(shape=GPTShape(), corpus=load_corpus(), chunk_k=64)
        self._said: list[Event] = []
        self._made: list[YardstickMade] = []
        self.worker = Worker(
            bench=self.bench, objects=self.stage.shelf, bus=self, key=READING, answers_to=lambda: ANSWERS.public,
            payload_max_bytes=PAYLOAD_MAX_BYTES,
        )  # fmt: skip
        self._heard = 0
        self.number = 0
        self.entries: list[Entry] = []
        self.terms: Terms

    async def publish(self, event: Event) -> None:
        """As the worker's bus."""
        self._said.append(event)

    async def begin(self) -> None:
        """The first checkpoint is the one we brought."""
        await self.stage.attestor.begin()
        await self.stage.publish()
        self._heard = len(self.stage.ears.heard)
        ref = await self.stage.shelf.put(checkpoint_bytes(self._theta, SPEC, 1))
        loss = round(mean_loss(self._theta, held_out_windows(load_corpus())) * 1e9)
        await self.stage.hear(
            RoundAggregated(
                id="w", occurred_at_ms=0, round=0, checkpoint=ref, model_id=SPEC.model_id.hex(), held_out_before=loss,
                held_out_after=loss,
            )
        )  # fmt: skip

    async def open(self) -> Terms:
        """The next round's terms."""
        self.number, self.entries = self.number + 1, []
        self.terms = self.stage.terms(
            self.number, model_id=SPEC.model_id.hex(), reading_key=READING.public, eval_tokens=self._eval_tokens,
            payload_max_bytes=PAYLOAD_MAX_BYTES, recipe=RECIPE,
        )  # fmt: skip
        signed = SETTLER.sign(Terms.tag, self.terms)
        await self.stage.hear(RoundOpened(id="s", occurred_at_ms=0, round=self.number, terms=signed))
        await self._work()
        return self.terms

    async def checkpoint(self) -> bytes:
        """The round's base."""
        return await self.stage.shelf.get(self.terms.checkpoint)

    async def submit(self, player: Player, taken: Sequence[Taken]) -> bool:
        """Train, commit, pay, lock and upload, as far as this player goes. False where it sits the round out."""
        try:
            packed = player.trainer.train(self.terms, await self.checkpoint(), taken).packed
        except TooLate:
            return False
        await self.enter(player, packed, uploads=player.trainer.sends == "sealed")
        return True

    async def enter(self, player: Player, packed: bytes, *, uploads: bool = True) -> None:
        """Commit, pay, lock and upload these bytes."""
        content_key = hashlib.sha256(packed + bytes.fromhex(player.key.public)).digest()
        payload = await self.stage.shelf.put(seal_payload(packed, READING.public, content_key))
        nonce = hashlib.sha256(f"{player.name} {self.number}".encode()).hexdigest()
        commitment = commitment_of(
            payload_hash=payload.sha256, peer=player.key.public, round_=self.number,
            checkpoint=self.terms.checkpoint.sha256, nonce=nonce,
        )  # fmt: skip
        common: dict[str, Any] = {"id": "s", "occurred_at_ms": 0, "round": self.number, "commitment": commitment}
        await self.stage.hear(
            OfferMake(
                **common, peer=player.key.public, seal_to=READING.public, seq=len(self.entries),
                terms=SETTLER.sign(Terms.tag, self.terms), attempt=1,
            )
        )  # fmt: skip
        offer = self.stage.ears.last(OfferMade).offer
        await self.stage.hear(locked(msgspec.json.decode(offer.body, type=Offer)))
        if uploads:
            uploaded = GradientUploaded(
                **common, peer=player.key.public, checkpoint=self.terms.checkpoint.sha256,
                model_id=SPEC.model_id.hex(), payload=payload,
            )  # fmt: skip
            await self.stage.hear(uploaded)
            await self.worker.gradient_uploaded(uploaded)
            await self._pass_on()
        self.entries.append(Entry(player, commitment, packed, uploads))
        player.fees_msat += self.terms.fee_msat

    async def close(self) -> Outcome:
        """Assess, measure, decide, aggregate: everything the oracle does, until the next checkpoint is out."""
        uploaded = tuple(entry.commitment for entry in self.entries if entry.uploads)
        root = SETTLER.sign(
            RoundRoot.tag, RoundRoot(round=self.number, commitments=tuple(e.commitment for e in self.entries))
        )
        await self.stage.hear(RoundClosed(id="s", occurred_at_ms=0, round=self.number, root=root, uploaded=uploaded))
        while await self._work():
            pass
        assert self.stage.ears.last(CheckpointPublished).round == self.number + 1
        scored = {event.commitment: receipt_of(event) for event in self.stage.ears.all(GradientScored)}
        receipts = {e.player.name: scored[e.commitment] for e in self.entries if e.uploads}
        for entry in self.entries:
            self._book(entry, receipts.get(entry.player.name))
        return Outcome(self.number, receipts, self.terms)

    async def without(self, kept: Sequence[str]) -> dict[str, Verdict]:
        """What these players would have earned, on the same payloads and shards, had nobody else been there."""
        mine = tuple(e.commitment for e in self.entries if e.uploads and e.player.name in kept)
        names = {e.commitment: e.player.name for e in self.entries}
        submissions = await self.stage.database.read(lambda tx: books.read_submissions(tx, mine))
        was = next(e for e in self.stage.ears.all(RoundAssessed) if e.round == self.number)
        made = next((e for e in self._made if e.round == self.number), None)
        assessed = assess(was, submissions, {}, made)
        if assessed.clip_norms != was.clip_norms:
            submissions = [await self._measured_again(one, assessed) for one in submissions]
        own = await self.stage.database.read(lambda tx: books.read_measured(tx, was.yardstick))
        asked = question_of(assessed, submissions, own)
        faults = late_faults(assessed, submissions, asked)
        reference = reference_of(self.terms, assessed, submissions, faults, own)
        return {
            names[one.commitment]: judge(self.terms, assessed, one, reference, faults.get(one.commitment), asked)
            for one in submissions
        }

    def losses(self) -> tuple[float, ...]:
        """Held-out, nats per token: of the base, and after each round."""
        published = self.stage.ears.all(CheckpointPublished)
        return tuple(event.held_out_after / 1e9 for event in published)

    def end(self) -> None:
        """Let go of threads and files."""
        self.bench.close()
        self.stage.database.engine.dispose()

    async def _measured_again(self, submission: Submission, assessed: RoundAssessed) -> Submission:
        request = next(e for e in self.stage.ears.all(GradientMeasure) if e.commitment == submission.commitment)
        await self.worker.gradient_measure(msgspec.structs.replace(request, clip_norms=assessed.clip_norms))
        measured = self._said.pop()
        assert isinstance(measured, GradientMeasured)
        return msgspec.structs.replace(submission, measured=measured)

    async def _work(self) -> bool:
        """What the attestor asked its workers since the last look. False where there was nothing."""
        fresh, self._heard = self.stage.ears.heard[self._heard :], len(self.stage.ears.heard)
        for event in fresh:
            if isinstance(event, GradientMeasure):
                await self.worker.gradient_measure(event)
            elif isinstance(event, RoundAggregate):
                await self.worker.round_aggregate(event)
            elif isinstance(event, YardstickMake):
                await self.worker.yardstick_make(event)
            await self._pass_on()
        return bool(fresh)

    async def _pass_on(self) -> None:
        said, self._said = self._said, []
        self._made += [event for event in said if isinstance(event, YardstickMade)]
        await self.stage.hear(*said)

    def _book(self, entry: Entry, receipt: Receipt | None) -> None:
        player = entry.player
        player.verdicts.append(verdict_of(receipt))
        player.paid_msat += receipt.reward_msat if receipt else 0
        player.trainer.conclude(self.number, accepted=receipt is not None and receipt.verdict == "accepted")


def verdict_of(receipt: Receipt | None) -> str:
    """The code of what decided: `improved` where it was paid."""
    if receipt is None:
        return "not_uploaded"
    return receipt.checks[-1].code if receipt.checks else receipt.verdict


def warmed_up(seed: int, steps: int) -> Tensor:  # (numel,)
    """A model after so many AdamW steps of one worker, from a seed."""
    theta = init_parameters(seed)
    batches = train_batches(load_corpus().train, f"warm {seed}".encode(), 0, steps)
    return theta - inner_steps(theta, batches, AdamState.fresh(SPEC.numel)).delta


def one_thread() -> None:
    """Bits depend on the number of threads."""
    torch.set_num_threads(1)
