"""Which uploads of a round repeat earlier works, of this round or of some before it. It knows no money."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l402_oracle.mixtures import cover
from l402_oracle.postings import Meeting, Postings
from l402_oracle.similarity import Duplicate, Sketch, likeness

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
    """Commitment → the earlier work that it repeats; `round_works` in order of commitment.

    An earlier duplicate still counts as an earlier work, so a chain of small changes leads nowhere. Raises ValueError
    where sketches of the round do not compare; those of another model in earlier rounds are left out.
    """
    if not round_works:
        return {}
    old = [work for work in earlier_rounds if work.sketch.chunks == round_works[0].sketch.chunks]
    known = [*old, *round_works]
    postings = Postings([work.sketch for work in known])
    found: dict[str, Duplicate] = {}
    for place, work in enumerate(round_works, start=len(old)):
        meeting, before = postings.meet(place), np.arange(len(known)) < place
        near = np.flatnonzero(meeting.near() & before)
        copy = (
            _of_this_round(work, [known[n] for n in near if n >= len(old)])
            or _of_earlier_rounds(work, [known[n] for n in near if n < len(old)])
            or _mixture(work, known, meeting, before)
        )
        if copy:
            found[work.commitment] = copy
    return found


def _of_this_round(work: Work, near: Sequence[Work]) -> Duplicate | None:
    """The one that it is most like."""
    pairs = [(one.commitment, likeness(work.sketch, one.sketch)) for one in near]
    alike = [(earlier, how) for earlier, how in pairs if how.is_duplicate]
    return Duplicate(*max(alike, key=lambda pair: max(pair[1].overlap, pair[1].cosine))) if alike else None


def _of_earlier_rounds(work: Work, near: Sequence[Work]) -> Duplicate | None:
    """The first that it repeats."""
    for old in near:
        how = likeness(work.sketch, old.sketch)
        if how.overlap >= OWN_OVERLAP_LIMIT if old.peer == work.peer else how.is_duplicate:
            return Duplicate(old.commitment, how)
    return None


def _mixture(work: Work, known: Sequence[Work], meeting: Meeting, before: NDArray[np.bool_]) -> Duplicate | None:
    """Patched together of others' earlier ones. A peer's own are left out: it may go on where it was."""
    others = before & np.array([one.peer != work.peer for one in known])
    seen = cover(*meeting.held(others))
    if not seen.is_mixture:
        return None
    pairs = [(known[n].commitment, likeness(work.sketch, known[n].sketch)) for n in meeting.most_overlapping(others)]
    earliest, how = max(pairs, key=lambda pair: pair[1].overlap)
    return Duplicate(earliest, how, seen.actual)
