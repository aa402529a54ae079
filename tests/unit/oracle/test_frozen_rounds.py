"""A round that the oracle froze: nothing of it is ever judged, a person ends it, and the network goes on."""

import pytest
from l402_oracle.attestor.wiring import round_sight
from l402_oracle.derive import seed_commitment
from l402core.errors import Conflict, Contradiction, Malformed, NotFound
from l402core.events import CheckpointPublished, EndRound, GradientScored, RoundAssessed, RoundEnded

from tests.support.oracle import (
    NANO,
    UPLOAD_UNTIL_MS,
    Stage,
    aggregated,
    commits_closed,
    locked,
    measured,
    round_closed,
    sha,
)


async def a_frozen_round(stage: Stage, number: int = 1) -> None:
    """Ann and bob are through; the settler closes the round with their order turned round."""
    await stage.hear(stage.round_opened(number))
    ann, bob = [await stage.offer(f"{name}{number}", seq, number) for seq, name in enumerate(("ann", "bob"))]
    names = (f"ann{number}", f"bob{number}")
    await stage.hear(commits_closed(*names, round_=number), locked(ann), locked(bob))
    await stage.hear(*(stage.uploaded(name, number) for name in names))
    await stage.hear(*(stage.screened(name, number) for name in names))
    stage.now_ms = UPLOAD_UNTIL_MS
    with pytest.raises(Contradiction, match="frozen"):
        await stage.hear(round_closed(*reversed(names), round_=number))


async def ended(
    stage: Stage, number: int = 1, *, by: str = "olga", reason: str = "the closing was a lie"
) -> RoundEnded:
    """What the order is answered."""
    told = await stage.attestor.end_round(EndRound(round=number, by=by, reason=reason))
    await stage.publish()
    return told


async def test_a_frozen_round_ends_by_an_order_and_the_next_opens_on_the_same_checkpoint(stage: Stage) -> None:
    """Nobody was decided about, peers hear 404 before and after, and a second round is judged and paid as ever."""
    await stage.announce()
    await a_frozen_round(stage)
    assert [event.round for event in stage.ears.all(CheckpointPublished)] == [1]
    told = await ended(stage)
    first, second = stage.ears.all(CheckpointPublished)
    assert (told.round, told.checkpoint) == (1, first.checkpoint.sha256)
    assert "not the one" in told.trouble
    assert (second.round, second.checkpoint, second.accepted) == (2, first.checkpoint, ())
    assert second.seed_commitment == seed_commitment(stage.parts.seed(2, first.checkpoint.sha256))
    assert (stage.ears.all(GradientScored), stage.ears.all(RoundAssessed)) == ([], [])
    with pytest.raises(NotFound):
        await stage.attestor.delivery.decision(sha("ann1"))
    sight = await round_sight(stage.database)(1)
    assert sight is not None
    assert sight.state == "void"
    await stage.hear(stage.round_opened(2))
    offer = await stage.offer("ann2", 0, 2)
    await stage.hear(
        commits_closed("ann2", round_=2), locked(offer), stage.uploaded("ann2", 2), stage.screened("ann2", 2)
    )
    await stage.hear(round_closed("ann2", round_=2), measured("ann2", 0.5, 2), aggregated(2))
    assert stage.ears.last(GradientScored).verdict == "accepted"
    assert stage.ears.last(CheckpointPublished).round == 3


async def test_what_comes_late_about_an_ended_round_changes_nothing(stage: Stage) -> None:
    """The honest closing, measurements, time: it is over, and told over once more it still is."""
    await stage.announce()
    await a_frozen_round(stage)
    await ended(stage)
    with pytest.raises(Contradiction):
        await stage.hear(round_closed("ann1", "bob1"))
    await stage.hear(measured("ann1", 0.5))
    await stage.tick(to_ms=stage.terms().judge_by_ms + 60_000)
    await stage.attestor.judging.resume()
    await stage.publish()
    assert (stage.ears.all(GradientScored), stage.ears.all(RoundAssessed)) == ([], [])
    with pytest.raises(Conflict, match="void"):
        await ended(stage)


async def test_only_a_frozen_round_is_ended_by_hand_and_by_somebody_with_a_reason(stage: Stage) -> None:
    """An open round goes its way; a round that was never announced is none."""
    await stage.announce()
    with pytest.raises(Conflict, match="announced"):
        await ended(stage)
    with pytest.raises(NotFound):
        await ended(stage, 7)
    with pytest.raises(NotFound):
        await ended(stage, 0)
    await a_frozen_round(stage)
    for by, reason in (("", "because"), ("olga", " "), ("olga", "x" * 1_001), ("o" * 81, "because")):
        with pytest.raises(Malformed):
            await ended(stage, by=by, reason=reason)
    assert [event.round for event in stage.ears.all(CheckpointPublished)] == [1]


async def test_two_frozen_rounds_end_one_after_the_other(stage: Stage) -> None:
    """The reference that a round was announced with goes on through those of which nothing was used."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    offer = await stage.offer("ann", 0)
    await stage.hear(commits_closed("ann"), locked(offer), stage.uploaded("ann"), stage.screened("ann"))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed("ann"), measured("ann", 0.5), aggregated(1))
    for number in (2, 3):
        await a_frozen_round(stage, number)
        await ended(stage, number)
    told = {event.round: event.reference_previous for event in stage.ears.all(CheckpointPublished)}
    assert told == {1: 0, 2: NANO // 2, 3: NANO // 2, 4: NANO // 2}
