"""The pages for people as routes: the whole network, one round, one submission. It knows no markup."""

import time

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from l402core.documents import Receipt
from l402core.errors import L402Error, NotFound, Unavailable
from l402core.events import OracleView, RoundView
from l402core.explanation import explain

from l402_gateway import routes
from l402_gateway.app import Gateway
from l402_gateway.library import commitments_of, receipt_of
from l402_gateway.pages import frame, overview, past, plain, story
from l402_gateway.reads import Shared
from l402_gateway.seeing import LOOK_S, Seeing
from l402_gateway.views import terms_of

HTML = "text/html; charset=utf-8"


def add_pages(app: FastAPI, gateway: Gateway, seeing: Seeing) -> None:
    """Serve them. The page of the whole is rendered once for all who look at the same moment."""

    async def render(_key: None) -> bytes:
        seen = await seeing.look()
        return overview.page(seen, terms_of(seen.round) if seen.round else None)

    whole: Shared[None, bytes] = Shared(render, ttl_s=LOOK_S / 2, clock=time.monotonic)

    @app.get("/", response_class=HTMLResponse, summary="The whole network, for people.")
    async def status_page() -> Response:
        return _page(await whole.get(None))

    @app.get("/rounds/{round}", response_class=HTMLResponse, summary="One round, for people.")
    async def round_page(round: str) -> Response:
        number, now_ms = routes.read_round(round), gateway.now_ms()
        try:
            view, group = await gateway.rounds.get(number), await gateway.seen.lineup.get(number)
        except (NotFound, Unavailable) as error:
            return _page(plain.page(f"Round {number}", _sentence(error), now_ms=now_ms), _status(error))
        return _page(past.page(view, terms_of(view), group, await _oracle(gateway), now_ms=now_ms))

    @app.get("/why/{round}/{commitment}", response_class=HTMLResponse, summary="One submission's life and receipt.")
    async def why_page(round: str, commitment: str) -> Response:
        key, now_ms = (routes.read_round(round), routes.read_hash(commitment, "commitment")), gateway.now_ms()
        try:
            view, mine = await gateway.rounds.get(key[0]), await gateway.submissions.get(key)
            told = await gateway.seen.story.get(key)
        except (NotFound, Unavailable) as error:
            return _page(plain.page("One submission", _sentence(error), now_ms=now_ms), _status(error))
        receipt, terms = receipt_of(mine), terms_of(view)
        others = await _receipts(gateway, view) if receipt else []
        explained = explain(receipt, terms, others) if receipt else None
        return _page(story.page(told, mine, terms, receipt, explained, now_ms=now_ms))


async def _receipts(gateway: Gateway, view: RoundView) -> list[Receipt]:
    """Everybody's who is judged, of a round of at most as many places as its terms sell."""
    found = []
    for commitment in commitments_of(view)[: terms_of(view).places]:
        try:
            receipt = receipt_of(await gateway.submissions.get((view.round, commitment)))
        except NotFound:
            continue
        found += [receipt] if receipt else []
    return found


async def _oracle(gateway: Gateway) -> OracleView | None:
    try:
        return await gateway.seen.oracle.get(None)
    except L402Error:
        return None


def _sentence(error: L402Error) -> str:
    return f"{error.detail[:1].upper()}{error.detail[1:]}."


def _status(error: L402Error) -> int:
    return 404 if isinstance(error, NotFound) else 503


def _page(body: bytes, status: int = 200) -> Response:
    return Response(body, status, dict(frame.HEADERS), HTML)
