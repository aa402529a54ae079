"""The list of bugs planted on purpose, each to be found by the simulator within a stated number of histories.

A bug that is not found is a hole in the simulator, and fails the run.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from l402_invoicer import app as invoicer
from l402_invoicer import stops
from l402_oracle.adapters import decisions
from l402_oracle.attestor import delivery
from l402_settler import turning, watch
from l402_settler.ledger import Phase
from l402_settler.sponsorships import Sponsors
from l402core.outbox import Database

from tests.simulation import bugs, runs
from tests.simulation.cast import Manner, Part
from tests.simulation.faults import Kind
from tests.simulation.runs import Trial
from tests.simulation.scenes import AGAIN, hurried, plain, stopped, stopped_while_away, struck
from tests.simulation.sponsor import EARNED

MISFITS = (TypeError, AttributeError, NameError)
"""What a plant raises that was made for an older product: no bug was looked for then, and none was found."""


class Planted(msgspec.Struct, frozen=True):
    """One bug: how it is put in, the histories it is looked for in, and how many of them it may take."""

    name: str
    patch: Callable[[], AbstractContextManager[Any]]
    trial: Callable[[int], Trial]
    within: int


PLANTED: tuple[Planted, ...] = (
    Planted("a rung is sent again under a hash that failed", bugs.replaced(invoicer, "step_for", bugs.sends_again),
            plain(Part("ada", 31, Manner.REFUSES_RUNGS), faults=AGAIN), 20),
    Planted("the end of a rung that came back is not booked", bugs.unless(lambda line: line.phase is Phase.VOID), plain(), 3),
    Planted("the end of a paid rung is booked as a void", bugs.wrong_end, plain(), 3),
    Planted("preimages leave without lock evidence",
            bugs.judges_without_lock, struck(Kind.DELIVERY_LATE, 5, 30, 25.0), 60),
    Planted("preimages leave one block too late", bugs.reveals_a_block_late,
            hurried(38, 42), 60),
    Planted("the reveal does not look at the height", bugs.reveals_at_any_height,
            hurried(40, 60), 20),
    Planted("what cannot be paid any more is judged and shown", bugs.judges_what_it_cannot_pay, hurried(40, 60), 3),
    Planted("a round is judged after its peer was told that it never will be", bugs.judges_after_all,
            struck(Kind.DELIVERY_LATE, 10, 30, 55.0), 60),
    Planted("rungs outside of the decision are revealed", bugs.replaced(delivery, "mask_indices", bugs.all_rungs), plain(), 3),
    Planted("a restart makes the union of two decisions", bugs.replaced(decisions, "tell_again", bugs.decides_again),
            struck(Kind.KILL_AFTER, 100, 150), 60),
    Planted("a fee is booked at every delivery of its message", bugs.books_every_delivery, plain(faults=AGAIN), 10),
    Planted("a failed escrow's fee is credited twice", bugs.credits_twice, plain(Part("ada", 31, Manner.OUT_OF_REACH)), 10),
    Planted("rungs are booked as paid when they are decided", bugs.settles_when_decided, plain(), 3),
    Planted("lnd's 'not found' is taken for a failure at once", bugs.replaced(watch.Watch, "_look_at", bugs.gives_up_at_once),
            struck(Kind.KILL_AFTER, 40, 75, 0.05), 60),
    Planted("the outbox forgets before the bus has acknowledged", bugs.forgets_before_the_ack,
            struck(Kind.PUBLISH_LOST, 20, 45), 60),
    Planted("a consumer acknowledges before it has acted", bugs.acks_first, struck(Kind.KILL_AFTER, 60, 150, 3.0), 300),
    Planted("a token's id is not checked, in no code and no constraint", bugs.token_unasked,
            plain(Part("ada", 31, Manner.REUSES_TOKEN)), 3),
    Planted("a fee is consumed twice, and no constraint minds", bugs.fee_serves_twice,
            plain(Part("ada", 31, Manner.REUSES_TOKEN)), 3),
    Planted("a forfeit is not booked", bugs.unless(lambda line: line.kind == "forfeit"),
            plain(Part("ada", 31, Manner.NEVER_SETTLES)), 3),
    Planted("routing fees are not booked", bugs.unless(lambda line: line.kind == "routing"), plain(hub=True), 3),
    Planted("a lock is sent though its escrow is frozen", bugs.sends_what_is_frozen, stopped, 12),
    Planted("an invoicer that starts sends before it has asked what is frozen",
            bugs.replaced(stops.Stops, "doubt", bugs.begins_without_doubt), stopped_while_away, 12),
    Planted("a decision is not booked", bugs.unless(lambda line: line.kind == "reward"), plain(), 3),
    Planted("a rung is out, and the books do not say until when", bugs.forgets_the_expiry, plain(), 3),
    Planted("an escrow's deadlines come minutes late", bugs.replaced(turning, "missed", bugs.misses_late),
            plain(Part("ada", 31, Manner.VANISHES, 8)), 3),
    Planted("a peer takes silence for failure and pays another fee", bugs.pays_again,
            struck(Kind.LND_ANSWER_LOST, 1, 30, 0.0), 60),
    Planted("what a lost stream held is not said again", bugs.declares_in_silence, struck(Kind.STREAM_LOST, 1, 25), 25),
    Planted("what a lost stream held is asked for under ids that the bus knows",
            bugs.replaced(Database, "ask_since", bugs.asks_in_vain), struck(Kind.STREAM_LOST, 1, 25), 25),
    Planted("what a lost stream held about a pledge is not said again",
            bugs.replaced(Sponsors, "recover", bugs.forgets_sponsors), struck(Kind.STREAM_LOST, 4, 9, margin=EARNED), 12),
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """After how many histories a bug was found, and by what; 0: not found."""

    name: str
    after: int
    within: int
    wrong: str


def look_for(planted: Planted) -> Found:
    """Tell histories until one goes wrong. Raises RuntimeError where the plant itself does not fit any more."""
    with planted.patch():
        for seed in range(1, planted.within + 1):
            told = runs.tell_trial(planted.trial(seed))
            if any(f": {misfit.__name__}: " in told.wrong for misfit in MISFITS):
                raise RuntimeError(f"{planted.name}: it was not the bug that broke: {told.wrong}")
            if told.wrong:
                return Found(planted.name, seed, planted.within, told.wrong)
    return Found(planted.name, 0, planted.within, "")


def look_for_number(place: int) -> Found:
    """One of `PLANTED`, for another process."""
    return look_for(PLANTED[place])


def table(found: Iterable[Found]) -> Iterator[str]:
    """For people, a line each."""
    yield f"{'planted bug':58} {'found after':>11} {'of at most':>10}  by"
    for one in found:
        yield f"{one.name:58} {one.after or 'NOT FOUND':>11} {one.within:>10}  {one.wrong.partition(chr(10))[0]}"
