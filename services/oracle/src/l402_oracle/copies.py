"""Which uploads of a round repeat earlier works, of this round or of some before it. It knows no money."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from l402_oracle.mixtures import cover
from l402_oracle.similarity import Duplicate, Sketch, duplicates, likeness

ROUNDS_BACK = 4
"""Earlier rounds whose works are compared as well: what is older is worth little at a checkpoint so much further on."""
OWN_OVERLAP_LIMIT = 0.9
"""A peer's own last update may look like its next one; sent again it is the same one."""


@dataclass(frozen=True)
class Work:
    """One sketched upload."""

    commitment: str
    peer: str
    sketch: Sketch


def find_copies(round_works: Sequence[Work], earlier_rounds: Sequence[Work]) -> dict[str, Duplicate]:
    """Commitment → the earlier work that it repeats; `round_works` in order of commitment."""
    found = duplicates([(work.commitment, work.sketch) for work in round_works])
    for work in round_works:
        if work.commitment not in found and (copy := _of_earlier_rounds(work, earlier_rounds)):
            found[work.commitment] = copy
    return {**_mixtures(round_works, earlier_rounds, known=found.keys()), **found}


def _of_earlier_rounds(work: Work, earlier_rounds: Sequence[Work]) -> Duplicate | None:
    for old in earlier_rounds:
        if old.sketch.chunks != work.sketch.chunks:
            continue
        how = likeness(work.sketch, old.sketch)
        if how.overlap >= OWN_OVERLAP_LIMIT if old.peer == work.peer else how.is_duplicate:
            return Duplicate(old.commitment, how)
    return None


def _mixtures(
    round_works: Sequence[Work], earlier_rounds: Sequence[Work], *, known: Collection[str]
) -> dict[str, Duplicate]:
    """Works that are patched together of others' earlier ones. A peer's own are left out: it may go on where it was.

    What is known for a copy need not be looked at: each look goes through every earlier work.
    """
    found: dict[str, Duplicate] = {}
    for place, work in enumerate(round_works):
        if work.commitment in known:
            continue
        earlier = [*earlier_rounds, *round_works[:place]]
        others = [w for w in earlier if w.peer != work.peer and w.sketch.chunks == work.sketch.chunks]
        seen = cover(work.sketch, [other.sketch for other in others])
        if seen.is_mixture:
            pairs = [(other.commitment, likeness(work.sketch, other.sketch)) for other in others]
            earliest, how = max(pairs, key=lambda pair: pair[1].overlap)
            found[work.commitment] = Duplicate(earliest, how, seen.actual)
    return found
