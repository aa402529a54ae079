"""Cheats whose bytes are not a payload of this round, model and peer. What they train does not matter."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from l402core.documents import Terms
from l402core.errors import TooLate
from sparseloco.sparse import Sparse
from sparseloco.wire import HEADER, pack

from l402_peer_agent.adversaries.work import Idle
from l402_peer_agent.training import Taken, Trained, binding, spec_of

_FIRST_SCALE = HEADER.size + 8
_MODEL = slice(12, 44)


class NotFinite(Idle):
    """A scale that is not a number."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """NaN where the first tensor's scale is."""
        data = bytearray(super().packed(sparse, terms))
        struct.pack_into("<f", data, _FIRST_SCALE, float("nan"))
        return bytes(data)


class TwiceIndexed(Idle):
    """One index twice in a chunk: its value would count twice."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """The first position again in place of the second."""
        positions = sparse.positions.copy()
        positions[1] = positions[0]
        return super().packed(replace(sparse, positions=positions), terms)


class Truncated(Idle):
    """A payload that ends too early."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """Without its last byte."""
        return super().packed(sparse, terms)[:-1]


class Oversize(Idle):
    """A payload with as much again behind it."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """Zeros to twice its size."""
        data = super().packed(sparse, terms)
        return data + bytes(len(data))


class OtherRound(Idle):
    """Bound to the round before."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """The header of another round."""
        return super().packed(sparse, msgspec.structs.replace(terms, round=terms.round - 1))


class StaleHeader(Idle):
    """Bound to another checkpoint, as honest work is that came a round too late."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """The header of another base."""
        older = replace(binding(terms, self._peer), checkpoint=hashlib.sha256(b"an older checkpoint").digest())
        return pack(sparse, spec_of(terms), older)


class OtherHeader(Idle):
    """Bound to another model."""

    def packed(self, sparse: Sparse, terms: Terms) -> bytes:
        """Another model's name in the header."""
        data = bytearray(super().packed(sparse, terms))
        data[_MODEL] = hashlib.sha256(b"another model").digest()
        return bytes(data)


class UnpackedCopy(Idle):
    """Another's packed payload as it is, with the other's key in it."""

    needs = 1

    def train(self, terms: Terms, checkpoint: bytes, taken: Sequence[Taken] = ()) -> Trained:
        """Nothing is trained, nothing is opened."""
        del terms, checkpoint
        if not taken:
            raise TooLate("nothing_to_copy", "no payload was handed over")
        return Trained(taken[0].packed, ())
