"""Cheats who let others work: copies, plain and disguised, mixtures, and what was sent before. They train nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from l402core.documents import Terms
from l402core.errors import PeerError, TooLate
from sparseloco.codec import compress, decompress
from sparseloco.layout import layout_of
from sparseloco.sparse import Sparse
from sparseloco.wire import PayloadError, unpack
from torch import Tensor

from l402_peer_agent.files import write_whole
from l402_peer_agent.training import Taken, Trained, Trainer, binding, shard_key, spec_of


class Copy(Trainer):
    """Another's update under its own key."""

    needs = 1

    def train(self, terms: Terms, checkpoint: bytes, taken: Sequence[Taken] = ()) -> Trained:
        """Nothing is trained."""
        del checkpoint
        theirs = [opened(each, terms) for each in taken[: self.needs]]
        if len(theirs) < self.needs:
            raise TooLate("nothing_to_copy", f"{len(theirs)} of {self.needs} payloads were handed over")
        return Trained(self.packed(self.made_of(theirs, terms), terms), ())

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """What is sent, from what was taken."""
        del terms
        return theirs[0]


class NoisedCopy(Copy):
    """A copy under noise, chosen and quantised anew: most of its indices are the other's, its values are not."""

    amount = 0.3

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """Dense, noised, compressed again."""
        dense = decompress(theirs[0], spec_of(terms))
        return again(noised(dense, self.amount, terms, shard_key(terms, self._peer)), terms)


class DrownedCopy(NoisedCopy):
    """The same under so much noise that most of its indices are its own."""

    amount = 0.5


class ScaledCopy(Copy):
    """A copy, three times as large."""

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """The same codes with larger meanings."""
        del terms
        return replace(theirs[0], tables=theirs[0].tables * 3)


class FlippedCopy(Copy):
    """A copy with every sign turned: it takes back what the other gives."""

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """Code bit 1 is the sign."""
        del terms
        return replace(theirs[0], codes=np.bitwise_xor(theirs[0].codes, np.uint8(2)))


class PermutedCopy(Copy):
    """A copy whose indices are mirrored inside every chunk: another's values where nobody looks for them."""

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """Mirrored, and in ascending order again."""
        layout, (copied,) = layout_of(spec_of(terms)), theirs
        chunk = layout.chunk_of_entry(copied.k)
        mirrored = layout.size[chunk] - 1 - copied.positions.astype(np.int64)
        order = np.lexsort((mirrored, chunk))
        return replace(copied, positions=mirrored[order].astype(np.uint16), codes=copied.codes[order])


class Mixture(Copy):
    """The mean of two others' updates, which is worth more than either."""

    needs = 2

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """Averaged, compressed again."""
        spec = spec_of(terms)
        return again(torch.stack([decompress(each, spec) for each in theirs]).mean(dim=0), terms)


class Patchwork(Copy):
    """Each chunk from another of three peers, so that no single one is repeated for the most part."""

    needs = 3

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """A third of the chunks each, at the first one's scales."""
        chunk = layout_of(spec_of(terms)).chunk_of_entry(theirs[0].k)
        positions, codes = theirs[0].positions.copy(), theirs[0].codes.copy()
        for number, each in enumerate(theirs):
            mine = chunk % self.needs == number
            positions[mine], codes[mine] = each.positions[mine], each.codes[mine]
        return replace(theirs[0], positions=positions, codes=codes)


class Replay(Copy):
    """Another's update of an earlier round, bound to this one. Sits out until there is one."""

    ago = 1

    def made_of(self, theirs: list[Sparse], terms: Terms) -> Sparse:
        """What was taken `ago` rounds before; what was taken now is kept for later."""
        spec, held = spec_of(terms), self._folder / f"taken-{terms.round}.bin"
        bound = binding(terms, self._peer)
        write_whole(held, self.packed(theirs[0], terms))
        older = self._folder / f"taken-{terms.round - self.ago}.bin"
        if not older.exists():
            raise TooLate("nothing_older", "nothing was taken that long ago")
        header = older.read_bytes()[44:76]
        then = replace(bound, round=terms.round - self.ago, checkpoint=header)
        return unpack(older.read_bytes(), spec, then).sparse


class OldReplay(Replay):
    """The same, from three rounds before."""

    ago = 3


def opened(taken: Taken, terms: Terms) -> Sparse:
    """Another's update of this round. Raises PeerError for what is no payload of this round."""
    try:
        return unpack(taken.packed, spec_of(terms), binding(terms, taken.peer)).sparse
    except (PayloadError, ValueError) as error:
        raise PeerError("hand_over", f"not a payload of this round: {error}") from error


def noised(dense: Tensor, amount: float, terms: Terms, seed: bytes) -> Tensor:  # (numel,) → (numel,)
    """A sparse update under noise of `amount` times each tensor's mean magnitude, on every index of it."""
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
    parts = []
    for part in torch.split(dense, list(spec_of(terms).sizes)):
        size = part.abs().sum() / (part != 0).sum().clamp(min=1)
        parts.append(part + amount * size * torch.randn(part.shape, generator=generator))
    return torch.cat(parts)


def again(dense: Tensor, terms: Terms) -> Sparse:  # (numel,)
    """Compressed without any memory."""
    return compress(dense, torch.zeros_like(dense), spec_of(terms), k=terms.recipe.chunk_k)[0]
