"""A payer killed between noting an attempt and sending it: lnd never ends that payment, so the settler's books do."""

import asyncio
import secrets
from pathlib import Path

import pytest
from l402_settler.watch import Watch
from l402core.events import CreditIssued, Reconcile
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.lnd.stranded import MARGIN_BLOCKS, is_past

from tests.contract.lightning.killable import Killable, SimProcess
from tests.contract.lightning.test_lightning_invoices import hold
from tests.contract.lightning.test_lightning_payments import ended, pay
from tests.contract.lightning.test_lightning_restarts import killed_during, unsure
from tests.support.settler import Stage, sha

KILLS = 40
"""Of a real lnd, until a ladder has a rung that it noted and never sent: about one kill in two does it."""
SETTLED_S = 3.0
"""So long after its start lnd has looked again at what was in flight."""
CLTV = 40

pytestmark = pytest.mark.timeout(600)


def test_a_rung_that_a_killed_payer_noted_and_never_sent_comes_to_an_end(
    killable: Killable, runner: asyncio.Runner, tmp_path: Path
) -> None:
    """In flight for lnd through restarts and past its expiry, over in the books once it has expired, and reconciled."""
    runner.run(_comes_to_an_end(killable, Stage(tmp_path)))


async def _comes_to_an_end(network: Killable, stage: Stage) -> None:
    alice = network.nodes["alice"]
    await stage.open_round()
    name, rungs = await stranded_ladder(network)
    await stage.desk.open(stage.opening(name))
    await stage.fee(name)
    await stage.settler.on_offer(stage.offer(name))
    await stage.desk.register_locks(stage.locks(name))
    watch = Watch(stage.office, alice)
    await watch.look()
    await watch._look_at_open_rungs()
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    held = stage.terms().rung_msat()
    assert await stage.pending_msat() == sum(held[rung] for rung in rungs)
    await network.mine(CLTV + MARGIN_BLOCKS + 10)
    if not isinstance(network, SimProcess):
        await network.kill("alice")
        await network.revive("alice")
    await until_past(alice, watch, name, rungs)
    await watch._look_at_open_rungs()
    assert await stage.pending_msat() == 0
    assert len(stage.said(CreditIssued)) == 1
    for rung in rungs:
        view = await alice.lookup_payment(hash_of(name, rung))
        assert view is not None
        assert view.status is PaymentStatus.IN_FLIGHT  # what we worked around is still there
    again = await watch.reconcile(Reconcile())
    mine = {sha(f"rung {name} {index}") for index in range(6)}
    assert [one for one in again.differences if one.payment_hash in mine] == []
    stage.database.close()


async def stranded_ladder(network: Killable) -> tuple[str, list[int]]:
    """A ladder's name, and which of its rungs alice has noted and never sent.

    The others have come back whole: with an HTLC still on its way, blocks beyond its expiry would close the channel.
    """
    for _ in range(KILLS):
        name = secrets.token_hex(8)
        alice, bob = network.nodes["alice"], network.nodes["bob"]
        asked = [(await hold(bob, hash_of(name, index), cltv_expiry=CLTV)).bolt11 for index in range(6)]

        async def calls(asked: list[str] = asked, alice: GrpcNode = alice) -> object:
            return await asyncio.gather(*(unsure(pay(alice, one)) for one in asked))

        if isinstance(network, SimProcess):
            await network.set_stranding("alice", True)
            await calls()
            await network.kill("alice")
            await network.revive("alice")
        else:
            await killed_during(network, "alice", calls, 0.05 + 0.01 * secrets.randbelow(4))
            await asyncio.sleep(SETTLED_S)
        stranded = [index for index in range(6) if await is_stranded(alice, bob, hash_of(name, index))]
        if isinstance(network, SimProcess):
            await network.set_stranding("alice", False)
        for index in set(range(6)) - set(stranded):
            await bob.cancel_invoice(hash_of(name, index))
            if await alice.lookup_payment(hash_of(name, index)) is not None:
                await ended(alice, hash_of(name, index))
        if stranded:
            return name, stranded
    raise AssertionError(f"{KILLS} kills left no payment that was noted and never sent")


async def is_stranded(payer: GrpcNode, payee: GrpcNode, payment_hash: bytes) -> bool:
    """In flight for the payer, in none of its channels, and never heard of by the payee."""
    view, invoice = await payer.lookup_payment(payment_hash), await payee.lookup_invoice(payment_hash)
    out = [held for channel in await payer.channels() for held in channel.pending_out_hashes]
    assert invoice is not None
    return (
        view is not None
        and view.status is PaymentStatus.IN_FLIGHT
        and bool(view.htlc_expiry_heights)
        and payment_hash not in out
        and invoice.state is InvoiceState.OPEN
    )


async def until_past(payer: GrpcNode, watch: Watch, name: str, rungs: list[int]) -> None:
    """Until the payer has seen the blocks, and the settler looked at it."""
    async with asyncio.timeout(60):
        while True:
            height = (await payer.info()).block_height
            views = [await payer.lookup_payment(hash_of(name, rung)) for rung in rungs]
            if all(view is not None and is_past(view, height) for view in views):
                break
            await asyncio.sleep(0.2)
        while watch._office.sight.height < height:
            await watch.look()


def hash_of(name: str, index: int) -> bytes:
    """A rung's, whose preimage nobody knows."""
    return bytes.fromhex(sha(f"rung {name} {index}"))
