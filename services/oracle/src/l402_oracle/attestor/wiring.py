"""The attestor's wiring: configuration in, a running service out. It decides nothing."""

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable

import structlog
from l402core import telemetry
from l402core.bus import Bus
from l402core.control import Ready, serving
from l402core.errors import L402Error, Unavailable
from l402core.events import EndRound, Pardon, ReadAttestorParts, ReadOracle, SayAgain
from l402core.keyfiles import KeyFileError
from l402core.lifecycle import run, run_until_asked
from l402core.lnd.grpc import LndEndpoint, connect
from l402core.lnd.permissions import ATTESTOR
from l402core.lnd.scope import refuse_excess
from l402core.objects import open_store
from l402core.objects_ready import ObjectsReady
from l402core.outbox import Database
from l402core.parts import tell_parts
from l402core.streams import incarnation, keep_streams
from l402core.succession import Successions
from l402core.watched import Watched
from sparseloco.corpus import load_corpus
from sqlalchemy.exc import DatabaseError

from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import tables
from l402_oracle.adapters.heights import NodeHeights
from l402_oracle.adapters.http import RoundSight, attestor_app
from l402_oracle.adapters.records import Records
from l402_oracle.attestor import metrics
from l402_oracle.attestor.app import CONSUMERS, Attestor
from l402_oracle.attestor.parts import Parts
from l402_oracle.config import AttestorConfig
from l402_oracle.keys import read_attestor_keys

log = structlog.get_logger()
TELL_EVERY_S = 10.0


def main() -> int:
    """Exit code 0 when asked to stop, 1 when it cannot run."""
    config = AttestorConfig()
    provider = telemetry.setup("oracle", trace_file=config.trace_file, log_level=config.log_level)
    try:
        run(_serve(config))
    except (L402Error, OSError) as error:
        print(f"attestor: {error}", file=sys.stderr)  # noqa: T201 - the process's last words
        return 1
    finally:
        provider.shutdown()
    return 0


async def _serve(config: AttestorConfig) -> None:
    refuse_excess(config.lnd_macaroon, ATTESTOR, tolerated=config.lnd_macaroon_excess, service="attestor")
    key_file = Watched(config.key_file, read_attestor_keys)
    if config.key_id and config.key_id not in key_file.now().preimages:
        raise KeyFileError(
            f"{config.key_file.name} has no preimage key {config.key_id!r}, which new offers are to be made with"
        )
    database = Database(config.database_url, tables.outbox)
    bus = Bus(config.nats_url, "attestor")
    node = connect(LndEndpoint(config.lnd_host, config.lnd_tls_cert, config.lnd_macaroon))
    heights = NodeHeights(
        node,
        network=config.lnd_network,
        max_age_s=config.height_max_age_s,
        poll_s=config.height_poll_s,
        monotonic=time.monotonic,
    )
    store = open_store(config.objects_url)
    parts = Parts(
        database=database, objects=store, heights=heights, keyring=key_file.now, corpus=load_corpus(),
        settler=Successions(config.hand_overs).trusted("settler", config.settler_public),
        chosen_key_id=config.key_id, init_seed=config.init_seed,
        expiry_margin_blocks=config.expiry_margin_blocks, aggregate_places=config.aggregate_places,
        yardstick=config.yardstick, now_ms=lambda: time.time_ns() // 1_000_000, new_id=lambda: secrets.token_hex(8),
    )  # fmt: skip
    attestor = Attestor(parts)
    register(bus, attestor)
    records = Records(database, pool_shards=parts.corpus.hidden_shard_count)
    ready = _ready(bus, database, heights, ObjectsReady(store, writing=False, clock=time.monotonic))
    bus.answer(ReadOracle, records.oracle)
    tell_parts(bus, ReadAttestorParts, ready)
    try:
        await _check_schema(database)
        await bus.start()
        await attestor.begin(await incarnation(config.nats_url, "attestor"))
        config.data_dir.mkdir(parents=True, exist_ok=True)
        address = config.data_dir / "attestor.url"
        app = attestor_app(attestor.delivery.decision, round_sight(database), records, ready)
        async with serving(app, config.http_host, config.http_port, address_file=address):
            try:
                await run_until_asked(
                    database.publish_forever(bus),
                    attestor.judging.watch_forever(config.tick_s),
                    heights.follow(),
                    keep_streams(config.nats_url, "attestor", attestor.begin),
                    tell_forever(records),
                )
            finally:
                address.unlink(missing_ok=True)
    finally:
        await bus.stop()
        await node.close()
        database.close()


async def tell_forever(records: Records) -> None:
    """What Prometheus is told, read now and then."""
    while True:
        try:
            await tell_once(records)
        except Unavailable as error:
            log.warning("metrics.wait", detail=error.detail)
        await asyncio.sleep(TELL_EVERY_S)


async def tell_once(records: Records) -> None:
    """As the books are now."""
    metrics.tell(await records.oracle(ReadOracle()), held_back=await records.held_back())


def register(bus: Bus, attestor: Attestor) -> None:
    """Each consumer to the handler that has its name, and the operator's orders."""
    for consumer in CONSUMERS:
        name = consumer.event.name.removesuffix(".v1").replace(".", "_")
        bus.consume(consumer, getattr(attestor, name), attestor.given_up)
    bus.answer(SayAgain, attestor.say_again)
    bus.answer(EndRound, attestor.end_round)
    bus.answer(Pardon, attestor.pardon)


async def _check_schema(database: Database) -> None:
    try:
        await database.transact(books.has_rounds)
    except DatabaseError as error:
        raise Unavailable("schema", "the database has no tables; run the migration first") from error


def round_sight(database: Database) -> Callable[[int], Awaitable[RoundSight | None]]:
    """How the URL reads a round."""

    async def sight(number: int) -> RoundSight | None:
        row = await database.read(lambda tx: books.read_round(tx, number))
        if row is None:
            return None
        announced = row.announced
        return RoundSight(
            round=number,
            state=row.state,
            checkpoint=announced.checkpoint.sha256 if announced else "",
            seed_commitment=announced.seed_commitment if announced else "",
            assessed=row.assessed,
            judged=row.judged,
        )

    return sight


def _ready(bus: Bus, database: Database, heights: NodeHeights, objects: ObjectsReady) -> Ready:
    async def ready() -> dict[str, bool]:
        answers, stores = await asyncio.gather(database.answers(), objects.answers())
        return {"bus": await bus.ready(), "database": answers, "objects": stores, **heights.readiness()}

    return ready
