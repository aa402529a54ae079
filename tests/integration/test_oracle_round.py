"""Both roles as processes on a real bus: a real gradient is screened, measured, decided, revealed and applied."""

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
import torch
from l402_oracle.attestor.app import CONSUMERS as ATTESTOR_CONSUMERS
from l402_oracle.derive import seed_commitment
from l402_oracle.worker.app import CONSUMERS as WORKER_CONSUMERS
from l402core import bus as buses
from l402core.bus import Bus
from l402core.delivering import Consumer
from l402core.documents import Locked, Offer, Receipt, Recipe, RoundRoot, Terms, commitment_of, mask_indices
from l402core.errors import PeerError
from l402core.events import (
    CheckpointPublished,
    CommitsClosed,
    EscrowLocked,
    Event,
    GradientScored,
    GradientUploaded,
    OfferMade,
    OfferMake,
    RoundAssessed,
    RoundClosed,
    RoundOpened,
    SubmissionEvent,
)
from l402core.evidence import JudgedRound, Yardstick
from l402core.objects import FileStore
from l402core.schema import upgrade
from l402core.sealing import UnsealingKey, seal_payload, unseal_payload
from l402core.signing import Signed, SigningKey, open_signed
from l402train import auditing, credentials, parts, replaying
from l402train.folder import Folder
from l402train.keys import Keyring, write_keys
from l402train.neighbours import Neighbours
from l402train.process import Process
from l402train.verifying import Finding, Opened
from sparseloco.codec import compress
from sparseloco.data import load_corpus, train_batches, train_shard
from sparseloco.model import GPTShape, load_checkpoint
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import Binding, pack

from tests.support import wire
from tests.support.secrets_scan import Needles

SHAPE = GPTShape()  # in a much smaller one honest updates are as alike as copies
SPEC = SHAPE.spec()
SKETCH = b"SLSK"
"""What a sketch begins with that anybody can read."""
PATIENCE_S = 60.0
T = TypeVar("T")
WATCHED = (CheckpointPublished, OfferMade, RoundAssessed, GradientScored)
PEERS = {name: SigningKey(hashlib.sha256(name.encode()).digest()) for name in ("ann", "bob")}


@dataclass
class Network:
    """What the test needs of the running parts."""

    bus: Bus
    heard: list[Event]
    store: FileStore
    objects: Path
    folder: Folder
    settler: SigningKey
    reading: str
    reads_with: UnsealingKey
    attestor: str
    attestor_url: str
    processes: dict[str, Process]

    async def get(self, path: str) -> httpx.Response:
        """From the attestor's own URL."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"{self.attestor_url}/v1/{path}")

    async def wait_for(self, kind: type[T], holds: Callable[[T], bool] = lambda _: True) -> T:
        """The first event of a kind for which it holds."""
        ends_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends_at:
            for event in self.heard:
                if isinstance(event, kind) and holds(event):
                    return event
            for process in self.processes.values():
                assert process.returncode is None, process.tail()
            await asyncio.sleep(0.05)
        raise AssertionError("\n".join([f"no {kind.__name__}", *(p.tail() for p in self.processes.values())]))


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    """NATS, a Lightning observer, one attestor and two workers."""
    async with _running(tmp_path / "net") as running:
        yield running


@asynccontextmanager
async def _running(root: Path) -> AsyncIterator[Network]:
    folder, ring = Folder(root), Keyring.from_seed(7)
    folder.create()
    public = write_keys(folder, ring, ())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    async with AsyncExitStack() as stack:
        processes: dict[str, Process] = {}

        def keep(process: Process) -> Process:
            processes[process.name] = process
            stack.push_async_callback(_end, process)
            return process

        nats = keep(parts.start_nats(folder, environment, overheard=True))
        lightning = keep(parts.start_lightning(folder, ("nobody",), 600.0, environment))
        nats_url = await nats.until(lambda: parts.nats_url(folder, nats), deadline_s=PATIENCE_S)
        nodes = await lightning.until(lambda: parts.nodes(folder, lightning), deadline_s=PATIENCE_S)
        await credentials.bake_all(folder, nodes, ())
        watchers = tuple(Consumer("stand-in", event) for event in WATCHED)
        await buses.migrate(nats_url, ATTESTOR_CONSUMERS + WORKER_CONSUMERS + watchers)
        upgrade(folder.decisions_url, "l402_oracle")
        settings = {
            "NATS_URL": nats_url, "OBJECTS_URL": f"file://{folder.objects}", "DATABASE_URL": folder.decisions_url,
            "SETTLER_PUBLIC": public.settler,
            "LND_HOST": nodes[parts.OBSERVER]["host"], "LND_TLS_CERT": nodes[parts.OBSERVER]["tls_cert"],
            "LND_MACAROON": str(credentials.macaroon_of(folder, "attestor")), "TICK_S": "0.2",
        }  # fmt: skip
        for name in ("attestor", "worker-1", "worker-2"):
            role = name.split("-", maxsplit=1)[0]
            own = {**settings, "DATA_DIR": str(folder.run / name), "KEY_FILE": str(folder.keys / f"{role}.json")}
            told = {f"L402_{role.upper()}_{key}": value for key, value in own.items()}
            command = [sys.executable, "-m", "l402_oracle", role]
            keep(Process(name, command, folder.log(name), {**environment, **told}))
        attestor_url = ""
        for name in ("worker-2", "worker-1", "attestor"):
            file = folder.run / name / f"{name.split('-', maxsplit=1)[0]}.url"
            attestor_url = await processes[name].until(partial(_ready, file), deadline_s=PATIENCE_S)
        heard: list[Event] = []
        bus = Bus(nats_url, "stand-in")

        async def listen(event: Event) -> None:
            heard.append(event)

        for consumer in watchers:
            bus.consume(consumer, listen)
        await bus.start()
        stack.push_async_callback(bus.stop)
        yield Network(
            bus=bus, heard=heard, store=FileStore(folder.objects), objects=folder.objects, folder=folder,
            settler=SigningKey(ring.secret("settler/signing")),
            reading=public.reading, reads_with=UnsealingKey(ring.secret("worker/reading")),
            attestor=public.attestor, attestor_url=attestor_url, processes=processes,
        )  # fmt: skip


def about(commitment: str) -> Callable[[SubmissionEvent], bool]:
    """Whether an event is about this submission."""
    return lambda event: event.commitment == commitment


async def _end(process: Process) -> None:
    process.ask_to_end()
    await process.ended(within_s=10)


def _ready(file: Path) -> str | None:
    try:
        url = file.read_text()
        return url if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200 else None
    except (OSError, httpx.HTTPError):
        return None


def _terms(network: Network, base: CheckpointPublished, now_ms: int) -> Terms:
    return Terms(
        network="simnet", round=base.round, checkpoint=base.checkpoint, model_id=base.model_id,
        seed_commitment=base.seed_commitment, opened_at_ms=now_ms, commit_until_ms=now_ms + 10_000,
        lock_by_ms=now_ms + 20_000, upload_until_ms=now_ms + 30_000, judge_by_ms=now_ms + 120_000,
        reveal_by_height=10_000_000, fee_msat=500_000, unit_msat=100_000, places=8, budget_msat=50_400_000,
        phi_ppm=600_000, reference_previous=base.reference_previous, eval_tokens=32_768, cltv_min=60, cltv_max=200,
        invoice_expiry_min_s=600, payload_max_bytes=1 << 24, expected_peers=(), settler=network.settler.public,
        attestor=network.attestor, attestor_url=network.attestor_url, reading_key=network.reading,
        yardstick=base.yardstick, recipe=Recipe(
            inner_steps=10, batch=8, sequence_length=128, learning_rate_ppm=2_000, feedback_decay_ppm=950_000,
            outer_rate_ppm=1_000_000, chunk_k=64,
        ),
    )  # fmt: skip


async def _gradient(network: Network, name: str, base: CheckpointPublished) -> bytes:
    """Ten real inner steps, sealed to the reading key."""
    _, theta = load_checkpoint(await network.store.get(base.checkpoint), SPEC)
    batches = train_batches(train_shard(load_corpus(), name.encode()), name.encode(), base.round, 10)
    delta = inner_steps(theta, batches, AdamState.fresh(SPEC.numel), shape=SHAPE).delta
    sparse, _ = compress(delta, torch.zeros(SPEC.numel), SPEC)
    binding = Binding(base.round, bytes.fromhex(base.checkpoint.sha256), bytes.fromhex(PEERS[name].public), 64)
    return seal_payload(pack(sparse, SPEC, binding), network.reading, hashlib.sha256(name.encode()).digest())


def _audited(network: Network, commitment: str) -> None:
    """From the oracle's own URL and public objects, a stranger finds every loss again; and a lie about one drop."""
    wanted = auditing.Wanted(
        source=f"{network.attestor_url}/v1/receipts/{commitment}", settler=network.settler.public,
        attestor=network.attestor, objects=str(network.objects), whole_round=True, rerun=True, device="cpu",
    )  # fmt: skip
    evidence, get = auditing.read_evidence(wanted.source, whole_round=True), auditing.objects_of(wanted)
    found = auditing.audit(evidence, wanted, get)
    findings = [*found.round, *(one for each in found.receipts.values() for one in each)]
    open_ends = [one.check for one in findings if one.agrees is not True]
    assert open_ends == ["the next checkpoint again"]  # no terms of a second round name it
    assert len(found.receipts) == len(PEERS)
    again_too = {"every loss after the update", "the yardstick trained again", "the yardstick measured again"}
    assert again_too <= {one.check for one in findings}
    terms = msgspec.json.decode(evidence.terms.body, type=Terms)
    receipt = msgspec.json.decode(evidence.receipts[0].body, type=Receipt)
    judged = msgspec.json.decode(evidence.judged.body, type=JudgedRound)
    page = msgspec.structs.replace(judged, yardstick=None)  # it is trained again above
    lie = msgspec.structs.replace(receipt, drop_mean=receipt.drop_mean + 1)
    again, _ = _again(terms, page, lie, get)
    assert [one.check for one in again[commitment] if not one.agrees] == ["measured again"]
    elsewhere = msgspec.structs.replace(receipt.conditions, hardware="cuda of another kind", dtype="bfloat16")
    for off, agrees in ((400_000, True), (600_000, False)):
        other = msgspec.structs.replace(receipt, conditions=elsewhere, drop_mean=receipt.drop_mean + off)
        again, _ = _again(terms, page, other, get)
        assert [one.agrees for one in again[commitment]] == [agrees]


def _kept_shut(network: Network, commitment: str) -> None:
    """Whoever overhears the bus and reads the store opens no payload before it is decided, and anybody does afterwards."""
    evidence = auditing.read_evidence(f"{network.attestor_url}/v1/receipts/{commitment}", whole_round=True)
    receipts = [msgspec.json.decode(signed.body, type=Receipt) for signed in evidence.receipts]
    page = msgspec.json.decode(evidence.judged.body, type=JudgedRound)
    assert page.yardstick is not None
    keys = {one.commitment: bytes.fromhex(one.content_key) for one in receipts}
    needles = Needles({**keys, "the yardstick": bytes.fromhex(page.yardstick.content_key)})
    assert len(keys) == len(PEERS)
    before = wire.said_before(network.folder, "gradient.scored.v1")
    for subject in (b"gradient.screened.v1", b"yardstick.made.v1", b"gradient.measure.v1"):
        assert b"PUB " + subject in before
    assert needles.found_in(before) == set()
    kept = b"".join(path.read_bytes() for path in network.objects.rglob("*") if path.is_file())
    assert needles.found_in(kept) == set()
    assert SKETCH not in kept
    memory = _memory_left(network, page.yardstick)
    assert not [part for part in memory if part in kept or part in wire.said(network.folder)]
    assert needles.found_in(wire.said(network.folder)) >= set(keys)


def _memory_left(network: Network, own: Yardstick) -> list[bytes]:
    """Pieces of what the yardstick's training leaves for the next round, which only its workers open until that is judged."""
    opened = []
    for path in network.objects.rglob("*"):
        if path.is_file():
            with contextlib.suppress(PeerError):
                opened.append(unseal_payload(path.read_bytes(), network.reads_with))
    ((state, key),) = [one for one in opened if hashlib.sha256(one[0]).hexdigest() == own.next_state]
    assert key.hex() != own.content_key
    pieces = [state[at : at + 64] for at in range(8, len(state) - 64, len(state) // 64)]
    found = [piece for piece in pieces if len(set(piece)) > 32]
    assert len(found) > 16
    return found


def _again(
    terms: Terms, page: JudgedRound, receipt: Receipt, get: auditing.Get
) -> tuple[dict[str, list[Finding]], object]:
    signed = Signed(body="", signer="", signature="")
    found = Opened(terms=terms, judged=page, receipts=((receipt, signed),))
    beside = Neighbours(found, lambda _number: None)
    return replaying.replayed(found, beside, get, device="cpu", whole_round=False)


async def test_a_real_gradient_is_judged_paid_and_applied(network: Network) -> None:
    """From the first checkpoint to the second, with preimages that only the peer can open."""
    base = await network.wait_for(CheckpointPublished)
    now_ms = time.time_ns() // 1_000_000
    terms = network.settler.sign(Terms.tag, _terms(network, base, now_ms))
    await network.bus.publish(RoundOpened(id="s", occurred_at_ms=now_ms, round=1, terms=terms))
    sealing = {name: UnsealingKey(hashlib.sha256(f"seal {name}".encode()).digest()) for name in PEERS}
    payloads = {name: await network.store.put(await _gradient(network, name, base)) for name in PEERS}
    names = {
        name: commitment_of(
            payload_hash=payloads[name].sha256, peer=key.public, round_=1, checkpoint=base.checkpoint.sha256,
            nonce="00" * 32,
        )
        for name, key in PEERS.items()
    }  # fmt: skip
    common: dict[str, Any] = {"id": "s", "occurred_at_ms": now_ms, "round": 1}
    offers: dict[str, Offer] = {}
    for seq, (name, c) in enumerate(names.items()):
        await network.bus.publish(
            OfferMake(
                **common, commitment=c, peer=PEERS[name].public, seal_to=sealing[name].public, seq=seq, terms=terms,
                attempt=1,
            )
        )  # fmt: skip
        made = await network.wait_for(OfferMade, about(c))
        offers[name] = open_signed(made.offer, Offer.tag, Offer, signer=network.attestor)
    root = network.settler.sign(RoundRoot.tag, RoundRoot(round=1, commitments=tuple(names.values())))
    await network.bus.publish(CommitsClosed(**common, root=root))
    for name, c in names.items():
        word = Locked(
            commitment=c, round=1, peer=PEERS[name].public, payment_hashes=offers[name].reward_hashes,
            expiry_height=10_000_000, locked_at_ms=now_ms,
        )  # fmt: skip
        await network.bus.publish(EscrowLocked(**common, commitment=c, locked=network.settler.sign(Locked.tag, word)))
        await network.bus.publish(
            GradientUploaded(
                **common, commitment=c, peer=PEERS[name].public, checkpoint=base.checkpoint.sha256,
                model_id=base.model_id, payload=payloads[name],
            )
        )  # fmt: skip
    await network.bus.publish(RoundClosed(**common, root=root, uploaded=tuple(names.values())))
    for name, c in names.items():
        scored = await network.wait_for(GradientScored, about(c))
        receipt = open_signed(scored.receipt, Receipt.tag, Receipt, signer=network.attestor)
        assert (scored.verdict, receipt.drop_low > 0) == ("accepted", True), scored.reasons
        opened = [sealing[name].unseal(bytes.fromhex(box)) for box in scored.sealed_preimages]
        expected = [offers[name].reward_hashes[index] for index in mask_indices(scored.mask, 6)]
        assert [hashlib.sha256(value).hexdigest() for value in opened] == expected != []
        told = await network.get(f"decisions/{c}")
        assert msgspec.json.decode(told.content, type=GradientScored).receipt == scored.receipt
        assert (await network.get(f"receipts/{c}")).json()["signer"] == network.attestor
    assessed = await network.wait_for(RoundAssessed)
    assert seed_commitment(bytes.fromhex(assessed.seed)) == base.seed_commitment
    following = await network.wait_for(CheckpointPublished, lambda event: event.round == 2)
    assert following.accepted == tuple(names.values())
    assert following.held_out_after < following.held_out_before == base.held_out_after
    assert (await network.get("rounds/1")).json()["state"] == "done"
    await asyncio.to_thread(_kept_shut, network, next(iter(names.values())))
    await asyncio.to_thread(_audited, network, next(iter(names.values())))
    missing = await network.get(f"decisions/{'00' * 32}")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    for name, process in network.processes.items():
        if name not in ("nats", "lightning"):
            process.ask_to_end()
            await process.ended(within_s=10)
            assert process.returncode == 0, process.tail()
