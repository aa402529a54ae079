"""A peer whose reward was decided too late for its ladder: it collects through the new offer, once, and is not tricked."""

import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402_peer_agent.adapters.journal import Journal
from l402core.documents import Accepted, Offer, Statement
from l402core.errors import Unavailable
from l402core.events import GradientScored, SubmissionView
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.sealing import seal
from l402core.secret import Secret
from l402core.signing import Signed, open_signed
from lndsim import Simulation

from tests.support import coordinators
from tests.support.coordinators import ACCEPTED_UNITS, ATTESTOR, FEE_MSAT, UNIT_MSAT, Coordinator, now_ms
from tests.support.peer import Killed, Stage, staged

OWED = ACCEPTED_UNITS * UNIT_MSAT
RUNGS = [UNIT_MSAT << index for index in range(6) if ACCEPTED_UNITS >> index & 1]
SHORT: dict[str, Any] = {"owed_poll_s": 0.05, "idle_exit_s": 0.5, "grace_s": 0.2}
FAST: dict[str, Any] = {"owed_poll_s": 0.05, "idle_exit_s": 20.0}


class Late(Coordinator):
    """Decides inside the margin: withholds the first ladder's preimages, and offers again once its rungs are back."""

    attestor_silent = False
    """Nobody but the coordinator speaks."""
    amounts = tuple(RUNGS)
    """What the new offer is made of."""

    def _judge(self, commitment: str, terms: object) -> SubmissionView:
        super()._judge(commitment, self.rounds[1])
        return self._change(commitment, state="owed", sealed_preimages=(), owed_msat=OWED)

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored:
        """The attestor's own door."""
        view = self.views.get(commitment)
        if self.attestor_silent or view is None or view.receipt is None:
            raise Unavailable("attestor", "nobody answers")
        return GradientScored(
            id="s", occurred_at_ms=0, round=1, commitment=commitment, peer=view.peer, mask=ACCEPTED_UNITS,
            reward_msat=OWED, verdict="accepted", reasons=(), receipt=view.receipt,
            sealed_preimages=view.sealed_preimages, withheld=not view.sealed_preimages,
        )  # fmt: skip

    async def submission(self, round_: int, commitment: str) -> SubmissionView:
        """The old rungs are looked at first, as the settler does."""
        view = await super().submission(round_, commitment)
        if view.state == "owed":
            sent = await self._node.list_payments()
            first = [one for one in sent if one.amount_msat != FEE_MSAT]
            if all(one.status is PaymentStatus.FAILED for one in first):
                return self._change(commitment, state="reoffered", attempt=2, offer=self._owed_offer(view), cancel=())
            return self._change(commitment, cancel=tuple(one.payment_hash.hex() for one in first))
        return view

    async def accepted(
        self, round_: int, commitment: str, token: object, preimage: Secret, accepted: Signed
    ) -> SubmissionView:
        """Locked at both ends: reveal at once, for it was decided long ago."""
        view = self.views[commitment]
        if view.attempt == 1:
            return await super().accepted(round_, commitment, token, preimage, accepted)  # type: ignore[arg-type]  # passed on
        said = open_signed(accepted, Accepted.tag, Accepted, signer=view.peer)
        offer = msgspec.json.decode((view.offer or accepted).body, type=Offer)
        assert said.payment_hashes == offer.reward_hashes
        statement = msgspec.json.decode(self.statements[commitment].body, type=Statement)
        sealed = tuple(
            seal(owed_preimage(commitment, index), statement.seal_to).hex() for index in range(len(offer.amounts_msat))
        )
        return self._change(commitment, state="scored", sealed_preimages=sealed)

    def _owed_offer(self, view: SubmissionView) -> Signed:
        first = msgspec.json.decode((view.offer or view.terms).body, type=Offer)  # type: ignore[attr-defined]  # always there
        return ATTESTOR.sign(
            Offer.tag,
            msgspec.structs.replace(
                first, attempt=2, amounts_msat=self.amounts, lock_by_ms=now_ms() + 60_000,
                reward_hashes=tuple(
                    hashlib.sha256(owed_preimage(view.commitment, index)).hexdigest()
                    for index in range(len(self.amounts))
                ),
            ),
        )  # fmt: skip


def owed_preimage(commitment: str, index: int) -> bytes:
    """The oracle's, for one rung of the second offer."""
    return hashlib.sha256(f"second {commitment}{index}".encode()).digest()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A coordinator that decides too late, and a peer, joined by one channel."""
    async with (
        await Simulation.start(tmp_path / "lnd") as simulation,
        staged(simulation, tmp_path / "peer", plays=Late) as stage,
    ):
        yield stage


async def paid_once(stage: Stage) -> None:
    """The owed rungs settled at the peer's node, the whole first ladder back, one line that says so, no debt left."""
    assert await stage.rewards() == {InvoiceState.SETTLED: OWED, InvoiceState.CANCELED: 63 * UNIT_MSAT}
    (outcome,) = stage.outcomes()
    assert (outcome.verdict, outcome.reward_msat, outcome.owed_msat) == ("accepted", OWED, 0)
    assert await stage.fees_paid_msat() == FEE_MSAT


async def test_what_is_owed_is_collected_through_the_new_offer(stage: Stage) -> None:
    """The first ladder is given back at once, the second is made, locked, revealed and settled."""
    await stage.run(**FAST)
    await paid_once(stage)


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
async def test_a_peer_killed_while_it_collects_collects_once(tmp_path: Path, after: bool) -> None:
    """Killed at each call from the decision on, the next start has the money, and no rung is made twice."""
    async with await Simulation.start(tmp_path / "lnd") as simulation:
        for dies_at in itertools.count(14, 2):
            async with staged(
                simulation,
                tmp_path / str(dies_at),
                peer=f"peer{dies_at}",
                coordinator=f"coordinator{dies_at}",
                plays=Late,
            ) as stage:
                try:
                    await stage.run(dies_at=dies_at, after=after, **FAST)
                except Killed:
                    await stage.run(**FAST)
                    await paid_once(stage)
                else:
                    assert dies_at > 30
                    return


async def test_on_the_coordinators_word_alone_no_earned_rung_is_given_up(stage: Stage) -> None:
    """The attestor is silent: what the coordinator calls owed may have been revealed, so the earned rungs stay."""
    stage.coordinator = coordinator = Late(stage.ours, seconds=1.5)
    coordinator.open_round(1)
    coordinator.attestor_silent = True
    await stage.run(**SHORT)
    assert await stage.rewards() == {InvoiceState.ACCEPTED: OWED, InvoiceState.CANCELED: 63 * UNIT_MSAT - OWED}
    (outcome,) = stage.outcomes()
    assert (outcome.reward_msat, outcome.owed_msat) == (0, OWED)


async def test_first_preimages_that_come_after_all_are_collected(stage: Stage) -> None:
    """They had been kept from the peer: the rungs that it did not give up are settled, whatever was called owed."""
    stage.coordinator = coordinator = Late(stage.ours, seconds=1.5)
    coordinator.open_round(1)
    coordinator.attestor_silent = True
    await stage.run(**SHORT)
    (commitment,) = coordinator.views
    statement = msgspec.json.decode(coordinator.statements[commitment].body, type=Statement)
    sealed = tuple(
        seal(coordinators.preimage(commitment, index), statement.seal_to).hex()
        for index in range(6)
        if ACCEPTED_UNITS >> index & 1
    )
    coordinator.attestor_silent = False
    coordinator._change(commitment, sealed_preimages=sealed)
    await stage.run(**FAST)
    assert (await stage.rewards())[InvoiceState.SETTLED] == OWED


@pytest.mark.parametrize("amounts", [tuple(RUNGS[:-1]), tuple(UNIT_MSAT << index for index in range(6)), (1, 2, 3)])
async def test_an_offer_of_less_than_the_receipt_says_is_not_taken(stage: Stage, amounts: tuple[int, ...]) -> None:
    """Signed by the attestor or not: what is owed is what the receipt says, and no invoice is made for anything else."""
    assert isinstance(stage.coordinator, Late)
    stage.coordinator.amounts = amounts
    await stage.run(**SHORT)
    assert await stage.rewards() == {InvoiceState.CANCELED: 63 * UNIT_MSAT}
    journal = Journal(stage.folder / "journal.sqlite3")
    assert [attempt.round for attempt in journal.owing()] == [1]
    journal.close()
