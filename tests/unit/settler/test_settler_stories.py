"""Stories of one submission through the settler, on real SQLite books."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_settler.recovery import recover_all
from l402core.documents import Statement
from l402core.errors import Conflict, Contradiction, Exhausted, L402Error, Malformed, TooEarly, TooLate, Unauthorized
from l402core.events import (
    CancelRequested,
    CheckpointPublished,
    ClaimCredit,
    CreditIssued,
    EscrowLock,
    EscrowLocked,
    EscrowReturned,
    EscrowSettled,
    GradientUploaded,
    OfferMake,
    ReadRound,
    RoundClosed,
    RoundOpened,
)
from l402core.lnd.port import PaymentStatus
from l402core.signing import SigningKey
from sqlalchemy.exc import IntegrityError

from tests.support.settler import PEER, Stage, sha

MASK = 0b101  # 1 + 4 units
UNIT = 100_000


async def test_an_honest_gradient_is_paid_to_the_millisatoshi(stage: Stage) -> None:
    """Fee, lock, decision and settlement leave nothing pending, nothing owed and equal sides."""
    await stage.fee("a")
    await stage.uploaded()
    assert await stage.pending_msat() == 63 * UNIT
    await stage.settler.on_scored(stage.decision("a", MASK))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED if MASK >> index & 1 else PaymentStatus.FAILED)
    view = await stage.office.view(sha("a"))
    assert view.state == "ended"
    assert await stage.pending_msat() == 0
    assert await stage.ledger() == {"fees:earned": 500_000, "rewards": -5 * UNIT}
    assert len(stage.said(EscrowSettled)) == 2
    assert len(stage.said(EscrowReturned)) == 4


async def test_settling_before_the_decision_is_heard_is_no_contradiction(stage: Stage) -> None:
    """The attestor reveals at its own URL, so LND may report the end before the decision reaches the settler."""
    await stage.uploaded()
    await stage.seen("a", 0, PaymentStatus.SETTLED)
    for index in range(1, 6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    assert (await stage.office.view(sha("a"))).state == "uploaded"
    await stage.settler.on_scored(stage.decision("a", 0b1))
    assert (await stage.office.view(sha("a"))).state == "ended"
    assert (await stage.ledger())["rewards"] == -UNIT


async def test_a_rung_paid_outside_the_decision_is_a_contradiction(stage: Stage) -> None:
    """Nobody but the oracle has the preimages: such a payment must wake someone."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0b1))
    await stage.seen("a", 0, PaymentStatus.SETTLED)
    await stage.seen("a", 1, PaymentStatus.SETTLED)
    for index in range(2, 5):
        await stage.seen("a", index, PaymentStatus.FAILED)
    with pytest.raises(Contradiction, match="outside"):
        await stage.seen("a", 5, PaymentStatus.FAILED)


async def test_the_same_request_gets_the_same_answer_and_another_body_a_conflict(stage: Stage) -> None:
    """A replay has exactly one effect: one number, one token, one offer asked for."""
    first = await stage.desk.open(stage.opening("a"))
    again = await stage.desk.open(stage.opening("a"))
    assert again == first
    assert len(stage.said(OfferMake)) == 1
    with pytest.raises(Conflict, match="another request"):
        await stage.desk.open(stage.opening("a", request_hash=sha("other body")))


async def test_a_token_opens_one_submission(stage: Stage) -> None:
    """The same credential with another commitment is refused, and nothing is booked."""
    await stage.desk.open(stage.opening("a"))
    other = SigningKey(b"\x07" * 32)
    foreign = stage.opening("b", peer=other)
    statement = msgspec.json.decode(foreign.statement.body, type=Statement)
    statement = msgspec.structs.replace(statement, token_id=sha("token a"))
    with pytest.raises(Conflict, match="already used"):
        await stage.desk.open(
            msgspec.structs.replace(foreign, token_id=sha("token a"), statement=other.sign(Statement.tag, statement))
        )


async def test_a_fee_that_finds_no_place_becomes_a_credit_that_opens_the_next_round_once(stage: Stage) -> None:
    """Two places are taken; the third peer's fee is kept for it, and is spent once."""
    for name, key in (("a", 11), ("b", 12)):
        await stage.desk.open(stage.opening(name, peer=SigningKey(bytes([key]) * 32)))
    await stage.fee("c")
    with pytest.raises(Exhausted, match="kept for you as a credit"):
        await stage.desk.open(stage.opening("c"))
    with pytest.raises(Conflict, match="already used"):
        await stage.desk.open(stage.opening("c"))
    assert len(stage.said(CreditIssued)) == 1
    credit = await stage.desk.claim_credit(
        ClaimCredit(peer=PEER.public, payment_hash=sha("fee c"), token_id=sha("token d"))
    )
    again = await stage.desk.claim_credit(
        ClaimCredit(peer=PEER.public, payment_hash=sha("fee c"), token_id=sha("other"))
    )
    assert again == credit
    await stage.open_round(2)
    opened = stage.opening("d", round_=2, credit=True, payment_hash=sha("fee c"))
    assert (await stage.desk.open(opened)).round == 2
    with pytest.raises(L402Error):
        await stage.desk.claim_credit(ClaimCredit(peer=PEER.public, payment_hash=sha("fee c"), token_id=sha("x")))
    books = await stage.ledger()
    assert books["fees:earned"] == 3 * 500_000
    assert f"credits:{PEER.public}" not in books


async def test_a_credit_of_another_peer_opens_nothing(stage: Stage) -> None:
    """Credits belong to the peer that paid."""
    stranger = SigningKey(b"\x08" * 32)
    with pytest.raises(Unauthorized, match="another peer"):
        await stage.desk.open(stage.opening("c", peer=stranger, credit=True, payment_hash=sha("fee zz")))


async def test_a_rung_that_our_node_cannot_send_turns_the_fee_into_a_credit(stage: Stage) -> None:
    """Fault is read at our node: FAILED while locking is ours, once every rung is terminal."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    await stage.seen("a", 0, PaymentStatus.FAILED)
    assert stage.said(CreditIssued) == []
    for index in range(1, 6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    assert [event.peer for event in stage.said(CreditIssued)] == [PEER.public]
    assert (await stage.office.view(sha("a"))).credit_available


async def test_a_peer_that_cancels_its_own_rung_while_locking_does_not_farm_credits(stage: Stage) -> None:
    """LND says that the payee's node itself turned the payment away: the fee is kept."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED, "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS")
    view = await stage.office.view(sha("a"))
    assert (view.state, view.credit_available) == ("ended", False)


async def test_withholding_accepted_does_not_farm_credits(stage: Stage) -> None:
    """All rungs in flight at our node but no word from the peer by the deadline: the fee is kept."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    view = await stage.office.view(sha("a"))
    assert (view.state, view.credit_available) == ("ended", False)
    assert stage.said(CreditIssued) == []


async def test_no_offer_in_time_is_our_fault(stage: Stage) -> None:
    """The oracle was silent: the escrow ends at once and the fee becomes a credit."""
    await stage.desk.open(stage.opening("a"))
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    assert (await stage.office.view(sha("a"))).credit_available


async def test_a_silent_oracle_costs_the_peer_nothing(stage: Stage) -> None:
    """Uploaded and never decided: rungs come back, and so does the fee, as a credit."""
    await stage.uploaded()
    await stage.turn(now_ms=stage.terms().judge_by_ms + 60_000)
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    view = await stage.office.view(sha("a"))
    assert (view.state, view.credit_available) == ("ended", True)


async def test_a_decision_after_our_deadline_still_stands(stage: Stage) -> None:
    """The oracle's decision is the peer's money, even when the settler had given up."""
    await stage.uploaded()
    await stage.turn(now_ms=stage.terms().judge_by_ms + 60_000)
    await stage.settler.on_scored(stage.decision("a", 0b11))
    assert (await stage.office.view(sha("a"))).state == "scored"
    assert (await stage.ledger())[f"peer:{PEER.public}"] == 3 * UNIT


async def test_revealed_and_never_collected_is_forfeited(stage: Stage) -> None:
    """The terms say so; the books say it too, and nothing stays owed."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0b1))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    assert "rewards" not in await stage.ledger()
    assert f"peer:{PEER.public}" not in await stage.ledger()


async def test_a_decision_that_does_not_add_up_is_refused(stage: Stage) -> None:
    """The mask's sum is the reward, or somebody lies."""
    await stage.uploaded()
    with pytest.raises(Contradiction, match="schedule_reward"):
        await stage.settler.on_scored(stage.decision("a", 0b1, reward_msat=7))


async def test_the_gradient_stays_home_until_the_reward_is_locked(stage: Stage) -> None:
    """Uploads are too early while commits are open, and while the ladder is not locked."""
    await stage.desk.open(stage.opening("a"))
    with pytest.raises(TooEarly, match="commits"):
        await stage.desk.register_upload(stage.upload("a"))
    await stage.turn(commit=True)
    with pytest.raises(TooEarly, match="not locked"):
        await stage.desk.register_upload(stage.upload("a"))


async def test_late_is_late(stage: Stage) -> None:
    """After upload_until nothing is taken, and the round is closed without it."""
    await stage.locked()
    await stage.turn(now_ms=stage.terms().upload_until_ms)
    with pytest.raises(TooLate):
        await stage.desk.register_upload(stage.upload("a"))
    await stage.turn()
    assert [event.uploaded for event in stage.said(RoundClosed)] == [()]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount_msat": 1_000}, "invoice_wrong"),
        ({"payment_hash": bytes(32)}, "invoice_wrong"),
        ({"network": "mainnet"}, "invoice_wrong"),
        ({"expiry": 1}, "invoice_expiry"),
        ({"expiry": 200}, "invoice_expiry"),
        ({"min_final_cltv": 59}, "invoice_cltv"),
        ({"min_final_cltv": 201}, "invoice_cltv"),
    ],
)
async def test_an_invoice_that_is_not_the_offers_rung_is_refused_by_name(
    stage: Stage, change: dict[str, Any], code: str
) -> None:
    """Wrong amount, hash, network, expiry or CLTV: nothing is recorded, nothing is asked of the invoicer."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    with pytest.raises(Malformed) as caught:
        await stage.desk.register_locks(stage.locks("a", **change))
    assert caught.value.code == code
    assert stage.said(EscrowLock) == []
    assert await stage.pending_msat() == 0


async def test_too_few_and_too_many_invoices_are_refused(stage: Stage) -> None:
    """A ladder has as many rungs as the offer."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    good = stage.locks("a")
    for wrong in (good.bolt11s[:5], (*good.bolt11s, good.bolt11s[0]), ("x",) * 6):
        with pytest.raises(Malformed):
            await stage.desk.register_locks(msgspec.structs.replace(good, bolt11s=wrong))
    await stage.desk.register_locks(good)
    with pytest.raises(Conflict):
        await stage.desk.register_locks(msgspec.structs.replace(good, bolt11s=stage.invoices("a", min_final_cltv=81)))


async def test_only_its_own_peer_moves_a_submission(stage: Stage) -> None:
    """Another peer's signature does not register locks."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    with pytest.raises(Unauthorized):
        await stage.desk.register_locks(msgspec.structs.replace(stage.locks("a"), peer="ee" * 32))


async def test_redeliveries_change_nothing(stage: Stage) -> None:
    """Every event and question twice: the same books as once."""
    await stage.uploaded()
    for _ in range(2):
        await stage.settler.on_offer(stage.offer("a"))
        await stage.desk.register_locks(stage.locks("a"))
        await stage.desk.register_accepted(stage.accepted("a"))
        await stage.desk.register_upload(stage.upload("a"))
        await stage.settler.on_scored(stage.decision("a", MASK))
        await stage.seen("a", 0, PaymentStatus.SETTLED)
        await stage.fee("a")
    assert [len(stage.said(kind)) for kind in (EscrowLock, EscrowLocked, GradientUploaded, CancelRequested)] == [
        1,
        1,
        1,
        1,
    ]
    assert (await stage.ledger())["fees:earned"] == 500_000


async def test_a_round_closes_early_only_for_the_peers_it_expects(make_stage: Callable[..., Stage]) -> None:
    """With expected peers a phase ends once all are through; a stranger is not one of them."""
    stage = make_stage(expected_peers=(PEER.public,))
    await stage.open_round()
    await stage.desk.open(stage.opening("x", peer=SigningKey(b"\x21" * 32)))
    await stage.turn()
    assert (await stage.desk.read_round(ReadRound())).phase == "commit"
    await stage.desk.open(stage.opening("a"))
    await stage.turn()
    assert (await stage.desk.read_round(ReadRound())).phase == "upload"


async def test_no_round_opens_past_the_limit_and_none_twice(make_stage: Callable[..., Stage]) -> None:
    """The last round's checkpoint ends it and opens nothing."""
    stage = make_stage(rounds=1)
    await stage.open_round(1)
    await stage.open_round(1)
    await stage.turn(now_ms=stage.terms().upload_until_ms)
    await stage.turn()
    reference = stage.terms().checkpoint
    await stage.settler.on_checkpoint(
        CheckpointPublished(
            id="c", occurred_at_ms=0, round=2, checkpoint=reference, parent="", model_id="", seed_commitment="",
            reference_previous=0, held_out_before=0, held_out_after=0, accepted=(),
        )
    )  # fmt: skip
    view = await stage.desk.read_round(ReadRound())
    assert (view.round, view.phase) == (1, "done")
    assert len(stage.said(RoundOpened)) == 1


async def test_nothing_is_sold_while_our_node_cannot_lock(stage: Stage) -> None:
    """Challenges say 503 rather than sell what cannot be rewarded."""
    stage.office.sight.trouble = "asleep"
    assert not (await stage.desk.read_round(ReadRound())).available
    stage.office.sight.trouble = ""
    stage.office.sight.slots = 5
    assert "slots" in (await stage.desk.read_round(ReadRound())).unavailable_reason
    stage.office.sight.slots = 483
    stage.office.sight.liquidity_msat = 1
    assert "liquidity" in (await stage.desk.read_round(ReadRound())).unavailable_reason


async def test_the_journal_refuses_to_be_rewritten(stage: Stage) -> None:
    """The database itself, not only the code, refuses updates, deletes and a second end of a transfer."""
    await stage.locked()
    for statement in ("update transfers set amount_msat = 1", "delete from transfers"):
        with stage.database.engine.begin() as connection, pytest.raises(IntegrityError, match="append-only"):
            connection.execute(sa.text(statement))


async def test_a_restart_says_again_what_was_left_unsaid(stage: Stage) -> None:
    """A lost outbox is no lost submission: the offer and the lock are asked for again."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.recover()
    assert len(stage.said(OfferMake)) == 2
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    await stage.settler.recover()
    assert len({event.message_id for event in stage.said(EscrowLock)}) == 1
    assert len(stage.said(EscrowLock)) == 2


async def test_a_request_that_the_bus_still_knows_is_made_again_all_the_same(stage: Stage) -> None:
    """Its answer may be lost with another stream; a fact is lost with the memory of its id, and stays the same message. A mere
    restart says neither twice."""
    await stage.desk.open(stage.opening("a"))
    for making in "1123":
        await recover_all(stage.database, (stage.settler,), making)
    asked, told = stage.ids(OfferMake), stage.ids(RoundOpened)
    assert (len(set(asked)), len(asked)) == (4, 5), "first without a making, then under three"
    assert len(told) > len(set(told)) == 1
