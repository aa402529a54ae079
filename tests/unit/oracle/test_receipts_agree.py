"""Both sides of a receipt: what the attestor signs is what the peer's own check accepts, whatever was measured."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from l402_peer_agent.policy import check_receipt
from l402core.events import GradientScored

from tests.support.oracle import (
    UPLOAD_UNTIL_MS,
    Stage,
    aggregated,
    commits_closed,
    locked,
    measured,
    receipt_of,
    round_closed,
    sha,
)

NAMES = ("ann", "bob", "cy")
drops = st.lists(st.floats(-0.5, 3.0, allow_nan=False), min_size=3, max_size=3)


@settings(max_examples=15, deadline=None)
@given(drops, drops)
@example([0.1] * 3, [2.0] * 3)
@example([2.0] * 3, [0.1] * 3)
def test_the_peer_agrees_with_every_receipt(first: list[float], second: list[float]) -> None:
    """Two rounds, so that the reference is also held against the last one's."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_two_rounds(Path(folder), first, second))


async def _two_rounds(folder: Path, first: list[float], second: list[float]) -> None:
    stage = Stage(folder)
    await stage.announce()
    await _judge(stage, 1, first)
    if any(event.mask for event in stage.ears.all(GradientScored)):
        await stage.hear(aggregated(1))
    await _judge(stage, 2, second)
    assert len(stage.ears.all(GradientScored)) == 2 * len(NAMES)
    for scored in stage.ears.all(GradientScored):
        receipt = receipt_of(scored)
        check_receipt(
            scored.receipt,
            stage.terms(receipt.round),
            commitment=scored.commitment,
            peer=receipt.peer,
            payload_hash=receipt.payload_hash,
        )
    stage.database.close()


async def _judge(stage: Stage, round_: int, of: list[float]) -> None:
    names = [f"{name}{round_}" for name in NAMES]
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(stage.round_opened(round_))
    for seq, name in enumerate(names):
        offer = await stage.offer(name, seq, round_)
        await stage.hear(locked(offer), stage.uploaded(name, round_), stage.screened(name, round_))
    await stage.hear(commits_closed(*names, round_=round_), round_closed(*names, round_=round_))
    await stage.hear(*(measured(name, drop, round_) for name, drop in zip(names, of, strict=True)))
    assert {event.commitment for event in stage.ears.all(GradientScored)} >= {sha(name) for name in names}
