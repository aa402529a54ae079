"""The rounds beside the one that is verified: their public records, and what one round must take over from another.

It fetches nothing itself and looks at no tensor; what is not at hand is said, never taken for granted.
"""

from collections.abc import Callable, Iterator

from l402core.evidence import Evidence

from l402train.verifying import Finding, Opened, opened

Read = Callable[[int], Evidence | None]
"""A round's public record by its number; None where it is not at hand."""


class Neighbours:
    """The rounds around one, opened with its keys. Whose signatures do not hold is not there."""

    def __init__(self, found: Opened, read: Read) -> None:
        self._found, self._read = found, read
        self._opened: dict[int, Opened | None] = {}

    def at(self, number: int) -> Opened | None:
        """The round of this number, or None."""
        if number < 1:
            return None
        if number not in self._opened:
            evidence, terms = self._read(number), self._found.terms
            self._opened[number] = (
                opened(evidence, settler=terms.settler, attestor=terms.attestor)[0] if evidence else None
            )
        return self._opened[number]

    def before(self, count: int) -> tuple[Opened, ...] | None:
        """Up to so many rounds before, oldest first; None where one of them is not at hand."""
        number = self._found.terms.round
        rounds = [self.at(each) for each in range(max(1, number - count), number)]
        return tuple(one for one in rounds if one) if all(rounds) else None

    def following(self) -> Opened | None:
        """The round after."""
        return self.at(self._found.terms.round + 1)

    def findings(self) -> Iterator[Finding]:
        """What this round's terms and yardstick say of the round before is what that round's page says."""
        number, terms, own = self._found.terms.round, self._found.terms, self._found.judged.yardstick
        if number == 1:
            first = (terms.reference_previous, own.state if own else "") == (0, "")
            yield Finding(check="nothing is taken over by the first round", agrees=first)
            return
        earlier = self.at(number - 1)
        if earlier is None:
            yield Finding(check="the round before", agrees=None, detail=f"round {number - 1} is not at hand")
            return
        said, was = terms.reference_previous, earlier.judged.reference
        yield Finding(
            check="the last round's reference", agrees=said == was, detail=f"the terms say {said}, it was {was}"
        )
        if own is not None and earlier.judged.yardstick is not None:
            same = own.state == earlier.judged.yardstick.next_state
            yield Finding(check="the memory that the last yardstick left", agrees=same)
