"""The pages for people, as text: what they say, that nothing of anybody else becomes markup, and what a gap looks like."""

import asyncio
import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from typing import Any

import msgspec
from l402_gateway.pages import drawing, frame, overview, past, plain, story
from l402_gateway.pages.drawing import Frame
from l402_gateway.pages.now import now
from l402_gateway.seeing import Part, Seen
from l402_oracle.planning import plan
from l402core.documents import Receipt, Terms, TrancheTerms
from l402core.events import OraclePlan, RoundView, SubmissionView
from l402core.explanation import Explanation, explain

from tests.support.evidence import a_judged_round
from tests.support.gateway import SETTLER, terms
from tests.support.status import EVIL, NOW_MS, PEERS, a_lineup, a_status, a_story, an_oracle

ROUND, _ = asyncio.run(a_judged_round())
JUDGED = msgspec.json.decode(ROUND.terms.body, type=Terms)
RECEIPTS = [msgspec.json.decode(signed.body, type=Receipt) for signed in ROUND.receipts]
FINE = {"bus": True, "lightning": True}


def a_round(**changes: Any) -> RoundView:
    """A round that takes submissions."""
    told = RoundView(
        round=1, phase="commit", terms=SETTLER.sign(Terms.tag, terms()), root=None, opened=3, uploaded=0, scored=0,
        places_left=5, available=True, unavailable_reason="",
    )  # fmt: skip
    return msgspec.structs.replace(told, **changes)


def a_look(**changes: Any) -> Seen:
    """Everything answered."""
    told = Seen(
        now_ms=NOW_MS, round=a_round(), status=a_status(), lineup=a_lineup(1), before=a_lineup(2), oracle=an_oracle(),
        channels=None, parts=(Part(name="gateway", needs=FINE), Part(name="settler", needs=FINE)),
    )  # fmt: skip
    return msgspec.structs.replace(told, **changes)


def whole(**changes: Any) -> str:
    """The page of the whole."""
    return overview.page(a_look(**changes), terms()).decode()


def a_submission(receipt: Receipt) -> SubmissionView:
    """As its peer may see it."""
    return SubmissionView(
        round=1, commitment=receipt.commitment, peer=receipt.peer, state="ended", phase="done", seq=1, offer=None,
        locked=None, upload=None, receipt=None, sealed_preimages=(), mask=0, verdict=receipt.verdict, reasons=(),
        rungs=(), cancel=(), fee_msat=500_000, credit_available=False, trace_id="",
    )  # fmt: skip


def told_of(receipt: Receipt, told: Explanation | None = None) -> str:
    """The page of one judged submission."""
    explained = told or explain(receipt, JUDGED, RECEIPTS)
    life = a_story(1, receipt.commitment)
    return story.page(life, a_submission(receipt), JUDGED, receipt, explained, now_ms=NOW_MS).decode()


# --- what the page of the whole says ------------------------------------------------------------------------------------


def test_the_page_says_what_happens_and_what_it_costs() -> None:
    """Phase, countdown, fee, reward, places, loss, money, peers, escrows, the oracle's time, parts."""
    page = whole()
    for words in ("Peers train and commit", "500 sat", "up to 6,300 sat", "5 of 8 left", "5.4120", "3.5200", "75,000 sat",
                  "18,900 sat", "12 peers", "keeps the books", "reward being locked", "rejected", PEERS[0][:8]):  # fmt: skip
        assert words in page, words


def test_the_oracles_plan_is_told_in_its_own_numbers() -> None:
    """What the planner makes of a pace too slow for seventy peers: how many fit, the sample taken, what more would buy."""
    made = plan(tokens_per_s=120_000, peers=70, window_ms=60_000, wanted_shards=32, yardstick=True)
    told = msgspec.convert(msgspec.to_builtins(made), OraclePlan)
    page = whole(oracle=msgspec.structs.replace(an_oracle(), plan=told))
    assert made.says in page
    assert made.says.endswith("19 shards are taken instead; 1.4 times the workers would measure all of it in time.")
    assert f"{made.peers_fitting} peers" in page
    assert "a full round has 70" in page


def test_the_countdown_is_right_without_a_script() -> None:
    """Rendered here from the terms' own deadline; a script only lets it run on."""
    told = terms()
    head = now(a_round(), told, now_ms=told.commit_until_ms - 34_000)
    assert (head.until_ms, head.waits_for) == (told.commit_until_ms, "until commits close")
    assert frame.left(head.until_ms - (told.commit_until_ms - 34_000)) == "0:34"
    assert [step.state for step in head.steps] == ["now", "to come", "to come"]
    late = now(a_round(phase="judge"), told, now_ms=told.judge_by_ms + 1)
    assert late.waits_for == "any moment now"
    assert [step.state for step in late.steps] == ["past", "past", "now"]
    assert now(a_round(phase="done"), told, now_ms=0).until_ms == 0
    assert now(a_round(phase="new one"), told, now_ms=0).headline == "new one"


def test_who_pays_is_named() -> None:
    """The treasury, or a sponsor and what it wants for its money."""
    tranche = TrancheTerms(sponsorship="", tranche=0, payment_hash="", amount_msat=20_000_000, margin=400_000_000)
    sponsored = now(a_round(), terms(tranche=tranche), now_ms=0).facts[-1]
    assert sponsored[1] == "a sponsor, 20,000 sat"
    assert "0.4000" in sponsored[2]
    assert now(a_round(), terms(), now_ms=0).facts[-1][1] == "the treasury"


def test_nothing_that_others_say_becomes_markup() -> None:
    """States, parts and sentences of other services are text."""
    page = whole(parts=(Part(name=EVIL, needs={EVIL: False}),), round=a_round(phase=EVIL))
    assert EVIL not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;" in page
    assert EVIL not in plain.page(EVIL, EVIL, now_ms=0).decode()


def test_what_does_not_answer_leaves_a_gap_and_the_rest_is_shown() -> None:
    """No settler, no oracle, no round: a page all the same, that says so."""
    page = whole(status=None, lineup=None, before=None, oracle=None, parts=(Part(name="settler", needs=None),))
    assert "silent" in page
    assert page.count("The settler does not answer now") == 4
    assert page.count("The oracle does not answer now") == 2
    assert "Nobody" not in page
    nothing = overview.page(a_look(round=None, lineup=None, before=None), None).decode()
    assert "No round is to be seen" in nothing
    unready = whole(parts=(Part(name="invoicer", needs={"lnd": False, "lnd_synced": False}),))
    assert "not ready: lnd, lnd synced" in unready


def test_the_policy_names_the_style_and_script_that_are_in_the_page_and_no_other() -> None:
    """By their hashes, so that a script that somebody got into the page would not run."""
    policy, page = frame.HEADERS["Content-Security-Policy"], whole()
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert " style=" not in page


def test_a_rounds_page_adds_its_submissions_up() -> None:
    """Fees that were kept and rewards that were decided; the loss before and after, where it is known."""
    page = past.page(a_round(), terms(), a_lineup(1), an_oracle(), now_ms=NOW_MS).decode()
    for words in ("2,000 sat", "3,100 sat", "5.4120 → 4.8790"):
        assert words in page
    assert "not known" in past.page(a_round(), terms(), a_lineup(1), None, now_ms=NOW_MS).decode()


# --- one submission -----------------------------------------------------------------------------------------------------


def test_the_page_of_a_submission_says_why_and_shows_everybody_measured() -> None:
    """The amount, the reason, each check, a bar for each of five, and the command that judges again."""
    page = told_of(RECEIPTS[0])
    assert "hence" in page
    assert "What would have earned more" in page
    assert f"verify-receipt {JUDGED.attestor_url}/v1/receipts/{RECEIPTS[0].commitment}" in page
    drawn = page[page.index('id="beside"') : page.index('id="checks"')]
    assert drawn.count("<rect") == 5
    assert drawn.count('class="fill"') == drawn.count("this one") == 1
    for picture in re.findall("<svg.*?</svg>", page, re.DOTALL):
        for bar in ET.fromstring(picture).iter("rect"):  # noqa: S314 - of our own page
            assert 0 <= float(bar.get("x", "0")) <= story.WIDTH


def test_no_word_of_a_receipt_becomes_markup() -> None:
    """Reasons and checks come from whoever signs receipts."""
    check = msgspec.structs.replace(RECEIPTS[0].checks[0], detail=EVIL, code="<bdi>")
    hostile = msgspec.structs.replace(
        RECEIPTS[0], checks=(check,), verdict="<ins>", peer="<kbd>", reasons=("<del>",), units=0, mask=0
    )
    page = told_of(hostile)
    assert not any(tag in page for tag in (EVIL, "<bdi>", "<ins>", "<kbd>", "<del>"))
    assert page.count("&lt;") >= 4


def test_a_round_without_measurements_has_no_picture_and_a_large_one_is_cut() -> None:
    """One's own bar is always there."""
    nobody = explain(RECEIPTS[2], JUDGED, ())
    assert story.beside(nobody) is None
    assert "Nobody was measured" in told_of(RECEIPTS[2], nobody)
    mine = explain(RECEIPTS[0], JUDGED, ()).places[0]
    others = tuple(msgspec.structs.replace(mine, mine=False) for _ in range(3 * story.SHOWN))
    shown = story.beside(msgspec.structs.replace(nobody, places=(*others, mine)))
    assert shown is not None
    assert len(shown.bars) == story.SHOWN + 1
    assert shown.bars[-1].place.mine


def test_a_life_is_a_waterfall_of_what_the_books_can_date() -> None:
    """Each step from one known moment to the next; what happened to the money beside it."""
    found = {stage.what: stage for stage in story.stages(a_story(1, "aa" * 32).lines)}
    assert [stage.from_ms for stage in found.values()] == sorted(stage.from_ms for stage in found.values())
    assert found["its fee is paid, and it opens"].took_ms == 12
    assert found["the reward is locked in them, seen at both nodes"].amount_msat == 6_300_000
    assert found["the earned rungs settle"].took_ms == 140
    assert found["the other rungs return"].amount_msat == 3_200_000
    assert story.stages(()) == ()


def test_a_life_that_has_begun_only_is_shown_so_far() -> None:
    """A fee that is reported after the opening does not turn a bar around."""
    lines = {line.what: line for line in a_story(1, "aa" * 32).lines}
    late = msgspec.structs.replace(lines["fee received"], first_ms=NOW_MS + 900, last_ms=NOW_MS + 900)
    (stage,) = story.stages((lines["opened"], late))
    assert (stage.from_ms, stage.took_ms) == (0, 0)
    view = a_submission(RECEIPTS[0])
    life = msgspec.structs.replace(a_story(1, view.commitment), state="uploaded")
    assert "Not judged yet" in story.page(life, view, JUDGED, None, None, now_ms=NOW_MS).decode()


def test_what_fell_through_says_why_and_what_becomes_of_its_fee() -> None:
    """Nothing was judged and nothing will be: the settler's own reason, as text."""
    view = msgspec.structs.replace(a_submission(RECEIPTS[0]), reasons=(f"rung 3 failed {EVIL}",), credit_available=True)
    page = story.page(a_story(1, view.commitment), view, JUDGED, None, None, now_ms=NOW_MS).decode()
    assert "It fell through" in page
    assert "Rung 3 failed &lt;script&gt;" in page
    assert "Its fee may be used again." in page
    assert "Not judged yet" not in page


# --- pictures -----------------------------------------------------------------------------------------------------------


def test_a_curve_lies_inside_its_frame_and_falls_where_values_fall() -> None:
    """Higher values lie higher; one value alone, or none, is no reason to fail."""
    box = Frame(width=100, height=50)
    points = drawing.curve([9, 5, 7], box).points
    assert points[1][1] > points[2][1] > points[0][1]
    assert all(0 <= x <= 100 and 0 <= y <= 50 for x, y in points)
    assert len(drawing.curve([4], box).points) == 1
    assert drawing.curve([], box).path == drawing.curve([], box).area == ""


def test_columns_share_one_scale_on_both_sides_of_zero() -> None:
    """As much in as out is as high as it is deep."""
    (column,), zero = drawing.columns([((3, 4), 7)], Frame(width=100, height=100, top=0, bottom=0))
    assert zero == 50
    assert [height for _, height in column.up] == [21.4, 28.6]
    assert column.down == (50, 50)
    assert drawing.columns([], Frame(width=10, height=10))[0] == ()
    assert drawing.share(3, 0, 100) == 0.0
    assert drawing.share(3, 2, 100) == 100.0
