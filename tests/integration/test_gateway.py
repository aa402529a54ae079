"""The gateway over HTTP, on a real bus and a real Redis: challenge, every step, and every way to be refused."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest
from l402core import errors, events
from l402core.documents import Accepted
from l402core.l402 import Macaroon, credential, parse_challenge
from l402core.l402.identifier import decode as decode_identifier
from l402core.l402.macaroon import append, decode
from l402core.secret import Secret

from tests.support.gateway import CHECKPOINT, OTHER, PEER, Draft, Edge, edge, signed, stopped
from tests.support.watching import until

STOCK = re.compile(r'L402 macaroon="(?P<macaroon>[A-Za-z0-9+/=]+)", invoice="(?P<invoice>ln[a-z0-9]+)"')


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Edge]:
    """A gateway with everything behind it."""
    async with edge(tmp_path, body_timeout_s=0.5) as running:
        yield running


@pytest.fixture
async def http(it: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps to one gateway."""
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=it.url, timeout=60, limits=limits) as client:
        yield client


@pytest.fixture
def draft(it: Edge) -> Draft:
    """A peer's submission."""
    return Draft(it.coordinator.terms)


class Paid:
    """A draft whose fee was paid."""

    def __init__(self, it: Edge, draft: Draft, header: str) -> None:
        told = parse_challenge(header)
        self.macaroon: Macaroon = told.macaroon
        identifier = decode_identifier(told.macaroon.identifier)
        self.payment_hash = identifier.payment_hash.hex()
        self.token_id = identifier.token_id.hex()
        self.preimage = it.coordinator.fees[self.payment_hash]
        self.draft = draft

    @property
    def authorization(self) -> str:
        return credential(self.macaroon, Secret(self.preimage))

    def headers(self, path: str, body: bytes = b"", **changes: Any) -> dict[str, str]:
        """Credential and peer signature."""
        return {"Authorization": self.authorization, **self.draft.signed(path, body, **changes)}


async def pay(http: httpx.AsyncClient, it: Edge, draft: Draft) -> Paid:
    """Ask as the peer, and pay."""
    answer = await http.post(draft.path, headers=draft.signed(draft.path))
    assert answer.status_code == 402, answer.text
    return Paid(it, draft, answer.headers["www-authenticate"])


async def open_(http: httpx.AsyncClient, paid: Paid) -> httpx.Response:
    """Open the submission."""
    body = paid.draft.statement(paid.token_id)
    return await http.post(paid.draft.path, content=body, headers=paid.headers(paid.draft.path, body))


async def put(
    http: httpx.AsyncClient,
    paid: Paid,
    payload: bytes | AsyncIterator[bytes] | None = None,
    claims: dict[str, str] | None = None,
) -> httpx.Response:
    """Upload the gradient."""
    headers = claims or {}
    draft, path = paid.draft, paid.draft.path + "/gradient"
    sent = draft.payload if payload is None else payload
    told = {"L402-Payload-Hash": draft.payload_hash, "L402-Nonce": draft.nonce}
    told |= paid.headers(path, method="PUT", body_sha256=headers.get("L402-Payload-Hash", draft.payload_hash))
    return await http.put(path, content=sent, headers=told | headers)


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a refusal is the right problem, whole; returns it."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == f"https://l402-train.dev/problems/{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["fault"] in ("caller", "peer", "world", "contradiction")
    assert answer.headers["cache-control"] == "no-store"
    return problem


# --- challenges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("step", ["", "/locks", "/accepted", "/gradient"])
async def test_a_bare_request_gets_a_challenge_that_stock_clients_read(
    it: Edge, http: httpx.AsyncClient, draft: Draft, method: str, step: str
) -> None:
    """Our strict parser and the plain regex of deployed clients find the same macaroon and invoice."""
    answer = await http.request(method, draft.path + step, content=draft.payload)
    problem = refused(answer, 402, "payment_required")
    header = answer.headers["www-authenticate"]
    told, stock = parse_challenge(header), STOCK.match(header)
    assert stock is not None
    assert stock["invoice"] == told.bolt11
    assert decode(base64.b64decode(stock["macaroon"])) == told.macaroon
    assert told.invoice.amount_msat == problem["fee_msat"] == it.coordinator.terms.fee_msat
    assert told.invoice.payment_hash.hex() == problem["payment_hash"]
    assert problem["terms"] == it.coordinator.terms.digest()
    assert told.macaroon.caveats[:4] == (
        b"round=1", b"commitment=" + draft.commitment.encode(), b"methods=POST,PUT", f"path={draft.path}/*".encode(),
    )  # fmt: skip


async def test_the_same_question_gets_the_same_challenge(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Fifty requests at once, and one later, mint one invoice and get one macaroon."""
    answers = await asyncio.gather(*(http.put(draft.path + "/gradient") for _ in range(50)))
    answers.append(await http.post(draft.path))
    assert {answer.status_code for answer in answers} == {402}
    assert len({answer.headers["www-authenticate"] for answer in answers}) == 1
    assert it.coordinator.asked(events.FeeMint) == 1


async def test_a_signed_question_binds_the_token_to_its_peer(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """It is another token over another invoice, so that one payment is never two tokens."""
    mine = await pay(http, it, draft)
    bare = Paid(it, draft, (await http.post(draft.path)).headers["www-authenticate"])
    assert mine.macaroon.caveats[-1] == b"peer=" + PEER.public.encode()
    assert bare.payment_hash != mine.payment_hash


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"phase": "upload"}, 410, "round_closed"),
        ({"phase": "done"}, 410, "round_closed"),
        ({"available": False}, 503, "nothing_left"),
    ],
)
async def test_no_fee_is_sold_for_what_cannot_be_had(
    it: Edge, http: httpx.AsyncClient, draft: Draft, change: dict[str, Any], status: int, code: str
) -> None:
    """A closed round, or one with nothing left, asks nobody for money."""
    for name, value in change.items():
        setattr(it.coordinator, name, value)
    answer = await http.post(draft.path)
    refused(answer, status, code)
    assert "www-authenticate" not in answer.headers
    assert ("retry-after" in answer.headers) == (status == 503)
    assert it.coordinator.asked(events.FeeMint) == 0


async def test_no_fee_is_sold_in_an_unknown_round(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """A round that was never opened is not found."""
    refused(await http.post(draft.path.replace("rounds/1", "rounds/7")), 404, "round_unknown")
    assert it.coordinator.asked(events.FeeMint) == 0


async def test_minting_is_limited_by_address_and_by_peer(tmp_path: Path) -> None:
    """Beyond the limit the answer says when to come back, and no invoice is made."""
    async with (
        edge(tmp_path, mints_per_client=3, mints_per_peer=1) as it,
        httpx.AsyncClient(base_url=it.url) as http,
    ):
        drafts = [Draft(it.coordinator.terms, nonce=f"{number:064x}") for number in range(6)]
        assert (await http.post(drafts[0].path, headers=drafts[0].signed(drafts[0].path))).status_code == 402
        again = await http.post(drafts[1].path, headers=drafts[1].signed(drafts[1].path))
        refused(again, 429, "peer_limit")
        assert 0 < int(again.headers["retry-after"]) <= it.config.mint_window_s
        assert (await http.post(drafts[2].path)).status_code == 402
        refused(await http.post(drafts[3].path), 429, "client_limit")
        assert (await http.post(drafts[2].path)).status_code == 402, "what is on the shelf costs nothing"
        assert it.coordinator.asked(events.FeeMint) == 2


async def test_without_redis_nothing_is_minted_and_what_was_paid_still_opens(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """Minting fails closed; verification needs nobody."""
    paid = await pay(http, it, draft)
    with stopped(it.redis):
        answer = await http.post(Draft(it.coordinator.terms, nonce="01" * 32).path)
        refused(answer, 503, "redis")
        assert answer.headers["retry-after"]
        assert (await http.get("/readyz")).status_code == 503
        assert (await open_(http, paid)).status_code == 201
    assert (await http.get("/readyz")).status_code == 200


async def test_without_the_objects_nothing_is_sold_and_what_was_paid_is_taken_when_they_are_back(
    it: Edge, http: httpx.AsyncClient, draft: Draft, tmp_path: Path
) -> None:
    """Nobody is told to pay for what could not be kept; an upload is to come back later, and is taken then, once."""
    paid = await ready_to_upload(http, it, draft)
    it.objects.rename(tmp_path / "away")
    await until(lambda: answers(http, 503))
    assert (await http.get("/readyz")).json() == {"bus": True, "redis": True, "objects": False}
    it.coordinator.phase = "commit"
    await asyncio.sleep(0.3)  # what was read before is kept for a moment
    answer = await http.post(Draft(it.coordinator.terms, nonce="01" * 32).path)
    refused(answer, 503, "objects")
    assert answer.headers["retry-after"]
    assert it.coordinator.asked(events.FeeMint) == 1
    it.coordinator.phase = "upload"
    await asyncio.sleep(0.3)
    refused(await put(http, paid), 503, "disk")
    assert it.coordinator.asked(events.RegisterUpload) == 0
    (tmp_path / "away").rename(it.objects)
    await until(lambda: answers(http, 200))
    assert (await put(http, paid)).status_code == 201
    assert await it.store.get(it.coordinator.uploads[draft.commitment]) == draft.payload


async def answers(http: httpx.AsyncClient, status: int) -> bool:
    """Whether `/readyz` says this."""
    return (await http.get("/readyz")).status_code == status


async def test_without_the_bus_each_answer_is_to_come_back_later(tmp_path: Path) -> None:
    """Nobody answers: 503 with Retry-After, and the same request later has its effect."""
    async with edge(tmp_path, bus_timeout_s=0.3) as it, httpx.AsyncClient(base_url=it.url) as http:
        draft = Draft(it.coordinator.terms)
        paid = await pay(http, it, draft)
        await it.bus.stop()
        for answer in (await open_(http, paid), await http.get("/v1/rounds/current"), await http.post(draft.path)):
            refused(answer, 503, "bus")
            assert answer.headers["retry-after"]
        assert (await http.get("/livez")).status_code == 200


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_a_paid_statement_opens_the_submission(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """201 with the offer; the settler is told who, what was paid, and the hash of exactly this body."""
    paid = await pay(http, it, draft)
    answer = await open_(http, paid)
    assert answer.status_code == 201, answer.text
    view = msgspec.json.decode(answer.content, type=events.SubmissionView)
    assert (view.commitment, view.peer) == (draft.commitment, PEER.public)
    asked = it.coordinator.questions[-1]
    assert isinstance(asked, events.SubmissionOpen)
    assert (asked.token_id, asked.payment_hash, asked.credit) == (paid.token_id, paid.payment_hash, False)
    assert len(asked.request_hash) == 64


async def test_without_an_offer_yet_the_answer_is_202(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """The same request later gets the offer."""
    it.coordinator.offer = False
    paid = await pay(http, it, draft)
    body = draft.statement(paid.token_id)
    assert (await http.post(draft.path, content=body, headers=paid.headers(draft.path, body))).status_code == 202
    it.coordinator.offer = True
    assert (await http.post(draft.path, content=body, headers=paid.headers(draft.path, body))).status_code == 201


async def test_a_thousand_replays_have_one_effect_and_one_answer(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """The same request again gets the same answer; another body under the same commitment is a conflict."""
    paid = await pay(http, it, draft)
    body = draft.statement(paid.token_id)
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(it.url, connector=connector) as session:

        async def once() -> tuple[int, int]:
            headers = paid.headers(draft.path, body)
            async with session.post(draft.path, data=body, headers=headers) as answer:
                return answer.status, msgspec.json.decode(await answer.read())["seq"]

        answers = await asyncio.gather(*(once() for _ in range(1_000)))
    assert set(answers) == {(201, 1)}
    assert it.coordinator.effects == 1
    other = draft.statement(paid.token_id, seal_to="11" * 32)
    refused(await http.post(draft.path, content=other, headers=paid.headers(draft.path, other)), 409, "other_request")
    assert it.coordinator.effects == 1


BAD_FORM = {
    "no colon": ("L402 abc", "bad_credential"),
    "no base64": ("L402 $$$:" + "00" * 32, "bad_credential"),
    "short preimage": ("L402 AgEK:" + "00" * 31, "bad_credential"),
    "not a macaroon": ("L402 AAAA:" + "00" * 32, "bad_macaroon"),
    "too long": ("L402 " + "A" * 9_000 + ":" + "00" * 32, "header_too_long"),
}


@pytest.mark.parametrize("case", BAD_FORM)
async def test_a_malformed_credential_is_a_bad_request(
    it: Edge, http: httpx.AsyncClient, draft: Draft, case: str
) -> None:
    """Paying again would not help, so there is no challenge."""
    header, code = BAD_FORM[case]
    answer = await http.post(draft.path, headers={"Authorization": header})
    refused(answer, 400, code)
    assert "www-authenticate" not in answer.headers


async def test_two_credentials_in_conflict_are_a_bad_request(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """The same one twice is no conflict; two that differ are, also over different headers."""
    paid = await pay(http, it, draft)
    body = draft.statement(paid.token_id)
    mine = list(paid.headers(draft.path, body).items())
    other = credential(append(paid.macaroon, b"round=1"), Secret(paid.preimage))
    conflict = [*mine, ("Authorization", other)]
    refused(await http.post(draft.path, content=body, headers=conflict), 400, "credential_conflict")
    grpc = append(paid.macaroon, b"preimage=" + paid.preimage.hex().encode()).encode().hex()
    conflict = [*mine, ("Grpc-Metadata-Macaroon", grpc)]
    refused(await http.post(draft.path, content=body, headers=conflict), 400, "credential_conflict")
    twice = [*mine, ("Authorization", paid.authorization)]
    assert (await http.post(draft.path, content=body, headers=twice)).status_code == 201


async def test_a_credential_that_does_not_verify_gets_a_new_challenge(
    it: Edge, http: httpx.AsyncClient, draft: Draft, tmp_path: Path
) -> None:
    """Wrong preimage, changed macaroon, foreign root key, stranger's caveats: 402, what was wrong, and how to pay."""
    paid = await pay(http, it, draft)
    zero, good = Secret(b"\0" * 32), Secret(paid.preimage)
    changed = msgspec.structs.replace(paid.macaroon, signature=b"\1" * 32)
    identifier = paid.macaroon.identifier
    foreign = msgspec.structs.replace(paid.macaroon, identifier=identifier[:34] + b"\xff" * 4 + identifier[38:])
    cases = {
        "bad_preimage": credential(paid.macaroon, zero),
        "bad_signature": credential(changed, good),
        "unknown_root_key": credential(foreign, good),
        "caveat_unknown": credential(append(paid.macaroon, b"colour=red"), good),
        "caveat_widens": credential(append(paid.macaroon, b"valid_until=9999999999"), good),
        "caveat_expired": credential(append(paid.macaroon, b"valid_until=1"), good),
        "caveat_service": credential(append(paid.macaroon, b"services=credit:0"), good),
    }
    body = draft.statement(paid.token_id)
    for code, authorization in cases.items():
        headers = {**paid.headers(draft.path, body), "Authorization": authorization}
        answer = await http.post(draft.path, content=body, headers=headers)
        refused(answer, 402, code)
        assert parse_challenge(answer.headers["www-authenticate"])
    assert it.coordinator.asked(events.SubmissionOpen) == 0


async def test_a_credential_opens_only_what_it_was_sold_for(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Not another commitment, round or peer."""
    paid = await pay(http, it, draft)
    other = Draft(it.coordinator.terms, nonce="02" * 32)
    body = other.statement(paid.token_id)
    answer = await http.post(other.path, content=body, headers=paid.headers(other.path, body))
    refused(answer, 402, "caveat_commitment")
    elsewhere = draft.path.replace("rounds/1", "rounds/2")
    refused(await http.post(elsewhere, content=body, headers=paid.headers(elsewhere, body)), 402, "caveat_round")
    thief = Draft(it.coordinator.terms, key=OTHER)
    stolen = {"Authorization": paid.authorization, **thief.signed(draft.path, body)}
    refused(await http.post(draft.path, content=body, headers=stolen), 402, "caveat_peer")
    assert it.coordinator.asked(events.SubmissionOpen) == 0


async def test_the_status_of_a_bad_credential_is_a_setting(tmp_path: Path) -> None:
    """401 follows the newest text; the challenge is there all the same."""
    async with edge(tmp_path, bad_credential_status=401) as it, httpx.AsyncClient(base_url=it.url) as http:
        draft = Draft(it.coordinator.terms)
        paid = await pay(http, it, draft)
        answer = await http.post(draft.path, headers={"Authorization": credential(paid.macaroon, Secret(b"\0" * 32))})
        refused(answer, 401, "bad_preimage")
        assert parse_challenge(answer.headers["www-authenticate"])
        assert (await http.post(draft.path)).status_code == 402


async def test_a_credential_is_read_from_grpc_metadata_too(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Hex, with the preimage as a caveat."""
    paid = await pay(http, it, draft)
    body = draft.statement(paid.token_id)
    grpc = append(paid.macaroon, b"preimage=" + paid.preimage.hex().encode()).encode().hex()
    headers = {"Grpc-Metadata-Macaroon": grpc, **draft.signed(draft.path, body)}
    assert (await http.post(draft.path, content=body, headers=headers)).status_code == 201


# --- the peer's signature ---------------------------------------------------------------------------------------------


async def test_a_request_without_a_good_peer_signature_is_401(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Missing, stale, over another body, path or method: each has its own code, and nothing is asked of the settler."""
    paid = await pay(http, it, draft)
    body = draft.statement(paid.token_id)
    good = {"Authorization": paid.authorization}
    cases: list[tuple[str, dict[str, str]]] = [
        ("peer_unsigned", {}),
        ("peer_unsigned", {"L402-Peer": PEER.public}),
        ("peer_stale", draft.signed(draft.path, body, now_ms=1)),
        ("peer_time", {**draft.signed(draft.path, body), "L402-Time": "soon"}),
        ("peer_signature", draft.signed(draft.path, b"another body")),
        ("peer_signature", draft.signed(draft.path + "/locks", body)),
        ("peer_signature", draft.signed(draft.path, body, method="PUT")),
    ]
    for code, headers in cases:
        answer = await http.post(draft.path, content=body, headers=good | headers)
        refused(answer, 401, code)
        assert answer.headers["www-authenticate"].startswith("L402-Peer ")
    assert it.coordinator.asked(events.SubmissionOpen) == 0


async def test_a_bad_signature_on_a_bare_request_buys_nothing(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Who claims to be a peer must be it, also before paying."""
    headers = draft.signed(draft.path) | {"L402-Peer": OTHER.public}
    refused(await http.post(draft.path, headers=headers), 401, "peer_signature")
    assert it.coordinator.asked(events.FeeMint) == 0


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_statement_must_be_the_peers_own_and_about_this(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """Bad JSON is 400, a foreign signature 401, another meaning 422; the settler hears of none."""
    paid = await pay(http, it, draft)
    foreign = Draft(it.coordinator.terms, key=OTHER).statement(paid.token_id)
    cases = [
        (b"{", 400, "bad_json"),
        (b"\xff\xfe", 400, "bad_json"),
        (b"{}", 400, "bad_json"),
        (foreign, 401, "peer_statement"),
        (draft.statement(paid.token_id, round=2), 422, "statement_mismatch"),
        (draft.statement(paid.token_id, commitment="00" * 32), 422, "statement_mismatch"),
        (draft.statement("00" * 32), 422, "statement_mismatch"),
        (draft.statement(paid.token_id, peer=OTHER.public), 422, "statement_mismatch"),
    ]
    for body, status, code in cases:
        answer = await http.post(draft.path, content=body, headers=paid.headers(draft.path, body))
        refused(answer, status, code)
    assert it.coordinator.asked(events.SubmissionOpen) == 0


async def test_a_body_beyond_the_limit_is_refused(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Announced or not."""
    paid = await pay(http, it, draft)
    body = b" " * (it.config.body_max_bytes + 1)
    path = draft.path + "/locks"
    headers = paid.headers(path, body)
    refused(await http.post(path, content=body, headers=headers), 413, "body_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 8_192):
            yield body[start : start + 8_192]

    refused(await http.post(path, content=chunks(), headers=headers), 413, "body_too_large")


async def test_a_slow_body_is_given_up(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """A body that does not come holds nothing for longer than the limit."""
    paid = await pay(http, it, draft)
    path = draft.path + "/locks"

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3)

    refused(await http.post(path, content=slow(), headers=paid.headers(path)), 408, "body_too_slow")


async def test_invoices_go_to_the_settler_whose_refusal_comes_back(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """Wrong invoices are right JSON with a wrong meaning: 422 with the settler's own words."""
    paid = await pay(http, it, draft)
    await open_(http, paid)
    path, body = draft.path + "/locks", msgspec.json.encode({"bolt11s": ["lnbcrt1"] * 6})
    assert (await http.post(path, content=body, headers=paid.headers(path, body))).status_code == 202
    many = msgspec.json.encode({"bolt11s": ["lnbcrt1"] * 65})
    refused(await http.post(path, content=many, headers=paid.headers(path, many)), 422, "ladder_length")
    for refusal, status in [
        (errors.Malformed("invoice_wrong", "rung 0: another amount"), 422),
        (errors.Conflict("other_invoices", "other reward invoices are registered"), 409),
        (errors.TooEarly("offer_pending", "the offer is not there yet"), 425),
        (errors.TooLate("lock_closed", "no ladder can be locked any more"), 410),
        (errors.Contradiction("escrow_impossible", "cannot happen"), 500),
    ]:
        it.coordinator.refuse = refusal
        answer = await http.post(path, content=body, headers=paid.headers(path, body))
        assert refused(answer, status, refusal.code)["fault"] == refusal.fault


async def test_a_closed_rounds_refusal_tells_of_the_credit(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """A paid submission still reaches the settler, which keeps the fee as a credit and says so."""
    paid = await pay(http, it, draft)
    it.coordinator.phase = "upload"
    it.coordinator.refuse = errors.TooLate("round_closed", "closed; the fee of 500000 msat is kept for you as a credit")
    assert "credit" in refused(await open_(http, paid), 410, "round_closed")["detail"]


async def test_accepted_is_signed_and_about_this(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """202 for the peer's own claim about this submission, and only that."""
    paid = await pay(http, it, draft)
    await open_(http, paid)
    path = draft.path + "/accepted"
    claim = Accepted(
        commitment=draft.commitment, round=1, peer=PEER.public, payment_hashes=("00" * 32,), expiry_heights=(1,)
    )
    cases = [
        (signed(claim), 202, ""),
        (signed(claim, OTHER), 401, "peer_accepted"),
        (signed(msgspec.structs.replace(claim, round=2)), 422, "accepted_mismatch"),
        (signed(msgspec.structs.replace(claim, commitment="00" * 32)), 422, "accepted_mismatch"),
    ]
    for body, status, code in cases:
        answer = await http.post(path, content=body, headers=paid.headers(path, body))
        assert answer.status_code == status, answer.text
        assert not code or refused(answer, status, code)


# --- the gradient -----------------------------------------------------------------------------------------------------


def kept(it: Edge) -> set[Path]:
    """What lies in the object store."""
    return set(it.objects.iterdir())


async def ready_to_upload(http: httpx.AsyncClient, it: Edge, draft: Draft) -> Paid:
    """Paid, opened, locked, commits closed."""
    paid = await pay(http, it, draft)
    assert (await open_(http, paid)).status_code == 201
    it.coordinator.phase = "upload"
    it.coordinator.terms = msgspec.structs.replace(it.coordinator.terms)
    await asyncio.sleep(0.3)  # what was read before is kept for a moment
    return paid


async def test_a_gradient_is_stored_registered_and_answered_the_same_again(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """201 with the receipt; again the same answer without another effect; other bytes are a conflict."""
    paid = await ready_to_upload(http, it, draft)
    answer = await put(http, paid)
    assert answer.status_code == 201, answer.text
    assert msgspec.json.decode(answer.content, type=events.SubmissionView).upload is not None
    stored = it.coordinator.uploads[draft.commitment]
    assert await it.store.get(stored) == draft.payload
    again = await put(http, paid)
    assert again.status_code == 201
    assert again.json()["upload"]["body"] == answer.json()["upload"]["body"]
    assert it.coordinator.asked(events.RegisterUpload) == 1
    other = b"other bytes"
    refused(
        await put(http, paid, other, claims={"L402-Payload-Hash": hashlib.sha256(other).hexdigest()}),
        409,
        "other_payload",
    )


async def test_a_gradient_is_taken_only_in_its_time(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Too early before the commits are closed or the reward is locked; too late after; never before it is opened."""
    paid = await pay(http, it, draft)
    refused(await put(http, paid), 404, "submission_unknown")
    await open_(http, paid)
    early = await put(http, paid)
    refused(early, 425, "commits_open")
    assert early.headers["retry-after"]
    it.coordinator.phase, it.coordinator.state = "upload", "locking"
    refused(await put(http, paid), 425, "not_locked")
    it.coordinator.state = "failed"
    refused(await put(http, paid), 410, "upload_closed")
    it.coordinator.phase, it.coordinator.state = "judge", "locked"
    refused(await put(http, paid), 410, "upload_closed")
    assert it.coordinator.uploads == {}
    assert not [path for path in kept(it) if path.suffix == ".part"]


async def test_a_gradient_that_is_not_what_was_committed_is_refused(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """Other bytes than signed, another nonce, too many bytes, missing headers: nothing is kept, nothing registered."""
    paid = await ready_to_upload(http, it, draft)
    before = kept(it)
    refused(await put(http, paid, b"other bytes"), 422, "payload_hash_mismatch")
    refused(await put(http, paid, claims={"L402-Nonce": "08" * 32}), 422, "commitment_mismatch")
    refused(await put(http, paid, claims={"L402-Nonce": "8"}), 400, "bad_nonce")
    refused(await put(http, paid, claims={"L402-Payload-Hash": "x"}), 400, "bad_payload_hash")
    large = b"x" * (it.coordinator.terms.payload_max_bytes + 1)
    refused(await put(http, paid, large), 413, "payload_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 8_192):
            yield large[start : start + 8_192]

    refused(await put(http, paid, chunks()), 413, "payload_too_large")
    assert kept(it) == before
    assert it.coordinator.asked(events.RegisterUpload) == 0


async def test_a_full_disk_is_to_come_back_later(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Nothing is registered that was not stored; the same upload later succeeds."""
    paid = await ready_to_upload(http, it, draft)
    folder = it.objects
    folder.rename(folder.with_name("away"))
    refused(await put(http, paid), 503, "disk")
    assert it.coordinator.asked(events.RegisterUpload) == 0
    folder.with_name("away").rename(folder)
    assert (await put(http, paid)).status_code == 201


async def test_uploads_are_limited_in_number(tmp_path: Path) -> None:
    """One too many is asked to come back in a moment, and then succeeds."""
    async with edge(tmp_path, uploads_at_once=1) as it, httpx.AsyncClient(base_url=it.url) as http:
        first, second = (Draft(it.coordinator.terms, nonce=nonce * 32) for nonce in ("01", "02"))
        paid = [await pay(http, it, draft) for draft in (first, second)]
        for one in paid:
            await open_(http, one)
        it.coordinator.phase = "upload"
        going, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield first.payload[:1]
            going.set()
            await go_on.wait()
            yield first.payload[1:]

        upload = asyncio.create_task(put(http, paid[0], slow()))
        await going.wait()
        await asyncio.sleep(0.5)  # until the first is inside
        answer = await put(http, paid[1])
        assert refused(answer, 503, "uploads_busy")
        assert answer.headers["retry-after"]
        go_on.set()
        assert (await upload).status_code == 201
        assert (await put(http, paid[1])).status_code == 201


async def test_a_refused_upload_is_heard_while_it_is_still_being_sent(
    it: Edge, http: httpx.AsyncClient, draft: Draft
) -> None:
    """A client that sends megabytes to a shut door reads the refusal, not a broken connection."""
    paid = await pay(http, it, draft)
    await open_(http, paid)
    refused(await put(http, paid, b"x" * 3_000_000), 425, "commits_open")


# --- credits, reads, hints --------------------------------------------------------------------------------------------


async def test_a_credit_opens_once_narrowed_and_not_before(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """A credit's token needs round and commitment appended; then it opens without another payment."""
    paid = await pay(http, it, draft)
    it.coordinator.credits[paid.payment_hash] = PEER.public
    body = msgspec.json.encode({"payment_hash": paid.payment_hash})
    answer = await http.post("/v1/credits", content=body, headers=draft.signed("/v1/credits", body))
    assert answer.status_code == 201, answer.text
    bare = decode(base64.b64decode(answer.json()["macaroon"]))
    assert set(answer.json()) == {"macaroon", "payment_hash", "token_id", "amount_msat"}
    new = Draft(it.coordinator.terms, nonce="09" * 32)
    narrowed = append(append(bare, b"round=1"), f"commitment={new.commitment}".encode())
    statement = new.statement(answer.json()["token_id"])
    for macaroon, status in ((bare, 402), (narrowed, 201)):
        headers = {"Authorization": credential(macaroon, Secret(paid.preimage)), **new.signed(new.path, statement)}
        opened = await http.post(new.path, content=statement, headers=headers)
        assert opened.status_code == status, opened.text
    asked = it.coordinator.questions[-1]
    assert isinstance(asked, events.SubmissionOpen)
    assert asked.credit


async def test_a_credit_is_given_to_its_peer_only(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Unsigned 401, a stranger 404, nonsense 400."""
    body = msgspec.json.encode({"payment_hash": "00" * 32})
    it.coordinator.credits["00" * 32] = OTHER.public
    refused(await http.post("/v1/credits", content=body), 401, "peer_unsigned")
    refused(await http.post("/v1/credits", content=body, headers=draft.signed("/v1/credits", body)), 404, "no_credit")
    refused(await http.post("/v1/credits", content=b"[]", headers=draft.signed("/v1/credits", b"[]")), 400, "bad_json")


async def test_everybody_may_read(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """Rounds, submissions, the checkpoint, the manifest, a page, the schema and the probes."""
    await open_(http, await pay(http, it, draft))
    for path in ("/v1/rounds/current", "/v1/rounds/1"):
        assert msgspec.json.decode((await http.get(path)).content, type=events.RoundView).round == 1
    assert msgspec.json.decode((await http.get(draft.path)).content, type=events.SubmissionView).seq == 1
    checkpoint = await http.get(f"/v1/checkpoints/{it.coordinator.terms.checkpoint.sha256}")
    assert checkpoint.content == CHECKPOINT
    assert "round" in (await http.get("/")).text
    priced = (await http.get("/.well-known/l402.json")).json()["priced"]
    assert priced[0]["price"]["amount_msat"] == it.coordinator.terms.fee_msat
    assert "/v1/rounds/{round}/submissions/{commitment}/locks" in (await http.get("/openapi.json")).json()["paths"]
    assert (await http.get("/livez")).status_code == (await http.get("/readyz")).status_code == 200
    refused(await http.get("/metrics"), 404, "route_unknown")  # not unless the operator says so


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/rounds/9", 404, "round_unknown"),
        ("GET", "/v1/rounds/x", 400, "bad_round"),
        ("GET", "/v1/rounds/01", 400, "bad_round"),
        ("GET", "/v1/rounds/1/submissions/" + "00" * 32, 404, "submission_unknown"),
        ("GET", "/v1/rounds/1/submissions/xyz", 400, "bad_commitment"),
        ("POST", "/v1/rounds/1/submissions/xyz", 400, "bad_commitment"),
        ("POST", "/v1/rounds/1/submissions/" + "AA" * 32, 400, "bad_commitment"),
        ("POST", "/v1/rounds/1/submissions/" + "%61" * 64, 400, "bad_commitment"),
        ("POST", "/v1/rounds/1/submissions/" + "00" * 32 + "/prize", 404, "route_unknown"),
        ("DELETE", "/v1/rounds/1/submissions/" + "00" * 32, 405, "method"),
        ("GET", "/v1/rounds/1/submissions/" + "00" * 32 + "/locks", 405, "method"),
        ("GET", "/v1/checkpoints/" + "00" * 32, 404, "checkpoint_unknown"),
        ("GET", "/v1/objects/" + "00" * 32, 404, "object_unknown"),
        ("GET", "/v1/objects/..%2f..%2fetc", 404, "route_unknown"),
        ("GET", "/elsewhere", 404, "route_unknown"),
        ("DELETE", "/v1/rounds/current", 405, "method"),
    ],
)
async def test_every_wrong_turn_is_a_problem(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """Both apps refuse in the same form."""
    answer = await http.request(method, path)
    refused(answer, status, code)
    assert ("allow" in answer.headers) == (status == 405)


async def test_reads_do_not_stampede(it: Edge, http: httpx.AsyncClient) -> None:
    """Two hundred readers at once are one question, or a few."""
    await asyncio.gather(*(http.get("/v1/rounds/current") for _ in range(200)))
    assert it.coordinator.asked(events.ReadRound) < 20


async def test_a_hint_reaches_its_listeners_and_no_others(it: Edge, http: httpx.AsyncClient, draft: Draft) -> None:
    """A fact of the round becomes a hint with the commitment and nothing else."""
    fact = events.SubmissionExpired(
        id="1", occurred_at_ms=1, round=1, commitment=draft.commitment, reason="a secret of the books"
    )
    async with http.stream("GET", "/v1/rounds/1/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        await anext(lines)
        for told in (msgspec.structs.replace(fact, round=2), fact):
            await it.bus.hint(told)
        heard = [await anext(lines) for _ in range(3)]
    assert heard[1:] == ["event: submission.expired", f'data: {{"round":1,"commitment":"{draft.commitment}"}}']
