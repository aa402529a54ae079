"""What one peer more costs, from two runs that differ in nothing but their number. Pure."""

from collections.abc import Callable

from _scale_paper import Measured
from _scale_result import Result

LOCK_PER_S = 100.0
"""Rungs that our services lock on real lnds on two cores: 89 to 106 (docs/benchmarks.md)."""


def per_peer(less: Result, more: Result, pick: Callable[[Result], float]) -> float:
    """The difference for each peer and round more: what a run costs that has none is not counted."""
    return (pick(more) - pick(less)) / (peer_rounds(more) - peer_rounds(less))


def peer_rounds(result: Result) -> int:
    """How many times a peer took part."""
    return result.setting.peers * result.setting.rounds


def measured(results: list[Result]) -> Measured:
    """Between the smallest and the largest run. Raises ValueError where those are the same."""
    less, more = min(results, key=peer_rounds), max(results, key=peer_rounds)
    if peer_rounds(less) == peer_rounds(more):
        raise ValueError("two runs of different size are needed")

    def ms(service: str) -> float:
        return 1_000 * per_peer(less, more, lambda one: one.cpu_s[service])

    return Measured(
        facts=per_peer(less, more, lambda one: one.streams["FACTS"].messages),
        work=per_peer(less, more, lambda one: one.streams["WORK"].messages),
        fact_bytes=per_peer(less, more, lambda one: one.fact_bytes),
        statements=per_peer(less, more, lambda one: sum(one.statements["l402_settler"].values())),
        book_bytes=per_peer(less, more, lambda one: one.written_bytes["books"]),
        settler_ms=ms("settler"), attestor_ms=ms("attestor"), gateway_ms=ms("gateway"), invoicer_ms=ms("invoicer"),
        bus_ms=ms("nats"), lock_per_s=LOCK_PER_S,
    )  # fmt: skip
