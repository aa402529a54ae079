"""A peer that wants money for nothing, somebody else's place, or the settler to stop; and what an empty bus may cost."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from l402_settler.tracking import record_sight
from l402core.documents import Accepted, Locked, Statement
from l402core.errors import Conflict, Contradiction, Malformed, NotFound, TooLate, Unavailable
from l402core.events import (
    ClaimCredit,
    CommitsClosed,
    CreditIssued,
    EscrowLocked,
    GradientUploaded,
    OfferMake,
    ReadRound,
    RoundClosed,
    RoundOpened,
    SubmissionOpen,
    SubmissionOpened,
)
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.signing import SigningKey
from sqlalchemy import event

from tests.support.settler import PEER, Stage, sha

NO_ROUTE = "FAILURE_REASON_NO_ROUTE"


def stating(question: SubmissionOpen, peer: SigningKey = PEER, **changes: Any) -> SubmissionOpen:
    """The same request with another statement, signed as it should be."""
    statement = msgspec.json.decode(question.statement.body, type=Statement)
    return msgspec.structs.replace(
        question, statement=peer.sign(Statement.tag, msgspec.structs.replace(statement, **changes))
    )


async def sent_in_vain(
    stage: Stage, name: str, round_: int = 1, why: str = NO_ROUTE, *, late: bool = False, **opening: Any
) -> None:
    """A submission whose ladder is sent in vain, to its end: at once, or only when the time to lock is over."""
    await stage.desk.open(stage.opening(name, round_=round_, **opening))
    await stage.settler.on_offer(stage.offer(name, round_))
    await stage.desk.register_locks(stage.locks(name, round_))
    if late:
        await stage.turn(now_ms=stage.terms(round_).lock_by_ms)
    for index in range(6):
        await stage.seen(name, index, PaymentStatus.FAILED, why)
    assert (await stage.office.view(sha(name))).state == "ended"


async def pays_in_the_end(stage: Stage, *, late: bool) -> None:
    """Round after round there is no way to its node: three times its fee comes back, and the fourth time it is earned."""
    back: dict[str, Any] = {}
    for round_, name in enumerate("abcd", start=1):
        await stage.open_round(round_)
        await sent_in_vain(stage, name, round_, late=late, **back)
        assert (await stage.office.view(sha(name))).credit_available == (name != "d")
        if name != "d":
            back = await credit_of(stage, "a", f"token {'abcd'[round_]}")
    assert (await stage.ledger())["fees:earned"] == 500_000


async def credit_of(stage: Stage, fee: str, token: str) -> dict[str, Any]:
    """What a peer opens with, once it has claimed the credit over this fee."""
    await stage.desk.claim_credit(ClaimCredit(peer=PEER.public, payment_hash=sha(f"fee {fee}"), token_id=sha(token)))
    return {"credit": True, "payment_hash": sha(f"fee {fee}")}


async def test_a_thousand_identical_opens_at_once_have_one_effect(stage: Stage) -> None:
    """One token, one number, one offer asked for, one fee earned, and one answer for all."""
    question = stage.opening("a")
    answers = await asyncio.gather(*(stage.desk.open(question) for _ in range(1_000)))
    assert all(answer == answers[0] for answer in answers)
    assert (len(stage.said(SubmissionOpened)), len(stage.said(OfferMake))) == (1, 1)
    assert (await stage.ledger())["fees:earned"] == 500_000
    assert (await stage.desk.read_round(ReadRound())).places_left == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seal_to": "zz"},
        {"seal_to": "00" * 32},
        {"seal_to": "cd" * 31},
        {"seal_to": "CD" * 32},
        {"payout_node": "02"},
        {"payout_node": "04" * 33},
    ],
)
async def test_a_statement_that_cannot_be_paid_by_opens_nothing(stage: Stage, change: dict[str, str]) -> None:
    """Preimages are sealed to one key and invoices made by one node: neither may be nonsense, and no fee is spent."""
    with pytest.raises(Malformed) as caught:
        await stage.desk.open(stating(stage.opening("a"), PEER, **change))
    assert caught.value.code in ("statement", "sealing_key")
    assert (await stage.desk.open(stage.opening("a"))).state == "opened"


async def test_a_second_fee_for_an_open_commitment_is_kept_as_a_credit(stage: Stage) -> None:
    """Paid twice for one submission: the second fee bought nothing, so it is not lost."""
    await stage.desk.open(stage.opening("a"))
    await stage.fee("again")
    second = stating(
        stage.opening("a", token_id=sha("second"), payment_hash=sha("fee again"), request_hash=sha("second")),
        token_id=sha("second"),
    )
    with pytest.raises(Conflict, match="kept for you as a credit"):
        await stage.desk.open(second)
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee again")]
    assert (await stage.office.view(sha("a"))).state == "opened"


async def test_a_place_that_failed_and_ended_is_free_again(stage: Stage) -> None:
    """A peer that our node cannot reach must not take a place from others for the rest of the round."""
    await sent_in_vain(stage, "a")
    assert (await stage.desk.read_round(ReadRound())).places_left == 2


async def test_one_credit_does_not_turn_for_ever_in_one_round(stage: Stage) -> None:
    """After a few failures in a round the peer waits for the next one, with its credit."""
    await sent_in_vain(stage, "a")
    for name in ("b", "c"):
        await sent_in_vain(stage, name, **await credit_of(stage, "a", f"token {name}"))
    with pytest.raises(Conflict) as caught:
        await stage.desk.open(stage.opening("d", **await credit_of(stage, "a", "token d")))
    assert caught.value.code == "peer_attempts"
    await stage.open_round(2)
    assert (await stage.desk.open(stage.opening("d", round_=2, credit=True, payment_hash=sha("fee a")))).round == 2


async def test_invoices_too_late_to_be_paid_are_the_peers_own_delay(stage: Stage) -> None:
    """Handed in at the last millisecond, no rung can be sent: that place was used, and its fee is kept."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    stage.now_ms = stage.terms().lock_by_ms - 1
    with pytest.raises(TooLate) as caught:
        await stage.desk.register_locks(stage.locks("a"))
    assert caught.value.code == "lock_closed"
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    assert not (await stage.office.view(sha("a"))).credit_available


async def test_an_offer_too_late_to_be_used_is_our_delay(stage: Stage) -> None:
    """The oracle answers when no invoice can be paid any more: the fee becomes a credit."""
    await stage.desk.open(stage.opening("a"))
    stage.now_ms = stage.terms().lock_by_ms - 1
    await stage.settler.on_offer(stage.offer("a"))
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    assert (await stage.office.view(sha("a"))).credit_available


@pytest.mark.parametrize("height", [0, -1, 1 << 31, 10**30])
async def test_an_absurd_expiry_height_is_no_word_at_all(stage: Stage, height: int) -> None:
    """A claimed height outside a block chain's range is refused before it is kept."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    claim = Accepted(
        commitment=sha("a"), round=1, peer=PEER.public,
        payment_hashes=tuple(sha(f"rung a {index}") for index in range(6)), expiry_heights=(180,) * 5 + (height,),
    )  # fmt: skip
    with pytest.raises(Malformed, match="expiry height"):
        await stage.desk.register_accepted(
            msgspec.structs.replace(stage.accepted("a"), accepted=PEER.sign(Accepted.tag, claim))
        )


async def test_locked_is_never_said_on_the_peers_word_alone(stage: Stage) -> None:
    """A payment without an HTLC out is not in flight, whatever LND calls it; and the height signed is ours, too."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    claim = msgspec.json.decode(stage.accepted("a").accepted.body, type=Accepted)
    claim = msgspec.structs.replace(claim, expiry_heights=(400_000_000,) * 6)
    await stage.desk.register_accepted(
        msgspec.structs.replace(stage.accepted("a"), accepted=PEER.sign(Accepted.tag, claim))
    )
    for index in range(6):
        hash_ = bytes.fromhex(sha(f"rung a {index}"))
        bare = PaymentView(payment_hash=hash_, status=PaymentStatus.IN_FLIGHT, amount_msat=0)
        await record_sight(stage.office, bare)
    assert stage.said(EscrowLocked) == []
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
    locked = msgspec.json.decode(stage.said(EscrowLocked)[0].locked.body, type=Locked)
    assert locked.expiry_height == 190


async def test_a_decision_must_say_what_its_receipt_says(stage: Stage) -> None:
    """Only the receipt is signed: an event that adds to it is nobody's word."""
    await stage.uploaded()
    small, large = stage.decision("a", 0b1), stage.decision("a", 0b111111)
    for forged in (
        msgspec.structs.replace(large, receipt=small.receipt),
        msgspec.structs.replace(small, verdict="unscored"),
        msgspec.structs.replace(small, receipt=stage.decision("b", 0b1).receipt),
    ):
        with pytest.raises(Contradiction) as caught:
            await stage.settler.on_scored(forged)
        assert caught.value.code == "decision_unsigned"
    assert (await stage.office.view(sha("a"))).state == "uploaded"


async def test_a_restart_says_again_what_an_empty_bus_forgot(stage: Stage) -> None:
    """Terms, root, locks, uploads and the closing are all in the books: a round goes on after its streams vanished."""
    await stage.uploaded()
    await stage.turn(now_ms=stage.terms().upload_until_ms)
    kinds = (RoundOpened, CommitsClosed, EscrowLocked, GradientUploaded, RoundClosed)
    first = {kind: stage.said(kind) for kind in kinds}
    await stage.settler.recover()
    for kind in kinds:
        assert len(stage.said(kind)) == 2
        again = msgspec.structs.replace(
            stage.said(kind)[1], id=first[kind][0].id, occurred_at_ms=first[kind][0].occurred_at_ms
        )
        assert again == first[kind][0]


async def test_the_round_turns_on_after_a_failure_of_the_disk(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a contradiction in one turn is said, and the next turn comes."""
    stage = make_stage()
    await stage.open_round()
    troubles: list[Exception] = [Contradiction("x", "y"), Malformed("x", "y")]
    turned = asyncio.Event()

    def turn(tx: object) -> None:
        if troubles:
            raise troubles.pop()
        turned.set()

    monkeypatch.setattr(stage.settler, "_is_due", lambda _tx: True)
    monkeypatch.setattr(stage.settler, "_turn", turn)
    task = asyncio.create_task(stage.settler.turn_rounds())
    await asyncio.wait_for(turned.wait(), 10)
    task.cancel()


async def test_an_offer_that_nobody_was_asked_for_is_asked_for_after_a_restart(stage: Stage) -> None:
    """The attestor stops a round whose root names a commitment without an offer, also where it failed long ago."""
    await stage.desk.open(stage.opening("a"))
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    await stage.turn()
    assert (await stage.office.view(sha("a"))).state == "ended"
    await stage.settler.recover()
    assert [said.commitment for said in stage.said(OfferMake)] == [sha("a"), sha("a")]


async def test_a_fee_for_a_closed_or_unknown_round_becomes_a_credit(stage: Stage) -> None:
    """Paid in good faith and presented too late, or in a round that our books lost: the fee is kept for the peer."""
    late = stage.opening("late")
    lost = stating(msgspec.structs.replace(stage.opening("lost"), round=9), PEER, round=9)
    with pytest.raises(Unavailable) as unseen:
        await stage.desk.open(lost)
    assert unseen.value.code == "fee_not_seen"
    await stage.fee("lost")
    with pytest.raises(NotFound, match="kept for you as a credit"):
        await stage.desk.open(lost)
    stage.now_ms = stage.terms().commit_until_ms
    with pytest.raises(TooLate, match="kept for you as a credit"):
        await stage.desk.open(late)
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee lost"), sha("fee late")]


async def test_an_invoice_of_another_node_is_refused(stage: Stage) -> None:
    """The payee is the node that the statement names, which nobody can change afterwards."""
    other = PrivateKey(b"\x0a" * 32).public_key.format().hex()
    await stage.desk.open(stating(stage.opening("a"), PEER, payout_node=other))
    await stage.settler.on_offer(stage.offer("a"))
    with pytest.raises(Malformed, match="payee") as caught:
        await stage.desk.register_locks(stage.locks("a"))
    assert caught.value.code == "invoice_wrong"


async def test_without_its_disk_the_desk_answers_unavailable(stage: Stage) -> None:
    """A database that takes no change is the world's fault: 503 at the gateway, and nothing half done."""
    question = stage.opening("a")
    stage.database.engine.dispose()

    def read_only(raw: Any, _record: object) -> None:
        if stage.database.engine.dialect.name == "sqlite":
            raw.execute("PRAGMA query_only=ON")
        else:
            raw.execute("SET default_transaction_read_only = on")  # as a standby is

    event.listen(stage.database.engine, "connect", read_only)
    with pytest.raises(Unavailable) as caught:
        await stage.desk.open(question)
    assert caught.value.code == "database"


async def test_a_peer_that_no_route_ever_reaches_pays_for_its_places_in_the_end(
    make_stage: Callable[..., Stage],
) -> None:
    """One fee comes back a few times; then the way to a node that is never found counts as that node's affair."""
    await pays_in_the_end(make_stage(places=8), late=False)


async def test_a_peer_that_keeps_our_node_searching_until_the_deadline_pays_in_the_end(
    make_stage: Callable[..., Stage],
) -> None:
    """Its rungs are still being sent when the time to lock is over, round after round: its fee comes back a few times."""
    await pays_in_the_end(make_stage(places=8), late=True)


async def test_a_balance_of_ours_that_is_short_is_our_fault_however_often(make_stage: Callable[..., Stage]) -> None:
    """LND says which it was: what our node lacks is never the peer's affair."""
    stage = make_stage(places=8)
    back: dict[str, Any] = {}
    for round_, name in enumerate("abcd", start=1):
        await stage.open_round(round_)
        await sent_in_vain(stage, name, round_, "FAILURE_REASON_INSUFFICIENT_BALANCE", **back)
        assert (await stage.office.view(sha(name))).credit_available
        back = await credit_of(stage, "a", f"token {'abcde'[round_]}")
