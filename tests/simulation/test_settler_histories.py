"""Random histories of one settler: every message late, early, doubled or lost, and the books hold after each step.

Hypothesis plays the world: the oracle, the invoicer, LND, the peer, the clock and the process's death. It knows which
preimages were revealed, as the world does: LND says SUCCEEDED only of a revealed rung.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from l402_settler.adapters import books, journal
from l402_settler.ledger import LIGHTNING, OUTSIDE, Phase, trial_balance
from l402_settler.writing_off import WritingOff
from l402core.errors import CallerError, Exhausted
from l402core.escrow import Escrow
from l402core.events import WriteOff
from l402core.lnd.port import InvoiceView, PaymentStatus, PaymentView

from tests.support.settler import Stage, sha
from tests.unit.settler.test_outside import gift, strange
from tests.unit.settler.test_reconcile import Lists

NAMES = st.sampled_from(["a", "b"])
RUNGS = st.integers(0, 5)


class Histories(RuleBasedStateMachine):
    """One round, two submissions of one peer's making, and everything that may happen to them in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.stage = Stage(self.folder, places=8, answer_wait_ms=0)
        self.masks: dict[str, int] = {}
        self.ends: dict[tuple[str, int], PaymentStatus] = {}
        self.registered: set[str] = set()
        self.fees: set[str] = set()
        self.strangers: dict[str, int] = {}
        """What our node has less for each payment that is none of ours, by its hash."""
        self.strange_fees: dict[str, int] = {}

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        """One step; what a caller did wrong is refused and changes nothing."""
        with contextlib.suppress(CallerError, Exhausted):
            return self.loop.run_until_complete(story)

    @initialize()
    def open_round(self) -> None:
        """The oracle publishes the first checkpoint."""
        self.run(self.stage.open_round())

    @rule(name=NAMES)
    def fee_arrives(self, name: str) -> None:
        """The invoicer reports the fee, perhaps again, perhaps before or after it is presented."""
        self.fees.add(name)
        self.run(self.stage.fee(name))

    @rule(name=NAMES)
    def fee_is_taken_for_a_strangers(self, name: str) -> None:
        """Its memo is not ours, say: a person explains it as none of ours, perhaps again, perhaps when the books know it."""
        self.run(self.explain(gift(sha(f"fee {name}"), 500_000)))

    @rule(amount=st.integers(1, 9), fee=st.integers(0, 2), receipt=st.booleans())
    def stranger_is_explained(self, amount: int, fee: int, receipt: bool) -> None:
        """Our node was used past all books; who looks twice, or says it twice, counts it once."""
        hash_ = sha(f"stranger {amount} {receipt}")
        view = gift(hash_, amount) if receipt else strange(hash_, amount, self.strange_fees.setdefault(hash_, fee))
        self.strangers[hash_] = -amount if receipt else amount + self.strange_fees[hash_]
        self.run(self.explain(view))

    async def explain(self, view: PaymentView | InvoiceView) -> None:
        """The order, of all that our node tells."""
        node = Lists([view]) if isinstance(view, PaymentView) else Lists([], (view,))
        order = WriteOff(payment_hash=view.payment_hash.hex(), by="ann", reason="none of ours")
        await WritingOff(self.stage.office, node).write_off(order)

    @rule(name=NAMES)
    def peer_opens(self, name: str) -> None:
        """The paid submission arrives, perhaps again."""
        self.fees.add(name)
        self.run(self.stage.desk.open(self.stage.opening(name)))

    @rule(name=NAMES)
    def oracle_offers(self, name: str) -> None:
        """Only what was opened is offered for."""
        if self.row(name) is not None:
            self.run(self.stage.settler.on_offer(self.stage.offer(name)))

    @rule(name=NAMES)
    def peer_locks(self, name: str) -> None:
        """The six invoices."""
        if self.run(self.stage.desk.register_locks(self.stage.locks(name))) is not None:
            self.registered.add(name)

    @rule(name=NAMES, index=RUNGS)
    def rung_flies(self, name: str, index: int) -> None:
        """LND has an HTLC out; the report may also be an old one."""
        if name in self.registered:
            self.run(self.stage.seen(name, index, PaymentStatus.IN_FLIGHT))

    @rule(name=NAMES, index=RUNGS, failure=st.sampled_from(["", "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"]))
    def rung_returns(self, name: str, index: int, failure: str) -> None:
        """LND says FAILED, for good."""
        if (
            name in self.registered
            and self.ends.setdefault((name, index), PaymentStatus.FAILED) is PaymentStatus.FAILED
        ):
            self.run(self.stage.seen(name, index, PaymentStatus.FAILED, failure))

    @rule(name=NAMES, index=RUNGS)
    def rung_settles(self, name: str, index: int) -> None:
        """LND says SUCCEEDED, which takes a revealed preimage."""
        revealed = self.masks.get(name, 0) >> index & 1
        if revealed and self.ends.setdefault((name, index), PaymentStatus.SETTLED) is PaymentStatus.SETTLED:
            self.run(self.stage.seen(name, index, PaymentStatus.SETTLED))

    @rule(name=NAMES)
    def peer_accepts(self, name: str) -> None:
        """The peer's signed word."""
        self.run(self.stage.desk.register_accepted(self.stage.accepted(name)))

    @rule(name=NAMES)
    def peer_uploads(self, name: str) -> None:
        """The payload, early, in time or late."""
        self.run(self.stage.desk.register_upload(self.stage.upload(name)))

    @rule(name=NAMES, mask=st.integers(0, 63), heard=st.booleans())
    def oracle_decides(self, name: str, mask: int, heard: bool) -> None:
        """One decision; it may reach the settler long after the peer has its preimages."""
        row = self.row(name)
        if row is None or row.upload is None:
            return
        self.masks.setdefault(name, mask)
        if heard:
            self.run(self.stage.settler.on_scored(self.stage.decision(name, self.masks[name])))

    @rule(name=NAMES)
    def story_goes_on(self, name: str) -> None:
        """The next step of the honest story, so that histories reach far."""
        row = self.row(name)
        state = row.state if row is not None else ""
        if state == "":
            self.peer_opens(name)
        elif state == Escrow.OPENED:
            self.oracle_offers(name)
        elif state == Escrow.OFFERED:
            self.peer_locks(name)
        elif state == Escrow.LOCKING:
            for index in range(6):
                self.rung_flies(name, index)
            self.peer_accepts(name)
        elif state == Escrow.LOCKED:
            self.time_passes("commit_until_ms")
            self.peer_uploads(name)
        elif state == Escrow.UPLOADED:
            self.oracle_decides(name, 0b101010, heard=True)

    @rule(which=st.sampled_from(["commit_until_ms", "lock_by_ms", "upload_until_ms", "judge_by_ms"]))
    def time_passes(self, which: str) -> None:
        """The clock reaches one of the deadlines, never runs back, and the rounds turn."""
        self.stage.now_ms = max(
            self.stage.now_ms, getattr(self.stage.terms(), which) + 31_000 * (which == "judge_by_ms")
        )
        self.run(self.stage.turn())

    @precondition(lambda self: self.registered)
    @rule()
    def process_dies(self) -> None:
        """Nothing but the books survives; the new process says again what may be unsaid."""
        self.stage.database.close()
        now_ms = self.stage.now_ms
        self.stage = Stage(self.folder, places=8, answer_wait_ms=0)
        self.stage.now_ms = now_ms
        self.run(self.stage.settler.recover())

    @invariant()
    def books_hold(self) -> None:
        """Debits = credits; each rung ends once; pending is what has no end; posted only what LND says SUCCEEDED."""
        lines = self.read(journal.all_transfers)
        balances = trial_balance(lines)
        assert sum(b.debits_msat for b in balances.values()) == sum(b.credits_msat for b in balances.values())
        posted = {line.pending_id for line in lines if line.phase is Phase.POST}
        said = {
            f"lock:{sha(f'rung {name} {index}')}"
            for (name, index), end in self.ends.items()
            if end is PaymentStatus.SETTLED
        }
        assert posted <= said
        unended = [
            line for line in lines if line.phase is Phase.PENDING and line.id not in {x.pending_id for x in lines}
        ]
        pending = balances[LIGHTNING].pending_credits_msat if LIGHTNING in balances else 0
        assert pending == sum(line.amount_msat for line in unended)

    @invariant()
    def outside_is_what_nobody_knows(self) -> None:
        """The account holds each stranger once, and of our own fees those that the books have not heard of yet."""
        lines = {line.id: line for line in self.read(journal.all_transfers)}
        unheard = [hash_ for hash_ in (sha("fee a"), sha("fee b")) if f"fee:{hash_}" not in lines]
        taken = sum(lines[id_].amount_msat for hash_ in unheard if (id_ := f"outside-in:{hash_}") in lines)
        balance = trial_balance(lines.values()).get(OUTSIDE)
        outside = balance.debits_msat - balance.credits_msat if balance else 0
        assert outside == sum(self.strangers.values()) - taken

    @invariant()
    def no_escrow_is_frozen(self) -> None:
        """Nothing in an honest world is a contradiction."""
        assert not [row for row in self.read(books.unended) if row.frozen]

    def teardown(self) -> None:
        """Let everything come to rest: every rung ends, every decision is heard; then nothing is open or owed."""
        self.run(self.quiet())
        self.stage.database.close()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def quiet(self) -> None:
        """The long run."""
        for name in sorted(self.masks):
            await self.stage.settler.on_scored(self.stage.decision(name, self.masks[name]))
        self.stage.now_ms += 10**9
        await self.stage.turn()
        await self.stage.turn()
        for name in sorted(self.registered):
            for index in range(6):
                end = self.ends.get((name, index))
                collected = PaymentStatus.SETTLED if self.masks.get(name, 0) >> index & 1 else PaymentStatus.FAILED
                await self.stage.seen(name, index, end or collected)
        for name in sorted(self.fees):
            await self.stage.fee(name)
        open_ = [row for row in await self.stage.database.read(books.unended) if row.state != Escrow.ENDED]
        assert not open_, [row.state for row in open_]
        assert await self.stage.pending_msat() == 0
        ledger = await self.stage.ledger()
        assert not [account for account in ledger if account.startswith("peer:")], ledger

    def row(self, name: str) -> Any:
        """The submission's row, if it is open."""
        return self.read(lambda tx: books.submission(tx, sha(name)))

    def read(self, work: Any) -> Any:
        """Look into the books."""
        return self.loop.run_until_complete(self.stage.database.read(work))


Histories.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestHistories = Histories.TestCase
