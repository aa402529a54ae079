"""Attacks beside honest peers, round after round, and what each came to. It prints nothing.

Attacks that are never measured together outnumber nobody, so they share a run; those that are measured are fewer than
the honest peers of their run, but for pools, which may take as many places as they pay for.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from l402_peer_agent.adversaries.registry import KINDS
from l402_peer_agent.training import Pool, Taken
from l402core.signing import SigningKey
from torch import Tensor

from tests.attacks.court import Court, Player

HONEST = ("ann", "bob", "cid", "dee")
POOL_OF = {
    "pool-copies": 10,
    "pool-noised": 10,
    "pool-slices": 10,
    "pool-quick": 10,
    "pool-disjoint": 10,
    "pool-harm": 3,
}
"""Identities of one owner; the last are accomplices, fewer than the honest peers."""
RUNS: dict[str, tuple[str, ...]] = {
    "nobody": (),
    "hopeless": (
        "zero", "huge", "not-finite", "twice-indexed", "truncated", "oversize", "other-round", "stale-header",
        "other-header", "unpacked-copy", "late", "no-upload", "unlike",
        "accomplice", "noised-copy", "drowned-copy", "scaled-copy", "flipped-copy", "permuted-copy", "mixture",
        "patchwork", "replay", "old-replay", "sign-flip", "noise",
    ),
    "elsewhere": ("other-model", "stale-base", "few-steps"),
    "priced": ("scaled-up", "half-work", "hidden-pool"),
    "accomplices": ("pool-harm",),
    "copied pool": ("pool-copies", "pool-noised"),
    "sliced pool": ("pool-slices",),
    "quick pool": ("pool-quick",),
    "disjoint pool": ("pool-disjoint",),
}  # fmt: skip
"""Who attacks beside whom. The first run shows what honest peers reach alone."""


@dataclass(frozen=True)
class Told:
    """One attack's money, msat, and the code that decided each of its submissions."""

    kind: str
    identities: int
    fees_msat: int
    paid_msat: int
    verdicts: tuple[str, ...]

    @property
    def net_msat(self) -> int:
        """What it earned; negative where it cost more."""
        return self.paid_msat - self.fees_msat


@dataclass(frozen=True)
class Ran:
    """A run's history: the attacks, and per round what honest peers were paid, with the attacks and without (msat)."""

    name: str
    told: tuple[Told, ...]
    honest_msat: tuple[int, ...]
    alone_msat: tuple[int, ...]
    honest_fees_msat: int
    honest_verdicts: tuple[str, ...]
    losses: tuple[float, ...]
    """Held-out, nats per token: of the base, and after each round."""

    @property
    def honest_net_msat(self) -> int:
        """What one honest peer was left with, in the mean."""
        return (sum(self.honest_msat) - self.honest_fees_msat) // len(HONEST)

    @property
    def honest_change(self) -> float:
        """Of honest peers' pay: with the attacks over the same payloads and shards without them, less one."""
        alone = sum(self.alone_msat)
        return sum(self.honest_msat) / alone - 1 if alone else 0.0


async def play(
    name: str,
    kinds: Sequence[str],
    theta: Tensor,
    folder: Path,
    rounds: int,
    *,
    seed: int = 0,
    eval_tokens: int = 65_536,
) -> Ran:
    """`rounds` rounds of four honest peers and these attacks, who see every payload that was committed before theirs."""
    court = Court(folder / "oracle", theta, eval_tokens=eval_tokens)
    honest = [player(one, "honest", folder, seed) for one in HONEST]
    cheats = [one for kind in kinds for one in cast(kind, folder, seed)]
    paid, alone = [], []
    try:
        await court.begin()
        for _ in range(rounds):
            await court.open()
            taken: list[Taken] = []
            for one in (*honest, *cheats):
                if await court.submit(one, taken):
                    taken.append(Taken(bytes.fromhex(one.key.public), court.entries[-1].packed))
            outcome = await court.close()
            paid.append(outcome.paid_msat(HONEST))
            verdicts = await court.without(HONEST)
            alone.append(sum(one.units for one in verdicts.values()) * outcome.terms.unit_msat)
    finally:
        court.end()
    return Ran(
        name=name, told=tuple(_told(kind, [p for p in cheats if p.kind == kind]) for kind in kinds),
        honest_msat=tuple(paid), alone_msat=tuple(alone), honest_fees_msat=sum(p.fees_msat for p in honest),
        honest_verdicts=tuple(v for p in honest for v in p.verdicts), losses=court.losses(),
    )  # fmt: skip


def cast(kind: str, folder: Path, seed: int) -> list[Player]:
    """The attack's identities: one, or a pool."""
    count = POOL_OF.get(kind, 1)
    leader = bytes.fromhex(key_of(f"{kind}-0", seed).public)
    return [
        player(f"{kind}-{number}", kind, folder, seed, Pool(leader=leader, member=number, members=count))
        for number in range(count)
    ]


def _told(kind: str, mine: Sequence[Player]) -> Told:
    return Told(
        kind=kind, identities=len(mine), fees_msat=sum(p.fees_msat for p in mine),
        paid_msat=sum(p.paid_msat for p in mine), verdicts=tuple(v for p in mine for v in p.verdicts),
    )  # fmt: skip


def player(name: str, kind: str, folder: Path, seed: int, pool: Pool | None = None) -> Player:
    """One identity with its own memory."""
    key = key_of(name, seed)
    return Player(name, kind, KINDS[kind](folder / name, key.public, pool), key)


def key_of(name: str, seed: int) -> SigningKey:
    """An identity's key, from its name."""
    return SigningKey(hashlib.sha256(f"{seed} {name}".encode()).digest())
