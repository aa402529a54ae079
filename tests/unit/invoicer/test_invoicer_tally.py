"""What was sent is counted on disk before it is sent: the caps of a round and of a day hold after a restart too."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_invoicer.adapters.cursor import FileCursor
from l402_invoicer.adapters.tally import DAY_MS, KEPT_MS, FileTally
from l402_invoicer.app import UNSENT_MS, Invoicer
from l402_invoicer.config import Config
from l402_invoicer.policy import Sent
from l402core.errors import TooLarge, Unavailable
from l402core.events import Event
from l402core.lnd.port import PaymentStatus, PaymentView

NOW_MS = 1_800_000_000_000
ROUND_MAX, DAY_MAX = 100, 150


class Silent:
    """A bus that nothing is said on."""

    async def publish(self, event: Event, *, parent: str = "") -> None:
        """Nothing is to be said."""
        raise AssertionError(event)


def allow(sent: Sent, more_msat: int) -> None:
    """A hundred for a round, a hundred and fifty for a day."""
    if sent.round_msat + more_msat > ROUND_MAX:
        raise TooLarge("lock_round_cap", "")
    if sent.day_msat + more_msat > DAY_MAX:
        raise TooLarge("lock_day_cap", "")


def refused(tally: FileTally, round_: int, amounts: dict[bytes, int], now_ms: int = NOW_MS) -> str:
    """Why it is not reserved; "" where it is."""
    try:
        tally.reserve(round_, amounts, now_ms, allow, now_ms + 1_000)
    except TooLarge as error:
        return error.code
    return ""


def test_a_round_and_a_day_have_their_limits_also_after_a_restart(tmp_path: Path) -> None:
    """The last msat fits, one more does not; who starts again knows what was sent before."""
    for restart, (round_, hash_, amount, why) in enumerate(
        [
            (1, b"a", 60, ""),
            (1, b"b", 41, "lock_round_cap"),
            (1, b"c", 40, ""),
            (2, b"d", 51, "lock_day_cap"),
            (2, b"e", 50, ""),
            (3, b"f", 1, "lock_day_cap"),
        ]
    ):
        tally = FileTally(tmp_path / "tally")
        assert refused(tally, round_, {hash_: amount}) == why, restart
        tally.close()
    assert (tmp_path / "tally").stat().st_mode & 0o777 == 0o600


def test_a_ladder_is_reserved_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """A refusal in the middle would lock half a ladder, which nobody could use."""
    tally = FileTally(tmp_path / "tally")
    assert refused(tally, 1, {b"a": 60, b"b": 60}) == "lock_round_cap"
    assert refused(tally, 1, {b"c": 100}) == ""
    tally.close()


def test_a_redelivered_ladder_counts_once_and_is_not_refused(tmp_path: Path) -> None:
    """Also where there is no room for anything else any more."""
    tally = FileTally(tmp_path / "tally")
    for _ in range(3):
        assert refused(tally, 1, {b"a": 50, b"b": 50}) == ""
    assert refused(tally, 1, {b"a": 50, b"c": 1}) == "lock_round_cap"
    tally.close()


def test_what_failed_makes_room_again(tmp_path: Path) -> None:
    """LND says that nothing left us."""
    tally = FileTally(tmp_path / "tally")
    assert refused(tally, 1, {b"a": 50, b"b": 50}) == ""
    tally.release([b"a", b"unknown"])
    assert refused(tally, 1, {b"c": 51}) == "lock_round_cap"
    assert refused(tally, 1, {b"c": 50}) == ""
    tally.close()


def test_a_day_is_over_after_a_day_and_a_round_is_not(tmp_path: Path) -> None:
    """What was sent in the round still counts for the round."""
    tally = FileTally(tmp_path / "tally")
    assert refused(tally, 1, {b"a": 100}) == ""
    later = NOW_MS + DAY_MS
    assert refused(tally, 2, {b"b": 51}, later - 1) == "lock_day_cap"
    assert refused(tally, 2, {b"b": 51}, later) == ""
    assert refused(tally, 1, {b"c": 1}, later) == "lock_round_cap"
    assert refused(tally, 1, {b"d": 1}, later + KEPT_MS) == ""
    tally.close()


def test_a_disk_that_takes_nothing_is_a_reason_not_to_send(tmp_path: Path) -> None:
    """What could not be remembered is not done."""
    tally = FileTally(tmp_path / "tally")
    tally.close()
    with pytest.raises(Unavailable, match="tally"):
        tally.reserve(1, {b"a": 1}, NOW_MS, allow, NOW_MS)
    with pytest.raises(Unavailable, match="tally"):
        tally.release([b"a"])


class Memory:
    """A node that knows some payments."""

    def __init__(self, **known: PaymentStatus) -> None:
        self.known = known

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """As the port."""
        status = self.known.get(payment_hash.decode())
        return None if status is None else PaymentView(payment_hash=payment_hash, status=status, amount_msat=0)


async def test_what_was_counted_and_never_sent_makes_room_again(tmp_path: Path) -> None:
    """The process died before it sent them. Not before LND can be believed, and never what may be out."""
    tally, clock = FileTally(tmp_path / "tally"), [NOW_MS]
    node = Memory(b=PaymentStatus.IN_FLIGHT, c=PaymentStatus.UNKNOWN, d=PaymentStatus.FAILED)
    invoicer = Invoicer(
        Config(), node, Silent(), FileCursor(tmp_path / "cursor"), tally, now_ms=lambda: clock[0]  # type: ignore[arg-type]  # what is not asked here is missing
    )  # fmt: skip
    assert refused(tally, 1, dict.fromkeys((b"a", b"b", b"c", b"d"), 25)) == ""
    clock[0] += 1_000 + UNSENT_MS
    await invoicer.look_for_unsent()
    assert refused(tally, 1, {b"e": 1}) == "lock_round_cap"
    clock[0] += 1
    await invoicer.look_for_unsent()
    assert refused(tally, 1, {b"f": 51}) == "lock_round_cap"
    assert tally.unconfirmed(clock[0], 9) == [b"c"]
    assert refused(tally, 1, {b"f": 50}) == ""
    tally.close()


ladders = st.lists(
    st.tuples(
        st.integers(1, 3), st.dictionaries(st.binary(min_size=1, max_size=1), st.integers(1, 90), min_size=1, max_size=4),
        st.integers(0, 2 * DAY_MS), st.booleans(),
    ),
    max_size=30,
)  # fmt: skip


@given(ladders)
@settings(max_examples=30, deadline=None)
def test_no_order_of_ladders_and_failures_goes_beyond_a_limit(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, dict[bytes, int], int, bool]]
) -> None:
    """A model that remembers everything agrees on each refusal."""
    tally = FileTally(tmp_path_factory.mktemp("tally") / "tally")
    known: dict[bytes, tuple[int, int, int]] = {}
    now_ms = NOW_MS
    for round_, amounts, later_ms, fails in history:
        now_ms += later_ms
        fresh = {hash_: msat for hash_, msat in amounts.items() if hash_ not in known}
        in_round = sum(msat for of, msat, _ in known.values() if of == round_)
        in_day = sum(msat for _, msat, at in known.values() if at > now_ms - DAY_MS)
        fits = in_round + sum(fresh.values()) <= ROUND_MAX and in_day + sum(fresh.values()) <= DAY_MAX
        assert (refused(tally, round_, amounts, now_ms) == "") == (fits or not fresh)
        if fits or not fresh:
            known |= {hash_: (round_, msat, now_ms) for hash_, msat in fresh.items()}
        if fails:
            gone = next(iter(amounts))
            known.pop(gone, None)
            tally.release([gone])
    tally.close()
