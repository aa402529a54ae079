"""What must hold after every step: the books, the decisions and the nodes held against one another, by what is new.

It reads them as they lie on disk, knows what no service knows (both ends of every payment), and changes nothing.
"""

import hashlib
from collections import Counter
from typing import TypeVar

import msgspec
from l402_settler.ledger import EARNED
from l402core.documents import Locked, Offer, Receipt, mask_indices
from l402core.events import GradientScored
from l402core.sealing import UnsealingKey
from l402core.signing import Signed
from lndsim.invoice import Invoice, InvoiceState
from lndsim.network import Network
from lndsim.node import Node
from lndsim.payment import Payment, PaymentStatus

from tests.simulation.disk import Disk
from tests.simulation.services import COORDINATOR, EXPIRY_MARGIN, Coordinator
from tests.simulation.waiting import Knobs, Waiting

T = TypeVar("T")
LINE = "rowid, id, kind, phase, pending_id, debit, credit, amount_msat, commitment"
LAST_NOTE = "select action, at_ms from freezes where about = ? order by id desc limit 1"
PLACELESS = ("failed", "ended")


class Wrong(Exception):
    """An invariant does not hold."""


class _Told(msgspec.Struct, frozen=True):
    """What of a decision may never change, whichever of its offers it is told with."""

    mask: int
    reward_msat: int
    verdict: str
    receipt: Signed


class Steps:
    """Checked after each effect. Every row and every payment is looked at when it is new, so a step costs the same."""

    def __init__(
        self, books: Disk, decisions: Disk, network: Network, coordinator: Coordinator, keys: dict[str, UnsealingKey]
    ) -> None:
        self.books, self.decided, self.network = books.raw, decisions.raw, network
        self._coordinator, self._keys = coordinator, keys
        self.balances: Counter[str] = Counter()
        """Posted credits less debits, by account."""
        self.pending: dict[str, int] = {}
        """Locks that have not ended: payment hash to msat."""
        self.ends: dict[str, str] = {}
        """Payment hash to post or void."""
        self.masks: dict[str, tuple[int, str]] = {}
        """Commitment to the one decision's mask and its text."""
        self.begun: Counter[str] = Counter()
        """Payments of the coordinator's node, by hash."""
        self.revealed: dict[str, int] = {}
        """Commitment to the one offer whose preimages left the attestor."""
        self.waiting = Waiting(self.books, _knobs(coordinator))
        """What is open, and whose move it is."""
        self._scored: dict[str, _Told] = {}
        self._paid: set[tuple[str, int]] = set()
        self._changed: list[tuple[str, PaymentStatus]] = []
        self._seen = {"transfers": 0, "outbox": 0}
        self._counts = (-1, -1)
        network.watch(self)

    def orders(self) -> int:
        """How many of an operator's freezes wait for a thaw."""
        return self._coordinator.orders

    # --- lndsim tells of every change -------------------------------------------------------------------------------

    def payment_changed(self, node: Node, payment: Payment) -> None:
        if node.name == COORDINATOR:
            self._changed.append((payment.terms.payment_hash.hex(), payment.status))

    def invoice_changed(self, node: Node, invoice: Invoice) -> None:
        """Payments tell it all."""

    def block_mined(self, height: int) -> None:
        """Nothing changes by itself."""

    # --- a step -----------------------------------------------------------------------------------------------------

    def __call__(self) -> str:
        """What is wrong now; '' where nothing is."""
        counts = (self.books.total_changes, self.decided.total_changes)
        try:
            if counts[1] != self._counts[1]:
                self._decisions()
                self._reveals()
            if counts[0] != self._counts[0]:
                self._ledger()
                self._submissions()
                self._open_rows()
            if self._changed:
                self._payments()
        except Wrong as wrong:
            return str(wrong)
        self._counts = counts
        return ""

    def _decisions(self) -> None:
        """One decision per submission, never another; nothing judged without a lock, too late to be paid, or after the
        attestor's own door has said that nothing will be."""
        for commitment, mask, body in self.decided.execute("select commitment, mask, body from decisions"):
            first = commitment not in self.masks
            known = self.masks.setdefault(commitment, (mask, body))
            _must(known == (mask, body), f"the decision on {commitment[:8]} was changed: {known[0]:b} to {mask:b}")
            if mask:
                _, locked = self._offer(commitment, 1)
                _must(locked is not None, f"{commitment[:8]} was decided without lock evidence")
            if first:
                self._judged(
                    commitment, msgspec.json.decode(msgspec.json.decode(body, type=_Told).receipt.body, type=Receipt)
                )

    def _judged(self, commitment: str, receipt: Receipt) -> None:
        """A new receipt: whoever is shown to everybody could be paid, and was not told to give its rungs back."""
        if not receipt.content_key:
            _must(not receipt.mask, f"{commitment[:8]} is paid, and nobody can judge it again")
            return
        _must(
            commitment not in self._coordinator.given_back,
            f"{commitment[:8]} was judged after its peer was told that nothing would be",
        )
        offer, locked = self._offer(commitment, 1)
        _must(locked is not None, f"{commitment[:8]} is shown to everybody, and was never locked")
        assert locked is not None
        heights = self._coordinator.heights
        height = heights.recent() if heights else None
        last = min(locked.expiry_height - EXPIRY_MARGIN - 1, offer.reveal_by_height)
        _must(height is not None, f"{commitment[:8]} is shown to everybody at an unknown height")
        _must(
            (height or 0) <= last,
            f"{commitment[:8]} is shown to everybody at height {height}, and {last} was the last to pay it",
        )

    def _reveals(self) -> None:
        """Preimages that are about to leave: those of the decision, to the peer, against HTLCs that live long enough."""
        query = "select id, body from outbox where id > ? and subject like 'gradient.scored.%' order by id"
        for row, body in self.decided.execute(query, (self._seen["outbox"],)).fetchall():
            self._seen["outbox"] = row
            self.check_reveal(msgspec.json.decode(body, type=GradientScored))

    def check_reveal(self, scored: GradientScored) -> None:
        """Raises Wrong. Also for decisions that leave by the attestor's own door."""
        if not scored.sealed_preimages:
            return
        commitment = scored.commitment
        mask, _ = self.masks.get(commitment, (0, ""))
        offer, locked = self._offer(commitment, scored.attempt)
        key = self._keys[scored.peer]
        opened = {hashlib.sha256(key.unseal(bytes.fromhex(box))).hexdigest() for box in scored.sealed_preimages}
        indices = (
            mask_indices(mask, len(offer.reward_hashes)) if scored.attempt == 1 else range(len(offer.reward_hashes))
        )
        allowed = {offer.reward_hashes[index] for index in indices}
        _must(opened <= allowed, f"preimages of {commitment[:8]} left that are not in its decision {mask:b}")
        heights = self._coordinator.heights
        height = heights.recent() if heights else None
        _must(locked is not None, f"preimages of {commitment[:8]} left without lock evidence")
        assert locked is not None
        _must(height is not None, f"preimages of {commitment[:8]} left at an unknown height")
        last = min(locked.expiry_height - EXPIRY_MARGIN - 1, offer.reveal_by_height)
        _must((height or 0) <= last, f"preimages of {commitment[:8]} left at height {height}, and {last} was the last")
        sent = {hash_ for hash_ in offer.reward_hashes if self._status(hash_) is not None}
        _must(len(sent) == len(offer.reward_hashes), f"preimages of {commitment[:8]} left before its rungs were locked")
        first = self.revealed.setdefault(commitment, scored.attempt)
        _must(
            first == scored.attempt, f"preimages of two offers for {commitment[:8]} left: {first} and {scored.attempt}"
        )

    def _offer(self, commitment: str, attempt: int) -> tuple[Offer, Locked | None]:
        """One of the attestor's offers, and the settler's signed word on its ladder."""
        query = "select body, locked from offers where commitment = ? and attempt = ?"
        body, locked = self.decided.execute(query, (commitment, attempt)).fetchone()
        return _inside(body, Offer), _inside(locked, Locked) if locked else None

    def _ledger(self) -> None:
        """Each new line: two sides, one end per lock, an end that lnd has said first, and no fee used twice."""
        query = f"select {LINE} from transfers where rowid > ? order by rowid"  # noqa: S608 - a constant
        for row, id_, _, phase, pending_id, debit, credit, amount, _ in self.books.execute(
            query, (self._seen["transfers"],)
        ).fetchall():
            self._seen["transfers"] = row
            if phase == "pending":
                self.pending[id_] = amount
                continue
            if pending_id is not None:
                self._end(pending_id, phase, amount)
            if phase != "void":
                self.balances[debit] -= amount
                self.balances[credit] += amount
        self._accounts()

    def _end(self, pending_id: str, phase: str, amount: int) -> None:
        what, _, hash_ = pending_id.partition(":")
        _must(pending_id in self.pending, f"{what} {hash_[:8]} ends ({phase}) and was not pending")
        _must(self.pending.pop(pending_id) == amount, f"{what} {hash_[:8]} ends with another amount")
        if what == "tranche":
            self._check_tranche(hash_, phase)
            return
        self.ends[hash_] = phase
        status = self._status(hash_)
        if phase == "post":
            _must(status is PaymentStatus.SUCCEEDED, f"rung {hash_[:8]} is posted and lnd says {_name(status)}")
        else:
            _must(status in (PaymentStatus.FAILED, None), f"rung {hash_[:8]} is voided and lnd says {_name(status)}")

    def _check_tranche(self, hash_: str, phase: str) -> None:
        """A sponsor's money: posted only where our node has it, voided only where it has gone back."""
        invoice = self.network.nodes[COORDINATOR].invoices[bytes.fromhex(hash_)]
        wanted = InvoiceState.SETTLED if phase == "post" else InvoiceState.CANCELED
        _must(invoice.state is wanted, f"tranche {hash_[:8]} ends as {phase} and lnd says {invoice.state.name}")

    def _accounts(self) -> None:
        node = self.network.nodes[COORDINATOR]
        received = sum(invoice.paid_msat for invoice in node.settled if not invoice.hold)
        used = self.balances[EARNED] + sum(
            amount for account, amount in self.balances.items() if account.startswith("credits:")
        )
        _must(used <= received, f"fees of {used} msat are earned or credited, and {received} were paid")
        for account, amount in self.balances.items():
            if account.startswith("credits:") or account == EARNED:
                _must(amount >= 0, f"{account} is at {amount} msat")
        total = sum(self.balances.values())
        _must(total == 0, f"debits and credits differ by {total} msat")

    def _submissions(self) -> None:
        """Decided once and as the attestor decided; nothing frozen; one fee serves one submission at a time."""
        fees: Counter[str] = Counter()
        columns = "commitment, state, scored, payment_hash, frozen"
        for commitment, state, scored, fee, frozen in self.books.execute(
            f"select {columns} from submissions"  # noqa: S608 - a constant
        ):
            _must(not frozen or commitment in self._coordinator.stopped, f"{commitment[:8]} is frozen")
            if scored is not None:
                told = msgspec.json.decode(scored, type=_Told)
                _must(self._scored.setdefault(commitment, told) == told, f"{commitment[:8]} was decided again")
                mask = self.masks.get(commitment, (0, ""))[0]
                _must(mask == told.mask, f"{commitment[:8]} is booked as {told.mask:b}, and decided as {mask:b}")
            if state not in PLACELESS or scored is not None:
                fees[fee] += 1
        for fee, times in fees.items():
            _must(times == 1, f"fee {fee[:8]} serves {times} submissions")

    def _open_rows(self) -> None:
        """Each has an owner, a next action and a deadline: nothing waits for what nobody will do."""
        for wait in self.waiting.rows():
            _must(not wait.fault(), wait.fault())

    def _payments(self) -> None:
        """Every change of a payment of ours: begun once, on an intent in the books; paid only what is decided."""
        changed, self._changed = self._changed, []
        for hash_, status in changed:
            if status is PaymentStatus.INITIATED:
                self.begun[hash_] += 1
                _must(
                    f"lock:{hash_}" in self.pending, f"rung {hash_[:8]} is sent, and the books have no open lock of it"
                )
                _must(self.begun[hash_] == 1, f"rung {hash_[:8]} is sent a second time")
                self._check_stopped(hash_)
            if status is PaymentStatus.SUCCEEDED:
                self._check_paid(hash_)

    def _check_stopped(self, hash_: str) -> None:
        """Nothing is sent of what the invoicer has written down as frozen, nor of what was so when it began."""
        if not self._coordinator.stopped:
            return
        (owner,) = self.books.execute("select commitment from rungs where payment_hash = ?", (hash_,)).fetchone()
        noted = self.books.execute(LAST_NOTE, (owner,)).fetchone()
        missed = noted is not None and noted[0] == "freeze" and noted[1] < self._coordinator.invoicer_began_ms
        _must(not missed, f"rung {hash_[:8]} is sent by an invoicer that began after its escrow was frozen")
        _must(owner not in self._coordinator.tally.stopped(), f"rung {hash_[:8]} is sent, and its escrow is frozen")

    def _check_paid(self, hash_: str) -> None:
        row = self.books.execute("select commitment, rung from rungs where payment_hash = ?", (hash_,)).fetchone()
        _must(row is not None, f"{hash_[:8]} was paid and is no rung")
        mask, _ = self.masks.get(row[0], (0, ""))
        _must((row[0], row[1]) not in self._paid, f"rung {row[1]} of {row[0][:8]} was paid twice")
        self._paid.add((row[0], row[1]))
        _must(bool(mask >> row[1] & 1), f"rung {row[1]} of {row[0][:8]} was paid and is not in the decision {mask:b}")

    def _status(self, hash_: str) -> PaymentStatus | None:
        payment = self.network.nodes[COORDINATOR].payments.get(bytes.fromhex(hash_))
        return payment.status if payment else None


def _knobs(coordinator: Coordinator) -> Knobs:
    config = coordinator.config
    return Knobs(
        never_sent_s=config.never_sent_s, announce_s=config.sponsor_announce_s, judge_s=config.sponsor_judge_s,
        round_blocks=config.sponsor_round_blocks, margin_blocks=config.sponsor_margin_blocks,
    )  # fmt: skip


def _inside(signed: str, kind: type[T]) -> T:
    return msgspec.json.decode(msgspec.json.decode(signed, type=Signed).body, type=kind)


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def _name(status: PaymentStatus | None) -> str:
    return "never seen" if status is None else status.name
