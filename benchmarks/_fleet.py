"""Some of a benchmark's peers in one process: the peer-agent's own steps, timed. It trains nothing and uploads nothing."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from l402_peer_agent import app, policy
from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.journal import Attempt, Token
from l402_peer_agent.ladder import cancel
from l402_peer_agent.patience import Patience
from l402core import lifecycle, telemetry
from l402core.documents import Terms
from l402core.events import SubmissionView
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.wire import LndEndpoint
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey

STAGES: tuple[str, ...] = ("fee", "open", "make", "lock", "agree", "return")
RETURN_S = 120.0


class Gates:
    """Between two stages, everybody waits until the parent has seen all fleets arrive; or nobody waits at all."""

    def __init__(self, peers: int, *, staged: bool) -> None:
        self._peers, self._staged = peers, staged
        self._arrived: dict[str, int] = dict.fromkeys(STAGES, 0)
        self._open = {stage: asyncio.Event() for stage in STAGES}

    async def through(self, stage: str) -> None:
        """Pass, or wait for everybody."""
        if not self._staged and stage not in (STAGES[0], STAGES[-1]):
            return
        self._arrived[stage] += 1
        if self._arrived[stage] == self._peers:
            print(json.dumps({"ready": stage}), flush=True)
        await self._open[stage].wait()

    async def listen(self) -> None:
        """Open a gate at each line from the parent."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._open[line.decode().strip()].set()


class Watched(Gateway):
    """The peer-agent's way to the gateway, with gates and times at its steps."""

    def mind(self, gates: Gates, times: dict[str, float]) -> None:
        """What to wait at and where to write."""
        self.gates, self.times = gates, times

    async def locks(
        self, round_: int, commitment: str, token: Token, preimage: Secret, bolt11s: list[str]
    ) -> SubmissionView:
        self.times["make"] = time.time()
        await self.gates.through("lock")
        self.times["lock_from"] = time.time()
        view = await super().locks(round_, commitment, token, preimage, bolt11s)
        self.times["registered"] = time.time()
        return view

    async def accepted(
        self, round_: int, commitment: str, token: Token, preimage: Secret, accepted: Signed
    ) -> SubmissionView:
        self.times["lock"] = time.time()
        await self.gates.through("agree")
        self.times["agree_from"] = time.time()
        return await super().accepted(round_, commitment, token, preimage, accepted)


class Played(app.Submission):
    """A submission from the challenge to the settler's signed word; then its rungs are cancelled."""

    async def played(self, gates: Gates, times: dict[str, float]) -> None:
        """Every step of the peer-agent but training and uploading."""
        self._commit(policy.sha256(os.urandom(32)))
        await gates.through("fee")
        times["fee_from"] = time.time()
        preimage = await self._pay()
        times["fee"] = time.time()
        await gates.through("open")
        times["open_from"] = time.time()
        offer = await self._open(preimage)
        times["open"] = time.time()
        await gates.through("make")
        times["make_from"] = time.time()
        await self._lock(offer, preimage)
        times["agree"] = time.time()
        await gates.through("return")
        times["return_from"] = time.time()
        await cancel(self._node, offer, keep={})
        until_ms = int((time.time() + RETURN_S) * 1_000)
        await self._view(until_ms, lambda view: all(rung.state == "returned" for rung in view.rungs))
        times["return"] = time.time()


async def play(told: dict[str, Any]) -> list[dict[str, float]]:
    """All peers of this process; their times."""
    gates = Gates(told["peers"], staged=told["staged"])
    listening = asyncio.create_task(gates.listen())
    nodes = [
        (connect(LndEndpoint(one["host"], Path(one["cert"]), Path(one["macaroon"]), 60.0)), one["pubkey"])
        for one in told["nodes"]
    ]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        plays = [
            one_peer(told, session, *nodes[number % len(nodes)], number=number, gates=gates)
            for number in range(told["peers"])
        ]
        times = await asyncio.gather(*plays)
    for node, _ in nodes:
        await node.close()
    listening.cancel()
    return times


async def one_peer(
    told: dict[str, Any], session: aiohttp.ClientSession, node: GrpcNode, pubkey: str, *, number: int, gates: Gates
) -> dict[str, float]:
    """One identity with a journal of its own."""
    folder = Path(told["folder"]) / f"{number}"
    keys = app.Keys(identity=SigningKey(os.urandom(32)), sealing=UnsealingKey(os.urandom(32)))
    times: dict[str, float] = {}
    gateway = Watched(session, told["gateway_url"], keys.identity, now_ms=now_ms)
    gateway.mind(gates, times)
    journal = Journal(folder / "journal.sqlite3")
    config = Config.model_validate({"name": f"peer-{number}", "data_dir": folder})
    view = await gateway.round()
    terms = policy.read_terms(view.terms, settler=told["settler"], attestor=told["attestor"], network="simnet")
    fees = Fees(
        node, gateway, journal,
        caps=policy.SpendingCaps(round_msat=config.fee_cap_msat, total_msat=config.total_cap_msat),
        routing_fee_max_msat=config.routing_fee_max_msat, look_s=60, now_ms=now_ms,
    )  # fmt: skip
    parts = app.Parts(
        config=config, keys=keys, gateway=gateway, node=node, fees=fees, memory=journal, work=NoWork(),
        patience=Patience(config.poll_s, now_ms), payout_node=pubkey, now_ms=now_ms,
    )  # fmt: skip
    attempt = Attempt(round=view.round, terms=view.terms, traceparent="")
    try:
        with telemetry.span("submission"):
            await Played(parts, attempt, terms, trace_id="").played(gates, times)
    finally:
        journal.close()
    return times


class NoWork:
    """Nobody trains here."""

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        raise NotImplementedError

    def opened(self, terms: Terms, packed: bytes) -> None:
        raise NotImplementedError

    async def sent(self, terms: Terms, sealed: bytes) -> bytes:
        raise NotImplementedError

    def conclude(self, round_: int, *, accepted: bool) -> None:
        raise NotImplementedError


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def main() -> None:
    """The first line of standard input says what to play; times go out as one line."""
    told = json.loads(os.read(0, 1 << 16).split(b"\n")[0])
    telemetry.setup("peer-agent", trace_file=Path(told["folder"]) / "trace.jsonl", log_level="WARNING")

    async def tell() -> None:
        print(json.dumps({"times": await play(told)}), flush=True)

    lifecycle.run(tell())  # as a peer agent is run


if __name__ == "__main__":
    main()
