"""The page for Prometheus: each part as its probe tells it, each check of the node, and never a page that hangs."""

import asyncio
import re

import httpx
import pytest
from l402core import metrics
from l402core.control import Ready, control_app
from l402core.lnd.fitness import CHECKS


def told(page: str, name: str) -> dict[str, float]:
    """The samples of one metric by their label; "" where there is none."""
    found = re.findall(rf'^{name}(?:{{[a-z]+="([a-z_]*)"}})? (\S+)$', page, flags=re.MULTILINE)
    return {label: float(value) for label, value in found}


async def get(ready: Ready, path: str, *, show_metrics: bool = True) -> httpx.Response:
    """One request to a service with these parts."""
    transport = httpx.ASGITransport(control_app("a service", ready, show_metrics=show_metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        return await http.get(path)


async def test_every_part_is_a_number_and_one_that_is_well_again_is_not_said_to_fail() -> None:
    """As /readyz says at that moment, and nothing of before."""
    parts = {"bus": True, "lightning": False, "lightning_synced": False}

    async def ready() -> dict[str, bool]:
        return parts

    page = await get(ready, "/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    assert told(page.text, "l402_ready") == {"bus": 1, "lightning": 0, "lightning_synced": 0}
    del parts["lightning_synced"]
    parts["lightning"] = True
    assert told((await get(ready, "/metrics")).text, "l402_ready") == {"bus": 1, "lightning": 1}


async def test_a_part_that_hangs_does_not_keep_the_numbers_from_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page comes, and says so."""
    monkeypatch.setattr(metrics, "READY_WITHIN_S", 0.05)

    async def ready() -> dict[str, bool]:
        await asyncio.sleep(3_600)
        return {}

    assert told((await get(ready, "/metrics")).text, "l402_ready") == {"answers_in_time": 0}


@pytest.mark.parametrize("failing", ["", *CHECKS])
async def test_every_check_of_the_node_is_a_number_of_its_own(failing: str) -> None:
    """An alarm can be set on each of them before it has ever failed."""
    metrics.tell_fitness(failing)

    async def ready() -> dict[str, bool]:
        return {}

    assert told((await get(ready, "/metrics")).text, "l402_node_fit") == {check: check != failing for check in CHECKS}


async def test_where_strangers_come_there_are_no_numbers() -> None:
    """Neither probe is touched by that."""

    async def ready() -> dict[str, bool]:
        return {"bus": True}

    assert (await get(ready, "/metrics", show_metrics=False)).status_code == 404
    assert (await get(ready, "/readyz", show_metrics=False)).json() == {"bus": True}
