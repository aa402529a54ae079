"""A round's way from closed to decided: assess, measure, decide once, aggregate. Resumable after any of its steps.

Each step loads, decides in `judgement`, and remembers by compare-and-set; a lost race changes nothing.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec
import structlog
from l402core import telemetry
from l402core.documents import RoundRoot, Terms
from l402core.errors import Contradiction, L402Error
from l402core.events import GradientMeasure, RoundAssessed
from l402core.outbox import Transaction

from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import reputations
from l402_oracle.adapters.decisions import Round
from l402_oracle.adapters.isolations import refused
from l402_oracle.attestor.case import Case, judged_by_ms, lapses_at_ms, may_assess, must_wait, trouble_of, unmeasured
from l402_oracle.attestor.delivery import Delivery
from l402_oracle.attestor.judgement import (
    Submission,
    assess,
    fared,
    judge,
    late_faults,
    question_of,
    reference_of,
    unscored,
)
from l402_oracle.attestor.metrics import JUDGEMENTS
from l402_oracle.attestor.outcome import aggregate_of, papers_of, same_checkpoint
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.payable import unpayable, without
from l402_oracle.attestor.repeats import find_repeats
from l402_oracle.attestor.sponsoring import Sponsoring
from l402_oracle.attestor.waiting import Patience, Waits, to_assess, to_decide
from l402_oracle.attestor.yardsticks import yardstick_measure, yardstick_request
from l402_oracle.derive import drawn_shards, own_question, seed_commitment
from l402_oracle.planning import plan
from l402_oracle.reputation import after_round
from l402_oracle.scoring import Reason

log = structlog.get_logger()

TOLD_AGAIN = 3
"""Rounds whose decisions a restart tells again: a settler that lost one would void what the peer was promised."""


class Judging:
    """Moves rounds on. `advance` may be called at any time, by any handler and by the timer."""

    def __init__(self, parts: Parts, delivery: Delivery, sponsoring: Sponsoring) -> None:
        self._parts = parts
        self._db = parts.database
        self._delivery = delivery
        self._sponsoring = sponsoring
        self._patience = Patience()

    async def watch_forever(self, tick_s: float) -> None:
        """The deadlines: look around again and again, so that a restart resumes where it was."""
        troubled = ""
        while True:
            await asyncio.sleep(tick_s)
            try:
                await self.look_around()
                troubled = ""
            except L402Error as error:
                if troubled != error.code:
                    log.warning("judging.waits", code=error.code, detail=error.detail, fault=error.fault)
                troubled = error.code

    async def look_around(self) -> None:
        """Do what time, a block or a failure has left to do. Rounds that wait for words are not read for it."""
        for number, _ in await self._db.read(lambda tx: books.rounds_in(tx, books.UNDECIDED)):
            if self._patience.is_looked_at(number):  # a search for copies can take minutes, and two take longer
                await self._db.transact(partial(self._row, number=number))
            elif not self._patience.rests(number, height=self._parts.heights.recent(), now_ms=self._parts.now_ms()):
                await self.advance(number)
        await self._delivery.deliver()
        await self._sponsoring.advance()

    async def advance(self, number: int) -> None:
        """Take every step that can be taken now. Raises Contradiction (and freezes), Unavailable."""
        with self._patience.looking(number) as look:
            waits: Waits | None = None
            while waits is None or not self._patience.rest(number, look, waits):
                now_ms = self._parts.now_ms()
                case = await self._db.transact(lambda tx: self._load(tx, number))
                if case is None:
                    return
                waits = await self._step(case, now_ms)

    async def heard(self, number: int, kind: str, name: str) -> None:
        """As `advance`, at one of a round's many words, once none is missing.

        To look at the whole round at each of its words would cost the square of its peers.
        """
        if self._patience.heard(number, (kind, name)):
            await self.advance(number)

    def shaken(self, number: int) -> None:
        """Something came that a round does not wait for, and that may change it: the timer looks at it next."""
        self._patience.shaken(number)

    async def resume(self) -> None:
        """Say again what the bus may have lost. Whoever hears it twice does nothing twice."""
        await self._db.transact(self._say_again)
        await self._sponsoring.resume()

    async def ask_again(self, mark: str) -> tuple[str, ...]:
        """Say what rounds wait for under fresh ids, for what became a dead letter; returns the subjects."""

        def work(tx: Transaction) -> tuple[str, ...]:
            with tx.anew(mark):
                self._say_again(tx)
            return tx.subjects()

        return await self._db.transact(work)

    def _say_again(self, tx: Transaction) -> None:
        books.tell_again(tx, newest=TOLD_AGAIN)
        for number, state in books.rounds_in(tx, books.OPEN_STATES):
            row = books.read_round(tx, number)
            if row and state == "announced" and row.announced and row.terms is None:
                tx.say(row.announced)
            if row and state == "announced" and row.terms and row.yardstick is None:
                terms = books.read_terms(row.terms)
                if terms.yardstick:
                    tx.say(yardstick_request(self._parts, tx, terms))
            if row and state == "decided" and row.aggregate:
                tx.say(row.aggregate)
            if row and state == "assessed" and row.assessed and row.terms:
                missing = [s for s in books.read_submissions(tx, row.assessed.measured) if s.measured is None]
                self._ask_for(tx, missing, row, books.read_terms(row.terms), row.assessed)

    async def freeze(self, number: int, trouble: str) -> None:
        """Stop the round, unless it is decided, and wake someone. Always raises Contradiction."""
        if await self._db.transact(lambda tx: books.freeze(tx, number, trouble)):
            log.critical("round.frozen", round=number, trouble=trouble)
            raise Contradiction("round_frozen", f"round {number} is frozen: {trouble}")
        log.critical("round.contradicted", round=number, trouble=trouble)
        raise Contradiction("round_decided", f"round {number} is decided, and its decisions stand: {trouble}")

    async def _step(self, case: Case, now_ms: int) -> Waits | None:
        """What it waits for; None where a step was taken."""
        return await (self._assess(case, now_ms) if case.row.state == "announced" else self._decide(case, now_ms))

    def _load(self, tx: Transaction, number: int) -> Case | None:
        """The round with all that was heard of it, where it is closed and not decided."""
        return _case(tx, self._row(tx, number))

    def _row(self, tx: Transaction, number: int) -> Round | None:
        """The round, which lapses where its time is over: what a peer is told from here on must stay true."""
        row, now_ms = books.read_round(tx, number), self._parts.now_ms()
        lapses = row is not None and row.terms is not None and now_ms >= lapses_at_ms(books.read_terms(row.terms))
        if lapses and books.lapse(tx, number, now_ms):
            row = books.read_round(tx, number)
            log.error("round.lapsed", round=number, closed=row is not None and row.closed is not None)
        return row

    # --- assess -----------------------------------------------------------------------------------------------------

    async def _assess(self, case: Case, now_ms: int) -> Waits | None:
        if trouble := trouble_of(case, now_ms=now_ms):
            await self.freeze(case.row.number, trouble)
        if not may_assess(case, now_ms=now_ms):
            return to_assess(case, height=self._parts.heights.recent(), now_ms=now_ms)
        assessed = await self._assessment(case)

        def remember(tx: Transaction) -> bool:
            if not books.change_round(tx, case.row.number, expected="announced", state="assessed", assessed=assessed):
                return False
            tx.say(assessed)
            chosen = [s for s in case.uploaded if s.commitment in assessed.measured]
            self._ask_for(tx, chosen, case.row, case.terms, assessed)
            return True

        if await self._db.transact(remember):
            if case.terms.yardstick and not assessed.yardstick:
                log.warning("round.without_yardstick", round=assessed.round, made=case.row.yardstick is not None)
            log.info(
                "round.assessed", round=assessed.round, measured=len(assessed.measured), rejected=len(assessed.rejected)
            )
        return None

    async def _assessment(self, case: Case) -> RoundAssessed:
        number, root = case.row.number, case.root.root()
        seed = self._parts.seed(number, case.terms.checkpoint.sha256, case.terms.seed_commitment)
        if seed_commitment(seed) != case.terms.seed_commitment:
            await self.freeze(number, "our seed key is not the one that the round was announced with")
        bare = RoundAssessed(
            id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), round=number, root=root, seed=seed.hex(),
            shards=drawn_shards(self._parts.corpus, seed, root, case.terms.eval_tokens), clip_norms=(), measured=(),
            rejected=(),
        )  # fmt: skip
        unpaid = self._unpayable(case, self._parts.heights.recent())
        copies = {} if case.row.lapsed_at_ms else await find_repeats(self._parts, case)
        payable = [one for one in case.uploaded if one.commitment not in unpaid]
        return await self._planned(case, assess(bare, payable, copies, case.row.yardstick))

    def _unpayable(self, case: Case, height: int | None) -> Mapping[str, Reason]:
        lapsed = case.row.lapsed_at_ms > 0
        return unpayable(case.uploaded, height, self._parts.expiry_margin_blocks, lapsed=lapsed)

    async def _planned(self, case: Case, assessed: RoundAssessed) -> RoundAssessed:
        """On as many of its shards as fit into what is left of the window: everybody is measured, on the same ones."""
        pace = await self._db.transact(lambda tx: books.pace_before(tx, case.row.number))
        made = plan(
            tokens_per_s=pace, peers=len(assessed.measured), yardstick=bool(assessed.yardstick),
            window_ms=judged_by_ms(case) - self._parts.now_ms(), wanted_shards=len(assessed.shards),
        )  # fmt: skip
        if not made.fits:
            log.warning("round.planned", round=assessed.round, shards=made.shards, says=made.says)
        return msgspec.structs.replace(assessed, shards=assessed.shards[: made.shards])

    def _ask_for(
        self, tx: Transaction, chosen: list[Submission], row: Round, terms: Terms, assessed: RoundAssessed
    ) -> None:
        assert row.announced is not None
        own = yardstick_measure(self._parts, terms, assessed, row.yardstick)
        if own is not None and books.read_measured(tx, own.commitment) is None:
            tx.say(own)
        for submission in chosen:
            assert submission.uploaded is not None
            request = GradientMeasure(
                id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), round=row.number,
                commitment=submission.commitment, peer=submission.offer.peer, checkpoint=terms.checkpoint,
                model_id=row.announced.model_id, payload=submission.uploaded.payload,
                clip_norms=assessed.clip_norms, shards=assessed.shards, eval_tokens=terms.eval_tokens,
                outer_rate_ppm=terms.recipe.outer_rate_ppm, **own_question(terms, assessed.seed, submission.offer.peer),
            )  # fmt: skip
            tx.say(request, parent=submission.traceparent)

    # --- decide -----------------------------------------------------------------------------------------------------

    async def _decide(self, case: Case, now_ms: int) -> Waits | None:
        assessed, height = case.row.assessed, self._parts.heights.recent()
        assert assessed is not None
        unpaid = self._unpayable(case, height)
        if must_wait(case, unpaid, height, now_ms=now_ms):
            return to_decide(case, unmeasured(case, unpaid), height=height, now_ms=now_ms)
        uploaded = without(case.uploaded, unpaid)
        asked = question_of(assessed, uploaded, case.yardstick)
        faults = late_faults(assessed, uploaded, asked)
        reference = reference_of(case.terms, assessed, uploaded, faults, case.yardstick)
        verdicts = [
            (
                s, unscored(unpaid[s.commitment]) if s.commitment in unpaid
                else judge(case.terms, assessed, s, reference, faults.get(s.commitment), asked),
            )
            for s in uploaded
        ]  # fmt: skip
        aggregate = aggregate_of(self._parts, case, assessed, verdicts)
        scored, judged = papers_of(self._parts, case, assessed, verdicts, reference, aggregate)
        rated = after_round(case.reputations, fared(verdicts))

        def remember(tx: Transaction) -> bool:
            if self._went_on(tx, case, height):
                return False
            columns = {"state": "decided", "aggregate": aggregate, "reference": reference, "judged": judged}
            if not books.change_round(tx, case.row.number, expected="assessed", **columns):
                return False
            for place, (event, (submission, _)) in enumerate(zip(scored, verdicts, strict=True)):
                books.add_decision(tx, event, place=place, traceparent=submission.traceparent)
            reputations.write(tx, rated, case.row.number)
            if aggregate.items:
                tx.say(aggregate)
            else:
                kept = same_checkpoint(self._parts, case.row, reference)
                books.change_round(tx, case.row.number, expected="decided", state="done")
                books.add_round(tx, kept.round, state="announced", announced=kept)
                tx.say(kept)
            return True

        together = [submission.traceparent for submission, _ in verdicts]
        with telemetry.span("judge the round", parent="", attributes={"round": case.row.number}, links=together):
            decided = await self._db.transact(remember)
        if decided:
            for submission, verdict in verdicts:
                failed = next((check.code for check in verdict.checks if not check.passed), "none")
                JUDGEMENTS.labels(verdict.verdict, failed).inc()
                with telemetry.span("decide", parent=submission.traceparent or None):
                    log.info(
                        "gradient.decided", commitment=submission.commitment, verdict=verdict.verdict, failed=failed,
                        mask=verdict.mask, drop_mean=verdict.drop_mean, drop_low=verdict.drop_low,
                        reference=reference,
                    )  # fmt: skip
        await self._delivery.deliver()
        return None

    def _went_on(self, tx: Transaction, case: Case, height: int | None) -> bool:
        """Whether its time ran out, or a block came, since it was looked at: then it is looked at again."""
        row = books.read_round(tx, case.row.number)
        return row is None or row.lapsed_at_ms != case.row.lapsed_at_ms or self._parts.heights.recent() != height


def _case(tx: Transaction, row: Round | None) -> Case | None:
    """A closed round that is not decided; None for any other."""
    if row is None or row.state not in books.UNDECIDED or row.closed is None or row.terms is None:
        return None
    root = msgspec.json.decode(row.closed.root.body, type=RoundRoot)
    uploaded = tuple(c for c in root.commitments if c in row.closed.uploaded)
    submissions = tuple(books.read_submissions(tx, uploaded))
    return Case(
        row=row,
        terms=books.read_terms(row.terms),
        root=root,
        offered=tuple(books.offered(tx, row.number)),
        refused=refused(tx, row.number),
        uploaded=submissions,
        reputations=reputations.read(tx, {one.offer.peer for one in submissions}),
        yardstick=books.read_measured(tx, row.assessed.yardstick) if row.assessed and row.assessed.yardstick else None,
    )
