"""Each attack is the attack that its name says: what it sends differs from honest work in that one thing."""

from pathlib import Path

import numpy as np
import pytest
from l402_peer_agent.adversaries.names import ADVERSARIES, HONEST
from l402_peer_agent.adversaries.registry import KINDS
from l402_peer_agent.training import Pool, Taken, Trained, Trainer, binding
from l402core.errors import TooLate
from sparseloco.sparse import Sparse, Update, expand
from sparseloco.wire import PayloadError, unpack

from tests.unit.peer_agent.test_peer_work import CHECKPOINT, OTHER, PEER, SPEC, the_terms

TERMS = the_terms()
THIRD = "33" * 32


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Taken, ...]:
    """Three honest payloads."""
    folder = tmp_path_factory.mktemp("honest")
    names = (PEER, OTHER, THIRD)
    return tuple(Taken(bytes.fromhex(n), Trainer(folder / n, n).train(TERMS, CHECKPOINT).packed) for n in names)


def made(kind: str, folder: Path, taken: tuple[Taken, ...] = (), pool: Pool | None = None, peer: str = PEER) -> Trained:
    """What this kind of peer sends."""
    return KINDS[kind](folder, peer, pool).train(TERMS, CHECKPOINT, taken)


def read(packed: bytes, peer: str = PEER) -> Sparse:
    """Opened for this round and peer."""
    return unpack(packed, SPEC, binding(TERMS, bytes.fromhex(peer))).sparse


def update(packed: bytes, peer: str = PEER) -> Update:
    """The same, expanded."""
    return expand(read(packed, peer), SPEC)


def test_every_name_is_a_class_and_every_class_a_name() -> None:
    """The list that needs no torch is the registry."""
    assert set(KINDS) == {HONEST, *ADVERSARIES}
    assert len(ADVERSARIES) >= 20
    assert len(set(KINDS.values())) == len(KINDS)
    assert all(kind.__doc__ for kind in KINDS.values())


def test_a_flip_is_the_opposite_and_noise_is_as_large(tmp_path: Path, honest: tuple[Taken, ...]) -> None:
    """Same indices, other signs; and no work at the norm of work."""
    mine, flipped = update(honest[0].packed), update(made("sign-flip", tmp_path / "f").packed)
    assert (mine.indices == flipped.indices).all()
    assert (mine.values == -flipped.values).all()
    drawn = update(made("noise", tmp_path / "n").packed)
    assert np.linalg.norm(drawn.values) > 0.3 * np.linalg.norm(mine.values)
    assert len(np.intersect1d(drawn.indices, mine.indices)) < 0.1 * len(mine.indices)


@pytest.mark.parametrize(
    ("kind", "offset"),
    [("not-finite", 118), ("huge", 118), ("twice-indexed", 751), ("truncated", None), ("oversize", None),
     ("other-round", 8), ("stale-header", 44), ("other-header", 12), ("unpacked-copy", 76)],
)  # fmt: skip
def test_misshapen_bytes_are_refused_where_they_are_wrong(
    tmp_path: Path, honest: tuple[Taken, ...], kind: str, offset: int | None
) -> None:
    """By the decoder, for the reason that the attack is named after."""
    sent = made(kind, tmp_path, honest[1:])
    with pytest.raises(PayloadError) as refused:
        read(sent.packed)
    assert offset is None or abs(refused.value.offset - offset) <= 8 or kind == "twice-indexed"


@pytest.mark.parametrize(
    ("kind", "least"),
    [("accomplice", 1.0), ("scaled-copy", 1.0), ("noised-copy", 0.4), ("mixture", 0.4), ("patchwork", 0.3)],
)
def test_copies_hold_what_they_copy(tmp_path: Path, honest: tuple[Taken, ...], kind: str, least: float) -> None:
    """Under their own key, as many of the other's indices as they must."""
    theirs = update(honest[1].packed, OTHER)
    sent = made(kind, tmp_path, honest[1:] + honest[:1])
    assert sent.losses == ()
    shared = np.intersect1d(update(sent.packed).indices, theirs.indices)
    assert len(shared) >= least * len(theirs.indices)


def test_a_permuted_copy_has_the_values_and_other_indices(tmp_path: Path, honest: tuple[Taken, ...]) -> None:
    """Mirrored inside each chunk, and well-formed."""
    sent, theirs = update(made("permuted-copy", tmp_path, honest[1:]).packed), update(honest[1].packed, OTHER)
    assert sorted(sent.values) == sorted(theirs.values)
    assert (sent.indices != theirs.indices).mean() > 0.9


def test_a_copy_waits_for_what_it_copies(tmp_path: Path, honest: tuple[Taken, ...]) -> None:
    """Without it there is nothing to send."""
    with pytest.raises(TooLate):
        made("accomplice", tmp_path)
    with pytest.raises(TooLate):
        made("mixture", tmp_path, honest[1:2])
    with pytest.raises(TooLate):
        made("replay", tmp_path, honest[1:])


def test_a_pool_shares_its_owners_work(tmp_path: Path) -> None:
    """Copies are equal, disjoint shares have no index in common, slices are members of their own."""
    leader = bytes.fromhex(PEER)
    second = Pool(leader=leader, member=1, members=2)
    first = Pool(leader=leader, members=2)

    def both(kind: str) -> tuple[Update, Update]:
        mine = made(kind, tmp_path / f"{kind}-0", pool=first)
        other = made(kind, tmp_path / f"{kind}-1", pool=second, peer=OTHER)
        return update(mine.packed), update(other.packed, OTHER)

    a, b = both("pool-copies")
    assert (a.indices == b.indices).all()
    a, b = both("pool-noised")
    assert 0.3 < len(np.intersect1d(a.indices, b.indices)) / len(a.indices) < 1
    a, b = both("pool-disjoint")
    large = np.abs(b.values) > 1e-9
    assert len(np.intersect1d(a.indices, b.indices[large])) < 0.01 * len(a.indices)
    assert len(made("pool-slices", tmp_path / "s", pool=second, peer=OTHER).losses) == 1
