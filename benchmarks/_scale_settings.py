"""How large each run is, and the knobs that follow from it. Pure: it sets nothing."""

import argparse

import msgspec
from _scale_paper import channels_for

INNER_STEPS, BATCH, EVAL_TOKENS = 4, 4, 4_096
"""So small that two cores train 70 peers and score 70 updates within a round: 2,048 tokens trained a peer, 2 shards scored."""
PHASES_S = (38, 5, 5, 14)
"""Commit (training included), lock, upload, judge; 8 seconds are left of 70 for the next checkpoint."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    peers: int
    rounds: int
    nodes: int
    fleets: int
    workers: int
    phases_s: tuple[int, int, int, int]
    inner_steps: int
    batch: int
    eval_tokens: int
    learning_rate_ppm: int
    listen: bool
    poll_s: float
    expected: bool
    """Whether phases end once all are through, and not at their deadline."""
    seconds_max: int
    small: tuple[int, int, int] | None = None
    """Width, layers, heads; None: the default model."""

    def says(self) -> str:
        """One line for people."""
        model = (
            "836,736 parameters" if self.small is None else f"a model of width {self.small[0]}, {self.small[1]} layers"
        )
        tokens = self.inner_steps * self.batch * 128
        phases = " + ".join(map(str, self.phases_s))
        return (
            f"{self.peers} peers in {self.fleets} processes over {self.nodes} nodes, {self.rounds} rounds of at most "
            f"{phases} = {sum(self.phases_s)} s; {model}, H {self.inner_steps} of {self.batch} windows "
            f"({tokens:,} tokens a peer), scored on {self.eval_tokens:,} hidden tokens, {self.workers} workers"
        )

    def environment(self) -> dict[str, str]:
        """The services' knobs that differ from a local network's."""
        commit, lock, upload, judge = self.phases_s
        told: dict[str, object] = {
            "SETTLER_PLACES": self.peers, "SETTLER_COMMIT_S": commit, "SETTLER_LOCK_S": lock,
            "SETTLER_UPLOAD_S": upload, "SETTLER_JUDGE_S": judge, "SETTLER_INNER_STEPS": self.inner_steps,
            "SETTLER_BATCH": self.batch, "SETTLER_EVAL_TOKENS": self.eval_tokens,
            "SETTLER_LEARNING_RATE_PPM": self.learning_rate_ppm,
            "SETTLER_PAYEE_RUNGS": 100_000, "SETTLER_PAYEE_EXPOSURE_MSAT": 10**12, "SETTLER_DAY_CAP_MSAT": 10**12,
            "INVOICER_ROUND_MAX_MSAT": 10**12, "INVOICER_DAY_MAX_MSAT": 10**12,
            "GATEWAY_MINTS_PER_CLIENT": 1_000_000, "GATEWAY_MINTS_IN_ALL": 1_000_000,
            "GATEWAY_HINT_CLIENTS": max(500, 2 * self.peers),
        }  # fmt: skip
        if self.small is not None:
            width, layers, heads = self.small
            told |= {"WORKER_MODEL_WIDTH": width, "WORKER_MODEL_LAYERS": layers, "WORKER_MODEL_HEADS": heads}
        return {f"L402_{name}": str(value) for name, value in told.items()}


def promise(asked: argparse.Namespace) -> Setting:
    """70 peers, 70 seconds, three rounds."""
    peers = (asked.peers or [70])[0]
    rounds = asked.rounds or 3
    return Setting(
        peers=peers, rounds=rounds, nodes=max(asked.nodes, channels_for(peers)), fleets=2, workers=2, phases_s=PHASES_S,
        inner_steps=INNER_STEPS, batch=BATCH, eval_tokens=EVAL_TOKENS, learning_rate_ppm=1_000,
        listen=not asked.no_hints, poll_s=1.0, expected=True, seconds_max=asked.seconds or 100 * rounds + 60,
    )  # fmt: skip


def growth(asked: argparse.Namespace) -> list[Setting]:
    """More and more peers, one round each, on a model so small that the rest is what is measured."""
    return [
        Setting(
            peers=peers, rounds=asked.rounds or 1, nodes=max(asked.nodes, channels_for(peers)), fleets=2, workers=1,
            phases_s=(60 + peers // 5, 30 + peers // 8, 30 + peers // 8, 60 + peers // 5), inner_steps=4, batch=4,
            eval_tokens=2_048, learning_rate_ppm=4_000, listen=not asked.no_hints, poll_s=2.0, expected=True,
            seconds_max=asked.seconds or 420, small=(64, 2, 2),
        )
        for peers in asked.peers or (10, 30, 100, 300, 1_000)
    ]  # fmt: skip
