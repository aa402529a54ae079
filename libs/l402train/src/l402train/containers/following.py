"""`l402-train follow`: rounds of a network that runs elsewhere, as the bus tells them, and its books at the end."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from l402train import comparing, screen, sponsored
from l402train.exits import Exit, Stop
from l402train.facts import Facts
from l402train.peers import Peer
from l402train.watch import watching

FIRST_S = 300.0
"""For a network that has just started to publish its first checkpoint."""
ROUND_S = 600.0
SETTLE_S = 60.0


def cast_of(identities: Path | None) -> tuple[Peer, ...]:
    """Names for the keys of a JSON list; nobody has a name without one. Raises Stop."""
    if identities is None:
        return ()
    try:
        listed = msgspec.json.decode(identities.read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError) as error:
        raise Stop(Exit.USAGE, f"{identities} is not a JSON list of public keys: {error}") from error
    return tuple(
        Peer(name=f"peer-{number}", kind="guest", identity=identity) for number, identity in enumerate(listed, start=1)
    )


async def follow(nats_url: str, rounds: int, identities: Path | None, *, color: bool) -> Exit:
    """Print each round once it is over, `rounds` of them from now on, then compare the books. Raises Stop."""
    out = screen.console(color=color)
    began = time.monotonic()
    facts = Facts(cast_of(identities), lambda: time.monotonic() - began)
    async with watching(nats_url, facts.take):
        await _until(lambda: bool(facts.rounds), FIRST_S, "no round has been opened")
        first = max(facts.rounds)
        out.print(f"following rounds {first} to {first + rounds - 1}")
        for number in range(first, first + rounds):
            await _until(partial(facts.is_over, number), ROUND_S, f"round {number} is not over")
            out.print(screen.round_table(facts.report(number)))
            out.print(sponsored.line(facts.report(number)), soft_wrap=True)
        paid = sum(sum(one.ended.values()) for n in range(first, first + rounds) for one in facts.of_round(n))
    compared = await comparing.ask(nats_url)
    out.print(f"{rounds} rounds, {screen.sat(paid)} sat settled so far. {comparing.sentence(compared)}", soft_wrap=True)
    return Exit.UNTRUE if comparing.contradicts(compared) else Exit.FINE


async def _until(is_so: Callable[[], bool], limit_s: float, otherwise: str) -> None:
    ends_at = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > ends_at:
            raise Stop(Exit.PART_FAILED, f"{otherwise} after {limit_s:g} s")
        await asyncio.sleep(0.2)
