"""One owner's work under many identities. Each member computes what the owner would: alike in everything but its key."""

from collections.abc import Iterator

import torch
from l402core.documents import Terms
from sparseloco.codec import compress, decompress
from sparseloco.sparse import Sparse
from sparseloco.train import AdamState, InnerResult, inner_steps
from torch import Tensor

from l402_peer_agent.adversaries.copies import NoisedCopy, noised
from l402_peer_agent.adversaries.work import noise_like
from l402_peer_agent.training import PPM, Trainer, assigned_batches, shard_key, spec_of

_WORKED: dict[tuple[str, bytes], InnerResult] = {}
"""The newest round's work of an owner."""


class Copies(Trainer):
    """The owner's work, again and again."""

    def worked(self, theta: Tensor, terms: Terms, state: AdamState) -> InnerResult:
        """Once for all members that live in this process."""
        name = (terms.digest(), self._pool.leader)
        if name not in _WORKED:
            _WORKED.clear()
            _WORKED[name] = super().worked(theta, terms, state)
        return _WORKED[name]

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """The leader's."""
        return assigned_batches(terms, self._pool.leader)


class Noised(Copies):
    """The owner's work, each time under noise of its own."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """The leader's is left as it is."""
        if self._pool.member == 0:
            return delta
        return noised(sent(delta, terms), NoisedCopy.amount, terms, shard_key(terms, self._peer))


class Slices(Trainer):
    """The owner's steps dealt out: each member makes a share of them, on data of its own."""

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """H divided by the members."""
        return assigned_batches(terms, self._peer, max(1, terms.recipe.inner_steps // self._pool.members))


class Quick(Slices):
    """The same share of the steps, at the full rate from the first step on, and scaled up until the norm clips them."""

    def worked(self, theta: Tensor, terms: Terms, state: AdamState) -> InnerResult:
        """Without the slow first steps of a life."""
        return inner_steps(theta, self.batches(terms), state, lr=terms.recipe.learning_rate_ppm / PPM, warmup_steps=0)

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Ten times."""
        del terms
        return 10 * delta


class Disjoint(Copies):
    """The owner's entries dealt out: the largest to the first, the next largest to the second, and so on."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Without what the members before this one send."""
        left = delta.clone()
        for _ in range(self._pool.member):
            left[sent(left, terms) != 0] = 0
        return left


class Harm(Copies):
    """Accomplices below half: each undoes the owner's work with noise of its own, at ten times its norm."""

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """Turned round, noised, large."""
        return -10 * (delta + noise_like(delta, shard_key(terms, self._peer)))


def sent(delta: Tensor, terms: Terms) -> Tensor:  # (numel,) → (numel,)
    """What the codec would send of it."""
    sparse: Sparse = compress(delta, torch.zeros_like(delta), spec_of(terms), k=terms.recipe.chunk_k)[0]
    return decompress(sparse, spec_of(terms))
