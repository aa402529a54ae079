"""What the invoicer says of its node at `/readyz` and in its numbers: fit for money, or by name why not."""

from typing import Any

import msgspec
import pytest
from l402_invoicer.__main__ import node_ready
from l402core.errors import L402Error, Unauthorized, Unavailable
from l402core.lnd.fitness import CHECKS
from l402core.lnd.port import NodeInfo
from prometheus_client import REGISTRY

FIT = NodeInfo(
    pubkey="02" * 33, alias="ours", version="0.19.0-beta", block_height=316, network="simnet", synced=True
)  # fmt: skip


class Node:
    """One that tells of itself what a test wants to hear, or refuses to."""

    def __init__(self, refuses: L402Error | None = None, **told: Any) -> None:
        self._refuses, self._info = refuses, msgspec.structs.replace(FIT, **told)

    async def info(self) -> NodeInfo:
        """Itself, or nothing."""
        if self._refuses is not None:
            raise self._refuses
        return self._info


@pytest.mark.parametrize(
    ("node", "check"),
    [
        (Node(), ""),
        (Node(version="0.18.5-beta"), "version"),
        (Node(version="custom"), "version"),
        (Node(network="mainnet"), "network"),
        (Node(synced=False), "synced"),
        (Node(Unavailable("lnd_locked", "wallet locked")), "unlocked"),
        (Node(Unavailable("lnd_no_wallet", "wallet not created")), "unlocked"),
        (Node(Unauthorized("lnd_macaroon", "permission denied")), "macaroon"),
        (Node(Unavailable("lnd_unavailable", "connection refused")), "answers"),
        (Node(Unavailable("lnd_deadline", "no answer in time")), "answers"),
        (Node(Unavailable("lnd_starting", "RPC server is in the process of starting")), "answers"),
    ],
)
async def test_readiness_names_the_one_check_that_the_node_fails(node: Node, check: str) -> None:
    """One part more where it is unfit, and the same in the numbers; a node that is well again is ready at once."""
    told = await node_ready(node, "simnet")  # type: ignore[arg-type]  # nothing but `info` is asked
    assert told == ({"lnd": False, f"lnd_{check}": False} if check else {"lnd": True})
    assert failing() == ({check} if check else set())
    assert await node_ready(Node(), "simnet") == {"lnd": True}  # type: ignore[arg-type]
    assert failing() == set()


async def test_a_defect_of_ours_is_not_said_of_the_node() -> None:
    """Only what the node's side refuses with is an answer about the node; anything else leaves as it came."""

    class Broken(Node):
        async def info(self) -> NodeInfo:
            raise KeyError("ours")

    with pytest.raises(KeyError):
        await node_ready(Broken(), "simnet")  # type: ignore[arg-type]


def failing() -> set[str]:
    """The checks that the numbers say fail."""
    return {check for check in CHECKS if REGISTRY.get_sample_value("l402_node_fit", {"check": check}) == 0}
