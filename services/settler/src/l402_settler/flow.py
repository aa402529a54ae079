"""What flowed between us and each payout node, from the books. It knows no channel, and believes no node."""

from collections.abc import Iterable

import msgspec
from l402core.documents import Statement
from l402core.escrow import Escrow
from l402core.events import NodeFlow, RoundFlow
from l402core.outbox import Transaction
from l402core.signing import Signed

from l402_settler.adapters import books
from l402_settler.rounds import DONE

ROUNDS_TOLD = 16
"""So many rounds are told one by one; those before are in the sums."""


class Flows(msgspec.Struct, frozen=True):
    """Sums up to and without `next_round`, whose submissions are not all over."""

    next_round: int = 0
    fees: frozenset[str] = frozenset()
    """Payment hashes counted: a fee that became a credit and was spent again came in once."""
    nodes: dict[str, NodeFlow] = {}


def read(tx: Transaction, over: Flows) -> tuple[Flows, dict[str, NodeFlow]]:
    """Flow by node now, and the sums up to the first round that is not over, for the next time.

    Only rounds from `over.next_round` on are read, so that it costs no more as the books grow.
    """
    now, all_over = over, True
    for row in books.rounds_since(tx, over.next_round):
        submissions = books.submissions_of(tx, row.round)
        paid = books.collected_of(tx, row.round)
        fees, nodes = set(now.fees), dict(now.nodes)
        for one in submissions:
            signed = msgspec.json.decode(one.statement, type=Signed)
            node = msgspec.json.decode(signed.body, type=Statement).payout_node
            came_in = one.fee_msat if one.payment_hash not in fees else 0
            fees.add(one.payment_hash)
            nodes[node] = _with(nodes.get(node), node, row.round, came_in, paid.get(one.commitment, 0))
        now = Flows(row.round + 1, frozenset(fees), nodes)
        all_over = all_over and row.phase == DONE and all(one.state == Escrow.ENDED for one in submissions)
        over = now if all_over else over
    return over, now.nodes


def _with(known: NodeFlow | None, node: str, round_: int, fees_msat: int, rewards_msat: int) -> NodeFlow:
    line = RoundFlow(round=round_, fees_msat=fees_msat, rewards_msat=rewards_msat)
    return together(node, (*((known,) if known else ()), _alone(node, line)))


def _alone(node: str, line: RoundFlow) -> NodeFlow:
    return NodeFlow(node=node, fees_msat=line.fees_msat, rewards_msat=line.rewards_msat, rounds=(line,))


def together(node: str, flows: Iterable[NodeFlow]) -> NodeFlow:
    """The sums of all of them, under one name."""
    rounds: dict[int, RoundFlow] = {}
    fees_msat = rewards_msat = 0
    for flow in flows:
        fees_msat, rewards_msat = fees_msat + flow.fees_msat, rewards_msat + flow.rewards_msat
        for one in flow.rounds:
            known = rounds.get(one.round, RoundFlow(round=one.round))
            rounds[one.round] = RoundFlow(
                round=one.round,
                fees_msat=known.fees_msat + one.fees_msat,
                rewards_msat=known.rewards_msat + one.rewards_msat,
            )
    newest = tuple(rounds[number] for number in sorted(rounds)[-ROUNDS_TOLD:])
    return NodeFlow(node=node, fees_msat=fees_msat, rewards_msat=rewards_msat, rounds=newest)
