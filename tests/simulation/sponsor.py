"""A sponsor of a history: pledges one tranche over HTTP, pays its hold invoice once, and waits.

What it pays, and what it believes in the end, `l402-train sponsor` decides; asking and waiting are done here, because the
command sits in threads.
"""

import asyncio
import contextlib
import hashlib
from pathlib import Path

import aiohttp
import msgspec
from l402core.errors import L402Error
from l402core.events import SponsorshipView
from l402core.lnd.grpc import GrpcNode, LndEndpoint
from l402core.lnd.port import PaymentStatus
from l402core.peerauth import sign_request
from l402core.pledges import Pledge
from l402core.signing import SigningKey
from l402train.sponsor import CLTV_MAX, PATH, Order, contradictions, why_not

from tests.simulation.chance import key_of
from tests.simulation.node import Calls
from tests.simulation.web import GATEWAY, Web
from tests.simulation.world import Process, World

SPONSOR = "sponsor"
KEY = SigningKey(key_of(SPONSOR))
AMOUNT_MSAT = 5_000_000
EARNED, UNEARNED = 1_000_000, 90_000_000
"""Margins in nano-nats: what a round with an accepted gradient reaches, and what none does."""
LOOK_S = 2.0
OPEN = (PaymentStatus.IN_FLIGHT, PaymentStatus.UNKNOWN)


class Sponsor:
    """It goes on after each death where it was: what its node knows of a hash is not paid again."""

    def __init__(self, world: World, web: Web, calls: Calls, margin: int) -> None:
        self._world, self._web, self._calls = world, web, calls
        pledge = Pledge(
            network="simnet", sponsor=KEY.public, amount_msat=AMOUNT_MSAT, tranches=1, margin=margin, nonce="0" * 64
        )
        self._pledge = KEY.sign(Pledge.tag, pledge)
        self._order = Order(
            url=GATEWAY, node=LndEndpoint("", Path(), Path()), directory=Path(), key_file=Path(), network="simnet",
            amount_msat=AMOUNT_MSAT, tranches=1, margin=margin, attestor="", fee_limit_msat=10_000,
        )  # fmt: skip
        world.add(SPONSOR, self.live)

    async def live(self, process: Process) -> None:
        """Until its sponsorship has ended, and its node agrees on how."""
        node, over = self._calls.connect(SPONSOR), False
        view: SponsorshipView | None = None
        while not over:
            with contextlib.suppress(L402Error, aiohttp.ClientError, TimeoutError):
                view = await (self._open() if view is None else self._read(view.sponsorship)) or view
                if view is not None:
                    await self._pay(view, node)
                    over = view.state == "ended" and await self._agrees(view, node)
            await asyncio.sleep(LOOK_S)

    async def _pay(self, view: SponsorshipView, node: GrpcNode) -> None:
        for one in view.tranches:
            if one.state == "minted" and await node.lookup_payment(bytes.fromhex(one.payment_hash)) is None:
                refusal = why_not(one, view, self._pledge, self._order)
                if refusal:
                    self._world.fail(f"the sponsor does not pay: {refusal}")
                await node.pay(one.bolt11, timeout_s=20, fee_limit_msat=10_000, cltv_limit=CLTV_MAX)

    async def _agrees(self, view: SponsorshipView, node: GrpcNode) -> bool:
        """Whether its node knows the end of each payment; a story that differs from the coordinator's is a defect."""
        known = {
            one.payment_hash: await node.lookup_payment(bytes.fromhex(one.payment_hash)) for one in view.tranches
        }  # fmt: skip
        if any(payment is not None and payment.status in OPEN for payment in known.values()):
            return False
        untrue = contradictions(view, known, "")
        if untrue:
            self._world.fail(untrue[0])
        return True

    async def _open(self) -> SponsorshipView | None:
        body = msgspec.json.encode(self._pledge)
        digest = hashlib.sha256(body).hexdigest()
        signed = sign_request(KEY, method="POST", path=PATH, body_sha256=digest, now_ms=self._world.now_ms())
        return await self._ask("POST", PATH, signed, body)

    async def _read(self, sponsorship: str) -> SponsorshipView | None:
        return await self._ask("GET", f"{PATH}/{sponsorship}", {}, b"")

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> SponsorshipView | None:
        """None where the gateway cannot answer now; a refusal for good is a defect."""
        async with self._web.request(method, GATEWAY + path, headers=headers, data=body) as reply:
            answer = b"".join([chunk async for chunk in reply.content.iter_chunked(1 << 16)])
        if reply.status in (200, 201):
            return msgspec.json.decode(answer, type=SponsorshipView)
        if reply.status < 500 and reply.status != 429:
            self._world.fail(f"the sponsor is refused: {answer.decode()}")
        return None
