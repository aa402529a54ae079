"""What each closed, undecided round waits for, so that it is read again once that has come, and not before.

It decides nothing about a round and reads no database: a restart has forgotten all of it, and looks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from l402_oracle.adapters.decisions import MEASURED, SCREENED, UPLOADED
from l402_oracle.attestor.case import Case, half_ms, heard_by_ms, judged_by_ms, lapses_at_ms, unoffered

LOCKED = "locked"
KINDS = (UPLOADED, SCREENED, LOCKED)
"""What a submission needs to be assessed, by the names of its fields."""
REST_MS = 10_000
"""Then a round is looked at whatever is known of it: while two of us run, the other may have taken what was said."""

Word = tuple[str, str]
"""Kind, and whose it is."""


@dataclass
class Waits:
    """Why nothing could be done about a round when it was looked at."""

    missing: set[Word]
    """It may move once all of these were heard."""
    one_is_enough: bool
    """Or all words about one submission: then whoever is there is judged without the others."""
    height: int | None
    """The block height at the look; another one may change what is waited for."""
    since_ms: int
    until_ms: int
    """From here on the time alone may move it."""

    def over(self, word: Word) -> bool:
        """Whether this word may move it. Each is waited for once."""
        if word not in self.missing:
            return False
        self.missing.discard(word)
        complete = not any((kind, word[1]) in self.missing for kind in KINDS)
        return not self.missing or (self.one_is_enough and complete)


def to_assess(case: Case, *, height: int | None, now_ms: int) -> Waits:
    """What a closed round waits for. Who hears of its offers, its closing or its yardstick looks at it anyway."""
    missing: set[Word] = set()
    if not unoffered(case) and not case.row.lapsed_at_ms:  # else only offers move it, or the time
        missing = {(kind, s.commitment) for s in case.uploaded for kind in KINDS if getattr(s, kind) is None}
    return Waits(missing, now_ms >= half_ms(case), height, now_ms, _next_ms(case, now_ms))


def to_decide(case: Case, open_: frozenset[str], *, height: int | None, now_ms: int) -> Waits:
    """What an assessed round waits for: `open_` of `case.unmeasured`, and a height where there is none."""
    return Waits({(MEASURED, name) for name in open_}, False, height, now_ms, _next_ms(case, now_ms))


def _next_ms(case: Case, now_ms: int) -> int:
    """The next moment at which something that is not there any more is waited for no longer."""
    deadlines = (half_ms(case), heard_by_ms(case), judged_by_ms(case), lapses_at_ms(case.terms), now_ms + REST_MS)
    return min(at_ms for at_ms in deadlines if at_ms > now_ms)


@dataclass(eq=False)
class Look:
    """One look at a round, while it lasts: what is heard meanwhile may be in what it read, or not."""

    news: set[Word] = field(default_factory=set)
    shaken: bool = False


class Patience:
    """Of each round, what it waits for. Who looks says so, and who hears something asks whether to look."""

    def __init__(self) -> None:
        self._waits: dict[int, Waits] = {}
        self._looks: dict[int, list[Look]] = {}

    def rests(self, number: int, *, height: int | None, now_ms: int) -> bool:
        """Whether looking at this round would find nothing to do."""
        waits = self._waits.get(number)
        return waits is not None and waits.since_ms <= now_ms < waits.until_ms and height == waits.height

    def is_looked_at(self, number: int) -> bool:
        """Whether somebody reads it right now, and does what can be done."""
        return number in self._looks

    def heard(self, number: int, word: Word) -> bool:
        """Whether to look at the round now that this was heard. Of which nothing is known, the timer looks at anyway."""
        for look in self._looks.get(number, []):
            look.news.add(word)
        waits = self._waits.get(number)
        return waits is not None and waits.over(word)

    def shaken(self, number: int) -> None:
        """Something came that is not one of a round's usual words: the timer looks at it next."""
        self._waits.pop(number, None)
        for look in self._looks.get(number, []):
            look.shaken = True

    @contextmanager
    def looking(self, number: int) -> Iterator[Look]:
        """While somebody reads the round and does what can be done."""
        look = Look()
        self._waits.pop(number, None)
        self._looks.setdefault(number, []).append(look)
        try:
            yield look
        finally:
            self._looks[number].remove(look)
            if not self._looks[number]:
                del self._looks[number]

    def rest(self, number: int, look: Look, waits: Waits) -> bool:
        """From here on it waits; False where what came during the look may move it: then it is read again."""
        moved = [waits.over(word) for word in look.news]
        look.news.clear()
        if any(moved):
            return False
        if not look.shaken:
            self._waits[number] = waits
        return True
