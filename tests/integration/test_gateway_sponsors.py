"""Pledges through a running gateway: who may pledge, how often, and what anybody may read."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from l402core.documents import TrancheTerms
from l402core.errors import Exhausted, TooLarge
from l402core.events import SponsorshipOpen, SponsorshipView
from l402core.peerauth import sign_request
from l402core.pledges import Pledge
from l402core.signing import SigningKey

from tests.support.gateway import Edge, edge, signed

PATIENCE_S = 60.0
PATH = "/v1/sponsorships"
SPONSOR, OTHER = (SigningKey(bytes([n]) * 32) for n in (21, 22))


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Edge]:
    """A gateway that takes three pledges a minute from one client."""
    async with edge(tmp_path, pledges_per_client=3) as running:
        yield running


def pledge(*, key: SigningKey = SPONSOR, **other: Any) -> bytes:
    """A signed pledge as a body."""
    values: dict[str, Any] = {
        "network": "regtest", "sponsor": key.public, "amount_msat": 20_000_000, "tranches": 2, "margin": 1,
        "nonce": "ab" * 32, **other,
    }  # fmt: skip
    return signed(Pledge(**values), key)


async def send(it: Edge, body: bytes, *, by: SigningKey | None = SPONSOR) -> httpx.Response:
    """The request, signed by `by`."""
    headers = (
        sign_request(
            by, method="POST", path=PATH, body_sha256=hashlib.sha256(body).hexdigest(),
            now_ms=time.time_ns() // 1_000_000,
        )
        if by
        else {}
    )  # fmt: skip
    async with httpx.AsyncClient(base_url=it.url) as http:
        return await http.post(PATH, content=body, headers=headers)


async def test_a_signed_pledge_reaches_the_settler_and_can_be_read_by_anybody(it: Edge) -> None:
    """201 with the sponsorship; the same pledge again is the same one."""
    first = await send(it, pledge())
    again = await send(it, pledge())
    assert (first.status_code, again.status_code) == (201, 201)
    view = msgspec.json.decode(first.content, type=SponsorshipView)
    assert msgspec.json.decode(again.content, type=SponsorshipView) == view
    async with httpx.AsyncClient(base_url=it.url) as http:
        read = await http.get(f"{PATH}/{view.sponsorship}")
    assert (read.status_code, read.json()["sponsor"]) == (200, SPONSOR.public)


@pytest.mark.parametrize(
    ("body", "by", "status", "code"),
    [
        (pledge(), None, 401, "peer_unsigned"),
        (pledge(), OTHER, 401, "peer_pledge"),
        (pledge(sponsor=OTHER.public), SPONSOR, 401, "peer_pledge"),
        (b"{}", SPONSOR, 400, "bad_json"),
        (b"x" * 70_000, SPONSOR, 413, "body_too_large"),
    ],
    ids=["unsigned", "another's pledge", "in another's name", "no pledge", "too large"],
)
async def test_what_is_no_pledge_of_the_sender_asks_nobody(
    it: Edge, body: bytes, by: SigningKey | None, status: int, code: str
) -> None:
    """Refused at the edge; the settler never hears of it."""
    answer = await send(it, body, by=by)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert it.coordinator.asked(SponsorshipOpen) == 0


async def test_pledges_are_limited_before_they_are_read(it: Edge) -> None:
    """The fourth within the window is turned away, with the time to wait."""
    answers = [await send(it, pledge()) for _ in range(4)]
    assert [one.status_code for one in answers] == [201, 201, 201, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("refusal", "status"), [(TooLarge("pledge_amount", "too much"), 413), (Exhausted("sponsors_many", "full"), 503)]
)
async def test_the_settlers_refusal_passes_through(it: Edge, refusal: Any, status: int) -> None:
    """With its code."""
    it.coordinator.refuse = refusal
    answer = await send(it, pledge())
    assert (answer.status_code, answer.json()["code"]) == (status, refusal.code)


@pytest.mark.parametrize(("id_", "status"), [("ab" * 32, 404), ("x", 400)])
async def test_what_was_never_pledged_is_not_found(it: Edge, id_: str, status: int) -> None:
    """A problem, as everywhere."""
    async with httpx.AsyncClient(base_url=it.url) as http:
        answer = await http.get(f"{PATH}/{id_}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_page_for_people_says_who_funds_the_round(it: Edge) -> None:
    """Price, margin and that it is locked; or that nobody does."""
    async with httpx.AsyncClient(base_url=it.url) as http:
        assert "no sponsor in this round" in (await http.get("/")).text
        tranche = TrancheTerms(
            sponsorship="aa" * 32, tranche=0, payment_hash="bb" * 32, amount_msat=20_000_000, margin=400_000_000
        )
        it.coordinator.terms = msgspec.structs.replace(it.coordinator.terms, tranche=tranche)
        text = ""
        async with asyncio.timeout(PATIENCE_S):
            while "a sponsor, 20,000 sat" not in text:  # the page may be as old as its reads may be
                await asyncio.sleep(it.config.read_cache_ms / 1_000)
                text = (await http.get("/")).text
        assert "only if the loss falls by 0.4000 or more; else it goes back" in text
