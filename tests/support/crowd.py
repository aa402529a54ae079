"""Many peers in one process: the peer-agent's own round, on a few gradients that all of them share.

The first to hand in a gradient did the work, the others are copies: all of them are judged, and few are paid.
Killed and started again with the same words, each peer goes on from its own journal, under the same keys.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import torch
from l402_peer_agent import app, policy
from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.agent import Agent
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.patience import Patience
from l402_peer_agent.training import PPM, binding, shard_key, spec_of
from l402core import telemetry
from l402core.documents import ObjectRef, Terms
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.wire import LndEndpoint
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey
from sparseloco.codec import compress
from sparseloco.corpus import load_corpus, train_shard
from sparseloco.data import train_batches
from sparseloco.model import ModelSpec, load_checkpoint
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import pack

from tests.support.coordinators import now_ms

GRADIENTS = 3
"""Trained by each process."""
POLL_S = 2.0


def identity(number: int) -> SigningKey:
    """The key of one of them, known beforehand: phases end early for peers that are expected."""
    return SigningKey(hashlib.sha256(f"crowd {number}".encode()).digest())


def sealing(number: int) -> UnsealingKey:
    """What opens this one's preimages; the same after a restart, which must open those that were sealed before it."""
    return UnsealingKey(hashlib.sha256(f"crowd {number}, sealed".encode()).digest())


class Shared:
    """What peers of one process need not each fetch and compute."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._checkpoint: bytes | None = None
        self._sparse: dict[int, Any] = {}

    async def checkpoint(self, fetch: Callable[[], Any]) -> bytes:
        """Fetched once."""
        async with self._turn:
            known = self._checkpoint
            if known is None:
                known = self._checkpoint = bytes(await fetch())
            return known

    async def packed(self, terms: Terms, checkpoint: bytes, peer: bytes, which: int) -> bytes:
        """One of the gradients, bound to this peer."""
        spec = spec_of(terms)
        async with self._turn:
            if which not in self._sparse:
                self._sparse[which] = await asyncio.to_thread(_trained, spec, terms, checkpoint, peer)
        return await asyncio.to_thread(pack, self._sparse[which], spec, binding(terms, peer))


def _trained(spec: ModelSpec, terms: Terms, checkpoint: bytes, peer: bytes) -> Any:
    _, theta = load_checkpoint(checkpoint, spec)
    recipe, key = terms.recipe, shard_key(terms, peer)
    batches = train_batches(train_shard(load_corpus(), key), key, terms.round, recipe.inner_steps, recipe.batch)
    result = inner_steps(theta, batches, AdamState.fresh(spec.numel), lr=recipe.learning_rate_ppm / PPM)
    sparse, _ = compress(result.delta, torch.zeros(spec.numel), spec, k=recipe.chunk_k, beta=0.0)
    return sparse


class SharedWork:
    """`l402_peer_agent.app.Work` for one peer of the crowd."""

    def __init__(self, shared: Shared, peer: str, which: int) -> None:
        self._shared, self._peer, self._which = shared, bytes.fromhex(peer), which

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        return await self._shared.packed(terms, checkpoint, self._peer, self._which)

    def opened(self, terms: Terms, packed: bytes) -> None:
        """Nothing to hand over."""

    async def sent(self, terms: Terms, sealed: bytes) -> bytes:
        """As it is."""
        return sealed

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Nothing to remember."""


class QuietGateway(Gateway):
    """Fetches the checkpoint once for all, and does not listen: it looks again instead."""

    def mind(self, shared: Shared) -> None:
        """What is shared."""
        self._shared = shared

    async def checkpoint(self, ref: ObjectRef, *, max_bytes: int) -> bytes:
        whole = super().checkpoint
        return await self._shared.checkpoint(lambda: whole(ref, max_bytes=max_bytes))

    async def listen(self, round_: int, commitment: str, on_hint: Callable[[], None]) -> None:
        await asyncio.Event().wait()


async def play(told: dict[str, Any]) -> list[str]:
    """All peers of this process, one round each; what became of them."""
    shared = Shared()
    nodes = [
        (connect(LndEndpoint(one["host"], Path(one["cert"]), Path(one["macaroon"]), 60.0)), one["pubkey"])
        for one in told["nodes"]
    ]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        peers = [one_peer(told, session, shared, *nodes[n % len(nodes)], number=n) for n in range(told["peers"])]
        verdicts = await asyncio.gather(*peers)
    for node, _ in nodes:
        await node.close()
    return verdicts


async def one_peer(
    told: dict[str, Any], session: aiohttp.ClientSession, shared: Shared, node: GrpcNode, pubkey: str, *, number: int
) -> str:
    """One identity with a journal of its own, for one round."""
    folder = Path(told["folder"]) / f"{number}"
    keys = app.Keys(identity=identity(told["first"] + number), sealing=sealing(told["first"] + number))
    gateway = QuietGateway(session, told["gateway_url"], keys.identity, now_ms=now_ms)
    gateway.mind(shared)
    journal = Journal(folder / "journal.sqlite3")
    config = Config.model_validate(
        {
            "name": f"peer-{number}", "data_dir": folder, "rounds": 1, "poll_s": POLL_S, "settler": told["settler"],
            "attestor": told["attestor"], "grace_s": 60.0, "idle_exit_s": 60.0,
        }
    )  # fmt: skip
    fees = Fees(
        node, gateway, journal, caps=policy.SpendingCaps(round_msat=config.fee_cap_msat, total_msat=config.total_cap_msat),
        routing_fee_max_msat=config.routing_fee_max_msat, look_s=30, now_ms=now_ms,
    )  # fmt: skip
    parts = app.Parts(
        config=config, keys=keys, gateway=gateway, node=node, fees=fees, memory=journal,
        work=SharedWork(shared, keys.identity.public, number % GRADIENTS), patience=Patience(config.poll_s, now_ms),
        payout_node=pubkey, now_ms=now_ms,
    )  # fmt: skip
    try:
        await Agent(parts).run()
    finally:
        journal.close()
    line = json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])
    return f"{line['verdict']}: {'; '.join(line['reasons'])[:120]}"


def main() -> None:
    """What to play is one line on standard input; what became of everybody goes out as one line."""
    torch.set_num_threads(1)
    told = json.loads(sys.stdin.readline())
    telemetry.setup("peer-agent", trace_file=None, log_level="WARNING")
    sys.stdout.write(json.dumps({"verdicts": asyncio.run(play(told))}) + "\n")


if __name__ == "__main__":
    main()
