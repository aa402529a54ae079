"""The payload's bytes, version 1: packed, bound to one round, checkpoint and peer, and refused at the first wrong byte.

It knows shapes and limits, not torch, not hashes of payloads, not who pays. There is exactly one encoding of a payload.

    offset  size  field (little-endian)
         0     4  magic "SLGP"
         4     1  version = 1
         5     1  quantiser: 1 = sign and two magnitudes, 2 = as published
         6     2  k
         8     4  round
        12    32  model id
        44    32  SHA-256 of the base checkpoint
        76    32  the peer's public key
       108     2  tensors
       110     …  per tensor: elements u32, kept u32, then 2 (quantiser 1) or 4 (quantiser 2) scales fp32
         …     …  positions, 12 bits each, two per 3 bytes; then codes, 2 bits each, four per byte; unused bits zero
"""

import struct
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sparseloco.layout import MAX_CHUNK, grids_of, kept_per_tensor, layout_of
from sparseloco.sparse import Quantiser, Sparse
from sparseloco.spec import ModelSpec

MAGIC = b"SLGP"
VERSION = 1
HEADER = struct.Struct("<4sBBHI32s32s32sH")
_ENTRY = struct.Struct("<II")
_SCALES = {Quantiser.SIGN_TWO: 2, Quantiser.PUBLISHED: 4}
_T = TypeVar("_T", bound=np.generic)


class PayloadError(ValueError):
    """The payload is malformed or meant for something else: `reason` says what, `offset` is the byte where it shows."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True)
class Binding:
    """What a payload is for; each field is checked against the header."""

    round: int
    checkpoint: bytes  # 32
    peer: bytes  # 32
    k: int

    def __post_init__(self) -> None:
        if len(self.checkpoint) != 32 or len(self.peer) != 32:
            raise ValueError("checkpoint hash and peer key are 32 bytes each")
        if not 0 <= self.round < 1 << 32 or not 1 <= self.k <= MAX_CHUNK:
            raise ValueError(f"round {self.round} or k {self.k} does not fit its field")


@dataclass(frozen=True)
class Limits:
    """What is allocated at most, and which scales are sane."""

    max_bytes: int = 64 << 20
    max_entries: int = 32 << 20
    min_scale: float = 2.0**-40
    max_scale: float = 16.0


@dataclass(frozen=True, eq=False)
class Payload:
    """A well-formed payload: what it is bound to, and the update."""

    binding: Binding
    sparse: Sparse


def packed_size(spec: ModelSpec, k: int, quantiser: Quantiser = Quantiser.SIGN_TWO) -> int:
    """Bytes of a payload for `spec`: a function of the shapes alone."""
    entries = sum(kept_per_tensor(spec, k))
    table = len(spec.tensors) * (_ENTRY.size + 4 * _SCALES[quantiser])
    return HEADER.size + table + positions_size(entries) + codes_size(entries)


def pack(sparse: Sparse, spec: ModelSpec, binding: Binding) -> bytes:
    """The payload's bytes. Raises ValueError where `sparse` is not one of `spec` and `binding`."""
    kept = kept_per_tensor(spec, sparse.k)
    if sparse.k != binding.k or not len(sparse.positions) == len(sparse.codes) == sum(kept):
        raise ValueError("the update does not have k entries of each of this model's chunks")
    head = HEADER.pack(
        MAGIC, VERSION, sparse.quantiser, sparse.k, binding.round,
        spec.model_id, binding.checkpoint, binding.peer, len(spec.tensors),
    )  # fmt: skip
    scales = sparse.tables[:, : _SCALES[sparse.quantiser]].astype("<f4")
    table = b"".join(
        _ENTRY.pack(size, count) + row.tobytes() for size, count, row in zip(spec.sizes, kept, scales, strict=True)
    )
    return head + table + pack_positions(sparse.positions) + pack_codes(sparse.codes)


def unpack(data: bytes | memoryview, spec: ModelSpec, binding: Binding, limits: Limits | None = None) -> Payload:
    """The payload in `data`, which must be for exactly `spec` and `binding`. Raises PayloadError, and nothing else."""
    frame = read_frame(data, spec, binding, limits)
    positions = unpack_positions(frame.positions, frame.entries, at=frame.positions_at)
    _check_positions(positions, spec, binding.k, at=frame.positions_at)
    codes = unpack_codes(frame.codes, frame.entries, at=frame.positions_at + len(frame.positions))
    return Payload(binding, Sparse(binding.k, frame.quantiser, positions, codes, frame.tables))


@dataclass(frozen=True, eq=False)
class Frame:
    """A payload whose header and table are in order, and whose entries nobody has looked at yet."""

    quantiser: Quantiser
    entries: int
    tables: NDArray[np.float32]  # (tensors, 4)
    positions: memoryview
    codes: memoryview
    positions_at: int


def read_frame(data: bytes | memoryview, spec: ModelSpec, binding: Binding, limits: Limits | None = None) -> Frame:
    """Everything but the entries, checked. Raises PayloadError, and nothing else."""
    limits = limits or Limits()
    view = memoryview(data).cast("B")
    quantiser = _check_header(view, spec, binding, limits)
    entries = sum(kept_per_tensor(spec, binding.k))
    if entries > limits.max_entries:
        raise PayloadError(6, f"{entries} entries are more than the limit of {limits.max_entries}")
    expected = packed_size(spec, binding.k, quantiser)
    if len(view) != expected:
        kind = "trailing bytes" if len(view) > expected else "truncated"
        raise PayloadError(min(len(view), expected), f"{kind}: {len(view)} bytes, expected {expected}")
    tables, start = _read_table(view, spec, binding.k, quantiser, limits)
    middle = start + positions_size(entries)
    return Frame(quantiser, entries, tables, view[start:middle], view[middle:], start)


def _check_header(view: memoryview, spec: ModelSpec, binding: Binding, limits: Limits) -> Quantiser:
    if len(view) > limits.max_bytes:
        raise PayloadError(limits.max_bytes, f"{len(view)} bytes are more than the limit of {limits.max_bytes}")
    if len(view) < HEADER.size:
        raise PayloadError(len(view), f"truncated: the header alone has {HEADER.size} bytes")
    magic, version, quantiser, k, round_, model, checkpoint, peer, tensors = HEADER.unpack_from(view)
    checks = (
        (0, magic == MAGIC, f"magic is {magic!r}, expected {MAGIC!r}"),
        (4, version == VERSION, f"version {version} is unknown, expected {VERSION}"),
        (5, quantiser in (1, 2), f"quantiser {quantiser} is unknown"),
        (6, k == binding.k, f"k is {k}, expected {binding.k}"),
        (8, round_ == binding.round, f"made for round {round_}, expected {binding.round}"),
        (12, model == spec.model_id, "made for another model"),
        (44, checkpoint == binding.checkpoint, "made from another checkpoint"),
        (76, peer == binding.peer, "made by another peer"),
        (108, tensors == len(spec.tensors), f"{tensors} tensors, expected {len(spec.tensors)}"),
    )
    for offset, holds, reason in checks:
        if not holds:
            raise PayloadError(offset, reason)
    return Quantiser(quantiser)


def _read_table(
    view: memoryview, spec: ModelSpec, k: int, quantiser: Quantiser, limits: Limits
) -> tuple[NDArray[np.float32], int]:
    kept, offset = kept_per_tensor(spec, k), HEADER.size
    count = _SCALES[quantiser]
    tables = np.zeros((len(spec.tensors), 4), dtype=np.float32)
    for number, (name, _) in enumerate(spec.tensors):
        size, entries = _ENTRY.unpack_from(view, offset)
        if size != spec.sizes[number]:
            raise PayloadError(offset, f"{name} has {size} elements, expected {spec.sizes[number]}")
        if entries != kept[number]:
            raise PayloadError(offset + 4, f"{name} keeps {entries} entries, expected {kept[number]}")
        offset += _ENTRY.size
        scales = np.frombuffer(view, dtype="<f4", count=count, offset=offset)
        _check_scales(scales, name, quantiser, limits, at=offset)
        tables[number] = (*scales, *-scales) if quantiser is Quantiser.SIGN_TWO else scales
        offset += 4 * count
    return tables, offset


def _check_scales(scales: NDArray[np.float32], name: str, quantiser: Quantiser, limits: Limits, at: int) -> None:
    for number, scale in enumerate(scales.tolist()):
        offset = at + 4 * number
        if not np.isfinite(scale):
            raise PayloadError(offset, f"a scale of {name} is not finite")
        if abs(scale) > limits.max_scale:
            raise PayloadError(offset, f"a scale of {name} is {scale:g}, beyond ±{limits.max_scale:g}")
        if quantiser is Quantiser.SIGN_TWO and scale < limits.min_scale:
            raise PayloadError(offset, f"a magnitude of {name} is {scale:g}, below {limits.min_scale:g}")
        if number and scale < scales[number - 1]:
            raise PayloadError(offset, f"the scales of {name} are not in ascending order")
    if not scales.any():
        raise PayloadError(at, f"all scales of {name} are zero")


def _check_positions(positions: NDArray[np.uint16], spec: ModelSpec, k: int, at: int) -> None:
    start = 0
    for grid in grids_of(spec):
        end = start + grid.chunks * min(k, grid.size)
        inside = positions[start:end].reshape(grid.chunks, -1)
        # what ascends is inside its chunk where its last one is
        if (inside[:, -1] >= grid.size).any() or (inside[:, 1:] <= inside[:, :-1]).any():
            _refuse_position(positions, spec, k, at)
        start = end


def _refuse_position(positions: NDArray[np.uint16], spec: ModelSpec, k: int, at: int) -> None:
    """Say which one it is: first any outside its chunk, then any out of order."""
    layout = layout_of(spec)
    chunk = layout.chunk_of_entry(k)
    outside = positions >= layout.size[chunk]
    if outside.any():
        first = int(outside.argmax())
        raise PayloadError(at + first * 3 // 2, f"position {positions[first]} is outside its chunk")
    wrong = (positions[1:] <= positions[:-1]) & (chunk[1:] == chunk[:-1])
    first = int(wrong.argmax()) + 1
    kind = "twice" if positions[first] == positions[first - 1] else "out of order"
    raise PayloadError(at + first * 3 // 2, f"position {positions[first]} is {kind} in its chunk")


def positions_size(entries: int) -> int:
    """Bytes of 12-bit positions: 6 → 9."""
    return (entries * 3 + 1) // 2


def codes_size(entries: int) -> int:
    """Bytes of 2-bit codes."""
    return (entries + 3) // 4


def pack_positions(positions: NDArray[np.uint16]) -> bytes:
    """12 bits each, two per 3 bytes, low bits first."""
    even, odd = _padded(positions, 2).reshape(-1, 2).T
    packed = np.stack([even & 0xFF, even >> 8 | (odd & 0xF) << 4, odd >> 4], axis=1).astype(np.uint8)
    return packed.tobytes()[: positions_size(len(positions))]


def unpack_positions(view: memoryview, entries: int, at: int) -> NDArray[np.uint16]:
    """The `entries` positions in `view`. Raises PayloadError (offsets from `at`) for a bit set beyond the last."""
    raw = np.zeros(-(-entries // 2) * 3, dtype=np.uint16)
    raw[: len(view)] = np.frombuffer(view, dtype=np.uint8)
    low, middle, high = raw.reshape(-1, 3).T
    both = np.stack([low | (middle & 0xF) << 8, middle >> 4 | high << 4], axis=1).reshape(-1).astype(np.uint16)
    if both[entries:].any():
        raise PayloadError(at + len(view) - 1, "a bit is set beyond the last position")
    return both[:entries]


def pack_codes(codes: NDArray[np.uint8]) -> bytes:
    """2 bits each, four per byte, low bits first."""
    a, b, c, d = _padded(codes, 4).reshape(-1, 4).T
    return (a | b << 2 | c << 4 | d << 6).astype(np.uint8).tobytes()


def unpack_codes(view: memoryview, entries: int, at: int) -> NDArray[np.uint8]:
    """The `entries` codes in `view`. Raises PayloadError (offsets from `at`) for a bit set beyond the last."""
    raw = np.frombuffer(view, dtype=np.uint8)
    codes = np.stack([raw >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1).astype(np.uint8)
    if codes[entries:].any():
        raise PayloadError(at + len(view) - 1, "a bit is set beyond the last code")
    return codes[:entries]


def _padded(array: NDArray[_T], multiple: int) -> NDArray[_T]:
    return np.pad(array, (0, -len(array) % multiple))
