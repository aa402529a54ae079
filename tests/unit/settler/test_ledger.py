"""The ledger's lines, one by one: what each moves from where to where, and what all of them add up to."""

import pytest
from l402_settler import ledger
from l402_settler.ledger import Balance, Phase, Transfer, trial_balance

HASH, TOKEN, PEER, COMMIT = "aa", "bb", "cc", "dd"
SINGLE, PENDING, POST, VOID = Phase.SINGLE, Phase.PENDING, Phase.POST, Phase.VOID

LINES = [
    (ledger.opening(5), "opening", "opening", SINGLE, None, "lightning", "treasury", ""),
    (ledger.fee_received(HASH, 5), "fee:aa", "fee received", SINGLE, None, "lightning", "fees:unclaimed", ""),
    (ledger.fee_earned(TOKEN, COMMIT, 5), "claim:bb", "fee earned", SINGLE, None, "fees:unclaimed", "fees:earned", "dd"),
    (ledger.fee_credited(TOKEN, PEER, COMMIT, 5, was_earned=True), "credit:bb", "fee credited", SINGLE, None,
     "fees:earned", "credits:cc", "dd"),
    (ledger.fee_credited(TOKEN, PEER, COMMIT, 5, was_earned=False), "credit:bb", "fee credited", SINGLE, None,
     "fees:unclaimed", "credits:cc", "dd"),
    (ledger.credit_spent(TOKEN, PEER, COMMIT, 5), "spend:bb", "credit spent", SINGLE, None, "credits:cc", "fees:earned",
     "dd"),
    (ledger.rung_locked(HASH, PEER, COMMIT, 5), "lock:aa", "rung", PENDING, None, "peer:cc", "lightning", "dd"),
    (ledger.rung_ended(HASH, PEER, COMMIT, 5, paid=True), "end:aa", "rung", POST, "lock:aa", "peer:cc", "lightning", "dd"),
    (ledger.rung_ended(HASH, PEER, COMMIT, 5, paid=False), "end:aa", "rung", VOID, "lock:aa", "peer:cc", "lightning",
     "dd"),
    (ledger.routing_paid(HASH, COMMIT, 5), "routing:aa", "routing", SINGLE, None, "routing", "lightning", "dd"),
    (ledger.reward_decided(PEER, COMMIT, 5), "reward:dd", "reward", SINGLE, None, "rewards", "peer:cc", "dd"),
    (ledger.reward_forfeited(HASH, PEER, COMMIT, 5), "forfeit:aa", "forfeit", SINGLE, None, "peer:cc", "rewards", "dd"),
    (ledger.reward_owed(PEER, COMMIT, 5), "owe:dd", "owed", SINGLE, None, "peer:cc", "owed:cc", "dd"),
    (ledger.owed_revealed(PEER, COMMIT, 5), "owed:dd", "owed revealed", SINGLE, None, "owed:cc", "peer:cc", "dd"),
    (ledger.owed_settled(PEER, COMMIT, 5, by_our_node=True), "settle:dd", "owed settled", SINGLE, None, "owed:cc",
     "lightning", "dd"),
    (ledger.owed_settled(PEER, COMMIT, 5, by_our_node=False), "settle:dd", "owed settled", SINGLE, None, "owed:cc",
     "treasury", "dd"),
    (*ledger.written_off(HASH, COMMIT, 5), "write-off:aa", "written off", SINGLE, None, "written-off", "lightning", "dd"),
    (*ledger.written_off(HASH, COMMIT, -5), "write-off:aa", "written off", SINGLE, None, "lightning", "written-off", "dd"),
    (ledger.overpaid(HASH, PEER, COMMIT, 5), "overpaid:aa", "overpaid", SINGLE, None, "written-off", "peer:cc", "dd"),
    (ledger.earned_after_all(HASH, PEER, COMMIT, 5), "earned:aa", "earned after all", SINGLE, None, "peer:cc",
     "written-off", "dd"),
    (*ledger.paid_outside(HASH, 5, 0), "outside:aa", "paid outside", SINGLE, None, "outside", "lightning", ""),
    (*ledger.paid_outside(HASH, 0, 5), "outside-routing:aa", "routing outside", SINGLE, None, "outside", "lightning", ""),
    (ledger.received_outside(HASH, 5), "outside-in:aa", "received outside", SINGLE, None, "lightning", "outside", ""),
    (ledger.not_outside(*ledger.paid_outside(HASH, 5, 0)), "back:outside:aa", "not outside", SINGLE, None, "lightning",
     "outside", ""),
    (ledger.not_outside(ledger.received_outside(HASH, 5)), "back:outside-in:aa", "not outside", SINGLE, None, "outside",
     "lightning", ""),
    (ledger.tranche_locked(HASH, PEER, COMMIT, 5), "tranche:aa", "tranche", PENDING, None, "lightning", "sponsors:cc",
     "dd"),
    (ledger.tranche_ended(HASH, PEER, COMMIT, 5, settled=True), "end:aa", "tranche", POST, "tranche:aa", "lightning",
     "sponsors:cc", "dd"),
    (ledger.tranche_ended(HASH, PEER, COMMIT, 5, settled=False), "end:aa", "tranche", VOID, "tranche:aa", "lightning",
     "sponsors:cc", "dd"),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[2]} {line[3]}")
def test_each_line_is_as_it_was_agreed(line: tuple[Transfer, str, str, Phase, str | None, str, str, str]) -> None:
    """Identity, phase, both sides and whose submission it is: written by hand, not computed."""
    made, id_, kind, phase, pending_id, debit, credit, commitment = line
    assert made == Transfer(
        id=id_, kind=kind, phase=phase, pending_id=pending_id, debit=debit, credit=credit, amount_msat=5,
        commitment=commitment,
    )  # fmt: skip


def test_what_does_not_differ_is_no_line() -> None:
    """To the millisatoshi, either way."""
    assert ledger.written_off(HASH, COMMIT, 0) == []
    assert [(one.debit, one.amount_msat) for one in ledger.written_off(HASH, COMMIT, 1)] == [("written-off", 1)]
    assert [(one.debit, one.amount_msat) for one in ledger.written_off(HASH, COMMIT, -1)] == [("lightning", 1)]


def test_a_whole_story_adds_up() -> None:
    """Opening, a fee, two rungs of which one is paid and one comes back, one still out: every account to the msat."""
    lines = [
        ledger.opening(1_000), ledger.fee_received("f", 50), ledger.fee_earned("t", "c", 50),
        ledger.rung_locked("1", "p", "c", 10), ledger.rung_locked("2", "p", "c", 20), ledger.rung_locked("3", "p", "c", 40),
        ledger.reward_decided("p", "c", 10), ledger.rung_ended("1", "p", "c", 10, paid=True),
        ledger.rung_ended("2", "p", "c", 20, paid=False),
    ]  # fmt: skip
    expected = {
        "fees:earned": (0, 50, 0, 0), "fees:unclaimed": (50, 50, 0, 0), "lightning": (1_050, 10, 0, 40),
        "peer:p": (10, 10, 40, 0), "rewards": (10, 0, 0, 0), "treasury": (0, 1_000, 0, 0),
    }  # fmt: skip
    for order in (lines, lines[::-1]):
        assert trial_balance(order) == {
            name: Balance(debits_msat=d, credits_msat=c, pending_debits_msat=pd, pending_credits_msat=pc)
            for name, (d, c, pd, pc) in expected.items()
        }
