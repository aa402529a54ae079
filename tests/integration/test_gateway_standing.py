"""What a peer's own standing changes at the gateway: no new challenge at its cap, and a credit that outlives its key."""

import base64
from pathlib import Path

import httpx
import msgspec
from l402core import events
from l402core.l402 import keys as root_keys
from l402core.l402 import parse_challenge
from l402core.l402.identifier import decode as decode_identifier
from l402core.l402.macaroon import decode

from tests.support.gateway import PEER, Draft, edge


async def test_a_peer_at_its_cap_is_sold_nothing(tmp_path: Path) -> None:
    """A signed request names the peer: 503 with the reason, and no invoice is minted; others are served."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        draft = Draft(it.coordinator.terms)
        it.coordinator.exposed = "12 rungs are out"
        answer = await http.post(draft.path, headers=draft.signed(draft.path))
        assert (answer.status_code, answer.json()["code"]) == (503, "peer_exposure")
        assert "12 rungs are out" in answer.json()["detail"]
        assert "www-authenticate" not in answer.headers
        assert it.coordinator.asked(events.FeeMint) == 0
        assert (await http.post(draft.path)).status_code == 402
        it.coordinator.exposed = ""
        assert (await http.post(draft.path, headers=draft.signed(draft.path))).status_code == 402


async def test_a_credit_outlives_the_root_key_that_it_was_first_claimed_under(tmp_path: Path) -> None:
    """The key was retired: the claim gets a token of the present ring, which verifies; a revoked token stays revoked."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        draft, payment_hash = Draft(it.coordinator.terms), "0e" * 32
        it.coordinator.credits[payment_hash] = PEER.public
        it.coordinator.kept[payment_hash] = "ab" * 32
        body = msgspec.json.encode({"payment_hash": payment_hash})
        answer = await http.post("/v1/credits", content=body, headers=draft.signed("/v1/credits", body))
        assert answer.status_code == 201, answer.text
        macaroon = decode(base64.b64decode(answer.json()["macaroon"]))
        ring = root_keys.load(tmp_path / "gateway.json")
        assert decode_identifier(macaroon.identifier).token_id[:4] == ring.active
        again = await http.post("/v1/credits", content=body, headers=draft.signed("/v1/credits", body))
        assert again.json() == answer.json()


async def test_the_challenge_of_a_signed_request_is_the_peers_own(tmp_path: Path) -> None:
    """The peer is known before it pays, so that its standing can be."""
    async with edge(tmp_path) as it, httpx.AsyncClient(base_url=it.url, timeout=60) as http:
        draft = Draft(it.coordinator.terms)
        answer = await http.post(draft.path, headers=draft.signed(draft.path))
        caveats = parse_challenge(answer.headers["www-authenticate"]).macaroon.caveats
        assert f"peer={PEER.public}".encode() in caveats
        assert it.coordinator.asked(events.ReadStanding) == 1
