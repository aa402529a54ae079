"""The current round in words: its phase, the steps of its clock, and what is sold. Pure: the time is an argument."""

import msgspec
from l402core.documents import Terms
from l402core.events import RoundView
from l402core.money import show_sat

from l402_gateway.pages.drawing import share

STEP_WIDTH = 200
_HEADLINES = {
    "commit": (
        "Peers train and commit",
        "Each pays a small fee, and has its reward locked before its work leaves home.",
    ),
    "upload": (
        "Gradients are uploaded",
        "Only work whose reward is locked may be sent; its seal is opened afterwards.",
    ),
    "judge": (
        "The oracle judges",
        "It measures how far each gradient lowers the loss on text nobody could know before.",
    ),
    "done": ("The round is over", "What was accepted made the next checkpoint; the next round opens on it."),
}
_ORDER = ("commit", "upload", "judge", "done")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of the round's clock."""

    name: str
    state: str
    """past, now or to come."""
    from_ms: int
    until_ms: int
    filled: float


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """The head of the page."""

    round: int
    network: str
    phase: str
    headline: str
    explained: str
    until_ms: int
    """0 where nothing is waited for."""
    waits_for: str
    steps: tuple[Step, ...]
    facts: tuple[tuple[str, str, str], ...]
    """Name, value, and what to know of it."""


def now(view: RoundView, terms: Terms, *, now_ms: int) -> Now:
    """What happens, until when, and what a place costs."""
    headline, explained = _HEADLINES.get(view.phase, (view.phase, ""))
    ends = {"commit": terms.commit_until_ms, "upload": terms.upload_until_ms, "judge": terms.judge_by_ms}
    waits = {"commit": "until commits close", "upload": "until uploads close", "judge": "until all must be judged"}
    until_ms = ends.get(view.phase, 0)
    late = 0 < until_ms < now_ms
    return Now(
        round=view.round, network=terms.network, phase=view.phase, headline=headline, explained=explained,
        until_ms=until_ms, waits_for="any moment now" if late else waits.get(view.phase, ""),
        steps=_steps(view.phase, terms, now_ms), facts=_facts(view, terms),
    )  # fmt: skip


def _steps(phase: str, terms: Terms, now_ms: int) -> tuple[Step, ...]:
    marks = (terms.opened_at_ms, terms.commit_until_ms, terms.upload_until_ms, terms.judge_by_ms)
    at = _ORDER.index(phase) if phase in _ORDER else 0
    made = []
    for index, name in enumerate(("Commit", "Upload", "Judge")):
        begin, end = marks[index], marks[index + 1]
        state = "past" if index < at else "now" if index == at else "to come"
        filled = {"past": float(STEP_WIDTH), "to come": 0.0}.get(state, share(now_ms - begin, end - begin, STEP_WIDTH))
        made.append(Step(name=name, state=state, from_ms=begin, until_ms=end, filled=filled))
    return tuple(made)


def _facts(view: RoundView, terms: Terms) -> tuple[tuple[str, str, str], ...]:
    open_ = view.available and view.phase == "commit"
    sold = f"{view.places_left} of {terms.places} left" if open_ else "none now"
    return (
        ("Fee to submit", show_sat(terms.fee_msat), "kept, whatever the work is worth"),
        ("Reward", f"up to {show_sat(terms.ladder_msat())}", "locked first; the earned part settles"),
        ("Places", sold, "" if open_ else view.unavailable_reason or "they are sold while commits are open"),
        ("This round", f"{view.opened} submitted", f"{view.uploaded} uploaded, {view.scored} judged"),
        ("Paid for by", *_sponsor(terms)),
    )


def _sponsor(terms: Terms) -> tuple[str, str]:
    tranche = terms.tranche
    if tranche is None:
        return "the treasury", "no sponsor in this round"
    return (
        f"a sponsor, {show_sat(tranche.amount_msat)}",
        f"only if the loss falls by {tranche.margin / 1e9:.4f} or more; else it goes back",
    )
