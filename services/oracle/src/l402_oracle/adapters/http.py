"""The attestor's own URL: decisions, receipts and rounds, from its own table, depending on nobody else.

It refuses to accept anything: there is nothing to write here.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

import msgspec
from fastapi import FastAPI, Path, Request, Response
from l402core.control import Ready, control_app
from l402core.errors import L402Error, NotFound, TooEarly, Unavailable
from l402core.events import GradientScored, RoundAssessed
from l402core.evidence import Evidence
from l402core.signing import Signed

from l402_oracle.planning import Plan

RoundNumber = Annotated[int, Path(ge=0, lt=1 << 31)]
Commitment = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="The submission's commitment.")]


STATUS: dict[type[L402Error], int] = {NotFound: 404, TooEarly: 425, Unavailable: 503}
"""404 is for good: nothing was decided and nothing will be. 425: not yet."""


class RoundSight(msgspec.Struct, frozen=True, kw_only=True):
    """What the attestor says of a round."""

    round: int
    state: str
    checkpoint: str
    seed_commitment: str
    assessed: RoundAssessed | None
    """Order, seed, shards and medians, once the round is closed."""
    judged: Signed | None = None
    """`JudgedRound`: every receipt by its digest, and the root over them, once the round is decided."""


class Evidences(Protocol):
    """The public record. Both raise NotFound while nothing is decided."""

    async def of_round(self, number: int, /) -> Evidence: ...

    async def of_submission(self, commitment: str, /) -> Evidence: ...

    async def plan(self) -> Plan:
        """For the newest round with terms, with every place taken. Raises NotFound before the first."""
        ...


def attestor_app(
    decision: Callable[[str], Awaitable[GradientScored]],
    sight: Callable[[int], Awaitable[RoundSight | None]],
    records: Evidences,
    ready: Ready,
) -> FastAPI:
    """Six reads and two probes. What it has decided needs no object: peers find it here though the store is away."""
    app = control_app("l402-train attestor", ready, told_only=frozenset({"objects"}))

    @app.get("/v1/decisions/{commitment}", summary="The one decision, with its sealed preimages while it is safe.")
    async def read_decision(commitment: Commitment) -> Response:
        return _json(await decision(commitment))

    @app.get("/v1/receipts/{commitment}", summary="The signed receipt.")
    async def read_receipt(commitment: Commitment) -> Response:
        return _json((await decision(commitment)).receipt)

    @app.get("/v1/receipts/{commitment}/evidence", summary="The receipt with its terms and its round's signed page.")
    async def read_evidence(commitment: Commitment) -> Response:
        return _json(await records.of_submission(commitment))

    @app.get("/v1/rounds/{number}/evidence", summary="Every receipt of a round: what `verify-receipt --round` reads.")
    async def read_round_evidence(number: RoundNumber) -> Response:
        return _json(await records.of_round(number))

    @app.get("/v1/plan", summary="Whether every peer of a full round fits its window, and what more workers would buy.")
    async def read_plan() -> Response:
        return _json(await records.plan())

    @app.get("/v1/rounds/{number}", summary="A round as the attestor sees it.")
    async def read_round(number: RoundNumber) -> Response:
        found = await sight(number)
        if found is None:
            raise NotFound("round", f"round {number} is not known")
        return _json(found)

    @app.exception_handler(L402Error)
    async def problem(_request: Request, error: L402Error) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        body = {
            "type": f"https://l402-train.dev/problems/{error.code}", "title": type(error).__name__, "status": status,
            "detail": error.detail, "code": error.code, "fault": error.fault,
        }  # fmt: skip
        return Response(msgspec.json.encode(body), status, media_type="application/problem+json")

    return app


def _json(document: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
