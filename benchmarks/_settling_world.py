"""The load on the settler: gateway, attestor, invoicer and peers, played by this program on real connections."""

import asyncio
import contextlib
import hashlib
import os
import time
from typing import Any

import msgspec
from _history import RUNGS
from _processes import seconds_of
from _settling_ladders import ATTESTOR, Ladder, precomputed, sha
from l402core.bus import Bus
from l402core.documents import ObjectRef, Offer, Statement, Terms
from l402core.errors import L402Error
from l402core.events import (
    CheckpointPublished,
    EscrowSettled,
    FeeSettled,
    OfferMade,
    ReadRound,
    ReadSubmission,
    RegisterLocks,
    RoundView,
    SubmissionOpen,
    SubmissionView,
)
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState
from l402core.secret import Secret
from l402core.signing import SigningKey

SEEN_S = 5.0
"""Within these the settler looks at its channels: it sells nothing while the last round's slots are not seen free again."""
PATIENCE_S = 60.0


class World:
    """The processes, and this program's connections to them."""

    def __init__(self, bus: Bus, nodes: list[GrpcNode], hub: GrpcNode, pubkeys: list[str], *, per_node: int) -> None:
        self.bus, self.nodes, self.hub, self.pubkeys = bus, nodes, hub, pubkeys
        self.pids: dict[str, int] = {}
        """Of the processes whose time is told."""
        self.reconcile_s = 0.0
        """What comparing the past with a node's lists took."""
        self.peers = [SigningKey(hashlib.sha256(b"peer %d" % n).digest()) for n in range(len(nodes) * per_node)]
        self.waiting: dict[str, Ladder] = {}
        self.round = 0
        self.known: dict[str, Any] = {}
        """All nodes by name, as `nodes.json` tells of them."""
        self.ends: list[dict[str, Any]] = []
        """The payout nodes of them."""
        self.all_posted = asyncio.Event()

    async def hear(self, _subject: str, body: bytes) -> None:
        """Count posted rungs: the event is said in the transaction that posts."""
        event = msgspec.json.decode(body, type=EscrowSettled)
        ladder = self.waiting.get(event.commitment)
        if ladder is None:
            return
        ladder.posted += 1
        if ladder.posted == RUNGS:
            ladder.done_s = time.perf_counter()
            del self.waiting[event.commitment]
            if not self.waiting:
                self.all_posted.set()

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds of each process so far, this one under `load`."""
        return {name: seconds_of([pid]) for name, pid in (self.pids | {"load": os.getpid()}).items()}

    async def wave(self) -> list[Ladder]:
        """A new round with every place taken and every ladder locked. Not timed."""
        self.round += 1
        await asyncio.sleep(SEEN_S)
        terms = await self._open_round()
        ladders = await _gather(24, [self._opened(terms, number) for number in range(len(self.peers))])
        await _gather(8, [self._locked(terms, ladder) for ladder in ladders])
        await _until(self._uploads_are_open, "uploads open")
        for ladder in ladders:
            await _until(lambda one=ladder: self._flies(one), "a ladder in flight")
        return ladders

    async def _open_round(self) -> Terms:
        base = ObjectRef(uri="file:///none", sha256=sha(f"checkpoint {self.round}"), size=1)
        await self.bus.publish(
            CheckpointPublished(
                id="c", occurred_at_ms=0, round=self.round, checkpoint=base, parent="", model_id="aa" * 32,
                seed_commitment="bb" * 32, reference_previous=0, held_out_before=0, held_out_after=0, accepted=(),
            )
        )  # fmt: skip
        await _until(self._round_is_open, "the round open")
        view = await self.bus.ask(ReadRound(round=self.round), RoundView, timeout_s=PATIENCE_S)
        return msgspec.json.decode(view.terms.body, type=Terms)

    async def _round_is_open(self) -> bool:
        with contextlib.suppress(L402Error):
            return (await self.bus.ask(ReadRound(round=self.round), RoundView, timeout_s=PATIENCE_S)).available
        return False

    async def _uploads_are_open(self) -> bool:
        return (await self.bus.ask(ReadRound(round=self.round), RoundView, timeout_s=PATIENCE_S)).phase == "upload"

    async def _flies(self, ladder: Ladder) -> bool:
        view = await self.bus.ask(
            ReadSubmission(round=self.round, commitment=ladder.commitment), SubmissionView, timeout_s=PATIENCE_S
        )
        return all(rung.state == "in flight" for rung in view.rungs)

    async def _opened(self, terms: Terms, number: int) -> Ladder:
        peer, name = self.peers[number], f"{self.round}/{number}"
        ladder = precomputed(terms, peer, name, number % len(self.nodes))
        statement = Statement(
            round=self.round, checkpoint=terms.checkpoint.sha256, commitment=ladder.commitment, peer=peer.public,
            seal_to="cd" * 32, token_id=sha(f"token {name}"), terms=terms.digest(),
            payout_node=self.pubkeys[ladder.node],
        )  # fmt: skip
        fee = FeeSettled(
            id="f", occurred_at_ms=0, payment_hash=sha(f"fee {name}"), amount_msat=terms.fee_msat, settle_index=1
        )
        await self.bus.publish(fee)
        opening = SubmissionOpen(
            round=self.round, commitment=ladder.commitment, peer=peer.public, token_id=statement.token_id,
            payment_hash=fee.payment_hash, credit=False, request_hash=sha(name),
            statement=peer.sign(Statement.tag, statement),
        )  # fmt: skip
        await self.bus.ask(opening, SubmissionView, timeout_s=PATIENCE_S)
        return ladder

    async def _locked(self, terms: Terms, ladder: Ladder) -> None:
        hashes = [hashlib.sha256(preimage).digest() for preimage in ladder.preimages]
        offer = Offer(
            commitment=ladder.commitment, round=self.round, seq=1, peer=ladder.peer.public, seal_to="cd" * 32,
            terms=terms.digest(), key_id="k1", amounts_msat=terms.rung_msat(),
            reward_hashes=tuple(one.hex() for one in hashes), attempt=1, lock_by_ms=terms.lock_by_ms,
            upload_until_ms=terms.upload_until_ms, judge_by_ms=terms.judge_by_ms,
            reveal_by_height=terms.reveal_by_height, cltv_min=terms.cltv_min, cltv_max=terms.cltv_max,
        )  # fmt: skip
        signed = ATTESTOR.sign(Offer.tag, offer)
        made = OfferMade(id="o", occurred_at_ms=0, round=self.round, commitment=ladder.commitment, offer=signed)
        await self.bus.publish(made)
        node = self.nodes[ladder.node]
        invoices = [
            await node.add_hold_invoice(hash_, amount_msat=amount, memo="", expiry_s=3_600, cltv_expiry=80)
            for hash_, amount in zip(hashes, terms.rung_msat(), strict=True)
        ]
        asked = RegisterLocks(
            round=self.round, commitment=ladder.commitment, peer=ladder.peer.public,
            bolt11s=tuple(invoice.bolt11 for invoice in invoices),
        )  # fmt: skip
        while True:
            try:
                await self.bus.ask(asked, SubmissionView, timeout_s=PATIENCE_S)
                break
            except L402Error as error:
                if error.code != "offer_pending":
                    raise
                await asyncio.sleep(0.05)
        pay = {"timeout_s": 30, "fee_limit_msat": 10_000, "cltv_limit": 400}
        await asyncio.gather(*(self.hub.pay(invoice.bolt11, **pay) for invoice in invoices))
        await asyncio.gather(*(_held(node, hash_) for hash_ in hashes))

    async def ended(self, ladders: list[Ladder]) -> None:
        """Not timed: each is over. One that is frozen has posted its rungs too, but against the settler's will."""
        for ladder in ladders:
            await _until(lambda one=ladder: self._is(one, "ended"), "an escrow ended")

    async def _is(self, ladder: Ladder, state: str) -> bool:
        view = await self.bus.ask(
            ReadSubmission(round=self.round, commitment=ladder.commitment), SubmissionView, timeout_s=PATIENCE_S
        )
        return view.state == state

    async def settle(self, ladder: Ladder) -> None:
        """What is timed: accepted, uploaded, decided, collected; the end is heard in `hear`."""
        ladder.begun_s = ladder.begun_s or time.perf_counter()
        await self.bus.ask(ladder.accepted, SubmissionView, timeout_s=PATIENCE_S)
        await self.bus.ask(ladder.upload, SubmissionView, timeout_s=PATIENCE_S)
        await self.bus.publish(ladder.scored)
        node = self.nodes[ladder.node]
        await asyncio.gather(*(node.settle_invoice(Secret(preimage)) for preimage in ladder.preimages))
        ladder.collected_s = time.perf_counter()


async def settled(world: World, ladders: list[Ladder], *, at_once: int = 10_000, rate: float = 0.0) -> None:
    """Settle all of them, as many at once as allowed, or one after another at a rate; wait until the last is posted."""
    world.waiting = {one.commitment: one for one in ladders}
    world.all_posted.clear()
    started = time.perf_counter()

    async def paced(number: int, ladder: Ladder) -> None:
        if rate:
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            ladder.begun_s = started + number / rate  # when it was due: waiting for this program counts too
        await world.settle(ladder)

    await _gather(at_once, [paced(number, one) for number, one in enumerate(ladders)])
    await asyncio.wait_for(world.all_posted.wait(), 240)


async def _held(node: GrpcNode, payment_hash: bytes) -> None:
    async for invoice in node.watch_invoice(payment_hash):
        if invoice.state is InvoiceState.ACCEPTED:
            return


async def _gather(at_once: int, jobs: list[Any]) -> list[Any]:
    gate = asyncio.Semaphore(at_once)

    async def one(job: Any) -> Any:
        async with gate:
            return await job

    return list(await asyncio.gather(*(one(job) for job in jobs)))


async def _until(condition: Any, what: str) -> None:
    for _ in range(1_200):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{what}: not within a minute")
