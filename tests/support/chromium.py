"""A real Chromium, driven from a test: what it prints, what it refuses to run, and what axe says of a page."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.real import require_real

PHONE, DESKTOP = (390, 844), (1280, 900)


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser inside the block."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    require_real(found is not None, "Chromium (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root with one
        browser = await playwright.chromium.launch(executable_path=found, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Reader:
    """A page somebody reads, and what went wrong in it."""

    page: Page
    errors: list[str] = field(default_factory=list)

    async def sins(self) -> list[str]:
        """What axe finds against accessibility, each with where."""
        results = await Axe().run(self.page)
        return [
            f"{one['id']}: {node['html'][:120]} ({node['failureSummary']})"
            for one in results.response["violations"]
            for node in one["nodes"]
        ]

    async def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        found: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found


@contextlib.asynccontextmanager
async def reading(
    browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, script: bool = True,
    before: str = "",
) -> AsyncIterator[Reader]:  # fmt: skip
    """The page, open; `before` runs in it first."""
    context: BrowserContext = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light",
        java_script_enabled=script,
    )  # fmt: skip
    await context.add_init_script(before or ";")
    page = await context.new_page()
    reader = Reader(page)
    page.on("pageerror", lambda error: reader.errors.append(str(error)))
    page.on("console", lambda line: reader.errors.append(line.text) if line.type in ("error", "warning") else None)
    await page.goto(url, wait_until="domcontentloaded")
    try:
        yield reader
    finally:
        await context.close()
