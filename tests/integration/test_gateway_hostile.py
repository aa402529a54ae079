"""A paying peer that wants the whole gateway for itself, and credentials narrowed to another method or path."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from l402_gateway.paid import client_of
from l402core import events
from l402core.l402 import credential
from l402core.l402.macaroon import append
from l402core.secret import Secret

from tests.integration.test_gateway import open_, pay, put, refused
from tests.support.gateway import Draft, Edge, edge


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Edge]:
    """A gateway that receives three uploads at once."""
    async with edge(tmp_path, uploads_at_once=3) as running:
        yield running


@pytest.fixture
async def http(it: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """A client."""
    async with httpx.AsyncClient(base_url=it.url, timeout=60) as client:
        yield client


async def test_one_submission_cannot_take_every_upload_slot(it: Edge, http: httpx.AsyncClient) -> None:
    """Its third upload at once is sent away, so that slow uploads of one peer leave room for another's."""
    mine, other = (Draft(it.coordinator.terms, nonce=nonce * 32) for nonce in ("01", "02"))
    paid = [await pay(http, it, draft) for draft in (mine, other)]
    for one in paid:
        await open_(http, one)
    it.coordinator.phase = "upload"
    await asyncio.sleep(0.3)  # what was read before is kept for a moment
    inside, go_on = [asyncio.Event(), asyncio.Event()], asyncio.Event()

    async def slow(began: asyncio.Event) -> AsyncIterator[bytes]:
        yield mine.payload[:1]
        began.set()
        await go_on.wait()
        yield mine.payload[1:]

    uploads = [asyncio.create_task(put(http, paid[0], slow(began))) for began in inside]
    for began in inside:
        await began.wait()
    await asyncio.sleep(0.5)  # until both are inside
    refused(await put(http, paid[0]), 503, "upload_twice")
    assert (await put(http, paid[1])).status_code == 201
    go_on.set()
    assert [(await upload).status_code for upload in uploads] == [201, 201]


async def test_a_narrowed_credential_opens_no_more_than_that(it: Edge, http: httpx.AsyncClient) -> None:
    """Narrowed by its holder to a method, a path or a peer, it is refused for any other."""
    draft = Draft(it.coordinator.terms)
    paid = await pay(http, it, draft)
    body = draft.statement(paid.token_id)
    for caveat, code in (
        (b"methods=PUT", "caveat_method"),
        (f"path={draft.path}/gradient".encode(), "caveat_path"),
    ):
        narrowed = credential(append(paid.macaroon, caveat), Secret(paid.preimage))
        headers = {**paid.headers(draft.path, body), "Authorization": narrowed}
        refused(await http.post(draft.path, content=body, headers=headers), 402, code)
    assert it.coordinator.asked(events.SubmissionOpen) == 0


async def test_a_key_has_one_spelling(it: Edge, http: httpx.AsyncClient) -> None:
    """The same key in capitals or with spaces would be another peer with the same signature."""
    draft = Draft(it.coordinator.terms)
    for spelling in (draft.key.public.upper(), draft.key.public[:2] + " " + draft.key.public[2:]):
        headers = draft.signed(draft.path) | {"L402-Peer": spelling}
        refused(await http.post(draft.path, headers=headers), 401, "peer_key")


def test_an_address_of_a_customer_is_one_client() -> None:
    """One IPv6 customer has 2^64 addresses; its limit is counted over all of them."""
    assert client_of({"client": ("192.0.2.7", 1)}) == "192.0.2.7"
    assert client_of({"client": ("2001:db8:1:2::3", 1)}) == client_of({"client": ("2001:db8:1:2:ffff::9", 1)})
    assert client_of({"client": ("2001:db8:1:3::3", 1)}) != client_of({"client": ("2001:db8:1:2::3", 1)})
    assert client_of({"client": ("::ffff:192.0.2.7", 1)}) == "192.0.2.7"
    assert client_of({}) == "unknown"
    assert client_of({"client": ("/run/socket", 0)}) == "/run/socket"
