"""The oracle's edges: heights that grow old, key files that others may read, tables, and a process without torch."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.adapters import tables
from l402_oracle.adapters.heights import NodeHeights
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_oracle.config import AttestorConfig, WorkerConfig
from l402_oracle.keys import read_attestor_keys, read_worker_keys
from l402core.documents import Offer
from l402core.errors import L402Error, Unauthorized, Unavailable
from l402core.keyfiles import KeyFileError
from l402core.lnd.fitness import CHECKS
from l402core.lnd.port import NodeInfo
from l402core.schema import upgrade
from prometheus_client import REGISTRY


class Node:
    """A node that tells what a test sets."""

    def __init__(self) -> None:
        self.height, self.network, self.synced, self.version = 100, "simnet", True, "0.21.0-beta"
        self.refuses: L402Error | None = None

    async def info(self) -> NodeInfo:
        """Raises what a test says while it does not answer."""
        if self.refuses is not None:
            raise self.refuses
        return NodeInfo(
            pubkey="",
            alias="",
            version=self.version,
            block_height=self.height,
            network=self.network,
            synced=self.synced,
        )

    async def watch_blocks(self) -> AsyncIterator[int]:
        """One block, then cut off."""
        if self.refuses is None:
            yield self.height
        raise Unavailable("lnd", "cut")


async def turns(heights: NodeHeights) -> None:
    """Let it look for a moment."""
    task = asyncio.create_task(heights.follow())
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_height_grows_old_and_never_falls() -> None:
    """Silence makes it unknown; a lower word later does not lower it; a node still catching up is not believed."""
    node, clock = Node(), [0.0]
    heights = NodeHeights(node, network="simnet", max_age_s=10, poll_s=0.01, monotonic=lambda: clock[0])
    assert heights.recent() is None
    await turns(heights)
    assert heights.recent() == 100
    node.height = 90
    await turns(heights)
    assert heights.recent() == 100
    node.refuses, clock[0] = Unavailable("lnd", "no answer"), 11.0
    await turns(heights)
    assert heights.recent() is None
    node.refuses, node.height = None, 101
    await turns(heights)
    assert heights.recent() == 101


UNFIT = (
    ("synced", {"synced": False}),
    ("network", {"network": "regtest"}),
    ("version", {"version": "0.18.5-beta"}),
    ("answers", {"refuses": Unavailable("lnd_unavailable", "connection refused")}),
    ("unlocked", {"refuses": Unavailable("lnd_locked", "wallet locked")}),
    ("macaroon", {"refuses": Unauthorized("lnd_macaroon", "permission denied")}),
)
"""Each check that a node may fail which only tells heights, and how it does."""


@pytest.mark.parametrize(("check", "wrong"), UNFIT, ids=[check for check, _ in UNFIT])
async def test_a_node_that_cannot_know_tells_no_height_and_is_named(check: str, wrong: dict[str, Any]) -> None:
    """Behind the chain its word would be old, however fresh, and elsewhere it means nothing: asked or told by a block. Ready
    and the numbers say which check fails, and nothing once it is mended."""
    node, well = Node(), vars(Node())
    vars(node).update(wrong)
    heights = NodeHeights(node, network="simnet", max_age_s=10, poll_s=0.01, monotonic=lambda: 0.0)
    assert heights.readiness() == {"height": False, "lnd": False, "lnd_answers": False}
    await turns(heights)
    assert heights.recent() is None
    assert heights.readiness() == {"height": False, "lnd": False, f"lnd_{check}": False}
    assert failing() == {check}
    vars(node).update(well)
    await turns(heights)
    assert heights.readiness() == {"height": True, "lnd": True}
    assert failing() == set()


async def test_a_height_outlives_the_node_that_told_it_and_the_node_is_unready_at_once() -> None:
    """What was seen is true for a while; who repairs the node need not wait until it is not."""
    node, clock = Node(), [0.0]
    heights = NodeHeights(node, network="simnet", max_age_s=10, poll_s=0.01, monotonic=lambda: clock[0])
    await turns(heights)
    node.network = "regtest"
    await turns(heights)
    assert heights.readiness() == {"height": True, "lnd": False, "lnd_network": False}
    clock[0] = 11.0
    assert heights.readiness() == {"height": False, "lnd": False, "lnd_network": False}


class Behind(Node):
    """lnd tells of a block before its wallet has it, and is synced again at once."""

    async def watch_blocks(self) -> AsyncIterator[int]:
        """One block, then silence."""
        self.synced = False
        yield self.height
        await asyncio.Event().wait()


async def test_a_node_is_not_called_behind_for_the_moment_in_which_a_block_arrives() -> None:
    """Only polling says what stands against it: at each block it would be unready until the next poll."""
    node = Behind()
    heights = NodeHeights(node, network="simnet", max_age_s=10, poll_s=60, monotonic=lambda: 0.0)
    await turns(heights)
    assert not node.synced
    assert heights.readiness() == {"height": True, "lnd": True}


def failing() -> set[str]:
    """The checks that the numbers say fail."""
    return {check for check in CHECKS if REGISTRY.get_sample_value("l402_node_fit", {"check": check}) == 0}


def test_key_files_are_read_only_when_nobody_else_can(tmp_path: Path) -> None:
    """Mode, form and length are checked, and no refusal repeats a key."""
    preimages = {"k1": "03" * 32, "k2": "04" * 32}
    good = {"signing_key": "01" * 32, "seed_key": "02" * 32, "answers_key": "05" * 32, "preimage_keys": preimages}
    path = tmp_path / "attestor.json"
    path.write_bytes(msgspec.json.encode(good))
    for mode in (0o644, 0o660, 0o604, 0o601):
        path.chmod(mode)
        with pytest.raises(KeyFileError, match="0600"):
            read_attestor_keys(path)
    for mode in (0o600, 0o640, 0o400):  # a mounted secret belongs to root, and is handed over by the group alone
        path.chmod(mode)
        keys = read_attestor_keys(path)
    assert keys.newest() == "k2"
    assert "0202" not in repr(vars(keys))
    for wrong in (
        {**good, "seed_key": "02"},
        {**good, "preimage_keys": {}},
        {"signing_key": "07" * 32},
        {**good, "x": 1},
    ):
        path.write_bytes(msgspec.json.encode(wrong))
        with pytest.raises(KeyFileError) as refused:
            read_attestor_keys(path)
        assert "0707" not in str(refused.value)
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_worker_keys(tmp_path / "none.json")


def test_the_migration_makes_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    """Column by column, with their keys; and once more does nothing."""
    url = f"sqlite:///{tmp_path / 'd.sqlite3'}"
    upgrade(url, "l402_oracle")
    upgrade(url, "l402_oracle")
    made = sa.MetaData()
    engine = sa.create_engine(url)
    made.reflect(engine)
    engine.dispose()
    for name, table in tables.metadata.tables.items():
        seen = [(c.name, str(c.type), c.nullable, c.primary_key) for c in made.tables[name].columns]
        assert seen == [(c.name, str(c.type), c.nullable, c.primary_key) for c in table.columns]


def test_the_attestor_runs_without_torch() -> None:
    """Not one module of it imports tensors, so its image needs none."""
    code = "import sys, l402_oracle.attestor.wiring, l402_oracle.worker.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_without_a_lock_nothing_is_revealed_whatever_the_height() -> None:
    """The rule itself, at its barest."""
    offer = Offer(
        commitment="", round=1, seq=0, peer="", seal_to="", terms="", key_id="k1", amounts_msat=(), attempt=1,
        lock_by_ms=0, upload_until_ms=0, judge_by_ms=0, reveal_by_height=10**6, cltv_min=0, cltv_max=0,
        reward_hashes=("aa",),
    )  # fmt: skip
    assert all(may_reveal(offer, None, height, 24) is Reveal.NEVER for height in (None, 0, 10**6))


@pytest.mark.parametrize("config", [AttestorConfig, WorkerConfig])
def test_every_knob_is_described(config: type[AttestorConfig | WorkerConfig]) -> None:
    """A default and a sentence for each."""
    assert all(field.description and field.description.endswith(".") for field in config.model_fields.values())
    config()


def test_no_role_is_an_error() -> None:
    """The command says what it wants."""
    asked = subprocess.run(
        [sys.executable, "-m", "l402_oracle", "judge"], capture_output=True, text=True, check=False, timeout=60
    )
    assert asked.returncode == 1
    assert "attestor|worker" in asked.stderr
