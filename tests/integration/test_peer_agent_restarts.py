"""A peer's agent against a scripted coordinator and simulated nodes: the whole story, cut off anywhere and told on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from l402_peer_agent.adapters.journal import Journal
from l402core.errors import Unavailable
from l402core.events import SubmissionView
from l402core.lnd.port import InvoiceState
from l402core.sealing import unseal_payload
from lndsim import Simulation

from tests.support.coordinators import ACCEPTED_UNITS, FEE_MSAT, READING, UNIT_MSAT, Coordinator, now_ms
from tests.support.peer import RUNGS, Killed, Stage, staged


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A coordinator and a peer, joined by one channel."""
    async with (
        await Simulation.start(tmp_path / "lnd") as simulation,
        staged(simulation, tmp_path / "peer") as stage,
    ):
        yield stage


async def all_went_well(stage: Stage) -> None:
    """One fee paid, the earned rungs settled, the others back, the gradient delivered once, one line written."""
    assert await stage.fees_paid_msat() == FEE_MSAT
    earned = ACCEPTED_UNITS * UNIT_MSAT
    assert await stage.rewards() == {
        InvoiceState.SETTLED: earned,
        InvoiceState.CANCELED: 63 * UNIT_MSAT - earned,
    }
    (outcome,) = stage.outcomes()
    assert (outcome.verdict, outcome.reward_msat) == ("accepted", earned)
    (sealed,) = stage.coordinator.uploads.values()
    assert unseal_payload(sealed, READING)[0] == b"packed for round 1"


async def test_a_round_from_the_terms_to_the_last_rung(stage: Stage) -> None:
    """The story without accidents."""
    await stage.run()
    await all_went_well(stage)


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
async def test_a_peer_killed_at_any_call_is_paid_once_and_pays_once(tmp_path: Path, after: bool) -> None:
    """Killed at each call it makes, to its node or the coordinator, the next start ends the round as if nothing was."""
    async with await Simulation.start(tmp_path / "lnd") as simulation:
        for dies_at in range(1_000):
            async with staged(
                simulation, tmp_path / str(dies_at), peer=f"peer{dies_at}", coordinator=f"coordinator{dies_at}"
            ) as stage:
                try:
                    await stage.run(dies_at=dies_at, after=after)
                except Killed:
                    await stage.run()
                    await all_went_well(stage)
                else:
                    assert dies_at > 3 * RUNGS
                    return
    pytest.fail("the agent never came to an end")


class Recovering(Coordinator):
    """Does not answer the first look after a restart, and takes no upload any more."""

    silent = 0

    async def submission(self, round_: int, commitment: str) -> SubmissionView:
        self.silent -= 1
        if self.silent >= 0:
            raise Unavailable("gateway", "restarting")
        return await super().submission(round_, commitment)


async def test_a_payload_that_may_have_left_is_collected_on(stage: Stage) -> None:
    """Killed right after the upload and back after its deadline, with nobody answering at first: the reward is taken."""
    stage.coordinator = Recovering(stage.ours, seconds=1.0)
    stage.coordinator.open_round(1)
    with pytest.raises(Killed):
        await stage.run(dies_after="upload")
    await asyncio.sleep((stage.coordinator.rounds[1].upload_until_ms - now_ms()) / 1_000)
    stage.coordinator.silent = 2
    await stage.run()
    await all_went_well(stage)


async def test_a_rejected_gradient_returns_every_rung(stage: Stage) -> None:
    """The fee is spent, nothing is earned, and the coordinator has its money back at once."""
    stage.coordinator = Coordinator(stage.ours, units=0)
    stage.coordinator.open_round(1)
    await stage.run()
    assert await stage.rewards() == {InvoiceState.CANCELED: 63 * UNIT_MSAT}
    assert stage.outcomes()[0].verdict == "rejected"


async def test_a_fee_that_bought_nothing_opens_a_later_round(stage: Stage) -> None:
    """No offer came: the round is missed, the credit is claimed, and no second fee is paid."""
    stage.coordinator = Coordinator(stage.ours, seconds=1.0)
    stage.coordinator.serves_offers = False
    stage.coordinator.open_round(1)
    await stage.run()
    (missed,) = stage.outcomes()
    assert missed.verdict == "missed"
    (payment,) = await stage.theirs.list_payments()
    later = Coordinator(stage.ours)
    later.credits[payment.payment_hash.hex()] = "ee" * 32
    later.open_round(2)
    stage.coordinator = later
    await stage.run(rounds=2)
    assert await stage.fees_paid_msat() == FEE_MSAT
    assert stage.outcomes()[1].verdict == "accepted"
    assert stage.outcomes()[1].fee_msat == 0


async def test_a_fee_above_the_cap_is_not_paid(stage: Stage) -> None:
    """The owner's cap wins over signed terms: the round is missed and no money moves."""
    await stage.run(fee_cap_msat=FEE_MSAT - 1)
    assert stage.outcomes()[0].verdict == "missed"
    assert await stage.theirs.list_payments() == []


async def test_keys_seen_first_are_the_keys_for_good(stage: Stage) -> None:
    """Another settler later on is refused, although its terms are signed well."""
    await stage.run()
    journal = Journal(stage.folder / "journal.sqlite3")
    assert journal.pinned("settler") == stage.coordinator.rounds[1].settler
    journal._db.execute("UPDATE pins SET value = ? WHERE name = 'settler'", ("ab" * 32,))
    journal.close()
    stage.coordinator.open_round(2)
    await stage.run(rounds=2)
    assert stage.outcomes()[1].verdict == "missed"
    assert "wrong_signer" in stage.outcomes()[1].reasons[0]
    assert await stage.fees_paid_msat() == FEE_MSAT
