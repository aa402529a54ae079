"""The shape of each story's trace, from the spans that real services kept: one tree from the request to the ledger's line."""

from pathlib import Path

import pytest
from l402train import lives, spans
from l402train.folder import Folder
from l402train.stack import Plan, running
from lndsim import Control, Fault, FaultKind

from tests.support.demos import Run
from tests.support.networks import UNHURRIED
from tests.support.trees import Tree, trees
from tests.support.watching import NETWORK_S, count, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]

OPENED = (
    ("peer-agent submission", "peer-agent train"),
    ("peer-agent submission", "gateway POST submission"),
    ("gateway POST submission", "invoicer answer fee.mint.v1"),
    ("invoicer answer fee.mint.v1", "settler consume fee.settled.v1"),
    ("gateway POST submission", "settler answer submission.open.v1"),
    ("settler answer submission.open.v1", "oracle consume offer.make.v1"),
    ("oracle consume offer.make.v1", "settler consume offer.made.v1"),
    ("gateway POST locks", "settler answer escrow.register_locks.v1"),
    ("settler answer escrow.register_locks.v1", "invoicer consume escrow.lock.v1"),
    ("invoicer consume escrow.lock.v1", "invoicer SendPaymentV2"),
)
"""What a paid submission always comes to: (because of this, that)."""
JUDGED = (
    *OPENED,
    ("settler answer submission.open.v1", "settler ledger in flight"),
    ("settler answer submission.open.v1", "oracle consume escrow.locked.v1"),
    ("gateway PUT gradient", "settler answer submission.register_upload.v1"),
    ("settler answer submission.register_upload.v1", "oracle consume gradient.uploaded.v1"),
    ("oracle consume gradient.uploaded.v1", "oracle consume gradient.screened.v1"),
    ("oracle consume gradient.uploaded.v1", "oracle decide"),
    ("oracle consume gradient.uploaded.v1", "settler consume gradient.scored.v1"),
)
MEASURED = (
    ("oracle consume gradient.uploaded.v1", "oracle consume gradient.measure.v1"),
    ("oracle consume gradient.measure.v1", "oracle consume gradient.measured.v1"),
)
PAID, RETURNED = "settler ledger succeeded", "settler ledger failed"
OPENS = "settler answer submission.open.v1"


def missing(tree: Tree, shape: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """What the tree lacks of a shape."""
    return [(before, after) for before, after in shape if not tree.because(before, after)]


@pytest.fixture(scope="module")
def kept(demo_run: Run) -> dict[str, Tree]:
    """Every trace of the demo."""
    return trees(spans.read(demo_run.folder / "traces"))


def test_every_submission_is_one_connected_tree_that_its_peer_began(demo_run: Run, kept: dict[str, Tree]) -> None:
    """No span of it hangs in the air, whichever of five services made it."""
    for one in demo_run.submissions():
        assert kept[one["trace_id"]].roots == ["peer-agent submission"], one["peer"]


def test_the_main_story_goes_from_the_request_to_the_ledgers_line(demo_run: Run, kept: dict[str, Tree]) -> None:
    """Paid, locked, uploaded, measured, decided, and each earned rung settled and booked under it."""
    accepted = [one for one in demo_run.submissions() if one["reward_msat"]]
    assert accepted
    for one in accepted:
        tree = kept[one["trace_id"]]
        assert missing(tree, (*JUDGED, *MEASURED, (OPENS, PAID))) == []
        assert tree.counts["peer-agent SettleInvoice"] == (one["reward_msat"] // 100_000).bit_count()
        assert tree.counts["oracle decide"] == 1


def test_the_rejected_story_has_the_same_tree_and_nothing_is_paid_in_it(demo_run: Run, kept: dict[str, Tree]) -> None:
    """Every rung returns; a copy is refused before it is measured."""
    rejected = [one for one in demo_run.submissions() if not one["reward_msat"]]
    assert {one["kind"] for one in rejected} >= {"accomplice", "sign-flip", "noise"}
    for one in rejected:
        tree = kept[one["trace_id"]]
        shape = JUDGED if one["kind"] == "accomplice" else (*JUDGED, *MEASURED)
        assert missing(tree, (*shape, (OPENS, RETURNED))) == []
        assert tree.counts[PAID] == 0
        assert tree.counts["peer-agent SettleInvoice"] == 0
        assert tree.counts["peer-agent CancelInvoice"] == 6


def test_the_sponsored_story_goes_from_the_pledge_to_its_money(demo_run: Run, kept: dict[str, Tree]) -> None:
    """One tree: the pledge, the oracle's hashes, each tranche's invoice, its lock, its judgement, and its end at our node."""
    ((tree),) = [one for one in kept.values() if one.counts["gateway POST open_sponsorship"]]
    assert tree.roots == ["gateway POST open_sponsorship"]
    shape = (
        ("gateway POST open_sponsorship", "settler answer sponsorship.open.v1"),
        ("settler answer sponsorship.open.v1", "oracle consume sponsorship.announce.v1"),
        ("settler answer sponsorship.open.v1", "invoicer consume sponsorship.mint.v1"),
        ("invoicer consume sponsorship.mint.v1", "settler consume sponsorship.minted.v1"),
        ("settler answer sponsorship.open.v1", "settler ledger tranche accepted"),
        ("settler answer sponsorship.open.v1", "oracle consume checkpoint.measure.v1"),
        ("settler answer sponsorship.open.v1", "settler consume sponsorship.judged.v1"),
    )
    assert missing(tree, shape) == []
    told = lives.life(spans.find(demo_run.folder / "traces", "sponsor")).moments
    assert [one.what for one in told][:4] == [step.what for step in lives.SPONSORSHIP[:4]]
    outcomes = [round_["tranche"]["outcome"] for round_ in demo_run.report["rounds"]]
    assert tree.counts["settler ledger tranche settled"] == outcomes.count("settled")
    assert tree.counts["settler ledger tranche canceled"] == outcomes.count("returned")
    if "settled" in outcomes:
        assert missing(tree, (("settler tranche settle", "settler SettleInvoice"),)) == []


def test_what_was_decided_together_is_linked_to_each_of_its_submissions(demo_run: Run, kept: dict[str, Tree]) -> None:
    """A round is judged as one: a trace of its own, that names everybody's."""
    judging = {
        span.attributes["round"]: span
        for tree in kept.values()
        for span in tree.spans
        if span.name == "judge the round"
    }
    for round_ in demo_run.report["rounds"]:
        linked = {link.trace_id for link in judging[round_["round"]].links}
        assert linked == {one["trace_id"] for one in round_["submissions"]}
        assert judging[round_["round"]].trace_id not in linked


async def test_a_lock_that_fails_is_told_by_the_same_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every HTLC slot towards the peer is taken by then: the ladder fails, nothing is uploaded, the fee becomes a credit."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("L402_PEER_IDLE_EXIT_S", "20")
    folder = Folder(tmp_path / "network")
    folder.create()
    async with running(folder, Plan(peers=1, rounds=1, workers=1, seed=5, overheard=True).checked(), print):
        async with Control(folder.lnd) as control:
            slow = Fault(kind=FaultKind.DELAY, method="AddHoldInvoice", node="peer-1", seconds=8.0)
            await control.plan_fault(slow)  # time enough between the offer and the ladder
            await until(lambda: count(folder, "submissions", "state = 'offered'") == 1, patience_s=NETWORK_S)
            await control.fill("coordinator", "peer-1")
        await until(lambda: count(folder, "credits") == 1, patience_s=NETWORK_S)
        await until(lambda: count(folder, "rungs", "state in ('registered', 'in flight')") == 0, patience_s=NETWORK_S)
    assert count(folder, "rungs", "state = 'settled'") == 0
    mine = [tree for tree in trees(spans.read(folder.traces)).values() if "peer-agent submission" in tree.roots]
    failed = [tree for tree in mine if tree.counts[RETURNED]]
    assert failed
    for tree in failed:
        assert tree.roots == ["peer-agent submission"]
        assert missing(tree, (*OPENED, (OPENS, RETURNED))) == []
        assert tree.counts[PAID] == tree.counts["gateway PUT gradient"] == 0
