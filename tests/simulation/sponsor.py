"""A sponsor of a history: pledges one tranche over the bus, pays its hold invoice once, and waits. It checks nothing."""

import asyncio
import contextlib

from l402core.errors import L402Error, Unavailable
from l402core.events import ReadSponsorship, SponsorshipOpen, SponsorshipView
from l402core.lnd.grpc import GrpcNode
from l402core.pledges import Pledge
from l402core.signing import SigningKey

from tests.simulation.broker import Broker
from tests.simulation.bus import SimBus
from tests.simulation.chance import key_of
from tests.simulation.node import Calls
from tests.simulation.world import Process, World

SPONSOR = "sponsor"
KEY = SigningKey(key_of(SPONSOR))
AMOUNT_MSAT = 5_000_000
EARNED, UNEARNED = 1_000_000, 90_000_000
"""Margins in nano-nats: what a round with an accepted gradient reaches, and what none does."""
LOOK_S = 2.0


class Sponsor:
    """It goes on after each death where it was: what its node knows of a hash is not paid again."""

    def __init__(self, world: World, broker: Broker, calls: Calls, margin: int) -> None:
        self._broker, self._calls = broker, calls
        pledge = Pledge(
            network="simnet", sponsor=KEY.public, amount_msat=AMOUNT_MSAT, tranches=1, margin=margin, nonce="0" * 64
        )
        self._question = SponsorshipOpen(sponsor=KEY.public, pledge=KEY.sign(Pledge.tag, pledge))
        world.add(SPONSOR, self.live)

    async def live(self, process: Process) -> None:
        """Until its sponsorship has ended."""
        bus, node = SimBus(self._broker, process, SPONSOR), self._calls.connect(SPONSOR)
        view: SponsorshipView | None = None
        while view is None or view.state != "ended":
            with contextlib.suppress(L402Error):
                if view is None:
                    view = await bus.ask(self._question, SponsorshipView)
                else:
                    view = await bus.ask(ReadSponsorship(sponsorship=view.sponsorship), SponsorshipView)
                await self._pay(view, node)
            await asyncio.sleep(LOOK_S)

    async def _pay(self, view: SponsorshipView, node: GrpcNode) -> None:
        for one in view.tranches:
            with contextlib.suppress(Unavailable):
                if one.state == "minted" and await node.lookup_payment(bytes.fromhex(one.payment_hash)) is None:
                    await node.pay(one.bolt11, timeout_s=20, fee_limit_msat=10_000, cltv_limit=0)
