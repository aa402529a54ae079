"""The gateway over HTTP, on a real bus and a real Redis: challenge, every step, and every way to be refused."""

import re

import httpx
import pytest
from l402core.l402 import parse_challenge

from tests.support.gateway import Draft, edge

STOCK = re.compile(r'L402 macaroon="(?P<macaroon>[A-Za-z0-9+/=]+)", invoice="(?P<invoice>ln[a-z0-9]+)"')


async def test_a_bare_put_of_a_gradient_gets_a_challenge_that_stock_clients_read(tmp_path):
    """Our strict parser and the plain regex of deployed clients find the same macaroon and invoice."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url) as http:
        draft = Draft(it.coordinator.terms)
        answer = await http.put(draft.path + "/gradient", content=draft.payload)
        assert answer.status_code == 402, answer.text
        print(answer.headers, answer.text)
        told = parse_challenge(answer.headers["www-authenticate"])
        assert STOCK.match(answer.headers["www-authenticate"])["invoice"] == told.bolt11
