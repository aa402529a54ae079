"""Wiring of the peer-agent: `python -m l402_peer_agent`."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # peers share a machine's cores; torch reads it once, when imported

import asyncio
import sys
import time
from pathlib import Path

import aiohttp
import msgspec
import structlog
import torch
from l402core import telemetry
from l402core.errors import L402Error, Malformed, Unavailable
from l402core.lifecycle import know_types, run_until_asked
from l402core.lnd.grpc import GrpcNode, LndEndpoint, connect
from l402core.lnd.permissions import PEER
from l402core.lnd.port import NodeInfo
from l402core.lnd.scope import refuse_excess
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey

from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.adversaries.registry import KINDS
from l402_peer_agent.agent import Agent
from l402_peer_agent.app import Keys, Parts
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.patience import Patience
from l402_peer_agent.policy import SpendingCaps
from l402_peer_agent.training import Pool
from l402_peer_agent.work import Work

log = structlog.get_logger()
NODE_TRIES = 60


class _KeyFile(msgspec.Struct):
    identity: str
    sealing: str


def read_keys(path: Path) -> Keys:
    """The peer's keys from its key file. Raises Malformed."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
        return Keys(SigningKey(bytes.fromhex(read.identity)), UnsealingKey(bytes.fromhex(read.sealing)))
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise Malformed("key_file", f"{path} is no key file: {type(error).__name__}") from None


def work_of(config: Config, peer: str) -> Work:
    """How this kind of peer comes by its payloads. Raises Malformed for an accomplice without a source."""
    cheat = KINDS[config.kind]
    if len(config.hand_over_from) < cheat.needs:
        raise Malformed("hand_over_from", f"{config.kind} needs {cheat.needs} files in hand_over_from")
    leader = bytes.fromhex(config.pool_leader or peer)
    pool = Pool(leader=leader, member=config.pool_member, members=config.pool_members)
    trainer = cheat(config.data_dir / "training", peer, pool)
    return Work(trainer, peer=peer, hand_to=config.hand_over_to, hand_from=config.hand_over_from)


async def play(config: Config) -> None:
    """Play rounds until done or asked to stop. Raises Malformed for a macaroon that may do too much."""
    refuse_excess(config.lnd_macaroon, PEER, tolerated=config.lnd_macaroon_excess, service="peer")
    keys = read_keys(config.key_file)
    node = connect(LndEndpoint(config.lnd_host, config.lnd_tls_cert, config.lnd_macaroon))
    journal = Journal(config.data_dir / "journal.sqlite3")
    async with aiohttp.ClientSession() as session:
        gateway = Gateway(session, config.gateway_url, keys.identity, now_ms=_now_ms)
        try:
            info = await _node_info(node, config.lnd_network)
            fees = Fees(
                node,
                gateway,
                journal,
                caps=SpendingCaps(round_msat=config.fee_cap_msat, total_msat=config.total_cap_msat),
                routing_fee_max_msat=config.routing_fee_max_msat,
                look_s=config.pay_timeout_s,
                now_ms=_now_ms,
            )
            parts = Parts(
                config=config,
                keys=keys,
                gateway=gateway,
                node=node,
                fees=fees,
                memory=journal,
                work=work_of(config, keys.identity.public),
                patience=Patience(config.poll_s, _now_ms),
                payout_node=info.pubkey,
                now_ms=_now_ms,
            )
            log.info("peer.ready", name=config.name, kind=config.kind, peer=keys.identity.public)
            await run_until_asked(Agent(parts).run())
        finally:
            journal.close()
            await node.close()


async def _node_info(node: GrpcNode, network: str) -> NodeInfo:
    """Our node's own view, once it answers. Raises Unavailable, Malformed for another network."""
    for attempt in range(NODE_TRIES):
        try:
            info = await node.info()
        except Unavailable as silence:
            if attempt == NODE_TRIES - 1:
                raise
            log.info("node.silent", code=silence.code)
            await asyncio.sleep(1.0)
            continue
        if info.network != network:
            raise Malformed("node_network", f"the node is on {info.network}, configured is {network}")
        return info
    raise Unavailable("node", "the node did not answer")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> int:
    """Exit code 0 when the rounds are played or the network is done, 1 when it cannot run."""
    config = Config.model_validate({})
    torch.set_num_threads(1)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    provider = telemetry.setup("peer-agent", trace_file=config.trace_file, log_level=config.log_level)
    structlog.contextvars.bind_contextvars(peer_name=config.name)
    know_types()
    try:
        asyncio.run(play(config))
    except (L402Error, OSError) as error:
        print(f"peer-agent: {error}", file=sys.stderr)  # noqa: T201 - the process's last words
        return 1
    finally:
        provider.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
