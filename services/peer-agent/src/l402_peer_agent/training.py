"""A peer's work on a round: inner steps from a checkpoint, compressed and packed. It knows no money and no network."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import PeerError
from sparseloco.codec import compress
from sparseloco.corpus import load_corpus, train_shard
from sparseloco.data import train_batches
from sparseloco.defaults import CONTEXT
from sparseloco.model import GPTShape, ModelSpec, load_checkpoint
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import Binding, pack
from torch import Tensor

PPM = 1_000_000
Alter = Callable[[Tensor, bytes], Tensor]
"""(delta, seed) → the delta that is sent: honest peers return it as it is."""


class Trained(msgspec.Struct, frozen=True):
    """A round's packed payload, not yet sealed, and the inner losses in nats per token."""

    packed: bytes
    losses: tuple[float, ...]


class Trainer:
    """Keeps AdamW's memory and the error feedback in one folder; a round's new state counts once it is concluded."""

    def __init__(self, folder: Path, peer: str, alter: Alter) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._peer, self._alter = folder, bytes.fromhex(peer), alter

    def train(self, terms: Terms, checkpoint: bytes) -> Trained:
        """Blocking. Raises PeerError for a model or recipe that this build cannot train, ValueError for a bad base."""
        spec = spec_of(terms)
        _, theta = load_checkpoint(checkpoint, spec)
        state, feedback = self._load(spec)
        recipe, key = terms.recipe, shard_key(terms, self._peer)
        shard = train_shard(load_corpus(), key)
        batches = train_batches(shard, key, terms.round, recipe.inner_steps, recipe.batch)
        result = inner_steps(theta, batches, state, lr=recipe.learning_rate_ppm / PPM)
        delta = self._alter(result.delta, key + terms.round.to_bytes(8, "big"))
        beta = recipe.feedback_decay_ppm / PPM
        with telemetry.span("compress"):
            sparse, left = compress(delta, feedback, spec, k=recipe.chunk_k, beta=beta, into=feedback)
            packed = pack(sparse, spec, binding(terms, self._peer))
        _write(self._pending(terms.round), {"adam": state.to_bytes(), "feedback": left})
        return Trained(packed, result.losses)

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
    """H(terms hash ‖ public key): draws a peer's own part of the data, so that no two peers train on the same."""
    return hashlib.sha256(bytes.fromhex(terms.digest()) + peer).digest()


def binding(terms: Terms, peer: bytes) -> Binding:
    """What the payload's header binds it to."""
    return Binding(
        round=terms.round, checkpoint=bytes.fromhex(terms.checkpoint.sha256), peer=peer, k=terms.recipe.chunk_k
    )


def _write(path: Path, content: dict[str, object]) -> None:
    unfinished = path.with_suffix(".new")
    torch.save(content, unfinished)
    unfinished.replace(path)
