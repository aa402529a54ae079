"""Wiring of the invoicer: `python -m l402_invoicer`."""

import sys
import time

import structlog
from l402core import metrics, telemetry
from l402core.bus import Bus
from l402core.control import control_app, serving
from l402core.errors import L402Error
from l402core.events import FeeMint, ReadInvoicerParts
from l402core.lifecycle import run, run_until_asked
from l402core.lnd.fitness import readiness, silence, trouble
from l402core.lnd.grpc import GrpcNode, LndEndpoint, connect
from l402core.lnd.permissions import INVOICER
from l402core.lnd.scope import refuse_excess
from l402core.parts import tell_parts
from l402core.succession import Successions

from l402_invoicer.adapters.cursor import FileCursor
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.app import CONSUMERS, Invoicer
from l402_invoicer.config import Config
from l402_invoicer.sponsors import SponsorMint

log = structlog.get_logger()


async def serve(config: Config) -> None:
    """Consume, answer and watch until asked to stop. Raises Malformed for a macaroon that may do too much."""
    refuse_excess(config.lnd_macaroon, INVOICER, tolerated=config.lnd_macaroon_excess, service="invoicer")
    node = connect(LndEndpoint(config.lnd_host, config.lnd_tls_cert, config.lnd_macaroon))
    bus = Bus(config.nats_url, "invoicer")
    cursor = FileCursor(config.data_dir / "invoicer.cursor")
    tally = FileTally(config.data_dir / "invoicer.sqlite3")
    successions = Successions(config.hand_overs)
    invoicer = Invoicer(
        config,
        node,
        bus,
        cursor,
        tally,
        now_ms=lambda: time.time_ns() // 1_000_000,
        successions=successions,
        settler=bus,
    )
    minting = SponsorMint(config, node, bus, now_ms=lambda: time.time_ns() // 1_000_000, successions=successions)
    lock, mint, *_ = CONSUMERS
    bus.consume(lock, invoicer.lock_ladder, invoicer.give_up)
    bus.consume(mint, minting.mint_tranche, invoicer.give_up)
    invoicer.stops.register(bus)
    bus.answer(FeeMint, invoicer.mint_fee)

    async def ready() -> dict[str, bool]:
        return {"bus": await bus.ready(), **await node_ready(node, config.lnd_network)}

    tell_parts(bus, ReadInvoicerParts, ready)
    address_file = config.data_dir / "invoicer.url"
    await bus.start()
    try:
        app = control_app("invoicer", ready)
        async with serving(app, config.http_host, config.http_port, address_file=address_file) as url:
            log.info("service.ready", url=url)
            await run_until_asked(invoicer.watch_fees(), invoicer.forget_unsent(), invoicer.stops.learn_forever())
    finally:
        address_file.unlink(missing_ok=True)
        await bus.stop()
        await node.close()
        tally.close()


async def node_ready(node: GrpcNode, network: str) -> dict[str, bool]:
    """Whether the node is fit for money, and by name what stands against it."""
    try:
        found = trouble(await node.info(), network=network)
    except L402Error as error:
        found = silence(error)
    failing = found.check if found else ""
    metrics.tell_fitness(failing)
    return readiness("lnd", failing)


def main() -> int:
    """Exit code 0 when asked to stop, 1 when it cannot run."""
    config = Config.model_validate({})
    provider = telemetry.setup("invoicer", trace_file=config.trace_file, log_level=config.log_level)
    try:
        run(serve(config))
    except (L402Error, OSError) as error:
        print(f"invoicer: {error}", file=sys.stderr)  # noqa: T201 - the process's last words
        return 1
    finally:
        provider.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
