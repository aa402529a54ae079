"""A peer that presents one paid token twice, the second time for another commitment.

No gateway lets that through; this peer has found one that does, or speaks to the settler itself.
"""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.journal import Token
from l402core.documents import Statement
from l402core.errors import L402Error
from l402core.events import SubmissionOpen, SubmissionView
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey

from tests.simulation.bus import SimBus


class Twice(Gateway):
    """The real client, and what such a peer does once its first submission is open."""

    def __init__(self, web: Any, url: str, identity: SigningKey, bus: SimBus, *, now_ms: Callable[[], int]) -> None:
        super().__init__(web, url, identity, now_ms=now_ms)
        self._identity, self._bus = identity, bus

    async def open(
        self, round_: int, commitment: str, token: Token, preimage: Secret, statement: Signed
    ) -> SubmissionView:
        view = await super().open(round_, commitment, token, preimage, statement)
        with contextlib.suppress(L402Error):
            await self._bus.ask(self._again(token, statement), SubmissionView)
        return view

    def _again(self, token: Token, statement: Signed) -> SubmissionOpen:
        first = msgspec.json.decode(statement.body, type=Statement)
        other = hashlib.sha256(f"another than {first.commitment}".encode()).hexdigest()
        signed = self._identity.sign(Statement.tag, msgspec.structs.replace(first, commitment=other))
        return SubmissionOpen(
            round=first.round, commitment=other, peer=first.peer, token_id=token.token_id,
            payment_hash=token.payment_hash, credit=token.credit, statement=signed,
            request_hash=hashlib.sha256(msgspec.json.encode(signed)).hexdigest(),
        )  # fmt: skip
