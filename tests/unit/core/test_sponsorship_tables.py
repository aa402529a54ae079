"""A tranche's two tables: laws that hold for all of it, stories, contradictions, and a golden matrix."""

import itertools

import pytest
from l402core.errors import Contradiction
from l402core.pledges import is_earned
from l402core.sponsorship import IGNORED, LIVE, MOVES, PENDING, RECOVER, Tranche, Trigger, move

S, T = Tranche, Trigger
FINAL = (S.SETTLED, S.RETURNED)


def test_no_trigger_is_both_followed_and_ignored() -> None:
    """A pair stands in one table at most."""
    assert not set(MOVES) & IGNORED


def test_every_state_knows_what_to_do_after_a_restart() -> None:
    """A restart is ordinary in every state."""
    assert set(RECOVER) == set(Tranche)


def test_what_has_ended_stays() -> None:
    """Nothing moves a tranche that is settled or returned, and everything else is live or has no invoice yet."""
    assert not [pair for pair in MOVES if pair[0] in FINAL]
    assert set(LIVE) == set(Tranche) - {S.ANNOUNCED, *FINAL}


def test_the_money_can_go_back_from_wherever_it_is_not_earned() -> None:
    """Every state before the decision can be given back, and every path can end."""
    assert {state for state, trigger in MOVES if trigger is T.GIVE_BACK} == {
        S.ANNOUNCED, S.MINTING, S.MINTED, S.LOCKED, S.FUNDING,
    }  # fmt: skip
    reach = set(FINAL)
    for _ in Tranche:
        reach |= {state for (state, _), target in MOVES.items() if target in reach}
    assert reach == set(Tranche)


def test_only_what_was_earned_is_ever_settled() -> None:
    """The one way to SETTLED leads through SETTLING, and the one way there through a round that was funded."""
    assert [pair for pair, target in MOVES.items() if target is S.SETTLED] == [(S.SETTLING, T.SEEN_SETTLED)]
    assert [pair for pair, target in MOVES.items() if target is S.SETTLING] == [(S.FUNDING, T.EARNED)]
    assert [pair for pair, target in MOVES.items() if target is S.FUNDING] == [(S.LOCKED, T.ROUND_OPENED)]


@pytest.mark.parametrize(
    ("story", "end"),
    [
        ([T.MINT_ASKED, T.MINTED, T.ACCEPTED, T.ROUND_OPENED, T.EARNED, T.SEEN_SETTLED], S.SETTLED),
        ([T.MINT_ASKED, T.MINTED, T.ACCEPTED, T.ROUND_OPENED, T.GIVE_BACK, T.SEEN_CANCELED], S.RETURNED),
        ([T.MINT_ASKED, T.MINTED, T.GIVE_BACK, T.ACCEPTED, T.SEEN_CANCELED], S.RETURNED),
        ([T.MINT_ASKED, T.MINTED, T.ACCEPTED, T.GIVE_BACK, T.ROUND_OPENED, T.EARNED, T.SEEN_CANCELED], S.RETURNED),
        ([T.MINT_ASKED, T.MINTED, T.ACCEPTED, T.ROUND_OPENED, T.EARNED, T.GIVE_BACK, T.SEEN_SETTLED], S.SETTLED),
        ([T.MINT_ASKED, T.GIVE_BACK, T.MINTED, T.SEEN_CANCELED], S.RETURNED),
    ],
)
def test_stories_end_where_they_should(story: list[Trigger], end: Tranche) -> None:
    """Earned, not earned, paid too late, given back before a round, a deadline after the decision, a late invoice."""
    state = S.ANNOUNCED
    for trigger in story:
        state = move(state, trigger) or state
    assert state is end


@pytest.mark.parametrize("state", [S.ANNOUNCED, S.MINTING, S.MINTED, S.LOCKED, S.FUNDING, S.RETURNING, S.RETURNED])
def test_nobody_but_us_settles(state: Tranche) -> None:
    """LND SETTLED where we never meant to settle cannot be: nobody else has the right to end a sponsor's invoice."""
    with pytest.raises(Contradiction):
        move(state, T.SEEN_SETTLED)


def test_a_decision_on_what_funds_no_round_is_a_contradiction() -> None:
    """The oracle judges rounds, not locks."""
    for state in (S.ANNOUNCED, S.MINTING, S.MINTED, S.LOCKED):
        with pytest.raises(Contradiction):
            move(state, T.EARNED)


def test_pending_in_the_ledger_is_what_waits_at_our_node() -> None:
    """From the sponsor's payment to its end."""
    assert set(PENDING) == {S.LOCKED, S.FUNDING, S.SETTLING}


@pytest.mark.parametrize(
    ("drop_low", "margin", "earned"), [(20, 20, True), (19, 20, False), (-1, 20, False), (0, 0, False), (5, 0, False)]
)
def test_progress_is_paid_from_the_margin_on(drop_low: int, margin: int, *, earned: bool) -> None:
    """The whole interval has to lie at the margin or above, and a margin of nothing earns nothing."""
    assert is_earned(drop_low, margin) is earned


GOLDEN = """
          mint  made  paid  round earn  back  sett  canc
announced >mint !     !     !     !     >ret  !     !
minting   .     >mint .     !     !     >ret  !     .
minted    .     .     >lock !     !     >ret  !     >ret
locked    .     .     .     >fund !     >ret  !     >ret
funding   .     .     .     .     >sett >ret  !     >ret
settling  .     .     .     .     .     .     >sett >ret
returning .     .     .     .     .     .     !     >ret
settled   .     .     .     .     .     .     .     !
returned  .     .     .     .     .     .     !     .
"""


AGAIN = """
announced
minting    ask the invoicer for the hold invoice
minted     subscribe to the invoice
locked     tell the oracle that the money waits; subscribe to the invoice
funding    tell the oracle that the money waits; subscribe to the invoice
settling   settle it at our node
returning  cancel it at our node
settled
returned
"""


def test_what_a_restart_does_is_as_it_was_agreed() -> None:
    """Each state's line. Change it on purpose or not at all."""
    told = [f"{state:<10} {'; '.join(RECOVER[state])}".rstrip() for state in Tranche]
    assert told == AGAIN.strip().splitlines()


def test_the_whole_matrix_is_as_it_was_agreed() -> None:
    """Every pair: '>' moves, '.' is ignored, '!' is a contradiction. Change it on purpose or not at all."""
    drawn = {line.split()[0]: line.split()[1:] for line in GOLDEN.strip().splitlines()[1:]}
    for state, (index, trigger) in itertools.product(Tranche, enumerate(T)):
        pair, wanted = (state, trigger), drawn[state][index]
        seen = f">{MOVES[pair]}" if pair in MOVES else "." if pair in IGNORED else "!"
        assert seen.startswith(wanted), pair
        assert wanted[0] == ">" or seen == wanted, pair
