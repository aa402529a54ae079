"""Who did not train on the data that the terms assigned to it. Pure; it knows no tensor and no money.

An update lowers the loss on the very windows it was trained on by more than on hidden ones; a copy, another's work, or
training on the hidden pool itself does not. By how many standard errors more is an update's excess. It grows as the model
learns: on a random model honest peers show 0 to 4, once warmed up 5 to 10, work from elsewhere -2 to 2 at any time. The
question is therefore a test whose false refusals are bounded first: how many cheats it finds follows from the round.
"""

import math
import statistics
from collections.abc import Mapping

import msgspec
from l402core.events import GradientMeasured

from l402_oracle.scoring import Reason

SHARE = 0.5
"""Of the excess that the yardstick shows: honest work is taken to show at least so much, whatever its steps and rate."""
FALSE_REFUSAL_SIGMAS = 3.09
"""One in a thousand who show exactly that share is refused; of those who show what the yardstick shows, far fewer."""
PART = 0.25
"""Nobody is refused who shows more than this part, however sure the test is: honest peers who make few steps show little."""


class Tried(msgspec.Struct, frozen=True):
    """One improvement's mean drops, nano-nats: on hidden shards, and on assigned data; and by how much that is more."""

    hidden_mean: int
    own_mean: int
    excess_milli: int
    """In thousandths of the difference's standard error."""

    @property
    def excess(self) -> float:
        """In standard errors."""
        return self.excess_milli / 1000


class Question(msgspec.Struct, frozen=True):
    """What one round asks of everybody's assigned data."""

    usual: float
    """The excess that the yardstick shows; without one, the median of the round's improvements."""

    @property
    def least(self) -> float:
        """Whoever shows less is refused. Both excesses are differences over their own standard error: each errs by one."""
        error = FALSE_REFUSAL_SIGMAS * math.hypot(1.0, SHARE)
        return min(PART * self.usual, SHARE * self.usual - error)

    @property
    def can_tell(self) -> bool:
        """Whether most work from elsewhere would be refused: it shows no excess, in the mean."""
        return self.least > 0


def tried(measured: GradientMeasured) -> Tried | None:
    """None where it was not tried on its assigned data."""
    if measured.failure or not measured.own_sequences:
        return None
    return Tried(measured.drop_mean, measured.own_mean, measured.own_excess_milli)


def question(improvements: Mapping[str, Tried], yardstick: Tried | None = None) -> Question | None:
    """Of a whole round; no submission moves it where there is a yardstick. None where there is nothing to go by."""
    if yardstick:
        return Question(yardstick.excess)
    found = [one.excess for one in improvements.values()]
    return Question(statistics.median_low(found)) if found else None


def not_own_data(improvements: Mapping[str, Tried], asked: Question | None) -> dict[str, Reason]:
    """By commitment: those whose assigned data does not show in their work."""
    if asked is None:
        return {}
    refused = {commitment: one for commitment, one in improvements.items() if one.excess < asked.least}
    return {commitment: Reason("not_own_data", _refusal(one, asked)) for commitment, one in refused.items()}


def answer(one: Tried, asked: Question) -> str:
    """What was seen of who was not refused, for a receipt: also whether that says anything."""
    telling = "" if asked.can_tell else "; this round cannot tell who trained elsewhere"
    return f"On its assigned data: {shown(one)}, {_limit(asked)}{telling}."


def shown(one: Tried) -> str:
    """What was seen."""
    own, hidden = one.own_mean / 1e9, one.hidden_mean / 1e9
    lowers = f"it lowers the loss there by {own:.4f} and on hidden shards by {hidden:.4f} nats per token"
    return f"{lowers}: {one.excess:+.1f} standard errors"


def _refusal(one: Tried, asked: Question) -> str:
    return f"It was not trained on the data it was assigned: {shown(one)}, {_limit(asked)}."


def _limit(asked: Question) -> str:
    return f"where honest work shows {asked.usual:+.1f} and less than {asked.least:+.1f} is refused"
