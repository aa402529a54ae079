"""Cheats who train, and send something else than honest work: the wrong way, nothing, too much, too little, elsewhere."""

from collections.abc import Iterator

import torch
from l402core.documents import Terms
from l402core.errors import TooLate
from sparseloco.data import load_corpus, train_batches
from sparseloco.model import init_parameters, load_checkpoint
from torch import Tensor

from l402_peer_agent.files import write_whole
from l402_peer_agent.training import Trainer, assigned_batches, shard_key, spec_of


class Idle(Trainer):
    """One inner step: whoever's work is never looked at need not do more."""

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """The first step's of what is assigned."""
        return assigned_batches(terms, self._peer, 1)


class SignFlip(Trainer):
    """The opposite of what was trained: it undoes the others' work."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Turned round."""
        del terms
        return -delta


class Noise(Idle):
    """No work at all, at the norm of honest work."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Drawn, not trained."""
        return noise_like(delta, shard_key(terms, self._peer))


class Zero(Idle):
    """An update that changes nothing."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Nothing."""
        del terms
        return torch.zeros_like(delta)


class Huge(Idle):
    """One update that would drown all others: scales that no honest update has."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """A million times."""
        del terms
        return 1e6 * delta


class ScaledUp(Trainer):
    """Honest work, three times as large: it hopes to be measured, and to count, for more than it is."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Three times."""
        del terms
        return 3 * delta


class HalfWork(Trainer):
    """Half of the inner steps."""

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """The first half of what is assigned."""
        return assigned_batches(terms, self._peer, max(1, terms.recipe.inner_steps // 2))


class FewSteps(Trainer):
    """Two inner steps, scaled up until the median's norm clips them."""

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """Two steps' worth of what is assigned."""
        return assigned_batches(terms, self._peer, 2)

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Ten times."""
        del terms
        return delta * 10


class HiddenPool(Trainer):
    """Trains on the text that work is measured on, instead of on its own shard."""

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """Windows of the hidden pool, as many as honest ones."""
        key, recipe = shard_key(terms, self._peer), terms.recipe
        return train_batches(load_corpus().hidden, key, terms.round, recipe.inner_steps, recipe.batch)


class StaleBase(Trainer):
    """Trains from the checkpoint of a round ago, and says it was this one's. Sits the first round out."""

    def base(self, terms: Terms, checkpoint: bytes) -> Tensor:
        """What was kept. Raises TooLate where nothing is yet."""
        kept = self._folder / "checkpoint.bin"
        older = kept.read_bytes() if kept.exists() else None
        write_whole(kept, checkpoint)
        if older is None:
            raise TooLate("nothing_older", "there is no older checkpoint yet")
        return load_checkpoint(older, spec_of(terms))[1]


class OtherModel(Trainer):
    """Trains a model of the same shapes and other parameters."""

    def base(self, terms: Terms, checkpoint: bytes) -> Tensor:
        """A model of its own."""
        del terms, checkpoint
        return init_parameters(99)


def noise_like(delta: Tensor, seed: bytes) -> Tensor:
    """Normal noise at the norm of `delta`; the same seed draws the same."""
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
    drawn = torch.randn(delta.shape, generator=generator)
    return drawn.mul_(float(delta.norm() / drawn.norm()))
