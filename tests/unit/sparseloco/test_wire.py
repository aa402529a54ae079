"""The payload's bytes: one encoding, exact size, and a reasoned refusal of everything else."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sparseloco import wire
from sparseloco.codec import compress
from sparseloco.sparse import Quantiser, Sparse
from sparseloco.spec import ModelSpec
from sparseloco.wire import HEADER, Binding, Limits, PayloadError, pack, packed_size, unpack

SPEC = ModelSpec("test", (("matrix", (64, 128)), ("vector", (70,)), ("odd", (3,))))
K = 5
BINDING = Binding(7, b"c" * 32, b"p" * 32, K)
TABLE = 3 * (8 + 8)
START = HEADER.size + TABLE


def sparse_for(seed: int = 0, quantiser: Quantiser = Quantiser.SIGN_TWO) -> Sparse:
    """A well-formed update of the small model."""
    delta = torch.randn(SPEC.numel, generator=torch.Generator().manual_seed(seed))
    return compress(delta, torch.zeros(SPEC.numel), SPEC, k=K, quantiser=quantiser)[0]


GOOD = pack(sparse_for(), SPEC, BINDING)


def refused(data: bytes | memoryview, limits: Limits | None = None, binding: Binding = BINDING) -> PayloadError:
    """The refusal of `data`."""
    with pytest.raises(PayloadError) as caught:
        unpack(data, SPEC, binding, limits)
    return caught.value


def assert_refused_or_the_same(data: bytes) -> None:
    """Either a reasoned PayloadError inside the payload, or a payload that packs to exactly these bytes."""
    refusal, payload = None, None
    try:
        payload = unpack(data, SPEC, BINDING)
    except PayloadError as error:
        refusal = error
    if payload is not None:
        assert pack(payload.sparse, SPEC, BINDING) == data
    if refusal is not None:
        assert 0 <= refusal.offset <= len(data)
        assert refusal.reason


def with_bytes(at: int, new: bytes) -> bytes:
    """GOOD with some bytes replaced."""
    return GOOD[:at] + new + GOOD[at + len(new) :]


@pytest.mark.parametrize("quantiser", list(Quantiser))
def test_what_is_packed_unpacks_to_the_same(quantiser: Quantiser) -> None:
    """Round trip of positions, codes, scales and binding, for both quantisers and for memoryviews."""
    sparse = sparse_for(1, quantiser)
    payload = unpack(memoryview(pack(sparse, SPEC, BINDING)), SPEC, BINDING)
    assert payload.binding == BINDING
    assert np.array_equal(payload.sparse.positions, sparse.positions)
    assert np.array_equal(payload.sparse.codes, sparse.codes)
    assert np.array_equal(payload.sparse.tables, sparse.tables)


@pytest.mark.parametrize(("k", "ratio"), [(32, 292.6), (64, 146.3), (128, 73.1)])
def test_positions_and_codes_are_as_small_as_published(k: int, ratio: float) -> None:
    """fp32 against 14 bits for k of every 4,096 entries: 146.3 times smaller at k = 64."""
    numel = 4096 * 1024
    packed = wire.positions_size(k * 1024) + wire.codes_size(k * 1024)
    assert 4 * numel / packed == pytest.approx(ratio, abs=0.05)


def test_a_whole_payload_at_k_64_is_146_times_smaller_than_its_matrices() -> None:
    """On a model of full chunks, header and tables included, the ratio rounds to 146."""
    spec = ModelSpec("test", (("m", (4096, 4096)),))
    assert round(4 * spec.numel / packed_size(spec, 64)) == 146
    assert 4 * spec.numel / (packed_size(spec, 64) - HEADER.size - 16) == pytest.approx(146.29, abs=0.01)


def test_six_positions_take_nine_bytes() -> None:
    """12 bits each, two per three bytes; an odd last one takes two bytes."""
    positions = np.array([0, 1, 4095, 2048, 7, 0xABC], dtype=np.uint16)
    data = wire.pack_positions(positions)
    assert len(data) == 9
    assert np.array_equal(wire.unpack_positions(memoryview(data), 6, at=0), positions)
    assert len(wire.pack_positions(positions[:5])) == 8


def test_the_bytes_of_a_known_payload_never_change() -> None:
    """A golden vector of the packing itself: low bits first."""
    assert wire.pack_positions(np.array([0x123, 0xABC], dtype=np.uint16)).hex() == "23c1ab"
    assert wire.pack_codes(np.array([1, 2, 3, 0, 2], dtype=np.uint8)).hex() == "3902"


@pytest.mark.parametrize(
    ("at", "new", "offset", "reason"),
    [
        (0, b"X", 0, "magic"),
        (4, b"\x02", 4, "version 2"),
        (5, b"\x00", 5, "quantiser 0"),
        (6, b"\x06", 6, "k is 6"),
        (8, b"\x08", 8, "made for round 8"),
        (12, b"\x00", 12, "another model"),
        (44, b"d", 44, "another checkpoint"),
        (76, b"q", 76, "another peer"),
        (108, b"\x04", 108, "4 tensors"),
        (110, b"\x01", 110, "elements"),
        (114, b"\x01", 114, "keeps"),
        (118, struct.pack("<f", float("nan")), 118, "not finite"),
        (118, struct.pack("<f", float("inf")), 118, "not finite"),
        (118, struct.pack("<f", 0.0), 118, "below"),
        (118, struct.pack("<f", -1.0), 118, "below"),
        (118, struct.pack("<f", 1e6), 118, "beyond"),
        (122, struct.pack("<f", 1e-9), 122, "ascending"),
    ],
)
def test_each_wrong_field_is_named_with_its_byte(at: int, new: bytes, offset: int, reason: str) -> None:
    """The refusal says which byte and why."""
    error = refused(with_bytes(at, new))
    assert error.offset == offset
    assert reason in error.reason


def test_a_payload_is_for_one_round_checkpoint_peer_and_k_only() -> None:
    """The same good bytes are refused for every other binding."""
    for other in (
        replace(BINDING, round=8), replace(BINDING, checkpoint=b"x" * 32),
        replace(BINDING, peer=b"x" * 32), replace(BINDING, k=6),
    ):  # fmt: skip
        assert refused(GOOD, binding=other).offset in (6, 8, 44, 76)


@pytest.mark.parametrize("data", [b"", b"SLGP", GOOD[: HEADER.size - 1], GOOD[: HEADER.size], GOOD[:-1], GOOD + b"\0"])
def test_another_length_is_refused(data: bytes) -> None:
    """Truncated and trailing bytes, before anything else is read."""
    assert refused(data).reason.startswith(("truncated", "trailing"))


def test_a_tensor_whose_codes_all_mean_zero_is_refused() -> None:
    """The published quantiser has four free scales; at least one must say something."""
    sparse = sparse_for(1, Quantiser.PUBLISHED)
    tables = sparse.tables.copy()
    tables[0] = 0
    error = refused(pack(replace(sparse, tables=tables), SPEC, BINDING))
    assert (error.offset, error.reason) == (118, "all scales of matrix are zero")


def positions_replaced(positions: list[int]) -> bytes:
    """GOOD with its first chunk's positions replaced."""
    sparse = sparse_for()
    changed = sparse.positions.copy()
    changed[: len(positions)] = positions
    return pack(replace(sparse, positions=changed), SPEC, BINDING)


def test_positions_ascend_inside_a_chunk_and_none_comes_twice() -> None:
    """A duplicate would be added twice, an unsorted one would be a second encoding of the same update."""
    twice, unsorted = refused(positions_replaced([1, 5, 5, 9, 10])), refused(positions_replaced([5, 1, 7, 9, 10]))
    assert (twice.offset, twice.reason) == (START + 3, "position 5 is twice in its chunk")
    assert (unsorted.offset, unsorted.reason) == (START + 1, "position 1 is out of order in its chunk")


def test_a_position_outside_a_short_chunk_is_refused() -> None:
    """70 is outside a run of 70, though it fits 12 bits."""
    sparse = sparse_for()
    changed = sparse.positions.copy()
    changed[14] = 70
    error = refused(pack(replace(sparse, positions=changed), SPEC, BINDING))
    assert (error.offset, error.reason) == (START + 21, "position 70 is outside its chunk")


def test_unused_bits_are_zero() -> None:
    """Two encodings of one update would be two hashes of one work."""
    assert refused(GOOD[:-1] + bytes([GOOD[-1] | 0x80])).reason == "a bit is set beyond the last code"
    odd = ModelSpec("odd", (("v", (3,)),))
    binding = replace(BINDING, k=3)
    sparse = compress(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3), odd, k=3)[0]
    data = bytearray(pack(sparse, odd, binding))
    data[-2] |= 0xF0
    with pytest.raises(PayloadError, match="beyond the last position"):
        unpack(bytes(data), odd, binding)


def test_nothing_beyond_the_limits_is_read() -> None:
    """A large upload and a large model are refused before anything is allocated."""
    assert "more than the limit" in refused(GOOD, Limits(max_bytes=100)).reason
    assert "entries" in refused(GOOD, Limits(max_entries=3)).reason


def test_an_update_of_another_shape_is_not_packed() -> None:
    """pack refuses what unpack would refuse."""
    sparse = sparse_for()
    with pytest.raises(ValueError, match="k entries"):
        pack(replace(sparse, positions=sparse.positions[:-1]), SPEC, BINDING)
    with pytest.raises(ValueError, match="k entries"):
        pack(sparse, SPEC, replace(BINDING, k=6))


@pytest.mark.parametrize("wrong", [{"round": -1}, {"round": 1 << 32}, {"peer": b""}, {"checkpoint": b"x"}, {"k": 0}])
def test_a_binding_fits_its_fields(wrong: dict[str, int | bytes]) -> None:
    """A binding that cannot be written is an error of ours, not of the payload."""
    fields: dict[str, int | bytes] = {"round": 7, "checkpoint": b"c" * 32, "peer": b"p" * 32, "k": K}
    with pytest.raises(ValueError, match=r"32 bytes|fit"):
        Binding(**(fields | wrong))  # type: ignore[arg-type]  # one wrong field at a time


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@example(118, 0)
def test_any_changed_byte_is_refused_or_well_formed(at: int, value: int) -> None:
    """One changed byte gives a PayloadError inside the payload, or a payload that packs to exactly those bytes."""
    data = with_bytes(at, bytes([value]))
    assert_refused_or_the_same(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_refused_without_surprise(junk: bytes, with_header: bool) -> None:
    """Junk, with or without a true header before it, is never another exception."""
    assert_refused_or_the_same(GOOD[: HEADER.size] + junk if with_header else junk)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4095), max_size=50))
def test_positions_round_trip(positions: list[int]) -> None:
    """Any 12-bit numbers of any count survive packing."""
    array = np.array(positions, dtype=np.uint16)
    data = wire.pack_positions(array)
    assert len(data) == wire.positions_size(len(array))
    assert np.array_equal(wire.unpack_positions(memoryview(data), len(array), at=0), array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=50))
def test_codes_round_trip(codes: list[int]) -> None:
    """Any 2-bit numbers of any count survive packing."""
    array = np.array(codes, dtype=np.uint8)
    data = wire.pack_codes(array)
    assert len(data) == wire.codes_size(len(array))
    assert np.array_equal(wire.unpack_codes(memoryview(data), len(array), at=0), array)
