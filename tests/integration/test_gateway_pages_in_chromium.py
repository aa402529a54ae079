"""The pages in a real Chromium: readable without a script, live with one, on a phone and a desktop, by everybody."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from l402core import events
from playwright.async_api import Browser, expect

from tests.support.chromium import DESKTOP, PHONE, chromium, reading
from tests.support.gateway import Edge, edge
from tests.support.status import PEERS

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("chromium")]
COMMITMENT = "cd" * 32
WITHOUT_POLLING = "const all = setInterval; window.setInterval = (what, ms) => ms < 15000 && all(what, ms);"
"""So that only a hint can bring the page up to date."""
PATHS = ("/", "/rounds/1", f"/why/1/{COMMITMENT}", "/rounds/9")


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Edge]:
    """A gateway that shows its channels too."""
    async with edge(tmp_path, show_channels=True, bus_timeout_s=30.0) as running:  # a browser takes all there is
        running.coordinator.opened[COMMITMENT] = (PEERS[0], "", "")
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """One for each test."""
    async with chromium() as running:
        yield running


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_axe_has_nothing_to_say_and_nothing_runs_that_the_policy_forbids(
    it: Edge, browser: Browser, size: tuple[int, int], dark: bool
) -> None:
    """Every page, in both sizes and both schemes; and none is wider than its window."""
    for path in PATHS:
        async with reading(browser, it.url + path, size=size, dark=dark) as reader:
            assert await reader.sins() == [], path
            assert await reader.overflow_px() <= 0, path
            assert [error for error in reader.errors if "404" not in error] == [], path


async def test_without_a_script_everything_can_be_read(it: Edge, browser: Browser) -> None:
    """Rendered on the server: phase, countdown, curve, tables."""
    async with reading(browser, it.url, script=False) as reader:
        page = reader.page
        await expect(page.get_by_role("heading", level=1)).to_have_text("Peers train and commit")
        await expect(page.get_by_role("timer")).to_have_text(re.compile(r"^[01]:\d\d$"))
        await expect(page.get_by_role("img", name="Held-out loss")).to_be_visible()
        await expect(page.locator("#peers tbody tr")).to_have_count(len(PEERS))


async def test_a_hint_brings_the_page_up_to_date_without_a_reload(it: Edge, browser: Browser) -> None:
    """Something happened in the round: the words follow, and what a reader has open or focused stays."""
    async with reading(browser, it.url, before=WITHOUT_POLLING) as reader:
        page = reader.page
        await expect(page.locator("#live")).to_have_text("live")
        await page.evaluate("window.mine = document.getElementById('parts') || document.querySelector('#health')")
        it.coordinator.phase = "upload"
        closed = events.SubmissionExpired(id="1", occurred_at_ms=1, round=1, commitment=COMMITMENT, reason="late")
        await it.bus.hint(closed)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Gradients are uploaded", timeout=30_000)
        assert await page.evaluate("window.mine === document.querySelector('#health')")
        assert "Round 1: gradients are uploaded" in await page.title()
        assert reader.errors == []


async def test_the_countdown_runs_by_itself(it: Edge, browser: Browser) -> None:
    """From the server's own clock, whatever the reader's says."""
    async with reading(browser, it.url) as reader:
        timer = reader.page.get_by_role("timer")
        first = await timer.text_content()
        await expect(timer).not_to_have_text(str(first), timeout=30_000)


async def test_a_link_leads_from_a_peer_to_its_story(it: Edge, browser: Browser) -> None:
    """By its accessible name."""
    it.coordinator.looks.lines = tuple(
        msgspec.structs.replace(one, commitment=COMMITMENT) for one in it.coordinator.looks.lines[:1]
    )
    async with reading(browser, it.url) as reader:
        await reader.page.get_by_role("link", name=f"the story of {PEERS[0][:8]}").first.click()
        await expect(reader.page.get_by_role("heading", name="Its life")).to_be_visible()


async def test_a_gateway_that_stops_lets_its_listeners_go_and_a_page_says_that_it_is_alone(
    tmp_path: Path, browser: Browser
) -> None:
    """An open page does not keep the gateway from ending."""
    async with edge(tmp_path) as it:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(it.url)
        await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator("#live")).not_to_have_text("live", timeout=30_000)
    await context.close()
