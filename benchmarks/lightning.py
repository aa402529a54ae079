"""How fast our services carry a full round's payments, beside a plain client on the same nodes in the same run.

70 identities pay a fee and have six rungs locked: once step by step, all together, to time each stage; once freely, from
the challenge to the settler's signed word, to time the whole. No round is judged: there is no training, so the rungs are
cancelled after the lock. How fast what was decided settles on the same kind of nodes is `settlement.py --backend lnd`.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

from _fleet import STAGES
from _plain import measure
from _processes import memory_bytes, processor_seconds, seconds_of
from l402train import parts
from l402train.credentials import macaroon_of
from l402train.exits import Stop
from l402train.folder import Folder
from l402train.keys import Keyring, write_keys
from l402train.lightning import programs
from l402train.services import base_environment, get
from l402train.stack import Network, Plan, running

RUNGS = 6
GOAL_RATIO, GOAL_S = 0.8, 10.0
GOAL_SIMULATED = 1_000
"""Locks per second of the plain client, so that the simulation is not what a payment waits for."""
SETTINGS = {
    "L402_SETTLER_COMMIT_S": "600",
    "L402_SETTLER_LOCK_S": "60",
    "L402_SETTLER_PAYEE_RUNGS": "100000",
    "L402_SETTLER_PAYEE_EXPOSURE_MSAT": "1000000000000",
    "L402_GATEWAY_MINTS_PER_CLIENT": "100000",
    "L402_GATEWAY_MINTS_IN_ALL": "100000",
    "L402_INVOICER_ROUND_MAX_MSAT": "1000000000000",
    "L402_INVOICER_DAY_MAX_MSAT": "1000000000000",
    "L402_SETTLER_RECONCILE_S": "86400",
}
"""One round that stays open, and no limit on one address, payee or round: all identities are here, on a few nodes. Books and
node are compared at the start only: all that the plain client pays would be told as foreign, thousands a time."""
EACH = {"fee": 1, "open": 1, "make": RUNGS, "lock": RUNGS, "agree": 1, "return": RUNGS}
TOLD = {
    "fee": "challenge and fee paid",
    "open": "token spent, offer signed",
    "make": "AddHoldInvoice",
    "lock": "rungs registered, sent, ACCEPTED",
    "agree": "accepted, signed Locked",
    "return": "cancelled, returned in the books",
}


async def main() -> None:
    """Start everything, measure, print."""
    asked = arguments()
    for name, value in (SETTINGS | {"L402_SETTLER_PLACES": str((asked.waves + 1) * asked.peers)}).items():
        os.environ.setdefault(name, value)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(Path(scratch) / "network")
        folder.create()
        names = tuple(f"node-{number}" for number in range(1, asked.nodes + 1))
        plan = Plan(
            peers=0, spare_nodes=names, rounds=1, workers=1, wait_for_all=False,
            lightning=cast("Literal['lndsim', 'lnd']", asked.backend), lnd_dir=asked.lnd_dir,
        ).checked()  # fmt: skip
        await simulation_alone(Path(scratch) / "alone", names, asked.peers * RUNGS)
        async with running(folder, plan, lambda line: print(f"  {line}", flush=True)) as network:
            await round_is_open(network)
            await compare(folder, network, names, asked)
    if asked.backend == "lnd":
        await settling(asked)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


async def settling(asked: argparse.Namespace) -> None:
    """What was decided, settled on real nodes: a program of its own, whose settler has no rounds to turn."""
    options = {"--nodes": asked.nodes, "--per-node": math.ceil(asked.peers / asked.nodes), "--waves": asked.waves}
    program = str(Path(__file__).with_name("settlement.py"))
    words = [program, "--backend", "lnd", *(str(word) for option in options.items() for word in option)]
    words += ["--lnd-dir", str(asked.lnd_dir)] if asked.lnd_dir else []
    process = await asyncio.create_subprocess_exec(sys.executable, *words)
    if await process.wait():
        raise SystemExit("the settling benchmark did not end well; its reason stands above")


async def simulation_alone(root: Path, names: tuple[str, ...], count: int) -> None:
    """The plain client on a simulated network that nobody else speaks to: what the simulation can do."""
    folder = Folder(root)
    folder.create()
    process = parts.start_lightning(folder, names, 0.0, base_environment())
    try:
        nodes = await process.until(lambda: parts.nodes(folder, process), deadline_s=parts.START_S)
        hub, ends = nodes[parts.COORDINATOR], [nodes[name] for name in names]
        waves_s = []
        for time_ in ("first", "second", "third"):
            results = await measure(hub, ends, count=count, amount_msat=1_050_000)
            print_plain(f"plain client, nothing of ours running, {time_} time", results, count)
            waves_s.append(results["lock"][0])
        print_simulated(waves_s, count)
    finally:
        process.ask_to_end()
        await process.ended(within_s=10)


async def compare(folder: Folder, network: Network, names: tuple[str, ...], asked: argparse.Namespace) -> None:
    """The plain client and our stages in turns, the plain client first and last; our free run; then the table."""
    nodes = json.loads(folder.nodes.read_text())
    hub, ends, count = nodes["coordinator"], [nodes[name] for name in names], asked.peers * RUNGS
    await measure(hub, ends, count=count, amount_msat=1_050_000)  # nodes that have just started are slower
    spent_locking: list[dict[str, float]] = []
    spent_plainly: list[dict[str, float]] = []

    def begins(stage: str) -> None:
        if stage in ("lock", "settle"):
            now = processor_seconds(folder) | {"client": time.process_time()}
            spent_plainly.append(now if stage == "lock" else spent(spent_plainly.pop(), now))

    plain, ours = [await measure(hub, ends, count=count, amount_msat=1_050_000, begins=begins)], []
    print_plain("plain client, before", plain[0], count)
    for wave in range(1, asked.waves + 1):
        ours.append(await fleets(folder, network, names, asked, called=f"staged-{wave}", locking=spent_locking))
        print_stages(f"ours, stage by stage, wave {wave}", ours[-1], asked.peers)
        plain.append(await measure(hub, ends, count=count, amount_msat=1_050_000, begins=begins))
        print_plain(f"plain client, after wave {wave}", plain[-1], count)
    cpu = processor_seconds(folder)
    free = await fleets(folder, network, names, asked, called="free")
    print_whole(free, asked.peers)
    print()
    for wave, locking in enumerate(spent_locking, 1):
        print(f"processor seconds of the lock stage, wave {wave}:", told(locking))
    for plain_wave, locking in enumerate(spent_plainly):
        print(f"processor seconds of the plain client's locks, wave {plain_wave}:", told(locking))
    all_s, all_plain_s = (statistics.mean(sum(one.values()) for one in each) for each in (spent_locking, spent_plainly))
    print(
        f"processor seconds of all: ours {all_s:.2f}, plain {all_plain_s:.2f}, plain / ours {all_plain_s / all_s:.1%}"
    )
    print("processor seconds of the free run, returns included:", told(spent(cpu, processor_seconds(folder))))
    print("resident memory, MB:", told({name: round(size / 1e6) for name, size in memory_bytes(folder).items()}))
    print("\nours / plain (each wave of ours beside the mean of the plain client just before and just after it):")
    for stage in ("make", "lock"):
        around = [statistics.mean((before[stage][0], after[stage][0])) for before, after in pairwise(plain)]
        mine = [whole_s(wave, stage) for wave in ours]
        ratios = [plain_s / own_s for plain_s, own_s in zip(around, mine, strict=True)]
        together = sum(around) / sum(mine)
        each, verdict = ", ".join(f"{one:.1%}" for one in ratios), "reached" if together >= GOAL_RATIO else "MISSED"
        print(f"  {stage:6} {each}; median {statistics.median(ratios):.1%}, ", end="")
        print(f"all waves together {together:.1%}, goal {GOAL_RATIO:.0%}: {verdict}")
    print("  settle: below, for no round is judged here, and nobody has preimages" if asked.backend == "lnd" else "")


async def round_is_open(network: Network) -> None:
    """Wait for the first round. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                status, _ = await asyncio.to_thread(get, f"{network.gateway_url}/v1/rounds/current")
                if status == 200:
                    return
            await asyncio.sleep(0.2)


# --- ours ------------------------------------------------------------------------------------------------------------


async def fleets(
    folder: Folder, network: Network, names: tuple[str, ...], asked: argparse.Namespace, *, called: str,
    locking: list[dict[str, float]] | None = None,
) -> list[dict[str, float]]:  # fmt: skip
    """Everybody's times. With `locking`, stage by stage: gates open once all fleets have arrived at them.

    What the processes spent between the gates around the locks is added to `locking`.
    """
    staged = locking is not None
    public = write_keys_again(folder)
    nodes = json.loads(folder.nodes.read_text())
    shares = [asked.peers // asked.fleets + (number < asked.peers % asked.fleets) for number in range(asked.fleets)]
    async with contextlib.AsyncExitStack() as stack:
        running_fleets = []
        for number, share in enumerate(shares):
            spread = names[number % len(names) :] + names[: number % len(names)]
            told_ = {
                "peers": share,
                "staged": staged,
                "gateway_url": network.gateway_url,
                **public,
                "folder": str(folder.peers / f"{called}-{number}"),
                "nodes": [
                    {
                        "host": nodes[name]["host"],
                        "cert": nodes[name]["tls_cert"],
                        "macaroon": str(macaroon_of(folder, name)),
                        "pubkey": nodes[name]["pubkey"],
                    }
                    for name in spread
                ],
            }
            running_fleets.append(await stack.enter_async_context(fleet(told_)))
        for stage in STAGES if staged else (STAGES[0], STAGES[-1]):
            await asyncio.gather(*(answer(one, "ready") for one in running_fleets))
            if locking is not None and stage in ("lock", "agree"):
                now = processor_seconds(folder) | {"peers": seconds_of([one.pid for one in running_fleets])}
                locking.append(now if stage == "lock" else spent(locking.pop(), now))
            for one in running_fleets:
                assert one.stdin is not None
                one.stdin.write(f"{stage}\n".encode())
        found = await asyncio.gather(*(answer(one, "times") for one in running_fleets))
    return [times for fleet_ in found for times in fleet_]


@contextlib.asynccontextmanager
async def fleet(told_: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with some of the peers, ended in any case."""
    await asyncio.to_thread(Path(told_["folder"]).mkdir, parents=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("_fleet.py")),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(told_).encode() + b"\n")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def answer(process: asyncio.subprocess.Process, wanted: str) -> Any:
    """The next line that tells it. Raises RuntimeError when the process ends first, or is silent for too long."""
    assert process.stdout is not None
    async with asyncio.timeout(300):
        while line := await process.stdout.readline():
            with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                return json.loads(line)[wanted]
    raise RuntimeError("a fleet of peers ended early; its reason is above")


def write_keys_again(folder: Folder) -> dict[str, str]:
    """The public keys of settler and attestor: the local network's keys come from its seed."""
    public = write_keys(folder, Keyring.from_seed(0), ())
    return {"settler": public.settler, "attestor": public.attestor}


# --- what was measured -----------------------------------------------------------------------------------------------


def whole_s(times: list[dict[str, float]], stage: str) -> float:
    """From the first that begins the stage to the last that ends it."""
    return max(one[stage] for one in times) - min(one[f"{stage}_from"] for one in times)


def print_plain(title: str, results: dict[str, tuple[float, list[float]]], count: int) -> None:
    print(f"\n{title}: {count} hold invoices at once")
    for stage, (seconds, each) in results.items():
        print(
            f"  {stage:8} {count / seconds:7.0f}/s   p50 {quantile(each, 50):6.2f} s   p99 {quantile(each, 99):6.2f} s"
        )


def print_simulated(waves_s: list[float], count: int) -> None:
    """All locks over the time of all waves: one lasts 0.3 s, in which any other program of the machine is seen."""
    rate = len(waves_s) * count / sum(waves_s)
    each = ", ".join(f"{count / wave_s:,.0f}" for wave_s in waves_s)
    verdict = "reached" if rate >= GOAL_SIMULATED else "MISSED"
    print(f"\n  waves {each}; together {rate:,.0f} locks per second, goal {GOAL_SIMULATED:,}: {verdict}", flush=True)


def print_stages(title: str, times: list[dict[str, float]], peers: int) -> None:
    print(f"\n{title}: {peers} identities at once, {RUNGS} rungs each; p50 and p99 are per identity")
    for stage, number in EACH.items():
        each = [one[stage] - one[f"{stage}_from"] for one in times]
        rate = peers * number / whole_s(times, stage)
        print(
            f"  {stage:8} {rate:7.0f}/s   p50 {quantile(each, 50):6.2f} s   p99 {quantile(each, 99):6.2f} s   {TOLD[stage]}"
        )


def print_whole(times: list[dict[str, float]], peers: int) -> None:
    began = min(one["fee_from"] for one in times)
    payments = peers * (1 + RUNGS)
    print(f"\nours, free: {peers} fees and {peers * RUNGS} rungs, all identities start at once")
    for name, told_ in (("fee", "last fee paid"), ("lock", "last rung ACCEPTED"), ("agree", "last signed Locked")):
        seconds = max(one[name] for one in times) - began
        each = [one[name] - one["fee_from"] for one in times]
        print(
            f"  {told_:20} after {seconds:6.2f} s   p50 {quantile(each, 50):6.2f} s   p99 {quantile(each, 99):6.2f} s"
        )
    seconds = max(one["lock"] for one in times) - began
    verdict = "reached" if seconds < GOAL_S else "MISSED"
    print(
        f"  {payments} payments in {seconds:.2f} s ({payments / seconds:.0f}/s), goal under {GOAL_S:.0f} s: {verdict}"
    )


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: round(now - before.get(name, 0.0), 2) for name, now in after.items()}


def told(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("lndsim", "lnd"), help="lnd where it is built, unless said otherwise")
    parser.add_argument("--lnd-dir", type=Path)
    parser.add_argument("--peers", type=int, default=70, help="identities")
    parser.add_argument("--nodes", type=int, default=4, help="nodes beside the coordinator's, over which they spread")
    parser.add_argument("--waves", type=int, default=6, help="of ours, each between two of the plain client's")
    parser.add_argument("--fleets", type=int, default=2, help="processes with peers")
    asked = parser.parse_args()
    if asked.backend is None:
        with contextlib.suppress(Stop):
            programs.find(asked.lnd_dir)
            asked.backend = "lnd"
        asked.backend = asked.backend or "lndsim"
    return asked


if __name__ == "__main__":
    asyncio.run(main())
