"""How fast the settler settles: from the peer's `accepted` to six posted rungs, on SQLite and on PostgreSQL.

A real settler process, a real nats-server and lndsim, each a process of its own. This program is the load: it plays
gateway, attestor, invoicer and peers, and its processor time is told apart. Scores are precomputed: the attestor's
decision is signed before the clock starts. Ladders are opened and locked beforehand, because a channel has 483 slots.
Before all that the books of each past are compared with a node's lists as long (`_reconcile`).

With `--backend lnd` the nodes are real, there is one past, and a plain client settles as many hold invoices on the same nodes
before and after each wave of ours.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from _history import RUNGS, fill
from _plain import measure
from _reconcile import reconciled
from l402_settler.adapters.tables import outbox
from l402core import telemetry
from l402core.bus import Bus
from l402core.documents import Accepted, ObjectRef, Offer, Receipt, Statement, Terms
from l402core.errors import L402Error
from l402core.events import (
    CheckpointPublished,
    EscrowSettled,
    FeeSettled,
    GradientScored,
    OfferMade,
    ReadRound,
    ReadSubmission,
    RegisterAccepted,
    RegisterLocks,
    RegisterUpload,
    RoundView,
    SubmissionOpen,
    SubmissionView,
)
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState
from l402core.outbox import Database
from l402core.rights import USERS
from l402core.schedule import PPM
from l402core.secret import Secret
from l402core.signing import SigningKey
from l402train import credentials, keys, migration, parts, services
from l402train.folder import Folder
from l402train.lightning import backend
from l402train.process import Process
from l402train.services import Wiring

sys.path.append(str(Path(__file__).parent.parent))  # the private PostgreSQL is the tests' own
from tests.support.postgres import HOW, postgres_is_there, running_postgres
from tests.support.runs import KEY, terms

MASK = (1 << RUNGS) - 1
REFERENCE = 10_000_000
"""Nano-nats; any that the terms allow, with a drop so far above it that the whole ladder is earned."""
PER_NODE = 75
"""Ladders per node at a time: 450 of a channel's 483 slots."""
GOAL_RATIO = 0.8
"""Of what the plain client settles on the same nodes."""
GOAL_RATE, GOAL_P99_S, GOAL_RECONCILE_S = 100.0, 1.0, 60.0
SETTLER, ATTESTOR = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
TICKS = os.sysconf("SC_CLK_TCK")
SEEN_S = 5.0
"""Within these the settler looks at its channels: it sells nothing while the last round's slots are not seen free again."""
PATIENCE_S = 60.0


class Ladder(msgspec.Struct):
    """One escrow that waits to be settled, and everything precomputed."""

    peer: SigningKey
    commitment: str
    preimages: list[bytes]
    node: int
    accepted: RegisterAccepted
    upload: RegisterUpload
    scored: GradientScored
    posted: int = 0
    begun_s: float = 0.0
    collected_s: float = 0.0
    """When its last rung was settled at the payee's node."""
    done_s: float = 0.0
    """When the books had it."""


class World:
    """The processes, and this program's connections to them."""

    def __init__(self, bus: Bus, nodes: list[GrpcNode], hub: GrpcNode, pubkeys: list[str], *, per_node: int) -> None:
        self.bus, self.nodes, self.hub, self.pubkeys, self.pids = bus, nodes, hub, pubkeys, dict[str, int]()
        self.peers = [SigningKey(hashlib.sha256(b"peer %d" % n).digest()) for n in range(len(nodes) * per_node)]
        self.waiting: dict[str, Ladder] = {}
        self.round = 0
        self.known: dict[str, Any] = {}
        self.ends: list[dict[str, Any]] = []
        """All nodes by name, and the payout nodes, as `nodes.json` tells of them."""
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
        base = ObjectRef(uri="file:///none", sha256=_sha(f"checkpoint {self.round}"), size=1)
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
        ladder = _precomputed(terms, peer, name, number % len(self.nodes))
        statement = Statement(
            round=self.round, checkpoint=terms.checkpoint.sha256, commitment=ladder.commitment, peer=peer.public,
            seal_to="cd" * 32, token_id=_sha(f"token {name}"), terms=terms.digest(),
            payout_node=self.pubkeys[ladder.node],
        )  # fmt: skip
        fee = FeeSettled(
            id="f", occurred_at_ms=0, payment_hash=_sha(f"fee {name}"), amount_msat=terms.fee_msat, settle_index=1
        )
        await self.bus.publish(fee)
        opening = SubmissionOpen(
            round=self.round, commitment=ladder.commitment, peer=peer.public, token_id=statement.token_id,
            payment_hash=fee.payment_hash, credit=False, request_hash=_sha(name),
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


def _precomputed(terms: Terms, peer: SigningKey, name: str, node: int) -> Ladder:
    commitment = _sha(name)
    preimages = [hashlib.sha256(f"{name} {rung}".encode()).digest() for rung in range(RUNGS)]
    hashes = tuple(hashlib.sha256(one).hexdigest() for one in preimages)
    claim = Accepted(
        commitment=commitment, round=terms.round, peer=peer.public, payment_hashes=hashes, expiry_heights=(400,) * RUNGS
    )
    receipt = Receipt(
        commitment=commitment, round=terms.round, peer=peer.public, verdict="accepted", reasons=(), checks=(),
        checkpoint="", payload_hash="", content_key="", terms=terms.digest(), seed="", root="", shards=(), eval_tokens=0,
        drop_mean=10 * REFERENCE, drop_low=1, drop_high=20 * REFERENCE, reference=REFERENCE,
        floor=REFERENCE * terms.phi_ppm // PPM, quality_ppm=terms.quality_cap_ppm, units=sum(terms.rungs), mask=MASK,
        reward_msat=terms.ladder_msat(), model_id="", losses=None, previous="",
    )  # fmt: skip
    return Ladder(
        peer=peer, commitment=commitment, preimages=preimages, node=node,
        accepted=RegisterAccepted(
            round=terms.round, commitment=commitment, peer=peer.public, accepted=peer.sign(Accepted.tag, claim)
        ),
        upload=RegisterUpload(
            round=terms.round, commitment=commitment, peer=peer.public,
            payload=ObjectRef(uri="file:///p", sha256=_sha(f"payload {name}"), size=9),
        ),
        scored=GradientScored(
            id="s", occurred_at_ms=0, round=terms.round, commitment=commitment, peer=peer.public, mask=MASK,
            reward_msat=terms.ladder_msat(), verdict="accepted", reasons=(), sealed_preimages=("00" * 80,) * RUNGS,
            receipt=ATTESTOR.sign(Receipt.tag, receipt),
        ),
    )  # fmt: skip


# --- the run ---------------------------------------------------------------------------------------------------------


async def main() -> None:
    """Each database with a short and a long past; a table."""
    asked = arguments()
    telemetry.setup("load", trace_file=None, log_level="ERROR")
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    if asked.backend == "lnd":
        await beside_plain(asked)
        print(f"load at the end {os.getloadavg()[0]:.1f}")
        return
    pasts = [int(one) for one in asked.history.split(",")]
    rows = [await measured("SQLite", None, past, asked) for past in pasts if "sqlite" in asked.books]
    if "postgresql" not in asked.books:
        pass
    elif postgres_is_there():
        with running_postgres(durable=True) as server:
            rows += [await measured("PostgreSQL", server.make("l402_settler"), past, asked) for past in pasts]
    else:
        print(f"PostgreSQL is left out: {HOW}")
    print("\n" + "\n".join(table(rows)))
    print(
        f"\ngoals: {GOAL_RATE:.0f} escrows per second, p99 below {GOAL_P99_S:.0f} s at half that, the same after any past;"
    )
    print(f"reconcile of 100,000 escrows in under {GOAL_RECONCILE_S:.0f} s")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def arguments() -> argparse.Namespace:
    """How much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--history", default="100,1000,10000,100000", help="ended escrows in the books before, one run each"
    )
    parser.add_argument("--books", default="sqlite,postgresql", help="which databases")
    parser.add_argument("--waves", type=int, default=1, help="full rounds at full speed, and one at half the goal")
    parser.add_argument("--nodes", type=int, default=4, help="payout nodes")
    parser.add_argument("--per-node", type=int, default=PER_NODE, help="ladders of a round for each of them")
    parser.add_argument("--backend", choices=("lndsim", "lnd"), default="lndsim", help="lnd: real nodes (make tools)")
    parser.add_argument("--lnd-dir", type=Path, help="where lnd and btcd are, if not in .tools")
    parser.add_argument("--at-once", type=int, default=48, help="ladders that this program settles at a time")
    return parser.parse_args()


async def beside_plain(asked: argparse.Namespace) -> None:
    """On real nodes, SQLite: what we settle beside the plain client just before and just after."""
    async with a_world(None, 100, asked) as world:
        hub, ends, count = world.known["coordinator"], world.ends, len(world.peers) * RUNGS
        amount_msat, waves = 1_050_000, list[tuple[float, float]]()
        await measure(hub, ends, count=count, amount_msat=amount_msat)  # nodes that have just started are slower
        before_s = (await measure(hub, ends, count=count, amount_msat=amount_msat))["settle"][0]
        for wave in range(1, asked.waves + 1):
            ladders = await world.wave()
            cpu, started = cpu_seconds(world), time.perf_counter()
            await settled(world, ladders, at_once=asked.at_once)
            collected_s = max(one.collected_s for one in ladders) - started
            posted_s = max(one.done_s for one in ladders) - started
            spent = {name: round(now - cpu[name], 2) for name, now in cpu_seconds(world).items()}
            await world.ended(ladders)
            after_s = (await measure(hub, ends, count=count, amount_msat=amount_msat))["settle"][0]
            waves.append((statistics.mean((before_s, after_s)), collected_s))
            print(
                f"  wave {wave}: {count} rungs settled in {collected_s:.2f} s, {count / collected_s:.0f}/s, and posted after "
                f"{posted_s:.2f} s; the plain client settles {count / before_s:.0f}/s before and {count / after_s:.0f}/s "
                f"after; processor seconds {spent}", flush=True
            )  # fmt: skip
            before_s = after_s
        ratio = statistics.median(plain_s / ours_s for plain_s, ours_s in waves)
        verdict = "reached" if ratio >= GOAL_RATIO else "MISSED"
        print(f"settle, from our `accepted` on: ours / plain, median {ratio:.1%}, goal {GOAL_RATIO:.0%}: {verdict}")
        print("(the plain client looks at the payee alone; what the payer's node has seen, the books have)")


async def measured(database: str, url: str | None, past: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One database with one past."""
    async with a_world(url, past, asked) as world:
        burst: list[Ladder] = []
        timed_s, cpu = 0.0, dict.fromkeys((*world.pids, "load"), 0.0)
        for _ in range(asked.waves):
            ladders = await world.wave()
            before, started = cpu_seconds(world), time.perf_counter()
            await settled(world, ladders, at_once=asked.at_once)
            timed_s += max(one.done_s for one in ladders) - started
            cpu = {name: cpu[name] + now - before[name] for name, now in cpu_seconds(world).items()}
            burst += ladders
            await world.ended(ladders)
        paced = await world.wave()
        await settled(world, paced, rate=GOAL_RATE / 2)
        await world.ended(paced)
    took = sorted(one.done_s - one.begun_s for one in paced)
    row = {
        "database": database, "past": past, "escrows": len(burst), "rate": len(burst) / timed_s,
        "p50": statistics.median(took), "p99": took[int(len(took) * 0.99)],
        "cpu": {name: 1000 * spent / len(burst) for name, spent in cpu.items()},
    }  # fmt: skip
    print(f"  {database}, {past:,} before: {row['rate']:.0f} escrows/s, p99 {row['p99']:.2f} s", flush=True)
    return row


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


@contextlib.asynccontextmanager
async def a_world(url: str | None, past: int, asked: argparse.Namespace) -> AsyncIterator[World]:
    """Everything started, with that past in the books; all of it ended after."""
    names = tuple(f"node-{number}" for number in range(1, asked.nodes + 1))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(Path(scratch) / "network")
        folder.create()
        base, processes = services.base_environment(), list[Process]()
        try:
            nats = parts.start_nats(folder, base)
            lightning = _start_lightning(folder, names, base, asked)
            processes += [nats, lightning]
            nats_url = await nats.until(lambda: parts.nats_url(folder, nats), deadline_s=parts.START_S)
            nodes = await lightning.until(lambda: parts.nodes(folder, lightning), deadline_s=backend.START_S)
            public = keys.write_keys(folder, keys.Keyring.from_seed(0), names)
            await credentials.bake_all(folder, nodes, ())
            books_url = url or folder.books_url
            await migration.migrate(nats_url, books_url=books_url, decisions_url=folder.decisions_url)
            database = Database(books_url, outbox)
            await asyncio.to_thread(fill, database, past, msgspec.json.encode(KEY.sign(Terms.tag, terms())).decode())
            database.close()
            print(f"  {past:,} before: reconciled {await reconciled(books_url, past)}", flush=True)
            wiring = Wiring(
                network="simnet", nats_urls=dict.fromkeys(USERS, nats_url), redis_url="", attestor_port=1, gateway_port=1,
                nodes=nodes,
                public=msgspec.structs.replace(public, attestor=ATTESTOR.public), rounds=0, expected=(), seed=0,
            )  # fmt: skip
            bus = Bus(nats_url, "load")
            ends = [connect(credentials.endpoint_of(nodes[name])) for name in names]
            hub = connect(credentials.endpoint_of(nodes["coordinator"]))
            world = World(bus, ends, hub, [nodes[name]["pubkey"] for name in names], per_node=asked.per_node)
            world.known, world.ends = nodes, [nodes[name] for name in names]
            environment = services.environment("settler", "settler", folder, wiring) | _knobs(world, books_url)
            command = (sys.executable, str(Path(__file__).with_name("_settler.py")))
            settler = Process("settler", command, folder.log("settler"), environment)
            processes.append(settler)
            url_file = folder.run / "settler.url"
            await settler.until(lambda: services.ready_at(url_file), deadline_s=services.READY_S)
            world.pids = {"settler": settler.pid, "nats": nats.pid}
            world.pids |= {"lndsim": lightning.pid} if asked.backend == "lndsim" else {}
            bus.watch((EscrowSettled.name,), world.hear)
            await bus.start()
            yield world
            await bus.stop()
            for node in (*ends, hub):
                await node.close()
        finally:
            for process in reversed(processes):
                process.ask_to_end()
                await process.ended(within_s=10)


def _start_lightning(
    folder: Folder, names: tuple[str, ...], base: dict[str, str], asked: argparse.Namespace
) -> Process:
    if asked.backend == "lndsim":
        return parts.start_lightning(folder, names, 0.0, base)
    return backend.start(folder, names, topology="star", block_seconds=0.0, lnd_dir=asked.lnd_dir, environment=base)


def _knobs(world: World, books_url: str) -> dict[str, str]:
    knobs = {
        "database_url": books_url, "places": len(world.peers), "unit_msat": 1_000, "day_cap_msat": 10**15,
        "expected_peers": json.dumps([peer.public for peer in world.peers]), "answer_wait_ms": 0, "commit_s": 3_000,
        "lock_s": 300, "upload_s": 3_000, "judge_s": 3_000, "reconcile_s": 86_400, "log_level": "WARNING",
        "slots_per_channel": 483, "payee_rungs": 100_000, "payee_exposure_msat": 10**15,
    }  # fmt: skip
    return {f"L402_SETTLER_{name.upper()}": str(value) for name, value in knobs.items()}


# --- small things ----------------------------------------------------------------------------------------------------


def cpu_seconds(world: World) -> dict[str, float]:
    """Processor seconds of each process so far, this one under `load`."""

    def of(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    return {name: of(pid) for name, pid in world.pids.items()} | {"load": of(os.getpid())}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """In Markdown."""
    head = "| books | before | escrows/s | rungs/s | p50 at half the goal, s | p99, s |"
    lines = [f"{head} settler ms | lndsim ms | NATS ms | load ms |", "|---" * 10 + "|"]
    for row in rows:
        cpu = row["cpu"]
        lines.append(
            f"| {row['database']} | {row['past']:,} | {row['rate']:.0f} | {row['rate'] * RUNGS:.0f} | {row['p50']:.2f} | "
            f"{row['p99']:.2f} | {cpu['settler']:.1f} | {cpu['lndsim']:.1f} | {cpu['nats']:.1f} | {cpu['load']:.1f} |"
        )
    return lines


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


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    asyncio.run(main())
