"""The channels as the gateway shows them: for programs, for people, and for nobody where the operator says so."""

import asyncio
from pathlib import Path

import httpx
import msgspec
from l402core import events

from tests.support.gateway import edge


async def test_where_the_operator_shows_them_anybody_may_read_the_channels(tmp_path: Path) -> None:
    """A hundred askers are a few questions, though other reads are not kept at all; the page tells people the same."""
    async with (
        edge(tmp_path, read_cache_ms=0, show_channels=True) as it,
        httpx.AsyncClient(base_url=it.url, timeout=60, limits=httpx.Limits(max_connections=50)) as http,
    ):
        answers = await asyncio.gather(*(http.get("/v1/channels") for _ in range(100)))
        told = [msgspec.json.decode(one.content, type=events.ChannelsView) for one in answers]
        assert it.coordinator.asked(events.ReadChannels) < 20
        assert told[0].channels[0].local_msat == 4_000_000
        assert told[0].flows[0].rewards_msat == 700_000
        page = (await http.get("/")).text
        for words in (
            "500 sat in fees, 700 sat out in rewards; net by round -200", "4,000 of 9,000 sat are ours",
            '>6<span class="soft"> of 483<', "A full next round takes up to 50,880 sat", "a full next round takes more",
            "it runs &lt;short&gt;",
        ):  # fmt: skip
            assert words in page
        assert (await http.post("/v1/channels")).status_code == 405


async def test_channels_are_the_operators_own_unless_shown(tmp_path: Path) -> None:
    """Balances are the operator's own: then nobody is asked, and the page is the round's alone."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        answer = await http.get("/v1/channels")
        assert (answer.status_code, answer.json()["code"]) == (404, "channels_hidden")
        page = (await http.get("/")).text
        assert "until commits close" in page
        assert "Channels" not in page
        assert it.coordinator.asked(events.ReadChannels) == 0
