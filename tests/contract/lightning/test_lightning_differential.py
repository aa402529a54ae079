"""Random histories on lndsim and on real lnd side by side: answers, states and balances agree after each step."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from l402core.secret import Secret

from tests.contract.lightning.backends import a_secret
from tests.contract.lightning.killable import NAMES, RealNodes, SimProcess
from tests.contract.lightning.side_by_side import History, Made, Pair, Side

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lnd")]

EVERYDAY_SEED = 1_249_798_092
"""A change is judged by the same histories as the one before it; `make soak` looks for new ones."""
STEPS = int(os.environ.get("STEPS", "1000"))
STEPS_BETWEEN_RESTARTS = 150
STEPS_A_HISTORY = 25
INVOICES_MAX = 12
EDGE_SAT = 300_000
"""So near to its reserve an lnd that opened a channel keeps room for a dearer commitment: nothing is sent there."""
AMOUNTS_MSAT = (21_000_000, 12_345_678, 1_000, 999, 354_000, 2_100_000_000, 6_000_000_000, 0)

one_of_all = st.integers(0, INVOICES_MAX - 1)
name = st.sampled_from(NAMES)
Act = Callable[[Side], Awaitable[Any]]


class Histories(RuleBasedStateMachine):
    """What may happen, each as one step on both networks."""

    runner: ClassVar[asyncio.Runner]
    pair: ClassVar[Pair]

    @initialize()
    def begin(self) -> None:
        self.history = History(self.pair)
        self.runner.run(self.history.begin())

    def step(self, what: str, act: Act) -> None:
        note(what)
        answer = self.runner.run(self.history.step(what, act))
        note(f"    {answer}")

    def any_invoice(self, index: int) -> Made:
        return self.history.invoices[index % len(self.history.invoices)]

    @rule(payee=name, amount=st.sampled_from(AMOUNTS_MSAT), cltv=st.sampled_from((24, 40, 80, 23)), hold=st.booleans())
    @precondition(lambda self: len(self.history.invoices) < INVOICES_MAX)
    def invoice(self, payee: str, amount: int, cltv: int, *, hold: bool) -> None:
        preimage, payment_hash = a_secret()
        made = Made(f"invoice {len(self.history.invoices)}", payee, preimage if hold else None, amount, cltv)

        async def act(side: Side) -> None:
            node = side.network.nodes[payee]
            if hold:
                made.hashes[side.kind] = payment_hash
                view = await node.add_hold_invoice(
                    payment_hash, amount_msat=amount, memo="", expiry_s=3600, cltv_expiry=cltv
                )
            else:
                view = await node.add_invoice(amount_msat=amount, memo="", expiry_s=3600, cltv_expiry=cltv)
            made.hashes[side.kind], made.requests[side.kind] = view.payment_hash, view.bolt11

        self.step(f"{payee} {'holds' if hold else 'asks'} {amount} msat, {cltv} blocks: {made.label}", act)
        if made.requests:
            self.history.invoices.append(made)

    @rule(index=one_of_all, more=st.sampled_from((0, 1_000)))
    @precondition(lambda self: any(m.preimage for m in self.history.invoices) and not self.history.just("repeats"))
    def add_again(self, index: int, more: int) -> None:
        held = [made for made in self.history.invoices if made.preimage]
        made = held[index % len(held)]
        self.step(
            f"{made.payee} repeats {made.label}, {more} msat more",
            lambda side: side.network.nodes[made.payee].add_hold_invoice(
                made.hashes[side.kind],
                amount_msat=made.amount_msat + more,
                memo="",
                expiry_s=3600,
                cltv_expiry=made.cltv_expiry,
            ),
        )

    @rule(
        index=one_of_all,
        payer=name,
        fee_limit=st.sampled_from((10_000, 10_000, 0)),
        spare=st.sampled_from((400, 400, 0, 1)),
    )
    @precondition(lambda self: self.history.invoices)
    def pay(self, index: int, payer: str, fee_limit: int, spare: int) -> None:
        made = self.any_invoice(index)
        if self._at_the_edge(payer, made):
            return
        made.payers.add(payer)
        cltv_limit = made.cltv_expiry + 3 + spare
        self.step(
            f"{payer} pays {made.label}, {fee_limit} msat of fees, {cltv_limit} blocks at most",
            lambda side: side.network.nodes[payer].pay(
                made.requests[side.kind], timeout_s=600, fee_limit_msat=fee_limit, cltv_limit=cltv_limit
            ),
        )
        self.runner.run(self.pair.networks[1].forget_failures())

    @rule(index=one_of_all, payer=name)
    @precondition(lambda self: self.history.unpaid())
    def lock(self, index: int, payer: str) -> None:
        """An invoice that nobody has paid yet, without limits that matter: most of what really happens."""
        unpaid = self.history.unpaid()
        made = unpaid[index % len(unpaid)]
        self.pay(self.history.invoices.index(made), payer, 10_000, 400)

    @rule(index=one_of_all)
    @precondition(lambda self: self.history.accepted())
    def settle_held(self, index: int) -> None:
        """One that is accepted."""
        accepted = self.history.accepted()
        made = accepted[index % len(accepted)]
        self.settle([made for made in self.history.invoices if made.preimage].index(made))

    def _at_the_edge(self, payer: str, made: Made) -> bool:
        """Whether a channel on the way could carry it by little, or lacks little."""
        return self.runner.run(_near(self.pair, payer, made))

    @rule(index=one_of_all)
    @precondition(lambda self: any(made.preimage for made in self.history.invoices))
    def settle(self, index: int) -> None:
        held = [made for made in self.history.invoices if made.preimage]
        made = held[index % len(held)]
        assert made.preimage is not None
        preimage = made.preimage
        self.step(
            f"{made.payee} settles {made.label}",
            lambda side: side.network.nodes[made.payee].settle_invoice(Secret(preimage)),
        )

    @rule(index=one_of_all)
    @precondition(lambda self: self.history.invoices and not self.history.just("cancels"))
    def cancel(self, index: int) -> None:
        made = self.any_invoice(index)
        self.step(
            f"{made.payee} cancels {made.label}",
            lambda side: side.network.nodes[made.payee].cancel_invoice(made.hashes[side.kind]),
        )

    @rule(index=one_of_all, who=name)
    @precondition(lambda self: self.history.invoices and not self.history.just("cancels"))
    def cancel_anothers(self, index: int, who: str) -> None:
        made = self.any_invoice(index)
        if who != made.payee:
            self.step(
                f"{who} cancels {made.payee}'s {made.label}",
                lambda side: side.network.nodes[who].cancel_invoice(made.hashes[side.kind]),
            )

    @rule(blocks=st.integers(1, 12))
    @precondition(lambda self: self.history.paid() and not self.history.just("mined"))
    def mine(self, blocks: int) -> None:
        self.runner.run(self.history.settle_heights(blocks))
        self.step(f"mined {blocks} blocks", lambda side: side.network.nodes["alice"].lookup_invoice(bytes(32)))

    @rule(who=name)
    @precondition(lambda self: self.pair.steps >= STEPS_BETWEEN_RESTARTS * (self.pair.restarts + 1))
    def restart(self, who: str) -> None:
        self.pair.restarts += 1

        async def act(side: Side) -> None:
            await side.network.kill(who)
            await side.network.revive(who)

        self.step(f"{who} is killed and starts again", act)

    def teardown(self) -> None:
        self.runner.run(self.history.end())


async def _near(pair: Pair, payer: str, made: Made) -> bool:
    start, end = NAMES.index(payer), NAMES.index(made.payee)
    hops = range(start, end, 1 if end > start else -1)
    for hop in hops:
        peer = NAMES[hop + (1 if end > start else -1)]
        network = pair.networks[0]
        to = (await network.nodes[peer].info()).pubkey
        for channel in await network.nodes[NAMES[hop]].channels():
            if channel.remote_pubkey == to:
                spare = (channel.local_msat - channel.capacity_msat // 100 - made.amount_msat) // 1_000
                if abs(spare) < EDGE_SAT:
                    return True
    return False


@pytest.mark.timeout(0)  # `STEPS` says how long it takes
def test_lndsim_and_lnd_tell_the_same_history(
    runner: asyncio.Runner,
    sim_process: SimProcess,
    real_nodes: RealNodes,
    record_property: Callable[[str, object], None],
) -> None:
    """Whatever is done, both answer the same, and come to the same states, balances and HTLCs in flight."""
    played = Pair(sim_process, real_nodes)
    Histories.runner, Histories.pair = runner, played
    first = int(os.environ.get("SEED", EVERYDAY_SEED))
    record_property("seed", first)
    began = time.monotonic()
    batch = 0
    while played.steps < STEPS:
        machine = seed(first + batch)(type("Histories", (Histories,), {}))
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=4,
                stateful_step_count=STEPS_A_HISTORY,
                deadline=None,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
                report_multiple_bugs=False,
            ),
        )
        batch += 1
    told = f"{played.histories} histories, {played.steps} steps, {played.restarts} kills"
    record_property("played", f"{told} in {time.monotonic() - began:.0f} s (SEED={first}): {played.by_rule}")
    record_property("covered", f"lndsim and real lnd side by side: {told}; more by `make soak`")
    assert played.steps >= STEPS
