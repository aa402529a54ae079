"""What must hold when all is quiet, and what keeps it from being so. It looks at everything, once."""

from pathlib import Path

import msgspec
from l402_peer_agent.outcome import Outcome
from l402_settler.ledger import LIGHTNING, UNCLAIMED
from l402_settler.sponsor_steps import UNANSWERED
from l402_settler.tranches import UNJUDGED
from lndsim.network import Network
from lndsim.payment import PaymentStatus

from tests.simulation.broker import Broker
from tests.simulation.cast import BEHAVED, Manner
from tests.simulation.faults import Kind, blocks
from tests.simulation.invariants import Steps, Wrong
from tests.simulation.peers import Peer
from tests.simulation.services import COORDINATOR
from tests.simulation.sponsor import SPONSOR
from tests.simulation.world import World

ALARMS = frozenset({"escrow.frozen", "ledger.contradiction", "ledger.routing"})
"""Never in a world where lnd tells the truth, but for a freeze on an operator's order (`silence` tells them apart)."""

SILENT = (UNANSWERED, UNJUDGED)
"""Minutes after its round, or its pledge: so long no fault of ours keeps what the books say again from the oracle."""
ASKED = """select sponsorship from sponsorships where state = 'asked'
union select payment_hash from tranches where state in ('minting', 'minted')"""
"""Sponsorships and tranches of which somebody else has the next word."""
STALE = "attestor-offer-make"
"""Asked by a settler that had not heard of a burst of blocks: refused, and asked again with later deadlines."""
CONTRADICTED = ("attestor-round-closed", "attestor-gradient-screened", "attestor-escrow-locked")
"""What a round was frozen at: it cannot be taken, and the oracle's operator is woken by it."""
JUDGED = "select round || ' ' || state from rounds where state in ('assessed', 'decided')"


HURRY_BLOCKS = 12
"""Where more are mined in bursts, the time to reveal or to collect may be over: then what is decided may be forfeited."""


class Quiet:
    """The end of a history."""

    def __init__(self, world: World, network: Network, broker: Broker, steps: Steps, peers: list[Peer]) -> None:
        self._world, self._network, self._broker, self._steps, self._peers = world, network, broker, steps, peers

    def unrest(self) -> str:
        """What is still to come; '' where nothing is."""
        books, decided = self._steps.books, self._steps.decided
        for what, found in (
            ("somebody has to start", sorted(self._world.waiting_to_start)),
            ("somebody plays", [peer.part.name for peer in self._peers if self._plays(peer)]),
            ("a message is on its way", self._broker.unheard()),
            ("an outbox is full", [*_all(books, "select subject from outbox"), *_all(decided, "select subject from outbox")]),
            ("rungs are open", _all(books, "select payment_hash from rungs where state in ('registered', 'in flight')")),
            ("rungs are out at lnd", [
                f"{node.name} {payment.terms.payment_hash.hex()[:8]}"
                for node in self._network.nodes.values() for payment in node.unfinished()
            ]),
            ("an operator waits", ["a thaw"] * self._steps.orders()),
            ("a lock is pending", sorted(self._steps.pending)),
            ("an escrow is open", self._open_escrows()),
            ("a round is judged", _all(decided, JUDGED)),
            ("a round turns", self._turning()),
            ("a fee is not booked", self._unbooked()),
            ("a sponsor waits", _all(books, ASKED)),
        ):  # fmt: skip
            if found:
                return f"{what}: {', '.join(found[:3])}"
        return ""

    def _open_escrows(self) -> list[str]:
        """What has not ended; a debt to a peer that took its node along waits in the books until it comes back."""
        gone = {
            peer.keys.identity.public for peer in self._peers if peer.part.manner is Manner.LEAVES_THE_NETWORK
        }  # fmt: skip
        query = "select commitment, state, peer from submissions where state <> 'ended'"
        rows = self._steps.books.execute(query).fetchall()
        return [f"{row[0][:8]} {row[1]}" for row in rows if not (row[1] == "owed" and row[2] in gone)]

    def _plays(self, peer: Peer) -> bool:
        process = self._world.processes[peer.part.name]
        return process.alive and peer.part.name not in self._world.ended

    def _turning(self) -> list[str]:
        """Rounds that the settler has not closed, or the attestor not decided."""
        return _all(self._steps.books, "select round || ' ' || phase from rounds where phase <> 'done'")

    def _unbooked(self) -> list[str]:
        """Fees that were paid and whose message was lost: the settler's next look at the node's list finds them."""
        booked = set(_all(self._steps.books, "select payment_hash from fees"))
        paid = (one.payment_hash.hex() for one in self._network.nodes[COORDINATOR].settled if not one.hold)
        return [hash_[:8] for hash_ in paid if hash_ not in booked]

    def wrong(self) -> str:
        """What does not hold in the end; '' where all does."""
        try:
            self._check_books()
            self._check_fees()
            self._check_node()
            for peer in self._peers:
                self._check_peer(peer)
            self._check_sponsor()
            self._check_alarms()
        except Wrong as wrong:
            return str(wrong)
        return ""

    def _check_books(self) -> None:
        steps = self._steps
        _must(not steps.pending, f"{len(steps.pending)} locks are pending")
        for account, amount in steps.balances.items():
            if account.startswith("peer:"):
                _must(amount == 0, f"{account[:13]} is at {amount} msat")
            _must(not account.startswith("owed:") or amount >= 0, f"{account[:13]} is at {amount} msat")
        frozen = _all(steps.decided, "select round || ': ' || trouble from rounds where state = 'frozen'")
        _must(not frozen, f"a round is frozen: {frozen[:1]}")

    def _check_fees(self) -> None:
        """Every paid fee is in the books once, and those that nobody presented are unclaimed."""
        books = self._steps.books
        booked = dict(books.execute("select payment_hash, amount_msat from fees").fetchall())
        node = self._network.nodes[COORDINATOR]
        settled = {one.payment_hash.hex(): one.paid_msat for one in node.settled if not one.hold}
        _must(booked == settled, f"{len(booked)} fees are in the books, and {len(settled)} were paid")
        presented = set(_all(books, "select payment_hash from tokens"))
        unclaimed = sum(amount for hash_, amount in booked.items() if hash_ not in presented)
        balance = self._steps.balances[UNCLAIMED]
        _must(balance == unclaimed, f"{UNCLAIMED} is at {balance} msat, and nobody presented {unclaimed}")

    def _check_node(self) -> None:
        """What our node has is what the books say, and SUCCEEDED is what is posted."""
        network, steps = self._network, self._steps
        _must(network.total_msat() == network.minted_msat, "money was made or lost on the network")
        node = network.nodes[COORDINATOR]
        paid = {hash_.hex() for hash_, one in node.payments.items() if one.status is PaymentStatus.SUCCEEDED}
        posted = {hash_ for hash_, phase in steps.ends.items() if phase == "post"}
        _must(paid == posted, f"lnd has paid {len(paid)} rungs, and the books {len(posted)}")
        has, books_say = balance_of(network, COORDINATOR), -steps.balances[LIGHTNING]
        _must(has == books_say, f"our node has {has} msat, and the books say {books_say}")

    def _check_peer(self, peer: Peer) -> None:
        """What it holds for paid and earned is what its node has; who behaved has all that was decided."""
        name, network = peer.part.name, self._network
        node = network.nodes[name]
        change = balance_of(network, name) - peer.brought_msat
        fees = sum(
            one.terms.amount_msat + one.attempts[-1].fee_msat
            for one in node.payments.values() if one.status is PaymentStatus.SUCCEEDED
        )  # fmt: skip
        rewards = sum(one.paid_msat for one in node.settled)
        _must(change == rewards - fees, f"{name} has {change} msat more, and earned {rewards} less {fees}")
        if peer.part.manner not in BEHAVED:
            return
        told = {outcome.round: outcome.reward_msat for outcome in outcomes(peer.lines)}
        _must(sum(told.values()) == rewards, f"{name} believes to have {told}, its node got {rewards} msat")
        journal = peer.journal._db.execute(
            "select coalesce(sum(amount_msat), 0) from payments where status = 'settled'"
        )
        asked = sum(one.terms.amount_msat for one in node.payments.values() if one.status is PaymentStatus.SUCCEEDED)
        _must(journal.fetchone()[0] == asked, f"{name}'s journal knows of other fees than its node")
        due = self._decided(peer.keys.identity.public)
        self._check_bought(peer)
        owed = self._steps.balances[f"owed:{peer.keys.identity.public}"]
        lost = self._forfeited(peer.keys.identity.public)
        account = f"{name} was paid {rewards} msat, is owed {owed} and has forfeited {lost}, and {due} were decided"
        _must(rewards + owed + lost == due, account)
        if not self._hurried():
            _must(due == rewards, f"{name} behaved, {due} msat were decided, and it was paid {rewards}")

    def _check_bought(self, peer: Peer) -> None:
        """Each fee that it paid was presented, unless its round was over by then."""
        paid = _all(peer.journal._db, "select payment_hash from payments where status = 'settled'")
        mine = [one.terms.payment_hash.hex() for one in self._network.nodes[peer.part.name].payments.values()
                if one.status is PaymentStatus.SUCCEEDED]  # fmt: skip
        presented = set(_all(self._steps.books, "select payment_hash from tokens"))
        over = sum(outcome.verdict in ("missed", "unread") for outcome in outcomes(peer.lines))
        lost = [hash_ for hash_ in {*paid, *mine} if hash_ not in presented]
        _must(len(lost) <= over, f"{peer.part.name} paid {len(lost)} fees for nothing, and missed {over} rounds")

    def _decided(self, public: str) -> int:
        """What the attestor decided for this peer, msat."""
        bodies = _all(self._steps.decided, "select body from decisions")
        decided = [msgspec.json.decode(body, type=_Decided) for body in bodies]
        return sum(one.reward_msat for one in decided if one.peer == public)

    def _forfeited(self, public: str) -> int:
        """What was revealed to this peer and never collected, msat."""
        query = "select coalesce(sum(amount_msat), 0) from transfers where kind = 'forfeit' and debit = ?"
        return int(self._steps.books.execute(query, (f"peer:{public}",)).fetchone()[0])

    def _check_sponsor(self) -> None:
        """What left its node for good is what the books say that it paid, and the oracle was never thought silent."""
        node = self._network.nodes.get(SPONSOR)
        paid = [one for one in node.payments.values() if one.status is PaymentStatus.SUCCEEDED] if node else []
        booked = sum(amount for account, amount in self._steps.balances.items() if account.startswith("sponsors:"))
        given = sum(one.terms.amount_msat for one in paid)
        _must(given == booked, f"the sponsor paid {given} msat, and the books say {booked}")
        told = "select reason from sponsorships union select reason from tranches"
        silent = [reason for reason in _all(self._steps.books, told) if reason in SILENT]
        _must(not silent or self._lost_seed(), f"a tranche came to nothing: {silent[:1]}")

    def _check_alarms(self) -> None:
        alarms = [alarm for alarm in self._world.alarms if alarm in ALARMS]
        _must(not alarms, f"alarm: {', '.join(sorted(set(alarms)))}")
        known = [STALE] * self._hurried() + [*CONTRADICTED] * self._lost_seed()
        dead = [one for one in self._broker.dead if not one.startswith(tuple(known))]
        _must(not dead, f"dead letters: {', '.join(dead[:3])}")

    def _lost_seed(self) -> bool:
        return any(fault.kind is Kind.SEED_LOST for fault in self._world.plan.faults)

    def _hurried(self) -> bool:
        return blocks(self._world.plan.faults) > HURRY_BLOCKS


class _Decided(msgspec.Struct):
    peer: str
    reward_msat: int


def balance_of(network: Network, name: str) -> int:
    """All that a node has, msat: in its channels and in its wallet."""
    node = network.nodes[name]
    channels = network.switch.channels.values()
    return node.wallet_msat + sum(one.balances[node.pubkey] for one in channels if node.pubkey in one.ends)


def outcomes(path: Path) -> list[Outcome]:
    """A peer's own lines."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Outcome) for line in lines]


def _all(connection: object, query: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(query).fetchall()]  # type: ignore[attr-defined]


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)
