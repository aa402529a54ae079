"""The whole loop on real lnd, with peers that reach the coordinator over one and two other peers' nodes."""

import gzip
import os

import pytest
from l402train.exits import Exit

from tests.support.demos import LIMIT_S, Run, a_demo
from tests.support.leaks import leaks, node_keys, reward_preimages
from tests.support.lnd import lnd_is_there
from tests.support.real import require_real
from tests.support.watching import rows

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lnd"), pytest.mark.timeout(LIMIT_S + 20)]
PEERS = 3
LOG = "lnd/coordinator/logs/bitcoin/simnet/lnd.log.7.gz"
"""As lnd sets its log aside once that is long."""
LND_BASE_FEE_MSAT = 1_000
"""What an lnd keeps of every payment that it forwards, by default, plus a millionth."""
FEE_LIMIT_MSAT = 10_000
"""The settler's default, per rung."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """coordinator, peer-1, peer-2, peer-3 in a line, one round."""
    require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    words = ["--lightning", "lnd", "--topology", "line", "--peers", str(PEERS), "--rounds", "1", "--seed", "3"]
    tools = {"L402_TOOLS_DIR": os.environ["L402_TOOLS_DIR"]} if "L402_TOOLS_DIR" in os.environ else {}
    return a_demo(tmp_path_factory.mktemp("demo-on-lnd"), *words, extra=tools)


def test_the_run_holds_what_it_promises_on_real_lnd(run: Run) -> None:
    """The command checks itself, ends with 0, and says on which lnd it ran."""
    assert run.returncode == Exit.FINE, run.output
    assert run.report["parts"]["lightning"].startswith("lnd 0.")
    assert run.report["ledger"]["debits_msat"] == run.report["ledger"]["credits_msat"] > 0
    assert run.report["ledger"]["open_escrows"] == 0


def test_no_secret_is_left_lying_on_real_lnd(run: Run) -> None:
    """Keys, macaroons, preimages of every offer, and what the fees bought: neither do the logs of lnd and btcd tell them."""
    logs = [*run.folder.glob("lnd/*/logs/bitcoin/simnet/lnd.log"), *run.folder.glob("lnd/btcd/logs/simnet/btcd.log")]
    assert len(logs) == PEERS + len(("coordinator", "sponsor", "observer", "btcd"))
    assert len(reward_preimages(run.folder)) == 6 * len(run.submissions())
    assert leaks(run.folder, beside=run.place) == []
    secrets, logged = node_keys(run.folder) | reward_preimages(run.folder), run.folder / LOG
    for name in ("btcd", "admin of coordinator/data/chain/bitcoin/simnet", next(iter(reward_preimages(run.folder)))):
        logged.write_bytes(gzip.compress(b"[INF] Adding preimage=" + secrets[name].hex().encode()))
        assert leaks(run.folder, beside=run.place) == [f"{name} in kept/{LOG}"]
    logged.unlink()


def test_a_peer_that_no_channel_joins_with_the_coordinator_earns(run: Run) -> None:
    """peer-3 pays its fee over three channels, and its reward is locked and settled over them."""
    (far,) = [one for one in run.submissions() if one["peer"] == "peer-3"]
    assert far["verdict"] == "accepted"
    assert far["reward_msat"] > 0
    settled = "select sum(amount_msat) from rungs where state = 'settled' and commitment = ?"
    assert rows(run.folder / "settler" / "books.sqlite3", settled, far["submission_id"]) == [(far["reward_msat"],)]


def test_routing_fees_are_booked_to_the_millisatoshi_and_within_the_limit(run: Run) -> None:
    """Each rung of a far peer costs what the nodes between keep; a neighbour's rung costs nothing."""
    books = run.folder / "settler" / "books.sqlite3"
    booked = [amount for (amount,) in rows(books, "select amount_msat from transfers where debit = 'routing'")]
    owed: list[int] = []
    for one in run.submissions():
        between = int(one["peer"].removeprefix("peer-")) - 1
        settled = "select amount_msat from rungs where state = 'settled' and commitment = ?"
        for (amount_msat,) in rows(books, settled, one["submission_id"]):
            assert isinstance(amount_msat, int)
            fee_msat = _forwarded(amount_msat, between) - amount_msat
            assert fee_msat <= FEE_LIMIT_MSAT
            owed += [fee_msat] if fee_msat else []
    assert owed
    assert sorted(map(str, booked)) == sorted(map(str, owed))
    assert run.report["ledger"]["accounts"]["routing"]["debits_msat"] == sum(owed)


def _forwarded(amount_msat: int, between: int) -> int:
    """What must leave, so that this arrives: each node between adds its fee on what it sends on."""
    for _ in range(between):
        amount_msat += LND_BASE_FEE_MSAT + amount_msat // 1_000_000
    return amount_msat
