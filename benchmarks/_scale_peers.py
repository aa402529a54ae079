"""Many peers in one process: the peer-agent's own rounds, each identity with its key, journal, data and training of its own.

What they share is what one machine need not do 35 times: torch is imported once, a checkpoint is fetched once, one
thread trains them in turn, and there is one connection to each payout node.
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import torch
from l402_peer_agent import app, policy
from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.agent import Agent
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.patience import Patience
from l402_peer_agent.training import PPM, Trainer, binding, shard_key
from l402core import telemetry
from l402core.documents import ObjectRef, Terms
from l402core.errors import TooLate
from l402core.lifecycle import know_types
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.wire import LndEndpoint
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey
from sparseloco.codec import compress
from sparseloco.corpus import load_corpus, train_shard
from sparseloco.data import train_batches
from sparseloco.model import GPTShape, load_checkpoint
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import pack


def identity(number: int) -> SigningKey:
    """The key of one of them, known beforehand, so that phases may wait for it."""
    return SigningKey(hashlib.sha256(f"scale {number}".encode()).digest())


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one process plays."""

    first: int
    """Number of its first identity."""
    peers: int
    rounds: int
    gateway_url: str
    nodes: tuple[dict[str, str], ...]
    """host, cert, macaroon and pubkey of each payout node; identities take them in turn."""
    settler: str
    attestor: str
    folder: str
    listen: bool
    poll_s: float
    small: tuple[int, int, int] | None = None
    """Width, layers and heads of another model than the default one, which the peer-agent's own trainer does not know."""


class Machine:
    """What all identities of the process share."""

    def __init__(self) -> None:
        self.trainer = ThreadPoolExecutor(1, "train")
        self.trained: list[tuple[str, int, int]] = []
        """Identity, round, and when its gradient was packed, Unix milliseconds."""
        self._checkpoints: dict[str, asyncio.Task[bytes]] = {}

    async def checkpoint(self, sha256: str, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        """Fetched once, by whoever asks first."""
        if sha256 not in self._checkpoints:
            self._checkpoints = {sha256: asyncio.ensure_future(fetch())}
        return await asyncio.shield(self._checkpoints[sha256])


class SharingGateway(Gateway):
    """The peer-agent's way to the gateway; a checkpoint comes once for the whole process."""

    def mind(self, machine: Machine, *, listen: bool) -> None:
        """With whom to share, and whether to listen for hints as well."""
        self._machine, self._listens = machine, listen

    async def checkpoint(self, ref: ObjectRef, *, max_bytes: int) -> bytes:
        whole = super().checkpoint
        return await self._machine.checkpoint(ref.sha256, lambda: whole(ref, max_bytes=max_bytes))

    async def listen(self, *about: Any, **more: Any) -> None:
        if self._listens:
            await super().listen(*about, **more)
        await asyncio.Event().wait()


class SmallTrainer:
    """An honest peer's work on a model of another size: the same steps, codec and data, its memory not on disk."""

    def __init__(self, peer: str, shape: GPTShape) -> None:
        self._peer, self._shape, self._spec = bytes.fromhex(peer), shape, shape.spec()
        self._adam = AdamState.fresh(self._spec.numel)
        self._feedback = torch.zeros(self._spec.numel)

    def train(self, terms: Terms, checkpoint: bytes) -> bytes:
        """Blocking."""
        _, theta = load_checkpoint(checkpoint, self._spec)
        recipe, key = terms.recipe, shard_key(terms, self._peer)
        batches = train_batches(train_shard(load_corpus(), key), key, terms.round, recipe.inner_steps, recipe.batch)
        rate, decay = recipe.learning_rate_ppm / PPM, recipe.feedback_decay_ppm / PPM
        worked = inner_steps(theta, batches, self._adam, lr=rate, shape=self._shape)
        sparse, self._feedback = compress(worked.delta, self._feedback, self._spec, k=recipe.chunk_k, beta=decay)
        return pack(sparse, self._spec, binding(terms, self._peer))

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """What was not sent is forgotten where the round was not accepted."""
        del round_
        if not accepted:
            self._feedback.zero_()


class OwnTrainer:
    """The peer-agent's own trainer, its memory on disk."""

    def __init__(self, folder: Path, peer: str) -> None:
        self._trainer = Trainer(folder, peer)

    def train(self, terms: Terms, checkpoint: bytes) -> bytes:
        """Blocking."""
        return self._trainer.train(terms, checkpoint).packed

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Keep or forget."""
        self._trainer.conclude(round_, accepted=accepted)


class Work:
    """`l402_peer_agent.app.Work`: trained in the process's one thread for it, in the order of asking."""

    def __init__(self, machine: Machine, peer: str, trainer: OwnTrainer | SmallTrainer) -> None:
        self._machine, self._peer, self._trainer = machine, peer, trainer

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        packed = await loop.run_in_executor(self._machine.trainer, self._in_turn, terms, checkpoint)
        self._machine.trained.append((self._peer, terms.round, now_ms()))
        return packed

    def _in_turn(self, terms: Terms, checkpoint: bytes) -> bytes:
        """Whoever's turn comes when commits are closed would only keep the others from the next round."""
        if now_ms() >= terms.commit_until_ms:
            raise TooLate("no_turn", "commits closed before this peer's turn to train came")
        return self._trainer.train(terms, checkpoint)

    def opened(self, terms: Terms, packed: bytes) -> None:
        """Nothing to hand over."""

    async def sent(self, terms: Terms, sealed: bytes) -> bytes:
        """As it is."""
        return sealed

    def conclude(self, round_: int, *, accepted: bool) -> None:
        self._trainer.conclude(round_, accepted=accepted)


async def play(told: Told) -> dict[str, Any]:
    """All identities of this process, every round; when each had trained, and the lines that each wrote."""
    machine = Machine()
    nodes = [
        (connect(LndEndpoint(one["host"], Path(one["cert"]), Path(one["macaroon"]), 60.0)), one["pubkey"])
        for one in told.nodes
    ]
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            numbers = range(told.first, told.first + told.peers)
            lines = await asyncio.gather(
                *(one_peer(told, machine, session, *nodes[n % len(nodes)], number=n) for n in numbers)
            )
    finally:
        for node, _ in nodes:
            await node.close()
    return {"trained": machine.trained, "lines": [line for each in lines for line in each]}


async def one_peer(
    told: Told, machine: Machine, session: aiohttp.ClientSession, node: GrpcNode, pubkey: str, *, number: int
) -> list[dict[str, Any]]:
    """One identity; the lines of its `rounds.jsonl`."""
    folder = Path(told.folder) / f"{number}"
    keys = app.Keys(identity=identity(number), sealing=UnsealingKey(os.urandom(32)))
    gateway = SharingGateway(session, told.gateway_url, keys.identity, now_ms=now_ms)
    gateway.mind(machine, listen=told.listen)
    journal = Journal(folder / "journal.sqlite3")
    config = Config.model_validate(
        {
            "name": f"peer-{number}", "data_dir": folder, "rounds": told.rounds, "poll_s": told.poll_s,
            "settler": told.settler, "attestor": told.attestor, "idle_exit_s": 10.0,
        }
    )  # fmt: skip
    fees = Fees(
        node, gateway, journal, caps=policy.SpendingCaps(round_msat=config.fee_cap_msat, total_msat=config.total_cap_msat),
        routing_fee_max_msat=config.routing_fee_max_msat, look_s=30, now_ms=now_ms,
    )  # fmt: skip
    peer = keys.identity.public
    trainer = SmallTrainer(peer, GPTShape(*told.small)) if told.small else OwnTrainer(folder / "training", peer)
    parts = app.Parts(
        config=config, keys=keys, gateway=gateway, node=node, fees=fees, memory=journal,
        work=Work(machine, peer, trainer), patience=Patience(config.poll_s, now_ms), payout_node=pubkey, now_ms=now_ms,
    )  # fmt: skip
    try:
        await Agent(parts).run()
    finally:
        journal.close()
    written = folder / "rounds.jsonl"
    return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def main() -> None:
    """Says that it is ready; is told in one line what to play; answers in one line."""
    torch.set_num_threads(1)
    telemetry.setup("peer-agent", trace_file=None, log_level="WARNING")
    know_types()
    load_corpus()
    print(json.dumps({"ready": True}), flush=True)
    told = msgspec.json.decode(sys.stdin.readline(), type=Told)
    print(json.dumps({"played": asyncio.run(play(told))}), flush=True)


if __name__ == "__main__":
    main()
