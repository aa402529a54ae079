"""Attacks through the oracle, in short: every one of them in one round beside four honest peers."""

import asyncio
from collections.abc import Callable

import pytest
from l402_peer_agent.adversaries.names import ADVERSARIES, HOLD_WORK

from tests.attacks import table
from tests.attacks.court import one_thread, warmed_up
from tests.attacks.runs import HONEST, RUNS, Ran, Told, play

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(600)]
EXPECTED = {
    "zero": "zero_update", "huge": "malformed", "not-finite": "malformed", "twice-indexed": "malformed",
    "truncated": "malformed", "oversize": "malformed", "other-round": "wrong_round",
    "stale-header": "stale_checkpoint", "other-header": "wrong_model", "unpacked-copy": "wrong_peer",
    "late": "not_uploaded", "no-upload": "not_uploaded", "unlike": "not_uploaded",
    "accomplice": "duplicate", "noised-copy": "duplicate", "scaled-copy": "duplicate", "flipped-copy": "duplicate",
    "mixture": "duplicate", "patchwork": "duplicate", "sign-flip": "harmful",
}  # fmt: skip


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One round from a model that a little training has warmed up."""
    one_thread()
    theta = warmed_up(0, 40)
    return asyncio.run(
        play("hopeless", RUNS["hopeless"], theta, tmp_path_factory.mktemp("court"), 1, eval_tokens=32_768)
    )


def test_every_attack_is_in_some_run() -> None:
    """None is forgotten by the table."""
    assert {kind for kinds in RUNS.values() for kind in kinds} == set(ADVERSARIES)
    assert len(ADVERSARIES) >= 20


def test_no_attack_is_paid_and_each_is_refused_for_what_it_is(
    hopeless: Ran, record_property: Callable[[str, object], None]
) -> None:
    """The code that decided names the attack."""
    record_property("covered", f"attacks: {table.covered([hopeless])}; those, and more rounds, by `make attacks`")
    for told in hopeless.told:
        assert told.paid_msat == 0, told
        if told.kind in EXPECTED:
            assert told.verdicts == (EXPECTED[told.kind],), told


def test_honest_peers_beside_them_are_paid_as_without_them(hopeless: Ran) -> None:
    """All four improve the model, and their pay hardly moves."""
    assert hopeless.honest_verdicts == ("improved",) * len(HONEST)
    assert table.broken([hopeless]) == []
    assert hopeless.losses[1] < hopeless.losses[0]


def test_the_table_says_what_did_not_hold() -> None:
    """A paid cheat, pay that moved, a loss that rose, a pool that earned more than one honest peer."""
    sound = Ran("nobody", (), (5_000_000,), (5_000_000,), 2_000_000, (), (2.0, 1.9))
    cheat = Told("noise", 1, 500_000, 600_000, ("improved",))
    pool = Told("pool-slices", 10, 5_000_000, 9_000_000, ("improved",) * 10)
    bad = Ran("bad", (cheat, pool), (5_000_000,), (6_000_000,), 2_000_000, (), (2.0, 1.95))
    assert table.broken([sound]) == []
    assert len(table.broken([sound, bad])) == 4
    assert "| noise | 1 | 1 | 500 | 600 | +100 |" in "\n".join(table.lines([sound, bad]))
    assert table.covered([sound, bad]).startswith("2 of 37 attacks, 1 round each, beside 4 honest peers; not played: ")
    assert "noise" not in HOLD_WORK
