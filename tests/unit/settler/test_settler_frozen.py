"""What is frozen: nothing that moves or promises money happens about it, what LND did is written down, and a thaw does
what was held, once."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from l402_settler import freezing
from l402_settler.adapters import books, freeze_books
from l402_settler.adapters.tables import outbox
from l402_settler.watch import Watch
from l402core.errors import Conflict, Contradiction, Malformed, NotFound, Unavailable
from l402core.escrow import Escrow
from l402core.events import (
    CancelRequested,
    ClaimCredit,
    CreditIssued,
    EscrowFailed,
    EscrowFrozen,
    EscrowLock,
    EscrowLocked,
    EscrowThawed,
    GradientScored,
    GradientUploaded,
    OfferMake,
    RewardRevealed,
    WorkDead,
)
from l402core.lnd.port import PaymentStatus

from tests.support.settler import PEER, Stage, sha
from tests.unit.settler.test_settler_owed import INDICES, MASK, all_back, new_offer, withheld
from tests.unit.settler.test_settler_sights import Telling, ladder

REFUSED = "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
A = sha("a")


async def state(stage: Stage) -> tuple[str, bool]:
    """Where the submission stands, and whether it is frozen."""
    row = await stage.database.read(lambda tx: books.submission(tx, A))
    assert row is not None
    return row.state, row.frozen


async def held(stage: Stage) -> list[str]:
    """What waits for the thaw."""
    return [row.event for row in await stage.database.read(lambda tx: freeze_books.held_of(tx, A))]


async def offered(stage: Stage) -> None:
    await stage.fee("a")
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))


async def locking(stage: Stage) -> None:
    await offered(stage)
    await stage.desk.register_locks(stage.locks("a"))


async def flying(stage: Stage) -> None:
    await locking(stage)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)


async def test_an_offer_is_held_and_taken_once(stage: Stage) -> None:
    """Told twice to a frozen submission and once more after the thaw: it is offered once."""
    await stage.desk.open(stage.opening("a"))
    await stage.freeze(A)
    offer = stage.offer("a")
    for _ in range(2):
        await stage.settler.on_offer(offer)
    assert (await state(stage), await held(stage)) == (("opened", True), ["offer.made.v1"])
    told = await stage.thaw(A)
    assert (told.state, told.frozen, told.held) == ("offered", False, ("offer.made.v1",))
    await stage.settler.on_offer(offer)
    assert (await state(stage), await held(stage)) == (("offered", False), [])


async def test_no_lock_is_registered_or_asked_for(stage: Stage) -> None:
    """The peer is told to come again; nothing is promised meanwhile, and afterwards its invoices are taken."""
    await offered(stage)
    await stage.freeze(A)
    with pytest.raises(Unavailable, match="held"):
        await stage.desk.register_locks(stage.locks("a"))
    assert (stage.said(EscrowLock), await stage.pending_msat()) == ([], 0)
    await stage.thaw(A)
    assert (await stage.desk.register_locks(stage.locks("a"))).state == "locking"
    assert len(stage.said(EscrowLock)) == 1


async def test_a_lock_that_the_bus_has_not_taken_is_unsaid_until_the_thaw(stage: Stage) -> None:
    """The bus was away when it was frozen: what would have been paid on its return is not."""
    await locking(stage)
    await stage.freeze(A)
    assert stage.said(EscrowLock) == []
    await stage.settler.recover()
    assert stage.said(EscrowLock) == []
    await stage.thaw(A)
    assert len(stage.said(EscrowLock)) == 1


async def test_a_lock_is_seen_and_not_signed(stage: Stage) -> None:
    """Six rungs in flight and the peer's word: written down. `Locked`, which asks for the reveal, waits for the thaw."""
    await locking(stage)
    await stage.freeze(A)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
    view = await stage.desk.register_accepted(stage.accepted("a"))
    assert {rung.state for rung in view.rungs} == {"in flight"}
    assert (view.state, stage.said(EscrowLocked)) == ("locking", [])
    assert (await stage.thaw(A)).state == "locked"
    await stage.settler.on_offer(stage.offer("a"))
    assert len({said.message_id for said in stage.said(EscrowLocked)}) == 1


async def test_a_rung_that_comes_back_is_booked_and_its_fault_judged_at_the_thaw(stage: Stage) -> None:
    """LND's own word is kept: the payee's node turned it away, so the fee is not credited, whenever that is judged."""
    await flying(stage)
    await stage.freeze(A)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED, REFUSED)
    assert (await state(stage), await stage.pending_msat()) == (("locking", True), 0)
    assert stage.said(EscrowFailed) == []
    assert (await stage.thaw(A)).state == "ended"
    assert len(stage.said(EscrowFailed)) == 1
    assert stage.said(CreditIssued) == []


async def test_a_fault_of_ours_is_credited_once_and_only_after_the_thaw(stage: Stage) -> None:
    """No way was found while it was frozen: the thaw fails it, ends it and credits the fee."""
    await locking(stage)
    await stage.freeze(A)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")
    assert stage.said(CreditIssued) == []
    await stage.thaw(A)
    assert (await state(stage), len(stage.said(CreditIssued))) == (("ended", False), 1)
    with pytest.raises(Conflict, match="not_frozen"):
        await stage.thaw(A)
    assert (await stage.ledger())[f"credits:{PEER.public}"] == 500_000


async def test_an_upload_is_not_taken(stage: Stage) -> None:
    """It would be judged, and revealed: the peer keeps its gradient and comes again."""
    await stage.locked()
    await stage.turn(commit=True)
    await stage.freeze(A)
    with pytest.raises(Unavailable, match="held"):
        await stage.desk.register_upload(stage.upload("a"))
    assert stage.said(GradientUploaded) == []
    await stage.thaw(A)
    assert (await stage.desk.register_upload(stage.upload("a"))).state == "uploaded"


async def test_a_decision_is_held_while_what_lnd_did_is_booked(stage: Stage) -> None:
    """The peer has its preimages from the oracle itself: rungs are posted, the decision is booked at the thaw, once."""
    await stage.fee("a")
    await stage.uploaded()
    await stage.freeze(A)
    decision = stage.decision("a", MASK)
    for _ in range(2):
        await stage.settler.on_scored(decision)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED if index in INDICES else PaymentStatus.FAILED)
    view = await stage.office.view(A)
    assert (view.state, view.mask, view.receipt, view.cancel) == ("uploaded", 0, None, ())
    assert (stage.said(RewardRevealed), await held(stage)) == ([], ["gradient.scored.v1"])
    assert "rewards" not in await stage.ledger()
    assert (await stage.ledger())[f"peer:{PEER.public}"] < 0
    await stage.thaw(A)
    await stage.settler.on_scored(decision)
    assert (await state(stage), len(stage.said(RewardRevealed))) == (("ended", False), 1)
    earned = 41 * 100_000
    assert await stage.ledger() == {"fees:earned": 500_000, "lightning": earned - 500_000, "rewards": -earned}


async def test_no_deadline_strikes_it_and_the_round_turns_without_it(stage: Stage) -> None:
    """Days later it is as it was; thawed, its deadline has passed and it fails like any other."""
    await stage.fee("a")
    await stage.desk.open(stage.opening("a"))
    await stage.freeze(A)
    await stage.turn(now_ms=stage.terms().judge_by_ms + 86_400_000)
    assert await state(stage) == ("opened", True)
    row = await stage.database.read(lambda tx: books.round_row(tx, 1))
    assert row is not None
    assert row.phase != "commit"
    await stage.thaw(A)
    await stage.turn()
    assert (await state(stage), len(stage.said(CreditIssued))) == (("ended", False), 1)


async def test_a_deadline_that_passed_while_it_was_frozen_costs_the_peer_no_fee(stage: Stage) -> None:
    """Its invoices were turned away until the time for them was over: that is nobody's fault but ours."""
    await offered(stage)
    await stage.freeze(A)
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    await stage.thaw(A)
    await stage.turn()
    assert (await state(stage), len(stage.said(CreditIssued))) == (("ended", False), 1)


async def test_nobody_is_asked_to_cancel(stage: Stage) -> None:
    """Neither by message nor by what the peer reads of itself, until the thaw."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", MASK))
    await stage.freeze(A)
    assert (stage.said(CancelRequested), (await stage.office.view(A)).cancel) == ([], ())
    await stage.thaw(A)
    assert len({said.message_id for said in stage.said(CancelRequested)}) == 1
    assert len((await stage.office.view(A)).cancel) == 3


async def test_nothing_is_forfeited(stage: Stage) -> None:
    """Revealed and not collected: the rungs return, and what that means waits for the thaw."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", MASK))
    await stage.freeze(A)
    await all_back(stage)
    assert (await stage.ledger())[f"peer:{PEER.public}"] == 41 * 100_000
    await stage.thaw(A)
    assert (await state(stage), f"peer:{PEER.public}" in await stage.ledger()) == (("ended", False), False)


async def test_what_is_owed_is_not_offered(stage: Stage) -> None:
    """The old rungs are back, hours pass: no new offer is asked before the thaw, and then one."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await stage.freeze(A)
    await all_back(stage)
    await stage.turn(now_ms=stage.now_ms + 7_200_000)
    assert [said.attempt for said in stage.said(OfferMake)] == [1]
    assert (await stage.thaw(A)).state == "due"
    await stage.turn()
    assert [said.attempt for said in stage.said(OfferMake)] == [1, 2]


async def test_a_lap_of_what_is_owed_neither_lapses_nor_is_taken(stage: Stage) -> None:
    """Its new offer comes, its deadline passes: held, then taken, then given up for the next."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await stage.freeze(A)
    offer = new_offer(stage)
    await stage.settler.on_offer(offer)
    await stage.turn(now_ms=stage.said(OfferMake)[-1].lock_by_ms)
    assert (await state(stage), await held(stage)) == (("due", True), ["offer.made.v1"])
    await stage.thaw(A)
    assert (await state(stage))[0] == "reoffered"
    await stage.turn()
    assert stage.said(OfferMake)[-1].attempt == 3


async def test_a_credit_of_it_is_neither_claimed_nor_spent(stage: Stage) -> None:
    """Reconcile found that its fee cannot be true: the credit over it waits too."""
    await locking(stage)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")
    claim = ClaimCredit(payment_hash=sha("fee a"), peer=PEER.public, token_id=sha("token b"))
    again = stage.opening("b", payment_hash=sha("fee a"), credit=True)
    await stage.freeze(sha("fee a"))
    with pytest.raises(Unavailable, match="held"):
        await stage.desk.claim_credit(claim)
    await stage.thaw(A)
    await stage.desk.claim_credit(claim)
    await stage.freeze(A)
    with pytest.raises(Unavailable, match="held"):
        await stage.desk.open(again)
    await stage.thaw(A)
    assert (await stage.desk.open(again)).state == "opened"


async def test_a_restart_says_nothing_of_it_but_asks_the_offer_that_its_round_needs(stage: Stage) -> None:
    """An oracle that was never asked for an offer in the root would stop the round for everybody."""
    await stage.desk.open(stage.opening("a"))
    await stage.freeze(A)
    before = len(stage.said(OfferMake))
    await stage.settler.recover()
    assert len(stage.said(OfferMake)) == before + 1


# Contradictions and dead letters.


async def test_what_contradicts_is_frozen_and_then_written_down(stage: Stage) -> None:
    """A rung outside the decision is paid: the payment is booked as it happened, the escrow stops, and a thaw refuses."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0b000001))
    watch = Watch(stage.office, Telling(ladder("a", PaymentStatus.SETTLED)))
    with pytest.raises(Unavailable):
        await watch._follow()
    assert await state(stage) == ("scored", True)
    assert {rung.state for rung in (await stage.office.view(A)).rungs} == {"settled"}
    assert await stage.pending_msat() == 0
    (note,) = await stage.database.read(lambda tx: freeze_books.notes_of(tx, A))
    assert (note.code, note.by) == ("paid_outside_decision", "settler")
    with pytest.raises(Contradiction, match="paid"):
        await stage.thaw(A)
    assert await state(stage) == ("scored", True)


async def give_up(stage: Stage, event: GradientScored) -> None:
    """As the bus does with what a handler refuses for good."""
    with pytest.raises(Contradiction) as refused:
        await stage.settler.on_scored(event)
    await stage.thawing.on_dead(event.subject, books.to_json(event).encode(), refused.value)


async def test_a_dead_letter_about_money_freezes_what_it_is_about(stage: Stage) -> None:
    """A second decision: frozen, kept, and not taken by a thaw that cannot be true; dropped by a person's word it goes on."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", MASK))
    await give_up(stage, stage.decision("a", 0b111111))
    assert (await state(stage), await held(stage)) == (("scored", True), ["gradient.scored.v1"])
    with pytest.raises(Contradiction, match="decision_twice"):
        await stage.thaw(A)
    assert (await state(stage), await held(stage)) == (("scored", True), ["gradient.scored.v1"])
    await stage.thaw(A, drop=True)
    notes = await stage.database.read(lambda tx: freeze_books.notes_of(tx, A))
    assert [(one.action, one.by) for one in notes] == [("freeze", "settler"), ("thaw", "ann")]
    assert "dropped: gradient.scored.v1" in notes[-1].reason
    assert (await stage.office.view(A)).mask == MASK
    assert (await state(stage), await held(stage)) == (("scored", False), [])


async def test_a_dead_letter_whose_cause_is_mended_is_taken_by_the_thaw(stage: Stage) -> None:
    """The decision came while a code defect refused it: it is not lost."""
    await stage.uploaded()
    event = stage.decision("a", MASK)
    await stage.thawing.on_dead(event.subject, books.to_json(event).encode(), ValueError("a defect"))
    assert await state(stage) == ("uploaded", True)
    await stage.thaw(A)
    assert (await state(stage), len(stage.said(RewardRevealed))) == (("scored", False), 1)


async def test_a_dead_letter_that_cannot_be_read_freezes_all_the_same(stage: Stage) -> None:
    """Its subject says what it is about."""
    await stage.locked()
    await stage.thawing.on_dead(f"gradient.scored.v1.{A}", b"not json", ValueError("unreadable"))
    assert (await state(stage), await held(stage)) == (("locked", True), [])


async def test_a_fee_that_no_submission_knows_is_held_and_booked_by_the_thaw(stage: Stage) -> None:
    """There is nothing to freeze yet: the message waits under its payment hash."""
    body = (
        b'{"id":"f","occurred_at_ms":0,"payment_hash":"%s","amount_msat":500000,"settle_index":1}' % sha("x").encode()
    )
    await stage.thawing.on_dead(f"fee.settled.v1.{sha('x')}", body, ValueError("a defect"))
    told = await stage.thaw(sha("x"))
    assert (told.what, told.held) == ("fee", ("fee.settled.v1",))
    assert await stage.ledger() == {"fees:unclaimed": 500_000, "lightning": -500_000}


async def test_a_freeze_takes_back_what_the_commit_that_it_shares_would_have_asked(stage: Stage) -> None:
    """The ladder is registered and frozen in one commit: its lock is never asked for, and the thaw asks."""
    await offered(stage)
    go_on = threading.Event()
    held_up = asyncio.create_task(stage.database.transact(lambda _: go_on.wait(10)))
    await asyncio.sleep(0)
    together = [asyncio.create_task(one) for one in (stage.desk.register_locks(stage.locks("a")), stage.freeze(A))]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(held_up, *together)
    assert await state(stage) == ("locking", True)
    assert stage.said(EscrowLock) == []
    await stage.thaw(A)
    assert len(stage.said(EscrowLock)) == 1


class Slow:
    """A bus that acknowledges when it is let."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.asked, self.go_on, self.took_two = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def publish_raw(self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = "") -> None:
        """As the bus does."""
        self.asked.set()
        await self.go_on.wait()
        self.took.append(subject.rsplit(".", 2)[0])
        if len(self.took) == 2:
            self.took_two.set()


async def test_a_freeze_is_told_though_the_lock_is_being_published_just_then(stage: Stage) -> None:
    """The row that says so never has the id of the one that is withdrawn, which the publisher forgets at the ack."""
    await offered(stage)
    with stage.database.engine.begin() as connection:
        connection.execute(sa.delete(outbox))  # all that was said before is published
    await stage.desk.register_locks(stage.locks("a"))
    bus = Slow()
    publishing = asyncio.create_task(stage.database.publish_forever(bus))
    await bus.asked.wait()
    freeze = asyncio.create_task(stage.freeze(A))
    await asyncio.wait([freeze], timeout=0.3)  # PostgreSQL lets it wait for the ack, SQLite does not
    bus.go_on.set()
    await freeze
    await asyncio.wait_for(bus.took_two.wait(), 20)
    publishing.cancel()
    assert bus.took == ["escrow.lock", "escrow.frozen"]


async def test_what_the_invoicer_gives_up_is_frozen_and_asked_again_by_the_thaw(stage: Stage) -> None:
    """Under a fresh id, for the bus still knows the first."""
    await locking(stage)
    (first,) = stage.said(EscrowLock)
    await stage.thawing.on_work_dead(WorkDead(id="w", occurred_at_ms=0, request=first.subject, reason="malformed"))
    assert await state(stage) == ("locking", True)
    await stage.database.transact(lambda tx: freeze_books.withdraw(tx, (first.subject,)))
    await stage.thaw(A)
    with stage.database.engine.connect() as connection:
        query = sa.select(outbox.c.message_id).where(outbox.c.subject == first.subject)
        ids = connection.execute(query).scalars()
        assert list(ids) == [f"{first.message_id}:thaw2"]


# A person's orders.


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ("zz" * 32, Malformed),
        ("abc", Malformed),
        ("ffffffff", NotFound),
    ],
)
async def test_an_order_names_one_thing(stage: Stage, order: str, error: type[Exception]) -> None:
    """Neither everything nor nothing."""
    await stage.desk.open(stage.opening("a"))
    with pytest.raises(error):
        await stage.freeze(order)


async def test_an_order_by_any_of_its_hashes_or_the_beginning_of_one(stage: Stage) -> None:
    """Its commitment, its fee's hash, a rung's: all mean the same submission."""
    await locking(stage)
    for wanted in (A[:8], sha("fee a"), sha("rung a 3")):
        assert (await stage.freeze(wanted)).about == A
        with pytest.raises(Conflict):
            await stage.freeze(A)
        assert (await stage.thaw(wanted)).about == A
    notes = await stage.database.read(lambda tx: freeze_books.notes_of(tx, A))
    assert [(one.action, one.by, one.reason) for one in notes[:2]] == [
        ("freeze", "ann", "it looks odd"),
        ("thaw", "ann", "it was my mistake"),
    ]


Step = Callable[[Stage], Awaitable[object]]


def story() -> list[Step]:
    """One submission's life, from the fee to the last rung, as messages and requests come."""

    def seen(index: int, status: PaymentStatus) -> Step:
        return lambda stage: stage.seen("a", index, status)

    return [
        lambda stage: stage.settler.on_offer(stage.offer("a")),
        lambda stage: stage.desk.register_locks(stage.locks("a")),
        *(seen(index, PaymentStatus.IN_FLIGHT) for index in range(6)),
        lambda stage: stage.desk.register_accepted(stage.accepted("a")),
        lambda stage: stage.turn(commit=True),
        lambda stage: stage.desk.register_upload(stage.upload("a")),
        lambda stage: stage.settler.on_scored(stage.decision("a", MASK)),
        *(seen(index, PaymentStatus.SETTLED if index in INDICES else PaymentStatus.FAILED) for index in range(6)),
    ]


STEPS = len(story())
MOMENTS = [(begins, ends) for begins in range(0, STEPS + 1, 2) for ends in range(begins, STEPS + 1, 3)]


@pytest.mark.parametrize(("begins", "ends"), MOMENTS)
async def test_a_freeze_of_any_length_changes_no_outcome(
    make_stage: Callable[..., Stage], begins: int, ends: int
) -> None:
    """Frozen before one step and thawed before another, whichever: what was refused comes again, with all that follows
    from it, and the books end the same, each thing said once."""
    stage = make_stage(answer_wait_ms=0)
    await stage.open_round()
    await stage.fee("a")
    await stage.desk.open(stage.opening("a"))
    late: list[Step] = []
    for number, step in enumerate(story()):
        if number == begins:
            await stage.freeze(A)
        if number == ends:
            await come_again(stage, late)
        if late:
            late.append(step)
            continue
        try:
            await step(stage)
        except Unavailable:
            assert begins <= number < ends
            late.append(step)
    if begins == STEPS:
        await stage.freeze(A)
    if ends == STEPS:
        await come_again(stage, late)
    earned = 41 * 100_000
    assert await state(stage) == (Escrow.ENDED, False)
    assert await stage.ledger() == {"fees:earned": 500_000, "lightning": earned - 500_000, "rewards": -earned}
    assert await stage.pending_msat() == 0
    for kind in (EscrowLock, EscrowLocked, RewardRevealed):
        assert len({said.message_id for said in stage.said(kind)}) <= 1


async def come_again(stage: Stage, late: list[Step]) -> None:
    """Thawed: whoever was refused asks again, and then comes what could not be before."""
    await stage.thaw(A)
    while late:
        await late.pop(0)(stage)


async def test_the_invoicer_is_told_how_an_escrow_stands(stage: Stage) -> None:
    """Each freeze and each thaw under a higher revision; a second reason is no second freeze; a restart says the last."""
    await locking(stage)
    for _ in range(2):
        await stage.freeze(A)
        await stage.database.transact(
            lambda tx: freezing.freeze(stage.office, tx, "submission", A, code="other", reason="it is odd twice")
        )
        await stage.thaw(A)
    assert [one.revision for one in stage.said(EscrowFrozen)] == [1, 4]
    assert [one.revision for one in stage.said(EscrowThawed)] == [3, 6]
    await stage.settler.recover()
    assert [one.revision for one in stage.said(EscrowThawed)] == [3, 6, 6]
    await stage.freeze(A)
    await stage.settler.recover()
    assert [(one.revision, one.commitment) for one in stage.said(EscrowFrozen)][-2:] == [(7, A), (7, A)]
