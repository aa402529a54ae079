"""The coordinator's processes as their own `__main__` wires them, on simulated bus, node, disk and web.

Each function is one incarnation's life: it recovers as the real one does, then works until it is killed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache, partial
from typing import Any

from l402_gateway.app import Gateway
from l402_gateway.config import Config as GatewayConfig
from l402_gateway.library import Library
from l402_gateway.paid import PaidPath
from l402_invoicer.app import CONSUMERS as INVOICER_CONSUMERS
from l402_invoicer.app import Invoicer
from l402_invoicer.config import Config as InvoicerConfig
from l402_invoicer.sponsors import SponsorMint
from l402_oracle.adapters.heights import NodeHeights
from l402_oracle.attestor.app import CONSUMERS as ATTESTOR_CONSUMERS
from l402_oracle.attestor.app import Attestor
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.wiring import register
from l402_oracle.worker.app import CONSUMERS as WORKER_CONSUMERS
from l402_oracle.worker.app import Worker
from l402_settler.app import CONSUMERS as SETTLER_CONSUMERS
from l402_settler.app import Settler
from l402_settler.config import Config as SettlerConfig
from l402_settler.office import Office
from l402_settler.recovery import recover_all
from l402_settler.sponsorships import Sponsors
from l402_settler.thawing import Thawing
from l402_settler.watch import Watch
from l402core.errors import NotFound
from l402core.events import FeeMint, Freeze, GradientScored, Reconcile, Thaw
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey
from l402core.streams import Declared, SayAgain, incarnation_at, keep_declared
from nats.errors import ConnectionClosedError
from sparseloco.corpus import load_corpus

from tests.simulation.bench import PHI_PPM, ScriptedBench
from tests.simulation.broker import Broker
from tests.simulation.bus import SimBus
from tests.simulation.chance import key_of
from tests.simulation.disk import SimDatabase
from tests.simulation.files import Cursor, Objects, Tally
from tests.simulation.keyrings import Keyrings
from tests.simulation.node import Calls
from tests.simulation.shelf import SimShelf
from tests.simulation.web import ATTESTOR, GATEWAY, Web, attestor_server, gateway_server
from tests.simulation.world import Process, World

SETTLER_KEY, ATTESTOR_KEY = SigningKey(key_of("settler")), SigningKey(key_of("attestor"))
READING_KEY = UnsealingKey(key_of("worker"))
"""As every history begins: what others pin."""
CONSUMERS = (*SETTLER_CONSUMERS, *INVOICER_CONSUMERS, *ATTESTOR_CONSUMERS, *WORKER_CONSUMERS)
EXPIRY_MARGIN, REVEAL_BLOCKS = 24, 45
"""With these, either bound of the reveal may be the one that binds."""
SERVICES = ("settler", "invoicer", "attestor", "worker", "gateway")
STREAMS_EVERY_S = 4.0
"""Twice as long as in the product: an idle look costs a history most."""
COORDINATOR, WATCHER = "coordinator", "watcher"
"""Our node, and the attestor's own that tells heights."""


@cache
def settler_config(expected: tuple[str, ...], rounds: int, sponsors: tuple[str, ...]) -> SettlerConfig:
    """Short phases: a history is a few minutes long."""
    return SettlerConfig(
        attestor_public=ATTESTOR_KEY.public, reading_public=READING_KEY.public, attestor_url=ATTESTOR,
        expected_peers=expected, rounds=rounds, places=4, commit_s=40, lock_s=20, upload_s=15, judge_s=30,
        never_sent_s=20, phi_ppm=PHI_PPM, reveal_blocks=REVEAL_BLOCKS, owed_lock_s=120, owed_pay_s=60, owed_offers=3,
        expected_sponsors=sponsors,
    )  # fmt: skip


INVOICER_CONFIG = InvoicerConfig(attestor=ATTESTOR_KEY.public, retry_max_s=4.0)
GATEWAY_CONFIG = GatewayConfig()


class Coordinator:
    """What the processes of one coordinator share and what survives them."""

    def __init__(
        self, world: World, broker: Broker, calls: Calls, web: Web, config: SettlerConfig,
        books: SimDatabase, decisions: SimDatabase,
    ) -> None:  # fmt: skip
        self.world, self.broker, self.calls, self.web, self.config = world, broker, calls, web, config
        self.books, self.decisions = books, decisions
        self.objects, self.cursor, self.shelf = Objects(world), Cursor(world), SimShelf(world)
        self.tally = Tally(world)
        self.keyrings = Keyrings()
        self.stopped: list[str] = []
        """Escrows that an operator has frozen, or is about to."""
        self.invoicer_began_ms = 0
        """When the present one began to listen."""
        self.orders = 0
        """Those that wait for its thaw."""
        self.heights: NodeHeights | None = None
        self.given_back: set[str] = set()
        """Submissions of which the attestor's own door has said that nothing is decided and nothing will be."""
        self.on_reveal: Callable[[GradientScored], None] = lambda _: None
        self._ids = 0
        for name in SERVICES:
            world.add(name, getattr(self, name))

    def new_id(self) -> str:
        """Seeded ids: numbers."""
        self._ids += 1
        return f"id{self._ids}"

    async def settler(self, process: Process) -> None:
        """See `l402_settler.__main__`."""
        world, database = self.world, self.books.reborn()
        office = Office(
            self.config, keys=self.keyrings.signing(), successions=self.keyrings.successions(), database=database,
            now_ms=world.now_ms, new_id=self.new_id,
        )  # fmt: skip
        bus, node = SimBus(self.broker, process, "settler"), self.calls.connect(COORDINATOR)
        settler, watch = Settler(office, bus, node), Watch(office, node)
        sponsors = Sponsors(office, node, self.keyrings.unsealing())
        thawing = Thawing(office, settler, sponsors)
        settler.register(thawing.on_dead, thawing.on_work_dead)
        sponsors.register(bus, thawing.on_dead)
        bus.answer(Reconcile, watch.reconcile)
        bus.answer(Freeze, thawing.freeze)
        bus.answer(Thaw, thawing.thaw)
        await bus.start()
        say_again = partial(recover_all, database, (settler, sponsors))
        await say_again(await self._incarnation())
        await self._work(
            process, settler.turn_rounds(), watch.payments(), watch.open_rungs(), watch.node(), watch.books(),
            sponsors.tend_forever(), database.publish_forever(bus), self._keep_streams(say_again),
        )  # fmt: skip

    async def invoicer(self, process: Process) -> None:
        """See `l402_invoicer.__main__`."""
        world, bus = self.world, SimBus(self.broker, process, "invoicer")
        node = self.calls.connect(COORDINATOR)
        invoicer = Invoicer(
            INVOICER_CONFIG, node, bus, self.cursor, self.tally, now_ms=world.now_ms, monotonic=world.monotonic,
            successions=self.keyrings.successions(), settler=bus,
        )  # fmt: skip
        lock, mint, frozen, thawed = INVOICER_CONSUMERS
        bus.consume(lock, invoicer.lock_ladder, invoicer.give_up)
        minting = SponsorMint(INVOICER_CONFIG, node, bus, now_ms=world.now_ms, successions=self.keyrings.successions())
        bus.consume(mint, minting.mint_tranche, invoicer.give_up)
        bus.consume(frozen, invoicer.stops.on_frozen)
        bus.consume(thawed, invoicer.stops.on_thawed)
        bus.answer(FeeMint, invoicer.mint_fee)
        await bus.start()
        self.invoicer_began_ms = world.now_ms()
        await self._work(process, invoicer.watch_fees(), invoicer.stops.learn_forever())

    async def attestor(self, process: Process) -> None:
        """See `l402_oracle.attestor.wiring`."""
        world, database = self.world, self.decisions.reborn()
        bus, node = SimBus(self.broker, process, "attestor"), self.calls.connect(WATCHER)
        heights = self.heights = NodeHeights(
            node, network="simnet", max_age_s=120, poll_s=10.0, monotonic=world.monotonic
        )
        settler = self.keyrings.successions().trusted("settler", SETTLER_KEY.public)
        parts = Parts(
            database=database, objects=self.objects, heights=heights, keyring=self.keyrings.oracle(), corpus=load_corpus(),
            settler=settler, chosen_key_id="", init_seed=1, expiry_margin_blocks=EXPIRY_MARGIN,
            aggregate_places=256, yardstick=False, now_ms=world.now_ms, new_id=self.new_id,
        )  # fmt: skip
        attestor = Attestor(parts)
        register(bus, attestor)  # type: ignore[arg-type]  # it has the bus's methods
        await bus.start()
        await attestor.begin(await self._incarnation())
        self.web.serve(ATTESTOR, process, attestor_server(self._watched(attestor)))
        await self._work(
            process, database.publish_forever(bus), attestor.judging.watch_forever(4.0), heights.follow(),
            self._keep_streams(attestor.begin),
        )  # fmt: skip

    def _watched(self, attestor: Attestor) -> Callable[[str], Awaitable[GradientScored]]:
        async def decision(commitment: str) -> GradientScored:
            try:
                scored = await attestor.delivery.decision(commitment)
            except NotFound:
                self.given_back.add(commitment)
                raise
            self.on_reveal(scored)
            return scored

        return decision

    async def worker(self, process: Process) -> None:
        """See `l402_oracle.worker.wiring`."""
        bus = SimBus(self.broker, process, "worker")
        worker = Worker(
            bench=ScriptedBench(self.world), objects=self.objects, bus=bus, key=self.keyrings.read_with(),
            answers_to=self.keyrings.answers_to, payload_max_bytes=1 << 20, now_ms=self.world.now_ms, new_id=self.new_id,
        )  # fmt: skip
        for consumer in WORKER_CONSUMERS:
            bus.consume(consumer, getattr(worker, consumer.event.name.removesuffix(".v1").replace(".", "_")))
        await bus.start()
        await self._work(process)

    async def gateway(self, process: Process) -> None:
        """See `l402_gateway.__main__`."""
        world, bus = self.world, SimBus(self.broker, process, "gateway")
        gateway = Gateway(
            GATEWAY_CONFIG, bus, self.shelf, self.objects, lambda: self.keyrings.roots, now_ms=world.now_ms,
            clock=world.monotonic, rng_bytes=world.entropy.bytes, takes_uploads=_always,
        )  # fmt: skip
        library = Library(gateway.rounds, gateway.submissions, self.objects, depth=64, clock=world.monotonic)
        await bus.start()
        self.web.serve(GATEWAY, process, gateway_server(gateway, library, PaidPath(gateway)))
        await self._work(process)

    async def _incarnation(self) -> str:
        """See `l402core.streams.incarnation`; who starts while the bus is away is started again until it is there."""
        while True:
            try:
                return await incarnation_at(self.broker.server())  # type: ignore[arg-type]  # it has the call that it makes
            except ConnectionClosedError:
                await asyncio.sleep(1.0)

    def _keep_streams(self, say_again: SayAgain) -> Coroutine[Any, Any, None]:
        """See `l402core.streams.keep_streams`."""
        declared = Declared(self.broker.server())  # type: ignore[arg-type]  # it has the calls that it makes
        return keep_declared(declared, say_again, every_s=STREAMS_EVERY_S)

    async def _work(self, process: Process, *jobs: Coroutine[Any, Any, None]) -> None:
        """The jobs that never end; one that does is a defect, which the world is told of."""
        for job in jobs:
            self.world.spawn(process, job)
        await asyncio.get_running_loop().create_future()


async def _always() -> bool:
    return True
