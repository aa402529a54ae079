"""What the oracle could not pay now it neither judges nor shows, and what a peer was told for good stays so."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from l402_oracle.adapters import decisions as books
from l402_oracle.attestor import app, judging
from l402_oracle.attestor.app import CONSUMERS, Attestor
from l402_oracle.attestor.case import HEARING_MS
from l402_oracle.attestor.waiting import REST_MS
from l402_oracle.attestor.wiring import register
from l402_oracle.config import AttestorConfig
from l402_peer_agent.config import Config as PeerConfig
from l402_settler.rounds import ORACLE_SILENT_MS
from l402core.bus import Bus
from l402core.delivering import MONEY_PATIENCE
from l402core.documents import JUDGED_LATEST_MS, Offer, mask_indices
from l402core.errors import Contradiction, NotFound, TooEarly, Unavailable
from l402core.events import CheckpointPublished, GradientMeasure, GradientScored, RoundAggregate, RoundAssessed
from l402core.outbox import Transaction

from tests.support.oracle import (
    JUDGE_BY_MS,
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    receipt_of,
    round_closed,
    sha,
)

LAPSES_MS = JUDGE_BY_MS + JUDGED_LATEST_MS
GRACE_MS = int(PeerConfig.model_fields["grace_s"].default * 1_000)


async def uploaded(stage: Stage, *names: str, **expiries: int) -> dict[str, Offer]:
    """Each has its offer, its lock (of another expiry, where one is given) and its upload; nothing is closed."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(names)}
    await stage.hear(commits_closed(*names))
    for name in names:
        await stage.hear(locked(offers[name], expiry=expiries.get(name, 160)), stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    return offers


def told(stage: Stage) -> dict[str, GradientScored]:
    """What was decided last, by commitment."""
    return {event.commitment: event for event in stage.ears.all(GradientScored)}


def nothing_of(stage: Stage, name: str) -> None:
    """Unscored, for no fault of its own: no key, no pay, no part in a model."""
    scored = told(stage)[sha(name)]
    receipt = receipt_of(scored)
    assert (scored.verdict, scored.mask, scored.sealed_preimages) == ("unscored", 0, ())
    assert (receipt.content_key, receipt.eval_tokens, receipt.units) == ("", 0, 0)
    assert sha(f"content {name}").encode() not in b"".join(msgspec.json.encode(e) for e in told(stage).values())
    for request in stage.ears.all(RoundAggregate):
        assert sha(name) not in [item.commitment for item in request.items]


@pytest.mark.parametrize("expiry", [124, 100, 1])
async def test_a_lock_that_expires_too_soon_by_the_settlers_word_is_not_judged(stage: Stage, expiry: int) -> None:
    """The peer was signed another one, which is honest: here the gradient stays shut, its fee comes back, and bob is paid."""
    await uploaded(stage, "ann", "bob", ann=expiry)
    await stage.hear(round_closed("ann", "bob"), stage.screened("ann"), stage.screened("bob"))
    assert [job.commitment for job in stage.ears.all(GradientMeasure)] == [sha("bob")]
    await stage.hear(measured("ann", 0.9), measured("bob", 0.4))
    nothing_of(stage, "ann")
    assert f"expire at {expiry}" in told(stage)[sha("ann")].reasons[0]
    assert told(stage)[sha("bob")].sealed_preimages
    assert receipt_of(told(stage)[sha("bob")]).content_key == sha("content bob")


async def test_blocks_that_come_while_it_is_measured_leave_it_unscored(stage: Stage) -> None:
    """Payable when the round was assessed and not when it is decided: measured in vain, and no part of the reference."""
    await uploaded(stage, "ann", "bob", ann=134)
    await stage.hear(round_closed("ann", "bob"), stage.screened("ann"), stage.screened("bob"))
    stage.height.now = 110
    await stage.hear(measured("ann", 5.0), measured("bob", 0.4))
    assert set(stage.ears.last(RoundAssessed).measured) == {sha("ann"), sha("bob")}
    nothing_of(stage, "ann")
    assert receipt_of(told(stage)[sha("bob")]).reference == 400_000_000
    assert [item.commitment for item in stage.ears.last(RoundAggregate).items] == [sha("bob")]


@pytest.mark.parametrize(
    ("expiry", "height", "paid"), [(140, 115, True), (140, 116, False), (1_000, 124, True), (1_000, 125, False)]
)
async def test_the_block_that_ends_the_reveal_ends_the_judging(
    stage: Stage, expiry: int, height: int, paid: bool
) -> None:
    """One block more or less, of the margin of 24 and of the terms' last height."""
    await uploaded(stage, "ann", ann=expiry)
    stage.height.now = height
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    await stage.tick(to_ms=JUDGE_BY_MS)
    scored = told(stage)[sha("ann")]
    assert (scored.verdict, bool(scored.sealed_preimages)) == (("accepted", True) if paid else ("unscored", False))
    if not paid:
        nothing_of(stage, "ann")


async def test_what_was_never_locked_is_never_shown(stage: Stage) -> None:
    """Uploaded and screened, and the settler's word withheld: what it is stays its peer's, also where it is a copy."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(("ann", "bob"))}
    await stage.hear(commits_closed(*offers), locked(offers["ann"]))
    await stage.hear(*(stage.uploaded(name) for name in offers))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(
        round_closed(*offers), stage.screened("ann"), stage.screened("bob", like="ann"), measured("ann", 0.5)
    )
    await stage.tick(to_ms=JUDGE_BY_MS)
    nothing_of(stage, "bob")
    assert told(stage)[sha("ann")].sealed_preimages


async def test_without_a_height_nothing_is_decided(stage: Stage) -> None:
    """It is known again in time: then it is decided and paid."""
    await uploaded(stage, "ann")
    stage.height.now = None
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    await stage.tick(to_ms=JUDGE_BY_MS + 1)
    assert told(stage) == {}
    stage.height.now = 101
    await stage.tick(to_ms=LAPSES_MS - 1)
    assert told(stage)[sha("ann")].sealed_preimages


async def test_a_height_that_never_comes_leaves_all_unscored(stage: Stage) -> None:
    """As long as a peer waits, and no longer."""
    await uploaded(stage, "ann")
    stage.height.now = None
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    await stage.tick(to_ms=LAPSES_MS)
    stage.height.now = 101
    await stage.tick()
    nothing_of(stage, "ann")


async def test_a_closing_that_is_held_back_until_the_peer_has_given_up_judges_nobody(stage: Stage) -> None:
    """The peer asks, is told that nothing is decided and nothing will be, and cancels. Then the settler closes the round."""
    await uploaded(stage, "ann")
    await stage.hear(stage.screened("ann"))
    stage.now_ms = LAPSES_MS - 1
    await stage.tick()
    with pytest.raises(TooEarly):
        await stage.attestor.delivery.decision(sha("ann"))
    await stage.tick(to_ms=JUDGE_BY_MS + GRACE_MS)
    with pytest.raises(NotFound):
        await stage.attestor.delivery.decision(sha("ann"))
    await stage.hear(round_closed("ann"), measured("ann", 0.5))
    await stage.tick()
    nothing_of(stage, "ann")
    assert stage.ears.all(GradientMeasure) == []
    assert [event.round for event in stage.ears.all(CheckpointPublished)] == [1, 2]


async def test_a_measurement_that_is_heard_too_late_is_none(stage: Stage) -> None:
    """The attestor was away with the round half judged: all that it finds on its return comes to nothing."""
    await uploaded(stage, "ann", "bob")
    await stage.hear(round_closed("ann", "bob"), stage.screened("ann"), stage.screened("bob"), measured("ann", 0.5))
    stage.now_ms = LAPSES_MS
    await stage.hear(measured("bob", 0.4))
    nothing_of(stage, "ann")
    nothing_of(stage, "bob")
    assert "had not decided" in told(stage)[sha("ann")].reasons[0]


async def test_in_the_last_moment_it_is_still_judged(stage: Stage) -> None:
    """A millisecond earlier: paid."""
    await uploaded(stage, "ann")
    stage.now_ms = LAPSES_MS - 1
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    assert told(stage)[sha("ann")].sealed_preimages


async def test_a_round_that_lapsed_stays_lapsed(tmp_path: Path) -> None:
    """Another process on the same table, whose clock is an hour behind: what was told to a peer is still true."""
    before = Stage(tmp_path)
    await uploaded(before, "ann")
    await before.tick(to_ms=LAPSES_MS)
    before.database.close()
    after = Stage(tmp_path)
    after.shelf, after.now_ms = before.shelf, UPLOAD_UNTIL_MS
    after.ears.heard = list(before.ears.heard)
    with pytest.raises(NotFound):
        await after.attestor.delivery.decision(sha("ann"))
    await after.hear(round_closed("ann"), after.screened("ann"), measured("ann", 0.5))
    nothing_of(after, "ann")
    after.database.close()


async def test_a_decision_that_races_with_the_end_of_its_time_is_not_made(stage: Stage) -> None:
    """Loaded before, remembered after: another process has written down meanwhile that the round lapsed."""
    await uploaded(stage, "ann")
    await stage.hear(round_closed("ann"), stage.screened("ann"))
    await stage.database.transact(lambda tx: books.hear(tx, books.MEASURED, measured("ann", 0.5), ""))
    load = stage.attestor.judging._load

    def late(tx: Transaction, number: int) -> Any:
        case = load(tx, number)
        books.lapse(tx, number, LAPSES_MS)
        return case

    stage.attestor.judging._load = late  # type: ignore[method-assign]  # to act in between
    await stage.tick(to_ms=stage.now_ms + REST_MS)  # so long a round may rest
    nothing_of(stage, "ann")


async def test_a_closing_that_contradicts_a_decided_round_changes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead letter and an alarm: what is earned is still told, revealed and aggregated, also what had to wait for a key."""
    offers = await uploaded(stage, "ann")
    key = stage.parts.keys.preimages.pop("k1")
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    assert told(stage) == {}
    monkeypatch.setattr(judging, "log", structlog.get_logger())  # one that no other test's logging was made for
    with structlog.testing.capture_logs() as lines, pytest.raises(Contradiction, match="decisions stand"):
        await stage.hear(round_closed("ann", uploaded=()))
    assert [line["event"] for line in lines if line["log_level"] == "critical"] == ["round.contradicted"]
    stage.parts.keys.preimages["k1"] = key
    await stage.tick()
    scored = told(stage)[sha("ann")]
    assert len(scored.sealed_preimages) == len(mask_indices(scored.mask, len(offers["ann"].amounts_msat))) > 0
    assert (await stage.attestor.delivery.decision(sha("ann"))).sealed_preimages
    row = await stage.database.read(lambda tx: books.read_round(tx, 1))
    assert row is not None
    assert row.state == "decided"


async def test_a_closing_that_contradicts_an_undecided_round_freezes_it_for_good(stage: Stage) -> None:
    """Nothing of it is ever decided, so a peer may be told at once."""
    await uploaded(stage, "ann")
    await stage.hear(round_closed("ann"), stage.screened("ann"))
    with pytest.raises(Contradiction, match="twice"):
        await stage.hear(round_closed("ann", uploaded=()))
    await stage.hear(measured("ann", 0.5))
    await stage.tick(to_ms=LAPSES_MS)
    assert told(stage) == {}
    with pytest.raises(NotFound):
        await stage.attestor.delivery.decision(sha("ann"))


def test_a_peer_waits_for_longer_than_the_settler_and_both_for_longer_than_the_oracle_may_decide() -> None:
    """And the oracle writes down that a round lapsed in time for the peers that ask at the end of theirs."""
    written_by_ms = JUDGED_LATEST_MS + 2 * AttestorConfig.model_fields["tick_s"].default * 1_000
    assert HEARING_MS <= JUDGED_LATEST_MS < written_by_ms < ORACLE_SILENT_MS < GRACE_MS


class Wire:
    """A bus that remembers who is told of a word that is given up."""

    def __init__(self) -> None:
        self.dead: dict[str, Callable[[str, bytes, Exception], Awaitable[None]]] = {}

    def consume(self, consumer: Any, _handler: Any, dead: Any = None) -> None:
        self.dead[consumer.durable] = dead

    def answer(self, _question: Any, _handler: Any) -> None:
        """Nothing of it here."""


async def test_no_word_about_money_is_given_up_in_an_outage_nor_in_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a day of deliveries for each, and then an alarm that names it."""
    assert {consumer.patience for consumer in CONSUMERS} == {MONEY_PATIENCE}
    wire = Wire()
    register(_as_bus(wire), Attestor(stage.parts))
    assert set(wire.dead) == {consumer.durable for consumer in CONSUMERS}
    for dead in wire.dead.values():
        monkeypatch.setattr(app, "log", structlog.get_logger())  # one that no other test's logging was made for
        with structlog.testing.capture_logs() as lines:
            await dead("escrow.locked.v1.cc", b"{}", Unavailable("database", "it is away"))
        assert [(line["event"], line["log_level"]) for line in lines] == [("word.given_up", "critical")]


def _as_bus(wire: Any) -> Bus:
    return wire  # type: ignore[no-any-return]  # it has the methods that are called
