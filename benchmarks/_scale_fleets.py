"""The processes that play the peers: started before the network is, told what to play, ended in any case."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from _scale_peers import Told
from l402train.credentials import macaroon_of
from l402train.folder import Folder
from l402train.keys import Keyring, write_keys
from l402train.services import base_environment

READY_S = 180.0
"""Torch is imported from a cold disk."""


class Fleet:
    """One process of peers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def heard(self, wanted: str, *, within_s: float) -> Any:
        """The next line that tells it. Raises RuntimeError when the process ends first, TimeoutError when it is silent."""
        assert self._process.stdout is not None
        async with asyncio.timeout(within_s):
            while line := await self._process.stdout.readline():
                with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                    return json.loads(line)[wanted]
        raise RuntimeError("a process of peers ended early; its reason is above")

    async def tell(self, told: Told) -> None:
        """What to play."""
        assert self._process.stdin is not None
        await asyncio.to_thread(Path(told.folder).mkdir, parents=True)
        self._process.stdin.write(msgspec.json.encode(told) + b"\n")
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def fleets(count: int) -> AsyncIterator[list[Fleet]]:
    """So many processes, ready to be told; none is left after the block."""
    started: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(Path(__file__).with_name("_scale_peers.py")), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, limit=1 << 27, env=base_environment(),
            )  # fmt: skip
            started.append(process)
        made = [Fleet(process) for process in started]
        await asyncio.gather(*(fleet.heard("ready", within_s=READY_S) for fleet in made))
        yield made
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in started:
            await process.wait()


def shares(peers: int, processes: int) -> list[tuple[int, int]]:
    """(first number, how many) for each process, as even as can be."""
    cuts = [peers * number // processes for number in range(processes + 1)]
    return [(begin, end - begin) for begin, end in pairwise(cuts)]


def payout_nodes(folder: Folder, names: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    """How each is reached."""
    nodes = json.loads(folder.nodes.read_text())
    return tuple(
        {
            "host": nodes[name]["host"], "cert": nodes[name]["tls_cert"], "pubkey": nodes[name]["pubkey"],
            "macaroon": str(macaroon_of(folder, name)),
        }
        for name in names
    )  # fmt: skip


def public_keys(folder: Folder, seed: int) -> dict[str, str]:
    """Of settler and attestor: the local network's keys come from its seed."""
    public = write_keys(folder, Keyring.from_seed(seed), ())
    return {"settler": public.settler, "attestor": public.attestor}
