"""The gateway's small parts: problems, shared reads, hints, the document."""

import asyncio
import json

import msgspec
import pytest
from l402_gateway import problems
from l402_gateway.config import Config
from l402_gateway.hints import Hints
from l402_gateway.openapi import document
from l402_gateway.reads import Shared
from l402core import errors
from l402core.errors import Exhausted, NotFound, Unavailable


def test_every_error_of_the_tree_has_a_status() -> None:
    """Nothing falls through to 500 but a contradiction."""
    for name, kind in errors.BY_NAME.items():
        status = problems.problem_of(kind("some_code", "why")).status
        assert (status == 500) == (name == "Contradiction"), name


@pytest.mark.parametrize(
    ("code", "status"), [("bad_preimage", 402), ("caveat_peer", 402), ("peer_unsigned", 401), ("peer_foreign", 401)]
)
def test_a_credential_is_402_and_a_peers_signature_401(code: str, status: int) -> None:
    """One class of error, two questions: have you paid, and who are you."""
    assert problems.problem_of(errors.Unauthorized(code, "why")).status == status


def test_a_defect_of_ours_shows_nothing() -> None:
    """An unexpected error's text stays in the log."""
    told = problems.unexpected()
    assert (told.status, told.code) == (500, "internal")


def test_retry_after_is_said_where_it_helps() -> None:
    """For the world's faults, limits and phases to come; not for what is wrong in itself."""
    for kind in errors.BY_NAME.values():
        error = kind("some_code", "why")
        told = problems.headers_of(error, problems.problem_of(error).status)
        helps = isinstance(error, (errors.WorldError, errors.TooEarly, errors.TooMany))
        assert ("Retry-After" in told) == helps, kind


class Source:
    """Something slow to read."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.gate, self.begun = asyncio.Event(), asyncio.Event()

    async def load(self, key: int) -> str:
        self.asked += 1
        self.begun.set()
        asked, gate = self.asked, self.gate
        await gate.wait()
        if self.failure is not None:
            raise self.failure
        return f"{key}:{asked}"


async def test_many_readers_are_one_question() -> None:
    """And a reader who leaves takes nothing from the others."""
    source, now = Source(), [0.0]
    shared: Shared[int, str] = Shared(source.load, ttl_s=1, clock=lambda: now[0])
    readers = [asyncio.create_task(shared.get(1)) for _ in range(10)]
    await asyncio.sleep(0)
    readers[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*readers[1:]) == ["1:1"] * 9
    assert await shared.get(1) == "1:1"
    now[0] = 1.0
    assert await shared.get(1) == "1:2"


async def test_what_was_dropped_on_its_way_is_not_kept() -> None:
    """A read that began before a change, and ends after a later one, does not answer those who ask then."""
    source = Source()
    shared: Shared[int, str] = Shared(source.load, ttl_s=1, clock=lambda: 0.0)
    before = asyncio.create_task(shared.get(1))
    await source.begun.wait()
    slow, source.gate = source.gate, asyncio.Event()
    shared.drop(1)
    source.gate.set()
    assert await shared.get(1) == "1:2"
    slow.set()
    assert await before == "1:1"
    assert await shared.get(1) == "1:2"


async def test_a_refusal_is_kept_and_a_silence_is_not() -> None:
    """NotFound is an answer; a part that does not answer is asked again."""
    for failure, asked in ((NotFound("none", "none"), 1), (Unavailable("bus", "silent"), 2)):
        source = Source()
        source.failure = failure
        source.gate.set()
        shared: Shared[int, str] = Shared(source.load, ttl_s=1, clock=lambda: 0.0)
        for _ in range(2):
            with pytest.raises(type(failure)):
                await shared.get(1)
        assert source.asked == asked


async def test_a_slow_listener_is_cut_and_the_others_hear_all() -> None:
    """A queue is bounded; whoever lags behind reads again."""
    hints = Hints(max_clients=2, queue_size=3, on_change=lambda round_, commitment: None)
    slow, quick = (hints.listen(1, keepalive_s=5) for _ in range(2))
    with pytest.raises(Exhausted):
        hints.listen(1, keepalive_s=5)
    await anext(slow)
    await anext(quick)
    body = msgspec.json.encode({"round": 1, "commitment": "c", "reason": "private"})
    for _ in range(5):
        await hints.on_event("submission.expired.v1.c", body)
        assert b"private" not in await anext(quick)
    assert len([hint async for hint in slow]) == 3
    hints.close()
    assert [hint async for hint in quick] == []


async def test_who_asks_about_one_submission_hears_of_no_other() -> None:
    """Of it and of the round as a whole; to hear of everybody's would be one another's work squared."""
    hints = Hints(max_clients=3, queue_size=8, on_change=lambda round_, commitment: None)
    mine, everybody, elsewhere = (
        hints.listen(number, keepalive_s=5, about=about) for number, about in ((1, "mine"), (1, ""), (2, "mine"))
    )
    for subject, about in (
        ("escrow.locked.v1.mine", {"round": 1, "commitment": "mine"}),
        ("escrow.locked.v1.other", {"round": 1, "commitment": "other"}),
        ("round.closed.v1.1", {"round": 1}),
        ("round.opened.v1.3", {"round": 3}),
    ):
        await hints.on_event(subject, msgspec.json.encode(about))
    hints.close()
    told = [[hint async for hint in stream][1:] for stream in (mine, everybody, elsewhere)]
    assert [len(heard) for heard in told] == [3, 4, 1]
    assert not any(b"other" in hint for hint in told[0])
    assert b"round.opened" in told[2][0]


async def test_a_listener_that_has_gone_makes_room() -> None:
    """Whether it hung up or was cut, and once only."""
    hints = Hints(max_clients=1, queue_size=1, on_change=lambda round_, commitment: None)
    for _ in range(3):
        stream = hints.listen(1, keepalive_s=5, about="c")
        await anext(stream)
        for _ in range(3):
            await hints.on_event("escrow.locked.v1.c", msgspec.json.encode({"round": 1, "commitment": "c"}))
        assert [hint async for hint in stream]
    hints.close()


async def test_a_silent_stream_is_kept_alive() -> None:
    """Comments, so that proxies and listeners know it lives."""
    hints = Hints(max_clients=1, queue_size=1, on_change=lambda round_, commitment: None)
    stream = hints.listen(1, keepalive_s=0.01)
    assert [(await anext(stream))[:1] for _ in range(3)] == [b":"] * 3
    hints.close()


def test_the_document_describes_the_paid_path() -> None:
    """Every step, its answers and its two proofs; the same bytes each time; every reference resolves."""
    told = document()
    base = "/v1/rounds/{round}/submissions/{commitment}"
    assert set(told["paths"][base]) == {"get", "post"}
    assert told["paths"][base + "/gradient"]["put"]["security"] == [{"l402": [], "peer": []}]
    text = json.dumps(told)
    assert text == json.dumps(document())
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(told["components"]["schemas"])


def test_every_knob_has_a_sentence() -> None:
    """The configuration is documented from its class."""
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
