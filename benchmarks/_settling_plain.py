"""Settling on real nodes, beside a plain client that settles as many hold invoices there before and after each wave."""

import argparse
import statistics
import time

from _history import RUNGS
from _plain import measure
from _settling_started import a_world
from _settling_world import settled

GOAL_RATIO = 0.8
"""Of what the plain client settles on the same nodes."""


async def beside_plain(asked: argparse.Namespace) -> None:
    """On real nodes, SQLite: what we settle beside the plain client just before and just after."""
    async with a_world(None, 100, asked) as world:
        hub, ends, count = world.known["coordinator"], world.ends, len(world.peers) * RUNGS
        amount_msat, waves = 1_050_000, list[tuple[float, float]]()
        await measure(hub, ends, count=count, amount_msat=amount_msat)  # nodes that have just started are slower
        before_s = (await measure(hub, ends, count=count, amount_msat=amount_msat))["settle"][0]
        for wave in range(1, asked.waves + 1):
            ladders = await world.wave()
            cpu, started = world.cpu_seconds(), time.perf_counter()
            await settled(world, ladders, at_once=asked.at_once)
            collected_s = max(one.collected_s for one in ladders) - started
            posted_s = max(one.done_s for one in ladders) - started
            spent = {name: round(now - cpu[name], 2) for name, now in world.cpu_seconds().items()}
            await world.ended(ladders)
            after_s = (await measure(hub, ends, count=count, amount_msat=amount_msat))["settle"][0]
            waves.append((statistics.mean((before_s, after_s)), collected_s))
            print(
                f"  wave {wave}: {count} rungs settled in {collected_s:.2f} s, {count / collected_s:.0f}/s, and posted after "
                f"{posted_s:.2f} s; the plain client settles {count / before_s:.0f}/s before and {count / after_s:.0f}/s "
                f"after; processor seconds {spent}", flush=True
            )  # fmt: skip
            before_s = after_s
        ratio = statistics.median(plain_s / ours_s for plain_s, ours_s in waves)
        verdict = "reached" if ratio >= GOAL_RATIO else "MISSED"
        print(f"settle, from our `accepted` on: ours / plain, median {ratio:.1%}, goal {GOAL_RATIO:.0%}: {verdict}")
        print("(the plain client looks at the payee alone; what the payer's node has seen, the books have)")
