"""The pages over HTTP: many viewers are few questions, what is away leaves a gap, and nothing but reading is served."""

import asyncio
from pathlib import Path

import httpx
from l402core import events

from tests.support.gateway import Edge, edge
from tests.support.status import EVIL, PEERS


async def test_many_who_look_at_once_are_one_look(tmp_path: Path) -> None:
    """Two hundred readers of the page cost no more questions than a few: the reads are shared, and so is the page."""
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=0)  # a kept one may be closed as it is used
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60, limits=limits) as http:
        pages = await asyncio.gather(*(http.get("/") for _ in range(200)))
        assert {page.status_code for page in pages} == {200}
        assert all(asked < 20 for asked in it.coordinator.looks.asked.values())
        assert it.coordinator.looks.asked["status.read.v1"] >= 1


async def test_the_page_shows_what_the_settler_and_the_oracle_tell(tmp_path: Path) -> None:
    """And who does not answer is silent: here nobody plays the invoicer or a worker."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        page = await http.get("/")
        for words in ("75,000 sat", "5.4120", "12 peers", PEERS[0][:8], "silent", "Peers train and commit"):
            assert words in page.text, words
        assert EVIL not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert (await http.post("/")).status_code == 405


async def test_a_settler_that_is_away_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    """Parts and whatever else answers are still shown; nobody waits for long."""
    async with edge(tmp_path, bus_timeout_s=0.5) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        await it.bus.stop()
        page = await http.get("/")
        assert page.status_code == 200
        assert "No round is to be seen" in page.text
        assert page.text.count("silent") == 4
        gone = await http.get("/rounds/1")
        assert gone.status_code == 503
        assert "does not answer" in gone.text or "did not answer" in gone.text


async def test_rounds_and_submissions_have_pages_of_their_own(tmp_path: Path) -> None:
    """A round that was opened; one that was not; a commitment that is none."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        commitment = await _opened(it)
        assert "3,100 sat" in (await http.get("/rounds/1")).text
        assert (await http.get("/rounds/7")).status_code == 404
        story = await http.get(f"/why/1/{commitment}")
        assert story.status_code == 200
        assert "the reward is locked in them" in story.text
        assert "It fell through" in story.text  # ended, and no receipt
        assert (await http.get(f"/why/1/{'ab' * 32}")).status_code == 404
        assert (await http.get("/why/1/nothex")).status_code == 400


async def _opened(it: Edge) -> str:
    """A submission that the settler knows."""
    commitment = "cd" * 32
    it.coordinator.opened[commitment] = (PEERS[0], "", "")
    assert (await it.coordinator.read(events.ReadSubmission(round=1, commitment=commitment))).peer == PEERS[0]
    return commitment
