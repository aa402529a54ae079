"""Which uploads of a round repeat an earlier work, in this round or the one before. It knows no money."""

from collections.abc import Sequence
from dataclasses import dataclass

from l402_oracle.similarity import Duplicate, Sketch, duplicates, likeness

OWN_OVERLAP_LIMIT = 0.9
"""A peer's own last update may look like its next one; sent again it is the same one."""


@dataclass(frozen=True)
class Work:
    """One sketched upload."""

    commitment: str
    peer: str
    sketch: Sketch


def find_copies(round_works: Sequence[Work], last_round: Sequence[Work]) -> dict[str, Duplicate]:
    """Commitment → the earlier work that it repeats; `round_works` in order of commitment."""
    found = duplicates([(work.commitment, work.sketch) for work in round_works])
    for work in round_works:
        if work.commitment not in found and (copy := _of_last_round(work, last_round)):
            found[work.commitment] = copy
    return found


def _of_last_round(work: Work, last_round: Sequence[Work]) -> Duplicate | None:
    for old in last_round:
        if old.sketch.chunks != work.sketch.chunks:
            continue
        how = likeness(work.sketch, old.sketch)
        if how.overlap >= OWN_OVERLAP_LIMIT if old.peer == work.peer else how.is_duplicate:
            return Duplicate(old.commitment, how)
    return None
