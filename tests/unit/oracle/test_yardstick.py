"""The oracle's own update of a round: trained again it is the same, and whoever is many does not move what it says."""

import hashlib
from pathlib import Path

import msgspec
import pytest
import torch
from l402_oracle.attestor.judgement import clip_norms, reference_from
from l402_oracle.attestor.own_data import PART, Question, Tried, not_own_data, question
from l402_oracle.derive import yardstick_name
from l402_oracle.worker.yardstick import read_state, worked, write_state
from l402core.documents import ObjectRef, Recipe, Terms
from l402core.errors import Contradiction, PeerError
from l402core.events import (
    CheckpointPublished,
    GradientMeasure,
    GradientScored,
    RoundAggregate,
    RoundAssessed,
    RoundOpened,
    YardstickMade,
    YardstickMake,
)
from l402core.evidence import Yardstick
from l402core.sealing import UnsealingKey, open_payload, unseal_payload
from sparseloco.corpus import load_corpus
from sparseloco.data import assigned_windows
from sparseloco.model import GPTShape, init_parameters
from sparseloco.train import AdamState

from tests.support.gateway import terms
from tests.support.oracle import (
    ANSWERS,
    JUDGE_BY_MS,
    NANO,
    SETTLER,
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
from tests.unit.oracle.test_worker import SHAPE as WORKERS_SHAPE
from tests.unit.oracle.test_worker import Bench

SHAPE = GPTShape(width=16, layers=1, heads=2)
RECIPE = Recipe(
    inner_steps=2, batch=2, sequence_length=128, learning_rate_ppm=2_000, feedback_decay_ppm=800_000,
    outer_rate_ppm=1_300_000, chunk_k=64,
)  # fmt: skip


def made(state: bytes = b"", *, round_: int = 1, checkpoint: str = "ab" * 32) -> tuple[bytes, bytes]:
    """One round's payload and state."""
    done = worked(
        init_parameters(1, SHAPE), state, load_corpus(), SHAPE, recipe=RECIPE, round_=round_, checkpoint=checkpoint
    )
    assert len(done.norms) == len(SHAPE.spec().tensors)
    return done.packed, done.state


# --- the work ---------------------------------------------------------------------------------------------------------


def test_trained_again_it_is_the_same_to_the_byte() -> None:
    """Payload and state, from the same checkpoint and state; another round, checkpoint or state gives others."""
    packed, state = made()
    assert made() == (packed, state)
    assert len({made()[0], made(round_=2)[0], made(checkpoint="cd" * 32)[0], made(state)[0]}) == 4


def test_its_memory_goes_on_as_a_peers_does() -> None:
    """Steps are counted on, what was not sent is remembered, and bytes of another model begin anew."""
    numel = SHAPE.spec().numel
    adam, feedback = read_state(made()[1], numel)
    assert adam.steps == RECIPE.inner_steps
    assert feedback.abs().sum() > 0
    again = read_state(write_state(adam, feedback), numel)
    assert torch.equal(again[0].first, adam.first)
    assert torch.equal(again[1], feedback)
    assert read_state(made(made()[1])[1], numel)[0].steps == 2 * RECIPE.inner_steps
    assert read_state(b"other", numel)[0].steps == AdamState.fresh(numel).steps == 0


def test_the_question_about_its_data_is_about_what_it_was_trained_on() -> None:
    """Its name draws the shard and the windows, as a shard key draws a peer's."""
    key = bytes.fromhex(yardstick_name(1, "ab" * 32))
    assert assigned_windows(load_corpus(), key, 1, 2, (0, 3)).shape == (2, 129)


# --- the rules ----------------------------------------------------------------------------------------------------------


def test_ten_small_identities_beside_four_peers_move_nothing() -> None:
    """Neither the norms that all are clipped to, nor the reference, nor whether own data can be told."""
    honest, small = [(2.0, 4.0)] * 4, [(0.1, 0.2)] * 10
    assert clip_norms(honest + small, (2.1, 3.9)) == clip_norms(honest, (2.1, 3.9)) == (2.1, 3.9)
    assert clip_norms(honest + small, ()) == (0.1, 0.2)  # what their majority did before
    rules, own = a_terms(), a_yardstick(drop=0.1)
    few = [round(x * NANO) for x in [0.1] * 4]
    assert reference_from(rules, few + [round(0.06 * NANO)] * 10, own) == reference_from(rules, few, own) == 0.1 * NANO
    shown = {f"honest {n}": Tried(100, 110, 10_000) for n in range(4)}
    pool = {f"pool {n}": Tried(60, 61, 1_000) for n in range(10)}
    assert not_own_data(shown | pool, question(shown | pool)) == {}
    assert set(not_own_data(shown | pool, Question(10.0))) == set(pool)


def test_where_the_yardstick_shows_nothing_the_rest_of_the_round_counts() -> None:
    """It failed to improve: the reference is that of the accepted, held beside the last round's."""
    rules, drops = a_terms(), [round(0.1 * NANO)] * 3
    assert reference_from(rules, drops, a_yardstick(drop=-0.1)) == reference_from(rules, drops, None) > 0
    held = msgspec.structs.replace(rules, reference_previous=NANO)
    assert reference_from(held, drops, a_yardstick(drop=0.1)) == NANO // 4


@pytest.mark.parametrize(("usual", "least"), [(0.0, -3.455), (4.0, -1.455), (9.0, 1.045), (20.0, PART * 20.0)])
def test_how_much_own_data_must_show_follows_the_yardstick(usual: float, least: float) -> None:
    """Half of what the yardstick shows, less what both may err by; never more than a quarter."""
    own = Tried(1_000_000, 2_000_000, round(1_000 * usual))
    for excess, refused in ((least + 0.05, False), (least - 0.05, True)):
        one = Tried(1_000_000, 2_000_000, round(1_000 * excess))
        assert bool(not_own_data({"one": one}, question({"one": one}, own))) is refused


def a_terms() -> Terms:
    """Terms of a first round."""
    return terms(phi_ppm=600_000, reference_previous=0)


def a_yardstick(*, drop: float) -> Yardstick:
    """As a page has it."""
    mean = round(drop * NANO)
    return Yardstick(
        name="ab" * 32, payload_hash="", content_key="", norms=(), state="", state_object="", state_key="",
        next_state="", drop_mean=mean,
        drop_low=mean - 1, drop_high=mean + 1, own_mean=0, own_excess_milli=0, own_sequences=0, losses=None,
    )  # fmt: skip


# --- its memory ---------------------------------------------------------------------------------------------------------


class Memory(Bench):
    """A worker that is asked for one yardstick after the other."""

    async def make(self, round_: int, base: ObjectRef, state: ObjectRef | None) -> YardstickMade:
        """The answer."""
        request = YardstickMake(
            id="s", occurred_at_ms=0, round=round_, checkpoint=base, model_id=self.torch.model_id, recipe=RECIPE, state=state
        )  # fmt: skip
        await self.worker.yardstick_make(request)
        answer = self.said.events[-1]
        assert isinstance(answer, YardstickMade)
        assert answer.failure == ""
        return answer

    def memory(self, sealed: ObjectRef | None) -> bytes:
        """What the worker itself left, by its reading key."""
        assert sealed is not None
        return unseal_payload(self.shelf.kept[sealed.sha256], self.worker._key)[0]

    def inside(self, sealed: ObjectRef | None, key: str) -> bytes:
        """What is in the store, by a key that the attestor was told."""
        assert sealed is not None
        return open_payload(self.shelf.kept[sealed.sha256], ANSWERS.unseal(bytes.fromhex(key)))


async def test_its_memory_lies_in_the_store_sealed_and_is_taken_up_by_whoever_holds_the_reading_key() -> None:
    """The page later names what was in it, and the key; before, the store shows nothing of it."""
    bench = Memory()
    base = await bench.checkpoint()
    first = await bench.make(1, base, None)
    second = await bench.make(2, base, first.state)
    state = bench.inside(first.state, second.sealed_state_key)
    assert first.state is not None
    assert (first.state_before, first.state_object, first.sealed_state_key) == ("", "", "")
    assert (second.state_before, second.state_object) == (first.state_after, first.state.sha256)
    assert hashlib.sha256(state).hexdigest() == first.state_after
    with pytest.raises(
        PeerError, match="content key"
    ):  # the page of its own round, which comes before, opens the payload alone
        bench.inside(first.state, first.sealed_key)
    assert read_state(bench.memory(second.state), WORKERS_SHAPE.spec().numel)[0].steps == 4
    assert not [kept for kept in bench.shelf.kept.values() if state[64:128] in kept]


async def test_a_memory_whose_key_is_gone_is_begun_anew() -> None:
    """Rather than no yardstick from here on; the page shows that it was."""
    bench = Memory()
    base = await bench.checkpoint()
    first = await bench.make(1, base, None)
    bench.worker._key = UnsealingKey(bytes([9]) * 32)
    anew = await bench.make(2, base, first.state)
    assert (anew.state_before, anew.state_object, anew.sealed_state_key) == ("", "", "")
    assert read_state(bench.memory(anew.state), WORKERS_SHAPE.spec().numel)[0].steps == 2


# --- the round ------------------------------------------------------------------------------------------------------------


class Play:
    """A round of two peers beside a yardstick."""

    def __init__(self, folder: Path) -> None:
        self.stage = Stage(folder, yardstick=True)

    async def uploads(self, round_: int = 1) -> list[str]:
        """Open, offer, lock, upload and screen."""
        names = [f"{name}{round_}" for name in ("ann", "bob")]
        self.stage.now_ms = UPLOAD_UNTIL_MS
        await self.stage.hear(self.stage.round_opened(round_))
        for seq, name in enumerate(names):
            offer = await self.stage.offer(name, seq, round_)
            await self.stage.hear(locked(offer), self.stage.uploaded(name, round_), self.stage.screened(name, round_))
        return names

    async def close(self, names: list[str], round_: int = 1) -> None:
        """Commitments and uploads are over."""
        await self.stage.hear(commits_closed(*names, round_=round_), round_closed(*names, round_=round_))

    async def measure(self, names: list[str], *, drops: tuple[float, ...], own: float | None, round_: int = 1) -> None:
        """What the workers answer."""
        for name, drop in zip(names, drops, strict=True):
            await self.stage.hear(measured(name, drop, round_))
        if own is not None:
            asked = self.stage.ears.last(RoundAssessed).yardstick
            await self.stage.hear(msgspec.structs.replace(measured("own", own, round_), commitment=asked))


async def test_a_round_is_judged_beside_its_yardstick(tmp_path: Path, each_database: str) -> None:
    """Asked for once the terms are there, waited for, clipped to, measured with the others, and the reference."""
    play = Play(tmp_path)
    await play.stage.announce()
    names = await play.uploads()
    asked = play.stage.ears.last(YardstickMake)
    assert (asked.round, asked.state, asked.recipe) == (1, None, play.stage.terms().recipe)
    await play.close(names)
    assert play.stage.ears.all(RoundAssessed) == []
    await play.stage.hear(play.stage.yardstick_made(norms=(0.5, 0.7)))
    assessed = play.stage.ears.last(RoundAssessed)
    assert assessed.clip_norms == (0.5, 0.7)
    assert {event.commitment for event in play.stage.ears.all(GradientMeasure)} == {
        *(sha(name) for name in names), assessed.yardstick
    }  # fmt: skip
    await play.measure(names, drops=(0.2, 0.2), own=None)
    assert play.stage.ears.all(GradientScored) == []
    await play.measure([], drops=(), own=0.1)
    asked_for = play.stage.ears.last(RoundAggregate)
    assert [item.commitment for item in asked_for.items] == [*(sha(name) for name in names), assessed.yardstick]
    receipts = [receipt_of(event) for event in play.stage.ears.all(GradientScored)]
    assert [(r.reference, r.quality_ppm) for r in receipts] == [(NANO // 10, 2_000_000)] * 2
    play.stage.database.close()


async def test_where_nothing_is_accepted_the_yardstick_makes_no_checkpoint_of_its_own(tmp_path: Path) -> None:
    """A round that nobody earned in changes nothing, and a sponsor pays for none of it."""
    play = Play(tmp_path)
    await play.stage.announce()
    names = await play.uploads()
    await play.stage.hear(play.stage.yardstick_made())
    await play.close(names)
    await play.measure(names, drops=(-0.2, 0.01), own=0.1)
    published = play.stage.ears.last(CheckpointPublished)
    assert (published.round, published.checkpoint) == (2, play.stage.terms().checkpoint)
    play.stage.database.close()


async def test_the_next_yardstick_goes_on_where_the_last_one_stopped(tmp_path: Path, each_database: str) -> None:
    """The state that it left is the state that the next one is asked to begin with."""
    play = Play(tmp_path)
    await play.stage.announce()
    names = await play.uploads()
    await play.stage.hear(play.stage.yardstick_made())
    await play.close(names)
    await play.measure(names, drops=(0.1, 0.1), own=0.1)
    await play.stage.hear(aggregated(1))
    await play.uploads(2)
    state = play.stage.ears.last(YardstickMake).state
    assert state is not None
    assert state.sha256 == sha("state 1")
    play.stage.database.close()


@pytest.mark.parametrize("late", [False, True])
async def test_a_round_whose_yardstick_fails_is_judged_by_its_own_medians(tmp_path: Path, *, late: bool) -> None:
    """It could not be made, or half of the judging time is over: nobody waits for it for ever."""
    play = Play(tmp_path)
    await play.stage.announce()
    names = await play.uploads()
    await play.close(names)
    if late:
        await play.stage.tick(to_ms=(UPLOAD_UNTIL_MS + JUDGE_BY_MS) // 2)
        await play.stage.hear(play.stage.yardstick_made(norms=(0.5, 0.7)))
    else:
        await play.stage.hear(play.stage.yardstick_made(failure="unreadable: RuntimeError"))
    assessed = play.stage.ears.last(RoundAssessed)
    assert (assessed.clip_norms, assessed.yardstick) == ((1.0, 2.0), "")
    await play.measure(names, drops=(0.2, 0.2), own=None)
    assert [receipt_of(event).reference for event in play.stage.ears.all(GradientScored)] == [NANO // 5] * 2
    play.stage.database.close()


async def test_a_yardstick_that_is_never_measured_does_not_hold_a_round_up(tmp_path: Path) -> None:
    """At judge_by the round is decided beside one another."""
    play = Play(tmp_path)
    await play.stage.announce()
    names = await play.uploads()
    await play.stage.hear(play.stage.yardstick_made())
    await play.close(names)
    await play.measure(names, drops=(0.2, 0.2), own=None)
    await play.stage.tick(to_ms=JUDGE_BY_MS)
    assert [receipt_of(event).reference for event in play.stage.ears.all(GradientScored)] == [NANO // 5] * 2
    play.stage.database.close()


async def test_what_a_crash_lost_is_asked_again(tmp_path: Path) -> None:
    """Training before the assessment, the measurement after it."""
    play = Play(tmp_path)
    await play.stage.announce()
    names = await play.uploads()
    await play.stage.attestor.begin()
    await play.stage.publish()
    assert len(play.stage.ears.all(YardstickMake)) == 2
    await play.stage.hear(play.stage.yardstick_made())
    await play.close(names)
    before = len(play.stage.ears.all(GradientMeasure))
    await play.stage.attestor.begin()
    await play.stage.publish()
    assert len(play.stage.ears.all(GradientMeasure)) == 2 * before == 6
    play.stage.database.close()


async def test_terms_that_leave_the_yardstick_out_are_not_those_that_were_announced(tmp_path: Path) -> None:
    """Who is judged how is settled before anybody pays."""
    stage = Stage(tmp_path, yardstick=True)
    await stage.announce()
    terms = SETTLER.sign(Terms.tag, stage.terms(yardstick=False))
    with pytest.raises(Contradiction):
        await stage.hear(RoundOpened(id="s", occurred_at_ms=0, round=1, terms=terms))
    stage.database.close()
