"""A peer's work on a round: inner steps from a checkpoint, compressed and packed. It knows no money and no network."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import torch
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import PeerError
from sparseloco import corpus
from sparseloco.codec import compress
from sparseloco.corpus import load_corpus, train_shard
from sparseloco.data import train_batches
from sparseloco.defaults import CONTEXT
from sparseloco.model import GPTShape, ModelSpec, load_checkpoint
from sparseloco.sparse import Sparse
from sparseloco.train import AdamState, InnerResult, inner_steps
from sparseloco.wire import Binding, pack
from torch import Tensor

PPM = 1_000_000


class Trained(msgspec.Struct, frozen=True):
    """A round's packed payload, not yet sealed, and the inner losses in nats per token."""

    packed: bytes
    losses: tuple[float, ...]


class Taken(msgspec.Struct, frozen=True):
    """Another peer's packed payload of this round, which only a cheat has."""

    peer: bytes
    packed: bytes


class Pool(msgspec.Struct, frozen=True):
    """Identities with one owner; `leader` is the public key of the first. Who is honest is alone."""

    leader: bytes = b""
    member: int = 0
    members: int = 1


Sends = Literal["sealed", "other", "late", "nothing"]
"""What is uploaded, and when: what was committed to, other bytes, the right ones too late, nothing."""


class Trainer:
    """An honest peer's work; a cheat is a subclass that does one thing otherwise.

    Keeps AdamW's memory and the error feedback in one folder; a round's new state counts once it is concluded.
    """

    needs: ClassVar[int] = 0
    """How many others' payloads it must be handed before it can begin."""
    sends: ClassVar[Sends] = "sealed"

    def __init__(self, folder: Path, peer: str, pool: Pool | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._peer = folder, bytes.fromhex(peer)
        self._pool = pool or Pool(leader=self._peer)

    def train(self, terms: Terms, checkpoint: bytes, taken: Sequence[Taken] = ()) -> Trained:
        """Blocking. Raises PeerError for a model or recipe that this build cannot train, ValueError for a bad base."""
        del taken  # who works needs nobody else's work
        spec = spec_of(terms)
        theta = self.base(terms, checkpoint)
        state, feedback = self._load(spec)
        result = self.worked(theta, terms, state)
        delta = self.altered(result.delta, terms)
        recipe = terms.recipe
        beta = recipe.feedback_decay_ppm / PPM
        with telemetry.span("compress"):
            sparse, left = compress(delta, feedback, spec, k=recipe.chunk_k, beta=beta, into=feedback)
            packed = self.packed(sparse, terms)
        _write(self._pending(terms.round), {"adam": state.to_bytes(), "feedback": left})
        return Trained(packed, result.losses)

    def base(self, terms: Terms, checkpoint: bytes) -> Tensor:  # (numel,)
        """The parameters that the inner steps begin from."""
        return load_checkpoint(checkpoint, spec_of(terms))[1]

    def worked(self, theta: Tensor, terms: Terms, state: AdamState) -> InnerResult:
        """The inner steps; `state` moves on."""
        return inner_steps(theta, self.batches(terms), state, lr=terms.recipe.learning_rate_ppm / PPM)

    def batches(self, terms: Terms) -> Iterator[Tensor]:  # of (batch, CONTEXT + 1)
        """What the inner steps see: the shard that the terms assign to this key."""
        return assigned_batches(terms, self._peer)

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:  # (numel,) → (numel,)
        """What of the work is sent."""
        del terms
        return delta

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """The payload's bytes."""
        return pack(sparse, spec_of(terms), binding(terms, self._peer))

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Keep the round's state; what was not sent is forgotten where the round was not accepted. Again is fine."""
        pending = self._pending(round_)
        if not pending.exists():
            return
        saved = torch.load(pending, weights_only=True)
        feedback = saved["feedback"] if accepted else torch.zeros_like(saved["feedback"])
        _write(self._folder / "state.pt", {"adam": saved["adam"], "feedback": feedback})
        pending.unlink()

    def _load(self, spec: ModelSpec) -> tuple[AdamState, Tensor]:
        path = self._folder / "state.pt"
        if not path.exists():
            return AdamState.fresh(spec.numel), torch.zeros(spec.numel)
        saved = torch.load(path, weights_only=True)
        if saved["feedback"].shape != (spec.numel,):
            return AdamState.fresh(spec.numel), torch.zeros(spec.numel)  # the network has moved to another model
        return AdamState.from_bytes(saved["adam"]), saved["feedback"]

    def _pending(self, round_: int) -> Path:
        return self._folder / f"round-{round_}.pt"


def spec_of(terms: Terms) -> ModelSpec:
    """The model of the terms. Raises PeerError for one that this build does not have."""
    spec = GPTShape().spec()
    if terms.model_id != spec.model_id.hex() or terms.recipe.sequence_length != CONTEXT:
        raise PeerError("unknown_model", f"the terms ask for model {terms.model_id[:16]}…, which is not known here")
    return spec


def shard_key(terms: Terms, peer: bytes) -> bytes:
    """Draws a peer's own part of the data."""
    return corpus.shard_key(bytes.fromhex(terms.digest()), peer)


def assigned_batches(terms: Terms, peer: bytes, steps: int | None = None) -> Iterator[Tensor]:
    """The inner steps' windows that a round's terms assign to a key, as many steps as the recipe says or fewer."""
    key = shard_key(terms, peer)
    shard = train_shard(load_corpus(), key)
    return train_batches(shard, key, terms.round, steps or terms.recipe.inner_steps, terms.recipe.batch)


def binding(terms: Terms, peer: bytes) -> Binding:
    """What the payload's header binds it to."""
    return Binding(
        round=terms.round, checkpoint=bytes.fromhex(terms.checkpoint.sha256), peer=peer, k=terms.recipe.chunk_k
    )


def _write(path: Path, content: dict[str, object]) -> None:
    unfinished = path.with_suffix(".new")
    torch.save(content, unfinished)
    unfinished.replace(path)
