"""Many peers in short rounds on this machine: the whole system with real training and scoring, and how its cost grows.

`promise`: 70 identities, 70-second rounds, three of them. `growth`: more and more peers on a tiny model. Both start the
services as `make demo` does; nothing is computed beforehand. `paper`: what growth has written down, taken further.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, cast

import _scale_counted
import msgspec
from _scale_fleets import Fleet, fleets, payout_nodes, public_keys, shares
from _scale_growth import growth_tables
from _scale_marginal import measured as measured_per_peer
from _scale_meter import Meter, StreamUse, handled, streams, written_bytes
from _scale_paper import by_model, by_peers
from _scale_peers import Told, identity
from _scale_result import Result, is_right, tell
from _scale_settings import Setting, growth, promise
from _scale_stages import Story
from l402train import books, comparing, services
from l402train.exits import Exit, Stop
from l402train.folder import Folder
from l402train.stack import Network, Plan, running
from l402train.watch import watching

SETTLED_S = 60.0
"""After the last peer has gone home, for what is still on its way."""


async def main() -> int:
    """Every run that was asked for; 0 where all ended, with balanced books that agree with the node."""
    asked = arguments()
    if asked.part == "paper":
        return tell_paper(asked)
    results = []
    if asked.count:
        count_statements()
    for setting in [promise(asked)] if asked.part == "promise" else growth(asked):
        results.append(await measured(setting, asked))
        tell(results[-1])
        if asked.json:
            asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    if asked.part == "growth":
        print(f"\n{growth_tables(results)}")
    return 0 if all(map(is_right, results)) else 1


async def measured(setting: Setting, asked: argparse.Namespace) -> Result:
    """One run from start to end."""
    print(f"\n{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"{setting.says()}, {asked.lightning}", flush=True)
    os.environ.update(setting.environment())
    names = tuple(f"node-{number}" for number in range(1, setting.nodes + 1))
    with tempfile.TemporaryDirectory(dir=asked.scratch) as scratch:
        folder = Folder(Path(scratch) / "network")
        folder.create()
        os.environ[_scale_counted.FOLDER] = scratch
        plan = Plan(
            peers=0, spare_nodes=names, rounds=setting.rounds, workers=setting.workers, wait_for_all=False,
            expected=tuple(identity(number).public for number in range(setting.peers)) if setting.expected else (),
            lightning=cast("Literal['lndsim', 'lnd']", asked.lightning), lnd_dir=asked.lnd_dir,
        ).checked()  # fmt: skip
        async with fleets(setting.fleets) as playing, running(folder, plan, note) as network:
            return await played(folder, network, setting, playing, names)


async def played(
    folder: Folder, network: Network, setting: Setting, playing: list[Fleet], names: tuple[str, ...]
) -> Result:
    """Tell the peers, follow the facts, and look at what is left when all is quiet or time is up."""
    story, meter = Story(), Meter(folder, [fleet.pid for fleet in playing])
    began, before = time.monotonic(), await streams(folder)
    async with watching(network.nats_url, story.take), meter.looking():
        said = await peers_said(folder, network, setting, playing, names)
        ends_at = time.monotonic() + SETTLED_S
        while not story.is_over(setting.rounds) and time.monotonic() < ends_at:  # noqa: ASYNC110 - facts come by callback
            await asyncio.sleep(0.2)
        seconds = time.monotonic() - began
        compared = await comparing.ask(network.nats_url)
    trained: dict[int, list[int]] = {}
    for _, round_, at_ms in (one for each in said for one in each["trained"]):
        trained.setdefault(round_, []).append(at_ms)
    ours = [name for name in folder.describe().pids if name not in ("nats", "redis", "lightning")]
    used = {
        name: StreamUse(messages=now.messages - before[name].messages, bytes=now.bytes)
        for name, now in (await streams(folder)).items()
    }
    return Result(
        when=time.strftime("%Y-%m-%d %H:%M"), machine=f"{platform.machine()}, {os.cpu_count()} cores",
        lightning=network.plan.lightning, setting=setting, seconds=round(seconds, 1),
        over=story.is_over(setting.rounds), rounds=story.rounds(trained), verdicts=verdicts(said),
        load=(meter.samples[0].load, max(one.load for one in meter.samples)), cpu_s=meter.spent_s(),
        resident_peak_bytes=meter.peak_bytes(), streams=used, fact_bytes=story.bytes,
        handled=await asyncio.to_thread(handled, folder, ours), written_bytes=written_bytes(folder), statements=counted(folder),
        ledger=books.ledger(folder.settler / "books.sqlite3"), reconciled=compared,
    )  # fmt: skip


async def peers_said(
    folder: Folder, network: Network, setting: Setting, playing: list[Fleet], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """What every process of peers says at its end; nothing of those that are not through in time."""
    public, nodes = public_keys(folder, network.plan.seed or 0), payout_nodes(folder, names)
    for number, (fleet, (first, peers)) in enumerate(zip(playing, shares(setting.peers, len(playing)), strict=True)):
        told = Told(
            first=first, peers=peers, rounds=setting.rounds, gateway_url=network.gateway_url, nodes=nodes,
            folder=str(folder.peers / f"fleet-{number}"), listen=setting.listen, poll_s=setting.poll_s,
            small=setting.small, **public,
        )  # fmt: skip
        await fleet.tell(told)
    parts_live = asyncio.create_task(network.watch())
    hearing = [asyncio.ensure_future(fleet.heard("played", within_s=setting.seconds_max)) for fleet in playing]
    try:
        either: tuple[asyncio.Task[Any], ...] = (parts_live, asyncio.create_task(asyncio.wait(hearing)))
        await asyncio.wait(either, return_when="FIRST_COMPLETED")
        if parts_live.done():
            parts_live.result()
        return [one.result() for one in hearing if one.done() and one.exception() is None]
    finally:
        parts_live.cancel()
        for one in hearing:
            one.cancel()


def count_statements() -> None:
    """Settler and attestor are started by way of what counts theirs; it costs them a little."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    for name in ("settler", "attestor"):
        services.MODULES[name] = (_scale_counted.__name__, *services.MODULES[name])


def counted(folder: Folder) -> dict[str, dict[str, int]]:
    """Service -> statements by kind."""
    return {file.stem: json.loads(file.read_text()) for file in folder.root.parent.glob("*.json")}


def verdicts(said: list[dict[str, Any]]) -> dict[str, int]:
    """How often the peers wrote down each."""
    counted: dict[str, int] = {}
    for line in (line for each in said for line in each["lines"]):
        counted[line["verdict"]] = counted.get(line["verdict"], 0) + 1
    return counted


def tell_paper(asked: argparse.Namespace) -> int:
    """The arithmetic, from what a run of growth with `--count` has written down."""
    if asked.json is None:
        raise Stop(Exit.USAGE, "paper needs --json FILE, as a run of growth with --count has written it")
    seen = measured_per_peer(msgspec.json.decode(asked.json.read_bytes(), type=list[Result]))
    print(f"{seen}\n\n{by_peers(seen)}\n\n{by_model(seen)}")
    return 0


def note(line: str) -> None:
    """How the start goes."""
    print(f"  {line}", flush=True)


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("promise", "growth", "paper"), default="promise")
    parser.add_argument("--lightning", choices=("lndsim", "lnd"), default="lndsim")
    parser.add_argument("--lnd-dir", type=Path)
    parser.add_argument("--peers", type=int, nargs="+", help="identities; of growth: each of them in turn")
    parser.add_argument("--rounds", type=int, help="3, and of growth 1")
    parser.add_argument("--nodes", type=int, default=5, help="payout nodes, each with a channel to the coordinator's")
    parser.add_argument("--seconds", type=int, help="longest time of one run")
    parser.add_argument("--no-hints", action="store_true", help="peers look again and do not listen")
    parser.add_argument("--count", action="store_true", help="count the database's statements of settler and attestor")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--scratch", type=Path, help="where the network lies while it runs")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except Stop as stop:
        sys.exit(f"{stop}\n{stop.detail}")
