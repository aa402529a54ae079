"""What the attacks came to, as lines for people, and what was promised and did not hold. Pure."""

from collections import Counter
from collections.abc import Sequence

from l402_peer_agent.adversaries.names import ADVERSARIES, HOLD_WORK

from tests.attacks.runs import HONEST, Ran, Told

PAY_CHANGE_MAX, LOSS_CHANGE_MAX = 0.05, 0.02
"""How far attacks may move honest peers' pay and the final loss."""


def lines(ran: Sequence[Ran]) -> list[str]:
    """Two tables in Markdown: the attacks' money, and what the honest peers beside them had of it."""
    made = [
        "| attack | identities | rounds | fees, sat | pay | net | an honest peer beside it | decided by |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    made += [_attack(told, one) for one in ran for told in one.told]
    made += [
        "",
        "| run | honest pay | without the attacks | change | final loss | change |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    made += [_run(one, _alone(ran, len(one.honest_msat))) for one in ran]
    return made


def broken(ran: Sequence[Ran]) -> list[str]:
    """Every promise that did not hold, a sentence each. Beside others who work, pay moves with the round's reference."""
    found = []
    for one in ran:
        alone = _alone(ran, len(one.honest_msat))
        for told in one.told:
            found += _broken_by(told, one)
        working = one.told and all(told.kind in HOLD_WORK for told in one.told)
        if abs(one.honest_change) >= PAY_CHANGE_MAX and not working:
            found.append(f"{one.name}: honest pay changed by {one.honest_change:+.1%}")
        if alone and (one.losses[-1] / alone - 1) >= LOSS_CHANGE_MAX:
            found.append(
                f"{one.name}: the final loss is {one.losses[-1] / alone - 1:+.1%} of what it is without attacks"
            )
    return found


def covered(ran: Sequence[Ran]) -> str:
    """What was played, and what was not."""
    played = {told.kind for one in ran for told in one.told}
    rounds = sorted({len(one.honest_msat) for one in ran})
    spread = f"{rounds[0]} round{'s' * (rounds[0] > 1)}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]} rounds"
    left = [kind for kind in ADVERSARIES if kind not in played]
    without = f"; not played: {', '.join(left)}" if left else ""
    return f"{len(played)} of {len(ADVERSARIES)} attacks, {spread} each, beside {len(HONEST)} honest peers{without}"


def _alone(ran: Sequence[Ran], rounds: int) -> float | None:
    """The loss that honest peers reach alone in so many rounds; None where nobody played that."""
    return next((one.losses[rounds] for one in ran if not one.told and len(one.losses) > rounds), None)


def _broken_by(told: Told, beside: Ran) -> list[str]:
    if told.identities > 1 and told.net_msat > max(beside.honest_net_msat, 0):
        return [f"{told.kind}: {told.identities} identities earned {told.net_msat} msat, more than one honest peer"]
    if told.identities == 1 and told.kind not in HOLD_WORK and told.net_msat > 0:
        return [f"{told.kind} was paid {told.net_msat} msat more than its fees"]
    return []


def _attack(told: Told, beside: Ran) -> str:
    decided = ", ".join(f"{count} {code}" for code, count in Counter(told.verdicts).most_common())
    money = [f"{value / 1000:,.0f}" for value in (told.fees_msat, told.paid_msat)]
    cells = [
        told.kind,
        str(told.identities),
        str(len(beside.honest_msat)),
        *money,
        _signed(told.net_msat),
        _signed(beside.honest_net_msat),
        decided,
    ]
    return f"| {' | '.join(cells)} |"


def _run(one: Ran, alone: float | None) -> str:
    against = f"{one.losses[-1] / alone - 1:+.2%}" if alone else ""
    cells = [
        f"{one.name} ({len(HONEST)} honest, {sum(told.identities for told in one.told)} others)",
        f"{sum(one.honest_msat) / 1000:,.0f}", f"{sum(one.alone_msat) / 1000:,.0f}", f"{one.honest_change:+.1%}",
        f"{one.losses[-1]:.4f}", against,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _signed(msat: int) -> str:
    return f"{msat / 1000:+,.0f}"
