"""Coins, channels and gossip of a local network, until every payment that should find its way does. It stops nothing."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from l402core.errors import L402Error
from l402core.lnd.stubs import lnrpc, routerrpc

from l402train.exits import Exit, Stop
from l402train.lightning.btcd import Btcd
from l402train.lightning.node import ROUTER, LndNode
from l402train.lightning.plan import Plan

T = TypeVar("T")
CONFIRMATIONS = 6
"""Before it a channel is not announced (BOLT 7), and nobody but its ends can use it."""
PREMIUM_SAT = 1_000_000
"""For on-chain fees and anchor reserves, above what an opener's channels hold."""
FEE_SAT_PER_VBYTE = 10
PATIENCE_S = 90.0
POLL_S = 0.1
PROBE_MSAT = 10_000
PROBE_FEE_MSAT = 20_000
_PROBE_FEATURES = (9, 15, 17)
"""TLV onion, payment address, MPP: what every lnd has, said here because a payee of a probe made no invoice."""


async def fund(plan: Plan, nodes: dict[str, LndNode], btcd: Btcd) -> None:
    """Everything from coins to working routes; the first node has mined. Raises Stop when it takes too long."""
    await asyncio.gather(*(_until(_synced, node, f"{node.name} is in sync") for node in nodes.values()))
    if not plan.channels:
        return
    await _give_coins(plan, nodes, btcd)
    await asyncio.gather(*(_connect(nodes[opener], nodes[peer]) for opener, peer in dict.fromkeys(plan.channels)))
    for opener in dict.fromkeys(opener for opener, _ in plan.channels):
        await _until(lambda node: _opened(plan, node, nodes), nodes[opener], f"{opener} opens its channels")
    await _mine(btcd, CONFIRMATIONS)
    ends = [node for node in nodes.values() if plan.edges_seen_by(node.name)]
    await asyncio.gather(
        *(_until(lambda one: _knows_the_way(plan, one), node, f"{node.name}'s graph") for node in ends)
    )
    await asyncio.gather(*(_routed(nodes[payer], nodes[payee]) for payer, payee in plan.routes()))


async def _give_coins(plan: Plan, nodes: dict[str, LndNode], btcd: Btcd) -> None:
    cost = {name: plan.capacity_sat * count + PREMIUM_SAT for name, count in _opens(plan).items()}
    miner = nodes[plan.nodes[0]]
    wanted = cost.pop(miner.name, 0) + sum(cost.values()) + PREMIUM_SAT
    await _until(lambda node: _has(node, wanted), miner, f"{miner.name}'s coins")
    if not cost:
        return
    addresses = {
        (await nodes[name].call("NewAddress", lnrpc.NewAddressRequest(type=0))).address: sat
        for name, sat in cost.items()
    }
    request = lnrpc.SendManyRequest(AddrToAmount=addresses, sat_per_vbyte=FEE_SAT_PER_VBYTE)
    await miner.call("SendMany", request)
    await _mine(btcd, 1)
    await asyncio.gather(
        *(_until(lambda one: _has(one, cost[one.name]), nodes[name], f"{name}'s coins") for name in cost)
    )


def _opens(plan: Plan) -> dict[str, int]:
    openers = [opener for opener, _ in plan.channels]
    return {name: openers.count(name) for name in dict.fromkeys(openers)}


async def _connect(opener: LndNode, peer: LndNode) -> None:
    address = lnrpc.LightningAddress(pubkey=peer.pubkey, host=peer.listen)
    await opener.call("ConnectPeer", lnrpc.ConnectPeerRequest(addr=address, timeout=10))


async def _opened(plan: Plan, opener: LndNode, nodes: dict[str, LndNode]) -> bool:
    """All channels of one opener in one transaction."""
    wanted = [
        lnrpc.BatchOpenChannel(
            node_pubkey=bytes.fromhex(nodes[peer].pubkey),
            local_funding_amount=plan.capacity_sat,
            push_sat=plan.push_sat,
        )
        for name, peer in plan.channels
        if name == opener.name
    ]
    try:
        await opener.call(
            "BatchOpenChannel", lnrpc.BatchOpenChannelRequest(channels=wanted, sat_per_vbyte=FEE_SAT_PER_VBYTE)
        )
    except L402Error as error:
        if "sync" not in error.detail and "not online" not in error.detail:
            raise
        return False  # a peer has not seen the newest block yet
    return True


async def _synced(node: LndNode) -> bool:
    info = await node.call("GetInfo", lnrpc.GetInfoRequest())
    return bool(info.synced_to_chain)


async def _has(node: LndNode, wanted_sat: int) -> bool:
    told = await node.call("WalletBalance", lnrpc.WalletBalanceRequest())
    return int(told.confirmed_balance) >= wanted_sat and await _synced(node)


async def _knows_the_way(plan: Plan, node: LndNode) -> bool:
    """Its own channels are active, and every channel it can reach is known with both sides' policies."""
    ours = (await node.call("ListChannels", lnrpc.ListChannelsRequest())).channels
    if len(ours) != sum(node.name in pair for pair in plan.channels) or not all(one.active for one in ours):
        return False
    edges = (await node.call("DescribeGraph", lnrpc.ChannelGraphRequest())).edges
    whole = [edge for edge in edges if edge.HasField("node1_policy") and edge.HasField("node2_policy")]
    return len(whole) >= plan.edges_seen_by(node.name)


async def _routed(payer: LndNode, payee: LndNode) -> None:
    """Pay on a hash that nobody knows until the payee itself refuses it: then the way there works."""
    await _until(lambda node: _probe(node, payee), payer, f"the way from {payer.name} to {payee.name}")


async def _probe(payer: LndNode, payee: LndNode) -> bool:
    request = routerrpc.SendPaymentRequest(
        dest=bytes.fromhex(payee.pubkey),
        amt_msat=PROBE_MSAT,
        payment_hash=secrets.token_bytes(32),
        payment_addr=secrets.token_bytes(32),
        dest_features=_PROBE_FEATURES,
        final_cltv_delta=80,
        timeout_seconds=10,
        fee_limit_msat=PROBE_FEE_MSAT,
        max_parts=1,
        no_inflight_updates=True,
    )
    async for update in payer.stream(ROUTER + "SendPaymentV2", request, deadline_s=20):
        if update.failure_reason == lnrpc.FAILURE_REASON_INCORRECT_PAYMENT_DETAILS:
            return True
    # What failed once is avoided for an hour; nothing here should be.
    await payer.call(ROUTER + "ResetMissionControl", routerrpc.ResetMissionControlRequest())
    return False


async def _mine(btcd: Btcd, blocks: int) -> None:
    await asyncio.to_thread(btcd.mine, blocks)


async def _until(ask: Callable[[Any], Awaitable[bool]], node: LndNode, what: str) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not await ask(node):
        if node.process is not None and node.process.returncode is not None:
            raise node.process.failure(f"{node.name} ended with {node.process.returncode}")
        if time.monotonic() > ends_at:
            raise Stop(Exit.PART_FAILED, f"the Lightning network is not ready after {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(POLL_S)
