"""Whether every peer of a round can be measured in its window, and on how many shards. Pure: it knows no worker by name.

The pace is that of the whole pool, as the last rounds showed it; workers share nothing but the queue, so more of them
measure in proportion. Every submission is measured on the same shards, and everybody is measured: what gives way is the
sample, down to a floor below which honest work could no longer be told from nothing. What each costs besides, the question of
its assigned data, does not shrink with the sample.
"""

from collections.abc import Sequence

import msgspec
from l402core.events import GradientMeasured, RoundAssessed
from sparseloco.defaults import CONTEXT, OWN_WINDOWS

from l402_oracle.derive import SHARD_TOKENS

FLOOR_SHARDS = 16
"""32,768 tokens: the fewest that a plan takes. Fewer only where terms or pool have no more."""
OWN_TOKENS = 2 * OWN_WINDOWS * CONTEXT
"""Of one submission: its assigned windows are computed without and with its update, and are nobody else's."""
USED_PERCENT = 80
"""Of the window; the rest is for what is slower than the last round."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a round's judging takes, and what is taken of it."""

    peers: int
    window_ms: int
    tokens_per_s: int
    """Of the pool, as measured; 0 while no round was."""
    shards: int
    """Taken for each submission."""
    wanted_shards: int
    """As many as the terms ask for."""
    needed_ms: int
    """For all peers on the wanted shards."""
    peers_fitting: int
    """How many would be measured in time on the wanted shards; 0 while no pace is known."""
    fits: bool
    workers_percent: int
    """Of the present pool, what all of it in time would take."""
    says: str


def pace_of(assessed: RoundAssessed, measured: Sequence[GradientMeasured]) -> int:
    """Tokens per second of the pool in one round; 0 where nothing can be said."""
    done = [event for event in measured if event.tokens > 0]
    tokens = sum(event.tokens + 2 * event.own_sequences * CONTEXT for event in done)
    took_ms = max((event.occurred_at_ms for event in done), default=0) - assessed.occurred_at_ms
    return tokens * 1_000 // took_ms if took_ms > 0 else 0


def plan(*, tokens_per_s: int, peers: int, window_ms: int, wanted_shards: int, yardstick: bool = False) -> Plan:
    """As many shards as fit, between the floor and what is wanted; all of them while no pace is known.

    The yardstick is measured like a peer, and counts for none.
    """
    usable_ms, jobs = max(1, window_ms * USED_PERCENT // 100), peers + yardstick
    work = _work(jobs, wanted_shards)
    needed_ms = -(-work // tokens_per_s) if tokens_per_s else 0
    each = tokens_per_s * usable_ms // (1_000 * max(1, jobs))
    fitting = (each - OWN_TOKENS) // SHARD_TOKENS
    shards = wanted_shards if needed_ms <= usable_ms else max(min(FLOOR_SHARDS, wanted_shards), fitting)
    percent = -(-work * 100 // (tokens_per_s * usable_ms)) if tokens_per_s else 0
    made = Plan(
        peers=peers, window_ms=window_ms, tokens_per_s=tokens_per_s, shards=shards, wanted_shards=wanted_shards,
        needed_ms=needed_ms, fits=needed_ms <= usable_ms, workers_percent=percent, says="",
        peers_fitting=max(0, tokens_per_s * usable_ms // _work(1, wanted_shards) - yardstick),
    )  # fmt: skip
    late = bool(tokens_per_s) and _work(jobs, shards) > tokens_per_s * usable_ms
    return msgspec.structs.replace(made, says=_says(made, late=late))


def _work(jobs: int, shards: int) -> int:
    """In thousandths of a token."""
    return jobs * (shards * SHARD_TOKENS + OWN_TOKENS) * 1_000


def _says(made: Plan, *, late: bool) -> str:
    if not made.tokens_per_s:
        return "No round was measured yet: every submission is measured on all shards that the terms ask for."
    task = f"{made.peers} peers on {made.wanted_shards} shards each take {made.needed_ms / 1_000:.1f} s"
    pace = f"at the {made.tokens_per_s:,} tokens a second that the workers measured"
    window = f"of a window of {made.window_ms / 1_000:.0f} s"
    if made.fits:
        return f"{task} {window} {pace}: it fits, also with {made.workers_percent} % of these workers."
    more = f"{-(-made.workers_percent // 10) / 10:.1f} times the workers would measure all of it in time"
    if late:
        return f"{task} {window} {pace}: not everybody can be measured even on {made.shards} shards; {more}."
    return f"{task} {window} {pace}: {made.shards} shards are taken instead; {more}."
