"""Compact sketches of payloads, and how alike two of them are. It knows no peers or money.

Measured on honest pairs: mean index overlap up to 0.19, cosine up to 0.23; copies, noised copies and mixtures reach at
least 0.4 in one of them. A single chunk reaches 0.75 among honest peers, hence the mean over chunks.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sparseloco.layout import MAX_CHUNK, layout_of
from sparseloco.sparse import Sparse
from sparseloco.spec import ModelSpec

MAX_CHUNKS = 256
OVERLAP_LIMIT = 0.4
COSINE_LIMIT = 0.4

_MAGIC = b"SLSK"
_HEADER = struct.Struct("<4sII")


class SketchError(ValueError):
    """The bytes are not a sketch."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """Some chunks of an update, the same ones for every update of a model."""

    chunks: int
    keys: NDArray[np.uint32]  # (entries,), ascending: chunk ordinal * 4096 + position
    values: NDArray[np.float16]  # (entries,), relative to the largest magnitude of the tensor

    def to_bytes(self) -> bytes:
        """Header, then keys and values, little-endian: 6 bytes an entry."""
        head = _HEADER.pack(_MAGIC, self.chunks, len(self.keys))
        return head + self.keys.astype("<u4").tobytes() + self.values.astype("<f2").tobytes()


def sketch(sparse: Sparse, spec: ModelSpec, max_chunks: int = MAX_CHUNKS) -> Sketch:
    """All chunks of a small model, evenly spaced ones of a large one.

    Values are relative to their tensor's largest magnitude, so that no tensor outweighs the others.
    """
    layout = layout_of(spec)
    chosen = np.unique(np.linspace(0, layout.chunks - 1, min(max_chunks, layout.chunks)).astype(np.int64))
    ordinal = np.full(layout.chunks, -1, dtype=np.int64)
    ordinal[chosen] = np.arange(len(chosen))
    chunk = layout.chunk_of_entry(sparse.k)
    taken = ordinal[chunk] >= 0
    keys = ordinal[chunk[taken]] * MAX_CHUNK + sparse.positions[taken]
    relative = sparse.tables / np.abs(sparse.tables).max(axis=1, keepdims=True)
    values = relative[layout.tensor[chunk[taken]], sparse.codes[taken]]
    return Sketch(len(chosen), keys.astype(np.uint32), values.astype(np.float16))


def read_sketch(data: bytes, max_chunks: int = MAX_CHUNKS) -> Sketch:
    """The inverse of `Sketch.to_bytes`. Raises SketchError for another form, or more than `max_chunks`."""
    if len(data) < _HEADER.size:
        raise SketchError("a sketch has a header")
    magic, chunks, entries = _HEADER.unpack_from(data)
    if magic != _MAGIC or not 1 <= chunks <= max_chunks or entries > chunks * MAX_CHUNK:
        raise SketchError(f"not a sketch of at most {max_chunks} chunks")
    if len(data) != _HEADER.size + 6 * entries:
        raise SketchError(f"{len(data)} bytes, expected {_HEADER.size + 6 * entries}")
    keys = np.frombuffer(data, dtype="<u4", count=entries, offset=_HEADER.size).astype(np.uint32)
    values = np.frombuffer(data, dtype="<f2", offset=_HEADER.size + 4 * entries).astype(np.float16)
    if (keys[1:] <= keys[:-1]).any() or (keys >= chunks * MAX_CHUNK).any() or not np.isfinite(values).all():
        raise SketchError("keys ascend inside the chunks, and values are finite")
    return Sketch(chunks, keys, values)


@dataclass(frozen=True)
class Likeness:
    """How alike two updates are."""

    overlap: float
    """Mean over chunks of the share of indices that both sent, 0..1."""
    cosine: float
    """Cosine of the values, -1..1."""

    @property
    def is_duplicate(self) -> bool:
        """Too alike to be two works; a sign-flipped copy is one as well."""
        return self.overlap >= OVERLAP_LIMIT or self.cosine >= COSINE_LIMIT


def likeness(a: Sketch, b: Sketch) -> Likeness:
    """Compare two sketches of the same model. Raises ValueError where the chunks differ in number."""
    if a.chunks != b.chunks:
        raise ValueError(f"sketches of {a.chunks} and {b.chunks} chunks cannot be compared")
    shared, in_a, in_b = np.intersect1d(a.keys, b.keys, assume_unique=True, return_indices=True)
    common = np.bincount(shared // MAX_CHUNK, minlength=a.chunks)
    smaller = np.minimum(entries_per_chunk(a), entries_per_chunk(b))
    overlap = float((common / np.maximum(smaller, 1)).mean())
    left, right = a.values.astype(np.float64), b.values.astype(np.float64)
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    cosine = float(left[in_a] @ right[in_b]) / norms if norms > 0 else 0.0
    return Likeness(overlap, cosine)


@dataclass(frozen=True)
class Duplicate:
    """What a later commitment repeats."""

    earlier: str
    likeness: Likeness
    mixed: float = 0.0
    """Of a mixture: the share of its entries that earlier works hold together."""


def entries_per_chunk(sketch: Sketch) -> NDArray[np.int64]:
    """How many a work has in each chunk, (chunks,)."""
    return np.bincount(sketch.keys // MAX_CHUNK, minlength=sketch.chunks)
