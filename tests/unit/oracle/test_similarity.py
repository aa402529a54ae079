"""Who copied whom: copies and mixtures are found, honest neighbours are not, the first commitment wins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_oracle.copies import Work, find_copies
from l402_oracle.similarity import Duplicate, Sketch, SketchError, likeness, read_sketch, sketch
from sparseloco.codec import compress, decompress
from sparseloco.sparse import Sparse
from sparseloco.spec import ModelSpec
from torch import Tensor

SPEC = ModelSpec("test", (("a", (128, 256)), ("b", (128,)), ("c", (64, 64))))


def compressed(delta: Tensor) -> Sparse:
    """The payload of an update."""
    return compress(delta, torch.zeros(SPEC.numel), SPEC)[0]


def work(seed: int) -> Tensor:
    """An independent update; tensors of very different size."""
    noise = torch.randn(SPEC.numel, generator=torch.Generator().manual_seed(seed))
    return noise * torch.cat([torch.full((size,), 10.0**-i) for i, size in enumerate(SPEC.sizes)])


def seen(delta: Tensor) -> Sketch:
    """Its sketch."""
    return sketch(compressed(delta), SPEC)


def copies(*works: tuple[str, Sketch]) -> dict[str, Duplicate]:
    """In order of commitment, each of another peer."""
    return find_copies([Work(name, f"peer {name}", each) for name, each in works], [])


def test_a_copy_is_wholly_alike() -> None:
    """Overlap and cosine one, also when scaled."""
    how = likeness(seen(work(1)), seen(work(1) * 3))
    assert (how.overlap, how.cosine) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert how.is_duplicate


def test_independent_work_is_not_alike() -> None:
    """Random overlap is k / 4096, but for a tensor so small that half of it is sent."""
    how = likeness(seen(work(1)), seen(work(2)))
    assert how.overlap < 0.1
    assert abs(how.cosine) < 0.1
    assert not how.is_duplicate


def test_a_flipped_copy_is_a_copy() -> None:
    """The indices betray it, whatever the signs."""
    how = likeness(seen(work(1)), seen(-work(1)))
    assert how.cosine < -0.9
    assert how.is_duplicate


def test_a_copy_with_noised_values_is_found() -> None:
    """Noise on the sent values, compressed anew, keeps the indices."""
    stolen = decompress(compressed(work(1)), SPEC)
    noised = stolen * (1 + 0.5 * torch.rand(SPEC.numel, generator=torch.Generator().manual_seed(3)))
    assert likeness(seen(work(1)), seen(noised)).overlap > 0.95


def test_an_average_of_two_stolen_updates_is_found() -> None:
    """A mixture of two payloads is alike to both."""
    mixed = seen(decompress(compressed(work(1)), SPEC) + decompress(compressed(work(2)), SPEC))
    found = copies(("one", seen(work(1))), ("two", seen(work(2))), ("mix", mixed))
    assert list(found) == ["mix"]
    assert found["mix"].earlier in {"one", "two"}


def test_the_first_commitment_is_the_original() -> None:
    """Order alone decides which of two equals is the copy, and every copy names its original."""
    thief, victim = seen(work(1)), seen(work(1))
    found = copies(("victim", victim), ("other", seen(work(2))), ("thief", thief), ("second thief", thief))
    assert {later: how.earlier for later, how in found.items()} == {"thief": "victim", "second thief": "victim"}


def test_a_sketch_survives_its_bytes() -> None:
    """Encode and decode to the same, at 6 bytes an entry."""
    made = seen(work(1))
    read = read_sketch(made.to_bytes())
    assert np.array_equal(read.keys, made.keys)
    assert np.array_equal(read.values, made.values)
    assert len(made.to_bytes()) == 12 + 6 * len(made.keys)


def test_a_large_model_is_sampled() -> None:
    """At most `max_chunks` chunks, the same ones for everybody, and a copy is still a copy."""
    a, b = (sketch(compressed(work(seed)), SPEC, max_chunks=3) for seed in (1, 2))
    assert a.chunks == b.chunks == 3
    assert likeness(a, a).overlap == 1.0
    assert not likeness(a, b).is_duplicate


def test_sketches_of_different_models_are_not_compared() -> None:
    """Different numbers of chunks are an error of ours."""
    with pytest.raises(ValueError, match="cannot be compared"):
        likeness(seen(work(1)), replace(seen(work(1)), chunks=2))


@pytest.mark.parametrize("cut", [0, 11, 12, -1])
def test_a_truncated_sketch_is_refused(cut: int) -> None:
    """Every length but the right one."""
    with pytest.raises(SketchError):
        read_sketch(seen(work(1)).to_bytes()[:cut])


def test_a_sketch_beyond_the_limits_is_refused() -> None:
    """More chunks than agreed, keys out of order, values that are not finite."""
    made = seen(work(1))
    for bad in (
        replace(made, chunks=257),
        replace(made, keys=made.keys[::-1].copy()),
        replace(made, keys=made.keys + np.uint32(4096 * 10)),
        replace(made, values=np.full_like(made.values, np.nan)),
    ):
        with pytest.raises(SketchError):
            read_sketch(bad.to_bytes())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_still_a_sketch(at: int, value: int) -> None:
    """Never another exception, and what is read can be compared."""
    made = seen(work(1))
    data = bytearray(made.to_bytes())
    data[at % len(data)] = value
    try:
        read = read_sketch(bytes(data))
    except SketchError:
        return
    assert read.chunks != made.chunks or 0 <= likeness(read, made).overlap <= 1
