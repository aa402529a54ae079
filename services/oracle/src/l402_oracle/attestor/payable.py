"""What may be judged at all: that of which the preimages could leave in this moment, in a round that has not lapsed.

A gradient is shown to everybody once it is judged, so it must be payable by then. Pure: height and time are arguments.
"""

from collections.abc import Mapping, Sequence

import msgspec

from l402_oracle.attestor.judgement import Submission
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_oracle.scoring import Reason

CREDITED = "its fee is credited."
LAPSED = Reason("not_in_time", f"The oracle had not decided by the last moment at which it may; {CREDITED}")
UNLOCKED = Reason(
    "not_locked",
    f"No signed word came that its reward is locked, and only what is locked is judged; {CREDITED}",
)


def unpayable(
    submissions: Sequence[Submission], height: int | None, margin_blocks: int, *, lapsed: bool = False
) -> Mapping[str, Reason]:
    """By commitment: why nothing of it is judged or published. Who is not in it could be paid now, as far as is known."""
    found = {one.commitment: LAPSED if lapsed else _why(one, height, margin_blocks) for one in submissions}
    return {commitment: reason for commitment, reason in found.items() if reason is not None}


def without(submissions: Sequence[Submission], unpaid: Mapping[str, Reason]) -> tuple[Submission, ...]:
    """The same, where what cannot be paid counts for nothing beside the others: as if it had not been measured."""
    return tuple(
        msgspec.structs.replace(one, measured=None) if one.commitment in unpaid else one for one in submissions
    )


def _why(submission: Submission, height: int | None, margin_blocks: int) -> Reason | None:
    offer, locked = submission.offer, submission.locked
    if locked is None:
        return UNLOCKED
    if may_reveal(offer, locked, height, margin_blocks) is not Reveal.NEVER:
        return None
    last = min(locked.expiry_height - margin_blocks - 1, offer.reveal_by_height)
    return Reason(
        "not_payable",
        f"At height {height} its rungs could not be revealed any more: by the settler's signed word they expire at "
        f"{locked.expiry_height}, and {last} was the last height; {CREDITED}",
    )
