"""Mixtures of many, and what was sent rounds ago: found, whatever their values; honest neighbours are not."""

import numpy as np
import pytest
from l402_oracle import copies
from l402_oracle.copies import Work, find_copies
from l402_oracle.mixtures import Cover, cover
from l402_oracle.similarity import Sketch, likeness

CHUNKS, KEPT = 20, 64


def a_sketch(seed: int, *, common: float = 0.0) -> Sketch:
    """64 entries a chunk; `common`: the share of them that every such sketch has."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(0)
    keys = []
    for chunk in range(CHUNKS):
        everybodys = shared.choice(4096, KEPT, replace=False)[: int(common * KEPT)]
        own = rng.permutation(np.setdiff1d(np.arange(4096), everybodys))[: KEPT - len(everybodys)]
        keys.append(np.sort(np.concatenate([everybodys, own])) + 4096 * chunk)
    values = np.where(rng.random(CHUNKS * KEPT) < 0.5, 0.4, 1.0)
    return Sketch(CHUNKS, np.concatenate(keys).astype(np.uint32), values.astype(np.float16))


def patched(sources: list[Sketch], *, own: Sketch | None = None, own_size: float = 1.0) -> Sketch:
    """Chunk after chunk from another source; `own` entries stand for the last source, so many times as large."""
    everything = [*sources, *([own] if own else [])]
    keys, values = [], []
    for chunk in range(CHUNKS):
        source = everything[chunk % len(everything)]
        mine = source.keys // 4096 == chunk
        keys.append(source.keys[mine])
        values.append(source.values[mine] * (own_size if source is own else 1.0))
    return Sketch(CHUNKS, np.concatenate(keys), np.concatenate(values).astype(np.float16))


def the_works(*sketches: Sketch, peer: str = "") -> list[Work]:
    """One peer each."""
    return [Work(f"c{n}", peer or f"p{n}", sketch) for n, sketch in enumerate(sketches)]


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_patchwork_of_many_is_found(count: int) -> None:
    """No source is repeated for more than a third; together they are all of it."""
    sources = [a_sketch(seed) for seed in range(1, count + 1)]
    found = find_copies(the_works(*sources, patched(sources)), [])
    assert list(found) == [f"c{count}"]
    assert found[f"c{count}"].mixed == 1.0


def test_magnitudes_do_not_hide_what_was_taken() -> None:
    """A quarter of its own, so large that its values look like its own."""
    sources = [a_sketch(seed) for seed in range(1, 7)]
    mixed = patched(sources, own=a_sketch(99), own_size=30.0)
    assert max(likeness(mixed, source).cosine for source in sources) < 0.1
    assert find_copies(the_works(*sources, mixed), [])["c6"].mixed > 0.8


@pytest.mark.parametrize("peers", [8, 40])
def test_honest_peers_who_have_a_fifth_in_common_are_not_mixtures(peers: int) -> None:
    """The most that was measured among honest ones, and many more of them."""
    assert find_copies(the_works(*(a_sketch(seed, common=0.2) for seed in range(1, peers + 1))), []) == {}


def test_what_was_sent_rounds_ago_is_found_again() -> None:
    """Another's old work, or parts of several; a peer's own only where it is the same."""
    old = [Work(f"old{n}", f"p{n}", a_sketch(n)) for n in range(1, 5)]
    assert find_copies([Work("new", "thief", a_sketch(2))], old)["new"].earlier == "old2"
    assert "new" in find_copies([Work("new", "thief", patched([one.sketch for one in old]))], old)
    assert find_copies([Work("new", "p2", a_sketch(2))], old)["new"].earlier == "old2"
    assert find_copies([Work("new", "p2", a_sketch(7))], old) == {}
    assert find_copies([], old) == {}


def test_sketches_of_another_model_are_left_out() -> None:
    """The network moved to another one."""
    other = Sketch(1, np.arange(KEPT, dtype=np.uint32), np.ones(KEPT, dtype=np.float16))
    assert find_copies(the_works(a_sketch(1)), [Work("old", "p", other)]) == {}
    assert cover(other, []).actual == 0.0


def test_a_known_copy_is_not_looked_at_as_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred copies of one work cost no look through all that came before them."""
    looked: list[Sketch] = []

    def counted(work: Sketch, earlier: list[Sketch]) -> Cover:
        looked.append(work)
        return cover(work, earlier)

    monkeypatch.setattr(copies, "cover", counted)
    one = a_sketch(1)
    found = find_copies(the_works(one, *[one] * 20), [])
    assert len(found) == 20
    assert looked == [one]
