"""The whole system in one thread: the same seed tells the same history, and whatever dies or is lost, the books hold."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.simulation import exhaustive, planted, runs, services
from tests.simulation.cast import Cast, Manner, Part
from tests.simulation.faults import Fault, Kind
from tests.simulation.forks import Forks, Point
from tests.simulation.runs import Count, Trial
from tests.simulation.scenes import stopped
from tests.simulation.shortening import read, shortened, story, written
from tests.simulation.silence import simulated
from tests.simulation.sponsor import EARNED
from tests.simulation.story import tell

QUICK = 3
"""Planted bugs that so few histories find."""
DIGESTS = "from tests.simulation import runs; print(*[runs.tell_trial(runs.drawn(n)).digest for n in (3, 4)])"


Struck = tuple[int, Kind]
STRUCK = [
    ("at_effect", ((30, Kind.KILL_BEFORE), (90, Kind.KILL_AFTER))),
    ("at_call", ((9, Kind.LND_CALL_LOST), (20, Kind.LND_ANSWER_LOST))),
    ("at_publish", ((5, Kind.STREAM_LOST), (12, Kind.STREAM_LOST))),
]
"""What is counted, and what strikes at which number."""
SEED_LOST = Fault(Kind.SEED_LOST, 2, 200.0)
FROZEN_ROUNDS = [
    pytest.param((SEED_LOST,), EARNED, 4, id="sponsored, ended when all have gone home"),
    pytest.param((SEED_LOST, Fault(Kind.FROZEN, 8, 400.0)), 0, 4, id="one escrow is stopped by an order of its own"),
    pytest.param((Fault(Kind.SEED_LOST, 2, 1.0),), 0, 0, id="ended at once, while all wait for it"),
]
"""How a round is frozen, what a sponsor pays for, and how many gradients of the rounds after it are judged."""
Hold = Callable[[Count], None]


@pytest.fixture
def hold(record_property: Callable[[str, object], None]) -> Hold:
    """Every one of them holds, or the shortest story of the first that does not is told. They are counted."""

    def all_hold(count: Count) -> None:
        record_property("simulated_histories", count.histories)
        record_property("simulated_effects", count.effects)
        if count.wrong:
            best, told = shortened(count.wrong[0][0])
            pytest.fail(f"{len(count.wrong)} of {count.histories} went wrong; {best.name}:\n{story(best, told)}")

    return all_hold


def test_a_round_is_played_to_its_end_and_paid() -> None:
    """One honest peer: its fee, its ladder, its 31 units, and nothing open when all is quiet."""
    told = runs.tell_trial(Trial(1, Cast()))
    assert not told.wrong, told.wrong
    assert sum("SettleInvoice at ada" in line for line in told.lines) == 5
    assert sum("CancelInvoice at ada" in line for line in told.lines) == 1


def test_the_same_seed_tells_the_same_history_to_the_byte() -> None:
    """Twice in this process, and in two others that hash strings differently."""
    here = [runs.tell_trial(runs.drawn(seed)).digest for seed in (3, 4)]
    assert here == [runs.tell_trial(runs.drawn(seed)).digest for seed in (3, 4)]
    assert here[0] != here[1]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
        )
        assert told.stdout.split() == here


def test_another_thread_that_draws_meanwhile_changes_nothing() -> None:
    """What other tests have left running in this process asks for random bytes too."""
    alone, over = runs.tell_trial(runs.drawn(3)).digest, threading.Event()

    def draw() -> None:
        while not over.is_set():
            secrets.token_bytes(8)
            os.urandom(8)

    other = threading.Thread(target=draw)
    other.start()
    try:
        assert runs.tell_trial(runs.drawn(3)).digest == alone
    finally:
        over.set()
        other.join()


@pytest.mark.parametrize(("point", "faults"), STRUCK, ids=["deaths", "calls to lnd", "streams"])
def test_a_copy_ends_as_the_whole_history_with_that_fault_does(point: Point, faults: tuple[Struck, ...]) -> None:
    """A death, a call or a stream that is lost, told from a fork there and from the beginning: the same to the byte.

    Also where another test has left a tracer provider, which has a thread draw random bytes in each copy.
    """
    provider = TracerProvider()
    cast, at = exhaustive.STORIES["rejected"], dict(faults)

    def wanted(number: int, _: str) -> list[Fault]:
        return [Fault(at[number], number, exhaustive.BACK_S)] if number in at else []

    forks = Forks(wanted, point=point, jobs=2)
    with simulated():
        tell(1, cast, splits=forks)
    assert [end.fault.at for end in forks.endings] == list(at)
    for end in forks.endings:
        assert end.digest == runs.tell_trial(Trial(1, cast, (end.fault,))).digest
    provider.shutdown()


@pytest.mark.parametrize("name", exhaustive.STORIES)
def test_a_process_may_die_at_any_effect(name: str, hold: Hold) -> None:
    """A sample of the deaths before and after each effect; `make simulate-exhaustive` has all of them."""
    hold(exhaustive.deaths(name, exhaustive.STORIES[name], every=31))


@pytest.mark.parametrize("name", exhaustive.STORIES)
def test_any_call_to_lnd_or_its_answer_may_be_lost(name: str, hold: Hold) -> None:
    """A sample of the calls lost before their effect and of the answers lost after it, as above."""
    hold(exhaustive.lost_calls(name, exhaustive.STORIES[name], every=15))


@pytest.mark.parametrize("name", exhaustive.ON_THE_BUS)
def test_a_stream_may_vanish_alone_and_the_bus_may_be_restarted(name: str, hold: Hold) -> None:
    """Each stream, and the bus, at some seconds of the main story and of the sponsored one, as above."""
    hold(exhaustive.lost_streams(name, every=4))
    hold(exhaustive.lost_seconds(name, every=11))


def test_a_pledge_outlives_the_loss_of_any_stream_that_carried_it() -> None:
    """From the pledge to the word of how it ended: whatever was lost is said again in time, and the tranche is earned."""
    cast = exhaustive.STORIES["sponsored and earned"]
    published = [line for line in runs.tell_trial(Trial(1, cast)).lines if "publishes" in line]
    carried = [number for number, line in enumerate(published, 1) if "sponsorship." in line]
    assert len(carried) == len({published[number - 1].partition("publishes")[2] for number in carried}) >= 7
    for number in carried:
        told = runs.tell_trial(Trial(1, cast, (Fault(Kind.STREAM_LOST, number),)))
        assert not told.wrong, told.wrong
        assert any("SettleInvoice at coordinator" in line for line in told.lines), published[number - 1]


@pytest.mark.parametrize("name", exhaustive.AWAY)
def test_whoever_is_away_while_the_margin_passes_loses_nobodys_money(name: str, hold: Hold) -> None:
    """What was decided is paid, owed or forfeited, to the millisatoshi; a sample, as above."""
    hold(exhaustive.away(name, every=29))


@pytest.mark.parametrize("masks", [range(32), range(32, 64)], ids=["low", "high"])
def test_every_mask_is_paid_whoever_dies_while_it_is_revealed(masks: range, hold: Hold) -> None:
    """Each of the 64 decisions, and a death at one of its reveals; `make simulate-exhaustive` has each of them."""
    hold(exhaustive.ladder(masks, every=23))


def test_a_freeze_reaches_a_lock_that_is_on_its_way(hold: Hold) -> None:
    """The node is away, the lock waits, an operator stops it: nothing is sent before the thaw, and then all is paid."""
    hold(runs.run(map(stopped, range(1, 13))))
    caught = 0
    for seed in range(1, 13):
        lines = list(enumerate(runs.tell_trial(stopped(seed)).lines))
        frozen = [number for number, line in lines if "is frozen" in line and "notes" in line]
        thawed = [number for number, line in lines if "is thawed" in line and "notes" in line]
        sent = [number for number, line in lines if "SendPaymentV2 at coordinator" in line]
        if frozen and frozen[0] < min(sent):  # else the ladder was sent, or not handed in yet
            caught += 1
            assert frozen[0] < thawed[0] < min(sent)
    assert caught


def test_a_settler_that_dies_of_an_order_is_given_it_again(hold: Hold) -> None:
    """It is killed before or after it writes down a freeze: the operator asks again, and that is one freeze and no other."""
    frozen = Fault(Kind.FROZEN, 5, 5.0)
    labels = runs.tell_trial(Trial(1, Cast(), (frozen,))).labels
    (at,) = [number for number, label in enumerate(labels, 1) if "Thawing.freeze" in label]
    hold(runs.run(Trial(1, Cast(), (frozen, Fault(kind, at, 1.5))) for kind in (Kind.KILL_BEFORE, Kind.KILL_AFTER)))


@pytest.mark.parametrize("at", [1, 2, 4, 7, 30])
def test_every_key_may_be_made_new_in_the_middle_of_a_round(at: int, hold: Hold) -> None:
    """Signing, sealing, reading, seed, preimage and root keys at once, in a sponsored round and the one after it."""
    cast, again = (
        Cast(parts=(Part("ada", 31), Part("bob", 5)), rounds=2, margin=EARNED),
        Fault(Kind.KEYS_ROTATED, at + 1),
    )
    hold(runs.run([Trial(1, cast, (Fault(Kind.KEYS_ROTATED, at), again))]))


@pytest.mark.parametrize(("faults", "margin", "judged"), FROZEN_ROUNDS)
def test_a_round_that_the_oracle_froze_is_ended_by_an_order_and_costs_nobody(
    faults: tuple[Fault, ...], margin: int, judged: int
) -> None:
    """Nothing of it is decided, all rungs come home, each fee becomes a credit, and later rounds are judged and paid."""
    cast = Cast(parts=(Part("ada", 31), Part("bob", 5)), rounds=3, margin=margin)
    told = runs.tell_trial(Trial(1, cast, faults))
    assert told.wrong == ""
    said = [line for line in told.lines if "publishes" in line or "end round" in line]
    (ended,) = [number for number, line in enumerate(said) if "end round" in line]
    assert not any("gradient.scored" in line for line in said[:ended])
    assert "checkpoint.published.v1.2" in said[ended + 1]
    assert sum("credit.issued" in line for line in said) == 2
    assert sum("gradient.scored" in line for line in said) == judged


def test_a_pledge_comes_in_by_the_gateways_own_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the gateway takes none, no pledge reaches the settler, and the round goes on without a sponsor."""
    trial = Trial(1, exhaustive.STORIES["sponsored and earned"])
    assert any("sponsorship.announce" in line for line in runs.tell_trial(trial).lines)
    shut = services.GATEWAY_CONFIG.model_copy(update={"pledges_in_all": 0})
    monkeypatch.setattr(services, "GATEWAY_CONFIG", shut)
    told = runs.tell_trial(trial)
    assert not told.wrong, told.wrong
    assert not any("sponsorship." in line for line in told.lines)


@pytest.mark.parametrize("first", range(1, 61, 15))
def test_random_histories_hold(first: int, hold: Hold) -> None:
    """Casts, orders and faults from seeds."""
    hold(runs.run(map(runs.drawn, range(first, first + 15))))


@pytest.mark.parametrize("manner", Manner)
def test_no_manner_of_a_peer_breaks_the_books(manner: Manner, hold: Hold) -> None:
    """Each kind of peer beside an honest one."""
    hold(runs.run([Trial(1, Cast(parts=(Part("ada", 20, manner, 12), Part("bob", 31))))]))


@pytest.mark.parametrize("bug", [one for one in planted.PLANTED if one.within <= QUICK], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: planted.Planted) -> None:
    """The simulator is itself checked; `make simulate-planted` plants the rarer ones, too."""
    found = planted.look_for(bug)
    assert found.after, f"{bug.within} histories held with this bug in"


def test_a_failing_history_is_told_in_its_shortest_form_and_again_from_what_is_printed() -> None:
    """Two peers, two rounds and three faults about one bug: what has nothing to do with it is left out."""
    faults = (Fault(Kind.DELIVERY_LATE, 9, 2.0), Fault(Kind.BLOCKS, 3, 2.0), Fault(Kind.KILL_AFTER, 70, 1.0))
    long = Trial(5, Cast(parts=(Part("ada", 20), Part("bob", 31)), rounds=2), faults, "a long one")
    bug = next(one for one in planted.PLANTED if one.name == "the end of a rung that came back is not booked")
    with bug.patch():
        best, told = shortened(long)
        again = runs.tell_trial(read(written(best)))
    assert told.wrong
    assert (best.faults, best.cast.rounds, len(best.cast.parts)) == ((), 1, 1)
    assert (again.wrong, again.digest) == (told.wrong, told.digest)
    assert runs.tell_trial(best).wrong == ""


@pytest.mark.parametrize("text", ["", "{}", "seed 7", '{"seed": 1, "cast": {"rounds": "many"}}'])
def test_what_is_no_history_is_refused(text: str) -> None:
    """By name, and nothing is told."""
    with pytest.raises(SystemExit, match="no history that a failing run printed"):
        read(text)
