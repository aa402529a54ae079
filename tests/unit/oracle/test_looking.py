"""How often a round is looked at whole: when nothing is missing, and neither at each of its many words nor by the clock."""

import asyncio
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import tables
from l402_oracle.attestor import judging
from l402_oracle.attestor.judgement import Submission
from l402_oracle.attestor.waiting import REST_MS, Patience
from l402core.errors import NotFound, TooEarly
from l402core.events import Event, GradientMeasure, GradientScored, OfferMade, RoundAssessed
from l402core.outbox import Transaction

from tests.support.oracle import (
    JUDGE_BY_MS,
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    round_closed,
    sha,
)

HALF_MS = (UPLOAD_UNTIL_MS + JUDGE_BY_MS) // 2


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many submissions were read at each look at a whole round."""
    counts: list[int] = []
    read = books.read_submissions

    def counted(tx: Transaction, commitments: tuple[str, ...]) -> list[Submission]:
        counts.append(len(commitments))
        return read(tx, commitments)

    monkeypatch.setattr(books, "read_submissions", counted)
    return counts


def a_stage(folder: Path) -> Stage:
    """One in a folder of its own."""
    folder.mkdir()
    return Stage(folder)


async def closed(stage: Stage, *names: str) -> None:
    """A round in which all of these are locked and uploaded, and none is screened."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    for seq, name in enumerate(names):
        await stage.hear(locked(await stage.offer(name, seq)), stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(commits_closed(*names), round_closed(*names))


async def looks_of(stage: Stage, peers: int, looks: list[int]) -> int:
    """How often every submission of a round is read, from its opening to its decision."""
    names = [f"peer {number}" for number in range(peers)]
    looks.clear()
    await closed(stage, *names)
    for event in [*(stage.screened(name) for name in names), *(measured(name, 0.5) for name in names)]:
        await stage.hear(event)
        await stage.tick()
    assert len(stage.ears.all(GradientScored)) == peers
    assert stage.attestor.judging._patience._waits == {}
    stage.database.close()
    return len(looks)


async def test_more_peers_are_no_more_looks(tmp_path: Path, looks: list[int]) -> None:
    """Each look reads every submission: as many looks as peers would be the square of them."""
    few = await looks_of(a_stage(tmp_path / "few"), 2, looks)
    assert few == await looks_of(a_stage(tmp_path / "many"), 9, looks)


async def test_the_clock_alone_reads_no_submission(stage: Stage, looks: list[int]) -> None:
    """A round that waits for its workers costs the timer one question, however many are in it."""
    await closed(stage, "ann", "bob")
    looks.clear()
    for _ in range(20):
        await stage.tick(to_ms=stage.now_ms + REST_MS // 20 - 1)
    assert looks == []
    await stage.tick(to_ms=UPLOAD_UNTIL_MS + REST_MS)
    assert looks == [2]


async def test_what_another_process_heard_is_found(stage: Stage) -> None:
    """While two of us run, each hears a part of what is said: a rest is short."""
    await closed(stage, "ann")
    await stage.database.transact(lambda tx: books.hear(tx, books.SCREENED, stage.screened("ann"), ""))
    await stage.tick(to_ms=UPLOAD_UNTIL_MS + REST_MS)
    assert stage.ears.all(RoundAssessed)


async def test_a_clock_that_is_set_back_makes_no_round_rest_longer(stage: Stage, looks: list[int]) -> None:
    """An hour back is no hour of waiting."""
    await closed(stage, "ann", "bob")
    looks.clear()
    await stage.tick(to_ms=UPLOAD_UNTIL_MS - 3_600_000)
    assert looks == [2]


async def test_past_the_half_of_its_time_the_first_that_is_ready_moves_it(stage: Stage) -> None:
    """Nobody was, when that moment came; the word that makes one ready is enough."""
    await closed(stage, "ann", "bob")
    await stage.tick(to_ms=HALF_MS)
    assert stage.ears.all(RoundAssessed) == []
    await stage.hear(stage.screened("ann"))
    assert stage.ears.last(RoundAssessed).measured == (sha("ann"),)


async def test_a_block_may_end_the_waiting(stage: Stage) -> None:
    """One submission is measured and the other cannot be paid any more: then nothing is waited for."""
    await closed(stage, "ann", "bob")
    await stage.hear(stage.screened("ann"), stage.screened("bob"), measured("ann", 0.5))
    await stage.tick()
    assert stage.ears.all(GradientScored) == []
    stage.height.now = 140
    await stage.tick()
    assert len(stage.ears.all(GradientScored)) == 2


async def test_a_word_that_comes_during_a_look_is_not_lost(stage: Stage) -> None:
    """The look has read the table before; what it concludes is that this word is missing."""
    await closed(stage, "ann")
    load, said = stage.attestor.judging._load, [measured("ann", 0.5)]
    await stage.hear(stage.screened("ann"))
    assert stage.ears.all(GradientMeasure)
    loop = asyncio.get_running_loop()

    def slow(tx: Transaction, number: int) -> Any:
        case = load(tx, number)
        while said:
            word = said.pop()
            books.hear(tx, books.MEASURED, word, "")
            loop.call_soon_threadsafe(stage.attestor.judging._patience.heard, 1, (books.MEASURED, word.commitment))
        return case

    stage.attestor.judging._load = slow  # type: ignore[method-assign]  # to act in between
    await stage.tick(to_ms=UPLOAD_UNTIL_MS + REST_MS)
    assert len(stage.ears.all(GradientScored)) == 1


@pytest.mark.parametrize(
    "asked",
    [
        books._ROUNDS_IN.params(states=["decided"]),
        books._ANY_UNSAID,
        books._UNSAID,
        books._MAY_BE_DECIDED.params(commitment="a"),
    ],
    ids=["rounds", "any", "unsaid", "may be decided"],
)
def test_what_is_asked_again_and_again_costs_the_same_however_long_the_past_is(asked: sa.Select[Any]) -> None:
    """By the timer, by peers who wait. SQLite's own plan: it searches, or reads an index of what is open and nothing else."""
    engine = sa.create_engine("sqlite://")
    tables.metadata.create_all(engine)
    text = str(asked.compile(engine, compile_kwargs={"literal_binds": True, "render_postcompile": True}))
    with engine.connect() as connection:
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert [step for step in plan if step.startswith("SCAN") and "decisions_unsaid" not in step] == []


async def test_the_timer_begins_no_second_search_and_lapses_a_round_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for copies may take longer than the round has; a peer is told the truth meanwhile."""
    begun, may_end = asyncio.Event(), asyncio.Event()
    searches = 0

    async def slow(*_: object) -> dict[str, Any]:
        nonlocal searches
        searches += 1
        begun.set()
        await may_end.wait()
        return {}

    monkeypatch.setattr(judging, "find_repeats", slow)
    await closed(stage, "ann")
    hearing = asyncio.create_task(stage.hear(stage.screened("ann")))
    await begun.wait()
    await stage.tick(to_ms=stage.now_ms + REST_MS)
    with pytest.raises(TooEarly):
        await stage.attestor.delivery.decision(sha("ann"))
    await stage.tick(to_ms=JUDGE_BY_MS + 20_000)
    with pytest.raises(NotFound):
        await stage.attestor.delivery.decision(sha("ann"))
    may_end.set()
    await hearing
    assert searches == 1
    assert stage.ears.last(GradientScored).verdict == "unscored"


class Restless(Patience):
    """One that looks at everything at each tick and each word."""

    def rests(self, number: int, *, height: int | None, now_ms: int) -> bool:
        """Never."""
        return False

    def heard(self, number: int, word: tuple[str, str]) -> bool:
        """Always."""
        super().heard(number, word)
        return True


@pytest.mark.parametrize("seed", range(24))
async def test_who_waits_says_the_same_at_the_same_moment_as_who_always_looks(tmp_path: Path, seed: int) -> None:
    """Words in any order, some never, some before the closing, with ticks, blocks and a silent node in between."""
    told: list[list[bytes]] = []
    for patience in (Patience(), Restless()):
        stage = a_stage(tmp_path / type(patience).__name__)
        told.append(await history(stage, patience, random.Random(seed)))
    assert told[0] == told[1]


async def history(stage: Stage, patience: Patience, rng: random.Random) -> list[bytes]:
    """What the attestor said after each step."""
    stage.attestor.judging._patience = patience
    names = [f"peer {number}" for number in range(rng.randint(1, 4))]
    await stage.announce()
    await stage.hear(stage.round_opened())
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(names)}
    words: list[Event] = [commits_closed(*names), round_closed(*names)]
    for name in names:
        failed = rng.choice(("", "", "payload"))
        words += [locked(offers[name]), stage.uploaded(name), stage.screened(name, code=failed)]
        words += [measured(name, rng.uniform(-0.1, 0.5), se=rng.uniform(0.001, 0.1))]
    rng.shuffle(words)
    del words[: rng.choice((0, 0, 1, 2))]
    stage.now_ms, said = UPLOAD_UNTIL_MS, list[bytes]()
    while stage.now_ms < JUDGE_BY_MS + 20_000:
        chance = rng.random()
        if chance < 0.4 and words:
            await stage.hear(words.pop())
        elif chance < 0.5:
            stage.height.now = rng.choice((None, 101, 120, 140))
        else:
            await stage.tick(to_ms=stage.now_ms + rng.choice((1, 500, 4_000)))
        said.append(b"".join(_bare(event) for event in stage.ears.heard))
    stage.database.close()
    return said


def _bare(event: Event) -> bytes:
    """Without its number, which tells how often somebody looked; no seal and no signature is the same twice."""
    said = msgspec.to_builtins(msgspec.structs.replace(event, id=""))
    if isinstance(event, GradientScored):
        said["sealed_preimages"] = len(event.sealed_preimages)
        said["receipt"].pop("signature")
    if isinstance(event, OfferMade):
        said["offer"].pop("signature")
    return event.subject.encode() + msgspec.json.encode(said)
