"""Several settlers on the same books never act twice, on SQLite and on PostgreSQL."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from l402_settler.adapters import books, inbox
from l402_settler.adapters.tables import outbox
from l402_settler.office import NodeSight
from l402_settler.tracking import record
from l402core.errors import L402Error, Unavailable
from l402core.events import CommitsClosed, EscrowLock, EscrowSettled, OfferMake
from l402core.lnd.port import PaymentStatus
from l402core.outbox import Database, Transaction
from l402core.signing import Signed, SigningKey

from tests.support.settler import Stage, sha
from tests.unit.settler.test_settler_sights import ladder

PROCESSES, CLAIMERS, JOBS = 8, 64, 1_000
ROOT = Path(__file__).parents[3]
SOMETHING = CommitsClosed(id="c", occurred_at_ms=1, round=1, root=Signed(body="", signer="", signature=""))


@pytest.fixture
def settlers(tmp_path: Path, each_database: str) -> Iterator[tuple[Stage, Stage]]:
    """Two processes' worth of settler: a database connection, a writer and a memory each; one set of books."""
    both = Stage(tmp_path, places=8), Stage(tmp_path, places=8)
    yield both
    for one in both:
        one.database.close()


@pytest.mark.timeout(600)
async def test_64_claimers_of_each_of_1000_jobs_dispatch_it_once(tmp_path: Path, each_database: str) -> None:
    """Eight settlers, each asked eight times for the same thousand ladders: one of 64 records it and says that it be locked."""
    stage = Stage(tmp_path, places=JOBS, payee_rungs=6 * JOBS, payee_exposure_msat=10**12, day_cap_msat=10**12)
    stage.office.sight = NodeSight(height=100, liquidity_msat=10**12, slots=6 * JOBS, trouble="")
    await stage.open_round()
    peers = {f"job {number}": SigningKey(number.to_bytes(32, "big")) for number in range(1, JOBS + 1)}
    await asyncio.gather(*(stage.desk.open(stage.opening(name, peer=peer)) for name, peer in peers.items()))
    offers = (stage.offer(name, peer=peer.public) for name, peer in peers.items())
    await asyncio.gather(*(stage.settler.on_offer(offer) for offer in offers))
    file = tmp_path / "questions.json"
    questions = [msgspec.structs.replace(stage.locks(name), peer=peer.public) for name, peer in peers.items()]
    file.write_bytes(msgspec.json.encode(questions))
    assert sum(await asked(stage.config.database_url, file, stage.now_ms)) == CLAIMERS * JOBS
    assert sorted(said.commitment for said in stage.said(EscrowLock)) == sorted(map(sha, peers))
    assert await stage.pending_msat() == JOBS * stage.terms().ladder_msat()
    stage.database.close()


async def asked(url: str, questions: Path, now_ms: int) -> list[int]:
    """How many answers each process had; they begin together."""
    words = [
        sys.executable,
        "-m",
        "tests.support.claimers",
        url,
        str(questions),
        str(now_ms),
        str(CLAIMERS // PROCESSES),
    ]
    processes = [
        await asyncio.create_subprocess_exec(*words, str(number), stdin=PIPE, stdout=PIPE, cwd=ROOT)
        for number in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        told = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return [int(out) for out, _ in told]


async def test_everybody_asks_both_and_each_thing_happens_once(settlers: tuple[Stage, Stage]) -> None:
    """The same locks registered, the same sights told and the same round turned by both at once."""
    one, two = settlers
    await one.open_round()
    await one.desk.open(one.opening("a"))
    await one.settler.on_offer(one.offer("a"))
    await asyncio.gather(*(stage.desk.register_locks(stage.locks("a")) for stage in settlers for _ in range(8)))
    assert len(one.said(EscrowLock)) == 1
    for status in (PaymentStatus.IN_FLIGHT, PaymentStatus.SETTLED):
        if status is PaymentStatus.SETTLED:
            await one.desk.register_accepted(one.accepted("a"))
            one.now_ms = two.now_ms = one.terms().commit_until_ms
            await asyncio.gather(*(stage.turn() for stage in settlers for _ in range(8)))
            assert len(one.said(CommitsClosed)) == 1
            await two.desk.register_upload(two.upload("a"))
            await asyncio.gather(*(stage.settler.on_scored(stage.decision("a", 63)) for stage in settlers))
        outcomes = await asyncio.gather(*(record(stage.office, ladder("a", status)) for stage in settlers))
        assert outcomes == [[], []]
    assert len(one.said(EscrowSettled)) == 6
    assert (await two.office.view(sha("a"))).state == "ended"
    balances = await one.ledger()
    assert (balances["lightning"], balances["rewards"]) == (one.terms().ladder_msat(), -one.terms().ladder_msat())


async def test_places_and_numbers_are_given_once(settlers: tuple[Stage, Stage]) -> None:
    """Twenty peers ask two settlers for eight places: eight have one, numbered from 1 to 8; twelve have a credit."""
    one, _ = settlers
    await one.open_round()
    peers = [SigningKey(bytes([40 + number]) * 32) for number in range(20)]
    asked = [
        settlers[number % 2].desk.open(settlers[number % 2].opening(f"p{number}", peer=peer))
        for number, peer in enumerate(peers)
    ]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, L402Error)]
    rows = await one.database.read(lambda tx: books.submissions_of(tx, 1))
    assert [row.seq for row in rows] == list(range(1, 9))
    assert (len(refused), len(one.said(OfferMake))) == (12, 8)
    credits_ = [name for name in await one.ledger() if name.startswith("credits:")]
    assert len(credits_) == 12


class Ears:
    """A bus that hears, perhaps not at once, and perhaps fails."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.fails = False
        self.go = asyncio.Event()
        self.go.set()

    async def publish_raw(self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = "") -> None:
        """As the bus does."""
        await self.go.wait()
        if self.fails:
            raise Unavailable("bus", "gone")
        self.heard.append(message_id)


async def _say(database: Database, count: int) -> None:
    values = [
        {"stream": "FACTS", "subject": "s", "message_id": str(number), "body": b"", "traceparent": ""}
        for number in range(count)
    ]
    await database.transact(lambda tx: tx.execute(sa.insert(outbox), values))


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
@pytest.mark.real
async def test_two_publishers_share_an_outbox(settlers: tuple[Stage, Stage]) -> None:
    """What one has in hand the other does not take; what one could not publish and let go, the other does."""
    (one, two), (left, right) = settlers, (Ears(), Ears())
    await _say(one.database, 500)
    left.go.clear()
    holding = asyncio.create_task(one.database._publish_batch(left))
    await asyncio.sleep(0.3)
    while await two.database._publish_batch(right):
        pass
    assert len(right.heard) == 300
    left.fails = True
    left.go.set()
    with pytest.raises(Unavailable):
        await holding
    while await two.database._publish_batch(right):
        pass
    assert sorted(map(int, right.heard)) == list(range(500))
    assert left.heard == []


async def test_what_the_bus_did_not_take_stays_and_the_rest_goes(settlers: tuple[Stage, Stage]) -> None:
    """Half of a batch is acknowledged: that half is forgotten, the other half is published the next time."""
    one, _ = settlers
    await _say(one.database, 10)

    class Half(Ears):
        async def publish_raw(
            self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = ""
        ) -> None:
            if self.fails and int(message_id) % 2:
                raise Unavailable("bus", "gone")
            self.heard.append(message_id)

    ears = Half()
    ears.fails = True
    with pytest.raises(Unavailable):
        await one.database._publish_batch(ears)
    assert ears.heard == ["0", "2", "4", "6", "8"]
    ears.fails = False
    for _ in range(2):
        assert not await one.database._publish_batch(ears)
    assert ears.heard == ["0", "2", "4", "6", "8", "1", "3", "5", "7", "9"]


async def test_a_fact_is_taken_once_whichever_settler_hears_it(settlers: tuple[Stage, Stage]) -> None:
    """The inbox is written with the state: the second delivery finds it, in another process too."""
    one, two = settlers
    await asyncio.gather(*(stage.fee("a") for stage in settlers for _ in range(5)))
    assert await one.ledger() == {"fees:unclaimed": 500_000, "lightning": -500_000}
    first = [await stage.database.transact(_first(stage)) for stage in (one, two, one)]
    assert first == [True, False, False]
    two.now_ms += inbox.INBOX_MS
    await two.open_round(1)
    assert not await two.database.transact(_first(two)), "a stream may tell it again"
    two.now_ms += 1
    await two.open_round(2)
    assert await two.database.transact(_first(two)), "forgotten after longer than any stream keeps it"


def _first(stage: Stage) -> Callable[[Transaction], bool]:
    return lambda tx: inbox.is_first(tx, "c", SOMETHING, now_ms=stage.now_ms)
