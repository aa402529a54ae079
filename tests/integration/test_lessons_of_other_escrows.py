"""What other escrows paid to learn, each lesson as a test that bears its name, against the real handlers and books.

RoboSats, Mostro and Boltz hold other people's money in hold invoices, and have told what went wrong. Mostro's #881 and #883
need a node and a bus: `test_invoicer_on_lnd`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from l402_oracle.derive import preimage
from l402_settler import desk, tracking
from l402_settler.adapters import books
from l402_settler.guardian import guard
from l402core.errors import Conflict, Contradiction, Unauthorized
from l402core.escrow import Escrow, Rung
from l402core.events import (
    CancelRequested,
    EscrowLock,
    EscrowLocked,
    EscrowSettled,
    GradientScored,
    GradientUploaded,
    OfferMake,
)
from l402core.lnd.port import PaymentStatus
from l402core.secret import Secret

from tests.support.oracle import PREIMAGE_KEY, measured
from tests.support.oracle import Stage as OracleStage
from tests.support.secrets_scan import spellings
from tests.support.settler import PEER, Stage, sha
from tests.unit.oracle.test_the_reveal import earned, hashes, up_to_judging

MASK = 0b101


@pytest.fixture
async def stage(each_database: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A settler with real books, on each database, and an open round."""
    made = Stage(tmp_path)
    await made.open_round()
    yield made
    made.database.close()


async def paid(stage: Stage) -> None:
    """LND's word on every rung of a decision."""
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED if MASK >> index & 1 else PaymentStatus.FAILED)


async def test_robosats_388_one_atomic_claim_before_a_payout(stage: Stage) -> None:
    """A race for a payout was won several times over: here 64 hand in the ladder at once, and one intent stands."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    views = await asyncio.gather(*(stage.desk.register_locks(stage.locks("a")) for _ in range(64)))
    assert {view.state for view in views} == {"locking"}
    assert len(stage.said(EscrowLock)) == 1
    assert await stage.pending_msat() == 6_300_000


async def test_mostro_568_and_620_the_hash_is_stored_before_sending_and_never_another(stage: Stage) -> None:
    """Each retry fetched a new hash and paid twice: here the intent is in the books before the request exists, the same
    transaction says both, and other invoices for the same reward are refused while the first may be out."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    rungs = await stage.database.read(lambda tx: books.rungs_of(tx, sha("a")))
    assert tuple(line.bolt11 for line in rungs) == stage.said(EscrowLock)[0].bolt11s
    with pytest.raises(Conflict):
        await stage.desk.register_locks(stage.locks("a", description="again"))
    await stage.settler.recover()
    assert {said.bolt11s for said in stage.said(EscrowLock)} == {stage.said(EscrowLock)[0].bolt11s}
    before = await stage.ledger()
    await stage.seen("a", 0, PaymentStatus.UNKNOWN)
    assert await stage.ledger() == before, "uncertain means wait"


async def test_mostro_862_a_guardian_in_block_height(stage: Stage) -> None:
    """An escrow evaporated at auto-cancel: here blocks are counted, and the alarm comes a margin before the expiry."""
    await stage.locked()
    assert stage.office.config.guardian_blocks >= 18
    for height, alarms in ((190 - 25, 0), (190 - 24, 6)):
        with structlog.testing.capture_logs() as logs:
            stage.office.sight.tip = height
            await guard(stage.office)
        assert sum(log["event"] == "guardian.alarm" for log in logs) == alarms


async def test_mostro_853_a_restart_in_every_state_goes_on_and_does_nothing_twice(stage: Stage) -> None:
    """A restart resubscribed wrongly: here it is taken after each step, twice, and the story ends as without it."""

    async def restart() -> None:
        await stage.settler.recover()
        await stage.settler.recover()

    seen = set()
    for step in (
        lambda: stage.desk.open(stage.opening("a")),
        lambda: stage.settler.on_offer(stage.offer("a")),
        lambda: stage.desk.register_locks(stage.locks("a")),
        lambda: asyncio.gather(*(stage.seen("a", index, PaymentStatus.IN_FLIGHT) for index in range(6))),
        lambda: stage.desk.register_accepted(stage.accepted("a")),
        lambda: stage.turn(commit=True),
        lambda: stage.desk.register_upload(stage.upload("a")),
        lambda: stage.settler.on_scored(stage.decision("a", MASK)),
        lambda: paid(stage),
    ):
        await step()
        seen.add((await stage.office.view(sha("a"))).state)
        await restart()
    assert seen == {"opened", "offered", "locking", "locked", "uploaded", "scored", "ended"}
    assert (await stage.ledger())["rewards"] == -500_000
    for kind in (OfferMake, EscrowLock, EscrowLocked, GradientUploaded, CancelRequested, EscrowSettled):
        ids = [said.message_id for said in stage.said(kind)]
        assert len(set(ids)) <= (2 if kind is EscrowSettled else 1), kind


async def test_mostro_866_a_transition_is_compare_and_set(stage: Stage) -> None:
    """A stale full-row write undid a settlement: here a move from a state that has passed changes nothing and is told."""
    await stage.uploaded()
    with pytest.raises(Contradiction):
        await stage.database.transact(lambda tx: books.move_submission(tx, sha("a"), Escrow.LOCKED, Escrow.FAILED))
    with pytest.raises(Contradiction):
        await stage.database.transact(
            lambda tx: books.move_rungs(
                tx, (sha("rung a 0"), sha("rung a 1")), Rung.REGISTERED, Rung.RETURNED, expiry_height=0
            )
        )
    assert (await stage.office.view(sha("a"))).state == "uploaded"


async def test_mostro_873_nothing_fallible_between_a_settlement_and_its_record(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error after settle stranded a payout: here record, ledger and event are one transaction, or none of it is, and
    the next look at our node joins it."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", MASK))
    broken = [True]
    original = tracking.end_escrow_if_over

    def failing(*args: Any) -> None:
        if broken.pop() if broken else False:
            raise Contradiction("disk", "in the middle")
        original(*args)

    monkeypatch.setattr(tracking, "end_escrow_if_over", failing)
    with pytest.raises(Contradiction):
        await stage.seen("a", 0, PaymentStatus.SETTLED)
    assert stage.said(EscrowSettled) == []
    assert await stage.pending_msat() == 6_300_000
    await paid(stage)
    assert (await stage.office.view(sha("a"))).state == "ended"
    assert len(stage.said(EscrowSettled)) == 2


async def test_boltz_the_intent_is_durable_before_anything_is_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HTLC was resolved before the database knew: here a death between intent and request leaves neither, and the same
    words do both."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))

    def dies(_office: Any, tx: Any, row: Any, _terms: Any) -> None:
        assert len(books.ladder_of(tx, row)) == 6, "the intent is written"
        raise RuntimeError("killed")

    with monkeypatch.context() as killed:
        killed.setattr(desk, "say_escrow_lock", dies)
        with pytest.raises(RuntimeError):
            await stage.desk.register_locks(stage.locks("a"))
    assert await stage.database.read(lambda tx: books.rungs_of(tx, sha("a"))) == []
    assert await stage.pending_msat() == 0
    assert stage.said(EscrowLock) == []
    await stage.desk.register_locks(stage.locks("a"))
    rows = await stage.database.read(lambda tx: books.rungs_of(tx, sha("a")))
    assert {row.state for row in rows} == {"registered"}
    assert await stage.pending_msat() == 6_300_000
    assert len(stage.said(EscrowLock)) == 1


OF_A = tuple(sha(f"rung a {index}") for index in range(6))
OF_B = tuple(sha(f"rung b {index}") for index in range(6))


@pytest.mark.parametrize(
    ("round_", "names", "hashes"),
    [
        (1, "aaaaaa", OF_A),
        (2, "aaaaaa", OF_A),
        (1, "bbbbbb", (OF_B[0], OF_B[0], *OF_B[2:])),
        (1, "bbbbba", (*OF_B[:5], OF_A[5])),
    ],
    ids=["another peer", "another round", "two rungs of one ladder", "one rung of another ladder"],
)
async def test_a_hash_is_never_shared_across_peers_rungs_or_rounds(
    stage: Stage, round_: int, names: str, hashes: tuple[str, ...]
) -> None:
    """The oracle cannot make two rungs on one hash: the books refuse the second ladder, and nothing of it is locked."""
    await stage.locked()
    if round_ == 2:
        await stage.turn(now_ms=stage.terms().upload_until_ms)
        await stage.open_round(2)
    other = stage.key(7)
    await stage.desk.open(stage.opening("b", peer=other, round_=round_))
    await stage.settler.on_offer(stage.offer("b", round_, peer=other.public, seq=2, reward_hashes=hashes))
    ladder = tuple(
        stage.invoices(name, round_, payment_hash=bytes.fromhex(hash_))[index]
        for index, (name, hash_) in enumerate(zip(names, hashes, strict=True))
    )
    before = len(stage.said(EscrowLock))
    asked = msgspec.structs.replace(stage.locks("b", round_), peer=other.public, bolt11s=ladder)
    with pytest.raises(Conflict, match="already in the books"):
        await stage.desk.register_locks(asked)
    assert len(stage.said(EscrowLock)) == before
    assert await stage.database.read(lambda tx: books.rungs_of(tx, sha("b"))) == []


async def test_a_revealed_hash_is_never_paid_again_and_counts_as_paid(stage: Stage) -> None:
    """Collected or not, what was revealed is not offered a second time: uncollected, it is forfeited as the terms say."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", MASK))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    await stage.turn()
    assert (await stage.office.view(sha("a"))).state == "ended"
    assert {said.attempt for said in stage.said(OfferMake)} == {1}
    assert f"peer:{PEER.public}" not in await stage.ledger()


async def test_preimages_travel_sealed_to_the_peer_and_nowhere_else(tmp_path: Path) -> None:
    """Whoever reads the bus, the oracle's database or its log finds no preimage; the peer's key opens exactly the earned."""
    oracle = OracleStage(tmp_path)
    with structlog.testing.capture_logs() as logs:
        offers = await up_to_judging(oracle, "ann", "bob")
        await oracle.hear(measured("ann", 0.5), measured("bob", 0.4))
    scored = next(one for one in oracle.ears.all(GradientScored) if one.commitment == sha("ann"))
    assert hashes(scored, "ann") == earned(scored, offers["ann"])
    core = msgspec.structs.replace(offers["ann"], reward_hashes=())
    oracle.database.close()
    written = oracle.ears.bytes + repr(logs).encode() + all_of(tmp_path)
    for index in range(6):
        secret = preimage(Secret(PREIMAGE_KEY), core, index).reveal()
        assert hashlib.sha256(secret).hexdigest() == offers["ann"].reward_hashes[index]
        assert not any(spelled in written for spelled in spellings(secret))


def all_of(folder: Path) -> bytes:
    """Every file's bytes."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_a_preimage_is_no_receipt(stage: Stage) -> None:
    """The payer's side made the preimage, so that knowing it proves nothing: what decides is the oracle's signature."""
    await stage.uploaded()
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED)
    assert (await stage.office.view(sha("a"))).state == "uploaded"
    assert "rewards" not in await stage.ledger()
    forged = msgspec.structs.replace(
        stage.decision("a", 0b111111), receipt=PEER.sign("x", stage.decision("a", 0b111111).receipt)
    )
    with pytest.raises(Unauthorized):
        await stage.settler.on_scored(forged)
    await stage.settler.on_scored(stage.decision("a", 0b111111))
    assert (await stage.office.view(sha("a"))).state == "ended"
