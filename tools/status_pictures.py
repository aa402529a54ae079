"""Pictures of the status page from a network that really runs: `make pictures`. Needs Chromium.

It starts a network with quick rounds, peers of every kind and a sponsor, waits until some rounds are over, and takes the
pages as a phone and a desktop show them, light and dark. With --url it takes those of a network that runs already.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
QUICK = {
    "L402_SETTLER_COMMIT_S": "50",
    "L402_SETTLER_LOCK_S": "10",
    "L402_SETTLER_UPLOAD_S": "8",
    "L402_SETTLER_JUDGE_S": "60",
    "L402_GATEWAY_SHOW_CHANNELS": "true",
}
"""Seconds of each phase: a peer here trains for about ten, and nobody waits for strangers in a picture."""
PHONE, DESKTOP = (390, 844), (1280, 900)
SHOTS = (
    ("status-light.png", "status", DESKTOP, "light", 1_080),
    ("status-dark.png", "status", DESKTOP, "dark", 1_080),
    ("status-whole.png", "status", DESKTOP, "light", 0),
    ("status-phone.png", "status", PHONE, "dark", 1_900),
    ("submission.png", "submission", DESKTOP, "light", 0),
)
"""File, page, size, scheme, and how much of it from the top; 0 for all."""
STEP_S = 1.0
LIMIT_S = 1_800


def main() -> int:
    """Exit code 0 once the pictures are there."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    options.add_argument("--rounds", type=int, default=8, help="rounds to wait for")
    options.add_argument("--peers", type=int, default=6)
    options.add_argument("--url", default="", help="of a gateway that runs already")
    told = options.parse_args()
    with contextlib.ExitStack() as stack:
        url = told.url or stack.enter_context(network(told.peers))
        wait_for(url, told.rounds)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            take(browser, url, told.into)
            browser.close()
    return 0


@contextlib.contextmanager
def network(peers: int) -> Iterator[str]:
    """A network on this machine inside the block; its gateway's URL."""
    with tempfile.TemporaryDirectory(prefix="l402-pictures-") as folder:
        program = [sys.executable, "-m", "l402train", "up", "--json", "--dir", f"{folder}/net", "--peers", str(peers)]
        running = subprocess.Popen(program, env={**os.environ, **QUICK}, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        try:
            assert running.stdout is not None
            told = json.loads(running.stdout.readline())
            with sponsor(told["gateway_url"], f"{told['nodes_file']}:{told['join'][0]}", Path(folder) / "sponsor"):
                yield str(told["gateway_url"])
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(timeout=60)


@contextlib.contextmanager
def sponsor(url: str, node: str, folder: Path) -> Iterator[None]:
    """Pays for progress inside the block, from a node that no peer uses."""
    pledge = ("--rounds", "16", "--amount-sat", "20000", "--margin", "0.3", "--dir", str(folder))
    program = [sys.executable, "-m", "l402train", "sponsor", "--url", url, "--lnd", node, *pledge]
    running = subprocess.Popen(program, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=60)


def wait_for(url: str, rounds: int) -> None:
    """Until so many rounds are over and somebody has submitted in the next one."""
    ends_at = time.monotonic() + LIMIT_S
    while time.monotonic() < ends_at:
        current = asked(f"{url}/v1/rounds/current")
        if current.get("round", 0) > rounds and current["opened"] > 1:
            return
        time.sleep(STEP_S)
    raise TimeoutError(f"{rounds} rounds were not over within {LIMIT_S} s")


def asked(url: str) -> dict[str, int]:
    """The JSON of a read; nothing while it is not there."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a gateway's own
            found: dict[str, int] = json.loads(answer.read())
            return found
    except OSError:
        return {}


def take(browser: Browser, url: str, into: Path) -> None:
    """Every shot, in as few colours as it needs."""
    pages = {"status": "/", "submission": paid_story(url)}
    into.mkdir(parents=True, exist_ok=True)
    for file, name, (width, height), scheme, top in SHOTS:
        context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=1.5, color_scheme=scheme
        )
        page = context.new_page()
        page.goto(url + pages[name], wait_until="domcontentloaded")
        page.wait_for_timeout(500)
        clip = {"x": 0, "y": 0, "width": width, "height": top} if top else None
        page.screenshot(path=into / file, full_page=True, clip=clip)
        context.close()
        Image.open(into / file).convert("RGB").quantize(128).save(into / file, optimize=True)
    print(f"{len(SHOTS)} pictures in {into}")


def paid_story(url: str) -> str:
    """The path of a submission that earned something; the newest there is where none did."""
    found = re.findall(r"/why/\d+/[0-9a-f]{64}", text(url + "/"))
    return next((path for path in reversed(found) if "Accepted" in text(url + path)), (found or ["/"])[-1])


def text(url: str) -> str:
    """A page."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a gateway's own
        found: bytes = answer.read()
    return found.decode()


if __name__ == "__main__":
    sys.exit(main())
