"""Wiring: `python -m l402_settler`."""

import sys
import time
import uuid
from functools import partial
from pathlib import Path

from l402core import telemetry
from l402core.bus import Bus
from l402core.control import control_app, serving
from l402core.errors import L402Error
from l402core.events import Freeze, OwedSettle, ReadChannels, ReadSettlerParts, Reconcile, Thaw, WriteOff
from l402core.keyfiles import KeyFileError
from l402core.lifecycle import hand_over_soon, run, run_until_asked
from l402core.lnd.grpc import LndEndpoint, connect
from l402core.lnd.permissions import SETTLER
from l402core.lnd.scope import refuse_excess
from l402core.outbox import Database
from l402core.parts import tell_parts
from l402core.streams import incarnation, keep_streams
from l402core.succession import Successions

from l402_settler.adapters import books
from l402_settler.adapters.tables import outbox
from l402_settler.app import Settler
from l402_settler.by_hand import ByHand
from l402_settler.channels import Channels
from l402_settler.config import Config
from l402_settler.keys import rings
from l402_settler.office import Office
from l402_settler.recovery import recover_all
from l402_settler.sponsorships import Sponsors
from l402_settler.status import Status
from l402_settler.telling import tell_forever
from l402_settler.thawing import Thawing
from l402_settler.watch import Watch
from l402_settler.writing_off import WritingOff


async def serve(config: Config) -> None:
    """Run until asked to stop.

    Raises Unavailable when NATS or the database is not there at the start, Malformed for a macaroon that may do too much.
    """
    refuse_excess(config.lnd_macaroon, SETTLER, tolerated=config.lnd_macaroon_excess, service="settler")
    signing, sealing = rings(config.key_file)
    database = Database(config.database_url, outbox, ahead=books.read_ahead)
    if not config.database_url.startswith("sqlite"):
        hand_over_soon()
    office = Office(
        config, keys=signing, successions=Successions(config.hand_overs), database=database,
        now_ms=lambda: time.time_ns() // 1_000_000, new_id=lambda: str(uuid.uuid4()),
    )  # fmt: skip
    bus = Bus(config.nats_url, "settler")
    node = connect(LndEndpoint(config.lnd_host, config.lnd_tls_cert, config.lnd_macaroon))
    settler = Settler(office, bus, node)
    watch = Watch(office, node)
    sponsors = Sponsors(office, node, sealing)
    thawing = Thawing(office, settler, sponsors)
    settler.register(thawing.on_dead, thawing.on_work_dead)
    sponsors.register(bus, thawing.on_dead)
    bus.answer(Freeze, thawing.freeze)
    bus.answer(Thaw, thawing.thaw)
    bus.answer(OwedSettle, ByHand(office, node).settle)
    bus.answer(WriteOff, WritingOff(office, node).write_off)
    bus.answer(Reconcile, watch.reconcile)
    bus.answer(ReadChannels, Channels(office, node).read)
    Status(office).register(bus)

    async def ready() -> dict[str, bool]:
        return {"bus": await bus.ready(), "database": await database.answers(), **office.sight.readiness()}

    tell_parts(bus, ReadSettlerParts, ready)
    await (
        watch.look()
    )  # before the first question: a fee that is paid now must not find a node that nobody has looked at
    await bus.start()
    say_again = partial(recover_all, database, (settler, sponsors))
    await say_again(await incarnation(config.nats_url, "settler"))

    url_file = config.data_dir / "settler.url"
    try:
        async with serving(control_app("settler", ready), config.http_host, config.http_port, address_file=url_file):
            await run_until_asked(
                settler.turn_rounds(),
                watch.payments(),
                watch.open_rungs(),
                watch.node(),
                watch.books(),
                sponsors.tend_forever(),
                database.publish_forever(bus),
                tell_forever(office),
                keep_streams(config.nats_url, "settler", say_again),
            )
    finally:
        url_file.unlink(missing_ok=True)
        await bus.stop()
        await node.close()
        database.close()


def main() -> int:
    """Exit code 0 when asked to stop, 1 when a part is missing."""
    config = Config()
    provider = telemetry.setup("settler", trace_file=config.trace_file, log_level=config.log_level)
    Path(config.data_dir).mkdir(parents=True, exist_ok=True)
    try:
        run(serve(config))
    except (L402Error, OSError, KeyFileError) as error:
        print(f"settler: {error}", file=sys.stderr)  # noqa: T201 - the process's last words
        return 1
    finally:
        provider.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
