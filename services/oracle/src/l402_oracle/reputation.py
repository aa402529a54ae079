"""Who has fared well beside the others: one rating per peer, by OpenSkill's Plackett-Luce model. It knows no money.

It says who enters the aggregate where more updates were accepted than it takes, and nothing else: what a measured
gradient is paid does not depend on who sent it. beta and tau are Gauntlet's (https://arxiv.org/abs/2505.21684).
"""

from collections.abc import Mapping, Sequence

import msgspec
from openskill.models import PlackettLuce

_MODEL = PlackettLuce(beta=7.0, tau=0.1)


class Rating(msgspec.Struct, frozen=True):
    """How well a peer fares, and how sure that is. Everybody begins here."""

    mu: float = 25.0
    sigma: float = 25.0 / 3

    @property
    def ordinal(self) -> float:
        """What it very likely is at least; 0 for who is new."""
        return self.mu - 3 * self.sigma


NEW = Rating()


def after_round(before: Mapping[str, Rating], fared: Mapping[str, int]) -> dict[str, Rating]:
    """Every participant's rating after a round. `fared`: by peer, its measured drop; 0 where it was refused."""
    if len(fared) < 2:
        return {peer: before.get(peer, NEW) for peer in fared}
    peers = sorted(fared)
    teams = [[_MODEL.rating(mu=before.get(peer, NEW).mu, sigma=before.get(peer, NEW).sigma)] for peer in peers]
    rated = _MODEL.rate(teams, scores=[float(fared[peer]) for peer in peers])
    return {peer: Rating(mu=one[0].mu, sigma=one[0].sigma) for peer, one in zip(peers, rated, strict=True)}


def admitted(accepted: Sequence[tuple[str, str]], ratings: Mapping[str, Rating], places: int) -> tuple[str, ...]:
    """Commitments that enter the aggregate, in their order. `accepted`: (commitment, peer) in order of commitment.

    All of them while there are places; then the best reputed, of equals the first.
    """
    ranked = sorted(accepted, key=lambda one: -ratings.get(one[1], NEW).ordinal)  # stable: the first of equals
    chosen = {commitment for commitment, _ in ranked[:places]}
    return tuple(commitment for commitment, _ in accepted if commitment in chosen)
