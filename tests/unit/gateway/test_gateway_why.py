"""The page of a judged submission: well-formed, and no word of a receipt becomes markup."""

import asyncio
import xml.etree.ElementTree as ET
from typing import Any, cast

import httpx
import msgspec
from l402_gateway.control_plane import build
from l402_gateway.why import SHOWN, of_submission, picture
from l402core.documents import Receipt, RoundRoot, Terms
from l402core.errors import NotFound
from l402core.events import RoundView, SubmissionView
from l402core.explanation import explain

from tests.support.evidence import NAMES, a_judged_round
from tests.support.oracle import SETTLER, sha, the_root

ROUND, _ = asyncio.run(a_judged_round())
TERMS = msgspec.json.decode(ROUND.terms.body, type=Terms)
RECEIPTS = [msgspec.json.decode(signed.body, type=Receipt) for signed in ROUND.receipts]


def test_the_page_says_why_and_shows_everybody_measured() -> None:
    """The amount, the reason, each check, a bar for each of four, and the command that judges again."""
    page = of_submission(RECEIPTS[0], TERMS, explain(RECEIPTS[0], TERMS, RECEIPTS), "http://oracle")
    assert "hence" in page
    assert "What would have earned more" in page
    assert f"verify-receipt http://oracle/v1/receipts/{RECEIPTS[0].commitment}" in page
    drawn = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])  # noqa: S314 - of our own page
    assert len(list(drawn.iter("rect"))) == 4
    assert [bar.get("fill") for bar in drawn.iter("rect")].count("#0b6e99") == 1
    assert all(0 <= float(bar.get("x", "-1")) <= 640 for bar in drawn.iter("rect"))


def test_no_word_becomes_markup() -> None:
    """Reasons and checks come from whoever signs receipts."""
    check = msgspec.structs.replace(RECEIPTS[0].checks[0], detail="<script>alert(1)</script>", code="<b>")
    hostile = msgspec.structs.replace(
        RECEIPTS[0], checks=(check,), verdict="<i>", peer="<u>", reasons=("<s>",), units=0, mask=0
    )
    page = of_submission(hostile, TERMS, explain(hostile, TERMS, RECEIPTS), "http://<o>")
    assert not any(tag in page for tag in ("<script", "<b>", "<i>", "<u>", "<s>", "<o>"))


def test_a_round_without_measurements_has_no_picture_and_a_large_one_is_cut() -> None:
    """One's own bar is always there."""
    nobody = explain(RECEIPTS[2], TERMS, ())
    assert "Nobody" in picture(nobody)
    mine = explain(RECEIPTS[0], TERMS, ()).places[0]
    others = tuple(msgspec.structs.replace(mine, mine=False) for _ in range(3 * SHOWN))
    shown = picture(msgspec.structs.replace(nobody, places=(*others, mine)))
    assert shown.count("<rect") == SHOWN + 1
    assert shown.count("yours") == 1


class Reads:
    """The gateway's reads of one judged round, of which one submission is not judged."""

    async def get(self, key: Any) -> RoundView | SubmissionView:
        """A round by its number, a submission by round and commitment."""
        if key == 1:
            return RoundView(
                round=1, phase="done", terms=ROUND.terms, root=SETTLER.sign(RoundRoot.tag, the_root(*NAMES)), opened=5,
                uploaded=5, scored=4, places_left=0, available=False, unavailable_reason="",
            )  # fmt: skip
        known = {receipt.commitment: signed for receipt, signed in zip(RECEIPTS, ROUND.receipts, strict=True)}
        if key[0] != 1 or key[1] not in known:
            raise NotFound("submission_unknown", "no such submission")
        return SubmissionView(
            round=1, commitment=key[1], peer="", state="ended", phase="done", seq=0, offer=None, locked=None, upload=None,
            receipt=None if key[1] == sha("eve") else known[key[1]], sealed_preimages=(), mask=0, verdict="", reasons=(),
            rungs=(), cancel=(), fee_msat=0, credit_available=False, trace_id="",
        )  # fmt: skip


class Edge:
    """As much of a gateway as reads need."""

    rounds = submissions = Reads()


async def test_the_gateway_serves_it() -> None:
    """Of a judged submission; of one that is not judged it says so, and a stranger's is a problem."""
    edge: Any = Edge()
    app = build(edge, cast(Any, None), cast(Any, None), cast(Any, None))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
        found = await http.get(f"/why/1/{sha('ann')}")
        waiting = await http.get(f"/why/1/{sha('eve')}")
        unknown = await http.get(f"/why/1/{sha('nobody')}")
        disguised = await http.get("/why/1/nothex")
    assert (found.status_code, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert found.text.count("<rect") == 3
    assert "not judged yet" in waiting.text
    assert (unknown.status_code, disguised.status_code) == (404, 400)
