"""What the command line tells of the books that a settler keeps, on both databases."""

import csv
import io
from pathlib import Path

import msgspec
import pytest
from l402core.explanation import WORDS, Place
from l402core.lnd.port import PaymentStatus
from l402train import books, explaining, screen, story_screen
from l402train.exits import Exit, Stop
from l402train.exporting import export
from rich.console import Console

from tests.support.settler import PEER, Stage, sha

MASK = 0b000111
SCREEN_ROWS = 58
"""Of a terminal as high as an ordinary screen."""


@pytest.fixture
async def paid(stage: Stage) -> Stage:
    """Seven units decided; two rungs collected, one forfeited, three back."""
    await stage.uploaded()
    await stage.fee("a")
    await stage.settler.on_scored(stage.decision("a", MASK))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED if index < 2 else PaymentStatus.FAILED)
    return stage


def where(stage: Stage) -> str:
    """The books' URL."""
    return stage.config.database_url


async def test_a_story_is_whole(paid: Stage) -> None:
    """Offer, rungs, lock, decision and every ledger line; and the sums are the ledger's."""
    story = explaining.explain(where(paid), sha("a")[:10])
    assert (story.commitment, story.state, story.peer) == (sha("a"), "ended", PEER.public)
    assert [rung.state for rung in story.rungs] == ["settled"] * 2 + ["returned"] * 4
    assert [rung.decided for rung in story.rungs] == [True] * 3 + [False] * 3
    assert story.locked is not None
    assert story.offer is not None
    assert (story.decided_msat, story.collected_msat, story.forfeited_msat) == (700_000, 300_000, 400_000)
    assert len(story.lines) == 1 + 6 + 6 + 1 + 1  # fee earned, rungs locked, ended, reward, forfeit
    assert "300 sat collected" in story.why
    assert "400 sat forfeited" in story.why


async def test_it_is_found_by_whatever_one_has(paid: Stage) -> None:
    """Commitment, the fee's or a rung's payment hash, or nothing but `latest`."""
    for wanted in (sha("a"), sha("a")[:8].upper(), sha("fee a"), sha("rung a 3")[:12], "latest"):
        assert explaining.explain(where(paid), wanted).commitment == sha("a")


@pytest.mark.parametrize(
    ("wanted", "code", "word"),
    [
        ("abcdef012345", Exit.NOT_FOUND, "begins with"),
        ("ab", Exit.USAGE, "at least 4"),
        ("nonsense", Exit.USAGE, "hex"),
    ],
)
async def test_what_is_not_there_is_said(paid: Stage, wanted: str, code: Exit, word: str) -> None:
    """And why."""
    with pytest.raises(Stop, match=word) as raised:
        explaining.explain(where(paid), wanted)
    assert raised.value.code is code


async def test_why_nothing_was_earned(stage: Stage) -> None:
    """Rejected, failed with a credit, and still open: a sentence for each."""
    await stage.desk.open(stage.opening("a"))
    assert "Nothing is decided yet" in explaining.explain(where(stage), "latest").why
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    told = explaining.explain(where(stage), "latest")
    assert "because the oracle made no offer in time" in told.why
    assert "a credit that waits" in told.fee_outcome


async def test_a_rejected_gradient_is_explained_by_its_reasons(stage: Stage) -> None:
    """The receipt's own words."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0, verdict="rejected"))
    why = explaining.explain(where(stage), "latest").why
    assert why.startswith("Nothing was earned, because the gradient was rejected")
    assert "fee of 500 sat is kept" in why


async def test_a_statement_runs_to_the_balance(paid: Stage) -> None:
    """Each line with what it left; the last is the trial balance's."""
    statement = books.statement(where(paid), "peer:")
    kept = books.ledger(where(paid)).accounts[statement.account]
    assert statement.balance_msat == kept.credits_msat - kept.debits_msat == 0
    assert statement.entries[-1].balance_msat == 0
    assert statement.pending_msat == 0
    assert max(entry.balance_msat for entry in statement.entries) > 0
    with pytest.raises(Stop, match="no account is called"):
        books.statement(where(paid), "nobody")
    with pytest.raises(Stop, match="several accounts begin with 'fees'"):
        books.statement(where(paid), "fees")


async def test_the_journal_is_exported_whole(paid: Stage, tmp_path: Path) -> None:
    """As many lines as there are, in both formats; another ending is refused."""
    count = export(where(paid), tmp_path / "journal.csv")
    with (tmp_path / "journal.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count == 16
    assert sum(int(row["amount_msat"]) for row in rows if row["phase"] == "post") == 300_000
    assert export(where(paid), tmp_path / "journal.json", account="rewards") == 2
    with pytest.raises(Stop, match="neither"):
        export(where(paid), tmp_path / "journal.xls")


async def test_a_story_begins_with_its_sentence(paid: Stage) -> None:
    """It can be drawn, and the sentence stands above what it rests on."""
    out = Console(width=100, record=True, file=io.StringIO())
    story_screen.tell_story(out, explaining.explain(where(paid), "latest"))
    story_screen.tell_statement(out, books.statement(where(paid), "rewards"))
    text = out.export_text()
    assert text.index("collected") < text.index("Rungs") < text.index("Ledger")
    assert screen.sat(700_000) in text


async def test_the_longest_story_fits_a_screen(paid: Stage) -> None:
    """A round of 70, a third ladder for what is owed, every rung with lines of its own, frozen, thawed and written off."""
    story = explaining.explain(where(paid), "latest")
    assert story.explanation is not None
    everybody = tuple(
        Place(peer=f"{n:064x}", drop=10**9 - n, low=1, high=2, units=n % 64, verdict="accepted", mine=n == 69)
        for n in range(70)
    )
    more = max(WORDS.values(), key=len)
    ladders = tuple(msgspec.structs.replace(rung, attempt=attempt) for attempt in (1, 2, 3) for rung in story.rungs)
    freezes = tuple(
        explaining.FreezeStory(at_ms=1, action=action, by="ann", code="operator", reason="it looked odd, and was not")
        for action in ("freeze", "thaw")
    )
    longest = msgspec.structs.replace(
        story, rungs=ladders, lines=story.lines * 3, freezes=freezes, held=("offer.made.v1", "gradient.scored.v1"),
        explanation=msgspec.structs.replace(story.explanation, places=everybody, more=more),
    )  # fmt: skip
    out = Console(width=100, record=True, file=io.StringIO())
    story_screen.tell_story(out, longest)
    text = out.export_text()
    assert len(text.splitlines()) <= SCREEN_ROWS
    assert "this one" in text
    assert "ladder 2" in text
    assert "Rungs of ladder 3" in text


async def test_books_whose_sums_are_not_their_journals_are_untrue(paid: Stage) -> None:
    """Somebody wrote into the sums: the command says so instead of a balance."""
    with paid.database.engine.begin() as connection:
        connection.exec_driver_sql("update accounts set debits_msat = debits_msat + 1 where name = 'lightning'")
    with pytest.raises(Stop, match="not those of its journal") as raised:
        books.ledger(where(paid))
    assert raised.value.code is Exit.UNTRUE


async def test_who_froze_it_and_why_is_told(stage: Stage) -> None:
    """The person's name and reason, what waits meanwhile, and the thaw."""
    await stage.desk.open(stage.opening("a"))
    await stage.freeze(sha("a"))
    await stage.settler.on_offer(stage.offer("a"))
    story = explaining.explain(where(stage), sha("a"))
    assert (story.frozen, story.held, [one.by for one in story.freezes]) == (True, ("offer.made.v1",), ["ann"])
    out = Console(record=True, width=160)
    story_screen.tell_story(out, story)
    told = out.export_text()
    assert "FROZEN" in told
    assert "by ann: it looks odd (operator)" in told
    await stage.thaw(sha("a"))
    story = explaining.explain(where(stage), sha("a"))
    assert (story.frozen, story.held, [one.action for one in story.freezes]) == (False, (), ["freeze", "thaw"])
