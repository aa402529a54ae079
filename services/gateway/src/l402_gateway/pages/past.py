"""The page of one round: what it sold, what became of each submission. Pure."""

from l402core.documents import Terms
from l402core.events import LineupView, OracleView, RoundView
from l402core.money import show_sat

from l402_gateway.pages import frame
from l402_gateway.pages.overview import STATES, VERDICTS


def page(view: RoundView, terms: Terms, group: LineupView, oracle: OracleView | None, *, now_ms: int) -> bytes:
    """The whole page."""
    return frame.rendered(
        "round.html", view=view, terms=terms, group=group, facts=_facts(view, terms, group, oracle), now_ms=now_ms,
        states=STATES, verdicts=VERDICTS,
    )  # fmt: skip


def _facts(
    view: RoundView, terms: Terms, group: LineupView, oracle: OracleView | None
) -> tuple[tuple[str, str, str], ...]:
    lines = group.submissions
    losses = {one.round: one.held_out for one in oracle.checkpoints} if oracle else {}
    before, after = losses.get(view.round), losses.get(view.round + 1)
    loss = f"{frame.nats(before)} → {frame.nats(after)}" if before and after else "not known"
    fees_msat = sum(one.fee_msat for one in lines if one.fee_kept)
    accepted = sum(one.verdict == "accepted" for one in lines)
    return (
        ("Opened", frame.clock(terms.opened_at_ms), ""),
        ("Held-out loss", loss, "nats per token"),
        ("Submissions", f"{view.opened}", f"{accepted} accepted, {view.scored} judged"),
        ("Fees in", show_sat(fees_msat), ""),
        ("Rewards out", show_sat(sum(one.reward_msat for one in lines)), ""),
    )
