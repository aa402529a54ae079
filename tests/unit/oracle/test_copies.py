"""Mixtures of many, and what was sent rounds ago: found, whatever their values; honest neighbours are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_oracle import copies
from l402_oracle.copies import Work, find_copies
from l402_oracle.mixtures import cover
from l402_oracle.similarity import Duplicate, Likeness, Sketch, likeness

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
    assert cover(0.0, []).is_mixture is False


# --- as many pairs as there are, in one pass ---------------------------------------------------------------------------


def all_pairs(round_works: list[Work], earlier_rounds: list[Work]) -> dict[str, Duplicate]:
    """The rules as they are meant: every pair compared, entry by entry."""
    found: dict[str, Duplicate] = {}
    earlier_rounds = [old for old in earlier_rounds if old.sketch.chunks == round_works[0].sketch.chunks]
    for place, work in enumerate(round_works):
        before = round_works[:place]
        pairs = [(one.commitment, likeness(work.sketch, one.sketch)) for one in before]
        alike = [(name, how) for name, how in pairs if how.is_duplicate]
        if alike:
            found[work.commitment] = Duplicate(*max(alike, key=lambda pair: max(pair[1].overlap, pair[1].cosine)))
            continue
        pairs = [(old.commitment, likeness(work.sketch, old.sketch)) for old in earlier_rounds if _repeats(work, old)]
        if pairs:
            found[work.commitment] = Duplicate(*pairs[0])
            continue
        others = [one for one in [*earlier_rounds, *before] if one.peer != work.peer]
        held = [np.isin(work.sketch.keys, one.sketch.keys, assume_unique=True) for one in others]
        if not held or not len(work.sketch.keys):
            continue
        together = float(np.logical_or.reduce(held).mean())
        if cover(together, [float(one.mean()) for one in held]).is_mixture:
            pairs = [(one.commitment, likeness(work.sketch, one.sketch)) for one in others]
            found[work.commitment] = Duplicate(*max(pairs, key=lambda pair: pair[1].overlap), together)
    return found


def _repeats(work: Work, old: Work) -> bool:
    how = likeness(work.sketch, old.sketch)
    return how.overlap >= copies.OWN_OVERLAP_LIMIT if old.peer == work.peer else how.is_duplicate


def some_sketch(rng: np.random.Generator, sources: list[Sketch], chunks: int) -> Sketch:
    """New, a copy, a part of several, other values, a few more or fewer entries: anything near the limits."""
    pools = []
    for chunk in range(chunks):
        fresh = rng.choice(40, rng.integers(0, 9), replace=False)
        taken = [s.keys[s.keys // 4096 == chunk] % 4096 for s in sources if rng.random() < 0.6]
        pools.append(
            np.unique(np.concatenate([fresh, *(one[rng.random(len(one)) < 0.5] for one in taken)])) + 4096 * chunk
        )
    keys = np.concatenate(pools).astype(np.uint32)
    values = rng.choice([-1.0, -0.4, 0.0, 0.4, 1.0], len(keys)).astype(np.float16)
    return Sketch(chunks, keys, values)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(0, 8))
def test_one_pass_finds_what_all_pairs_find(seed: int, works: int, earlier: int) -> None:
    """Copies, own work again, mixtures: the same names, likeness and share, to the bit."""
    rng = np.random.default_rng(seed)
    sketches: list[Sketch] = []
    for _ in range(works + earlier):
        again = sketches and rng.random() < 0.2
        sketches.append(sketches[rng.integers(len(sketches))] if again else some_sketch(rng, sketches[-3:], 3))
    everybody = [Work(f"c{n}", f"p{rng.integers(6)}", one) for n, one in enumerate(sketches)]
    assert find_copies(everybody[earlier:], everybody[:earlier]) == all_pairs(everybody[earlier:], everybody[:earlier])


def test_a_crowd_of_copies_costs_no_pair_but_the_near_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty honest works are compared with nobody; what is near is looked at exactly."""
    looked: list[Sketch] = []

    def counted(a: Sketch, b: Sketch) -> Likeness:
        looked.append(a)
        return likeness(a, b)

    monkeypatch.setattr(copies, "likeness", counted)
    crowd = [a_sketch(seed, common=0.1) for seed in range(1, 61)]
    assert list(find_copies(the_works(*crowd, crowd[7]), [])) == ["c60"]
    assert looked == [crowd[7]]
