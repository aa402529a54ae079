"""The desk that answers the gateway: open, locks, accepted, upload, reads, credits. One SQL transaction each.

Every answer is the submission's view, so that the same question again gets the same answer.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.documents import Accepted, Locked, Offer, Statement, Terms, UploadReceipt
from l402core.errors import Conflict, L402Error, Malformed, NotFound, TooEarly, TooLate, Unauthorized, Unavailable
from l402core.escrow import Escrow, Rung, Trigger, move
from l402core.events import (
    ClaimCredit,
    CreditIssued,
    CreditSpent,
    CreditView,
    EscrowLock,
    EscrowLocked,
    GradientUploaded,
    OfferMake,
    ReadRound,
    ReadSubmission,
    RegisterAccepted,
    RegisterLocks,
    RegisterUpload,
    RoundView,
    SubmissionOpen,
    SubmissionOpened,
    SubmissionView,
)
from l402core.outbox import Transaction
from l402core.signing import Signed, open_signed

from l402_settler import ledger
from l402_settler.adapters import books
from l402_settler.office import Office
from l402_settler.rounds import COMMIT, UPLOAD
from l402_settler.submissions import Room, check_ladder, may_open
from l402_settler.views import round_view, submission_view, terms_of

log = structlog.get_logger()


class Desk:
    """Answers questions; each answer is durable before it is given."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def open(self, question: SubmissionOpen) -> SubmissionView:
        """Spend the token, reserve place and budget, number the submission, ask for the offer."""
        office = self._office

        def work(tx: Transaction) -> L402Error | None:
            known = books.submission(tx, question.commitment)
            if known is not None:
                return _same_request(known.request_hash, known.token_id, question)
            return self._open_new(tx, question)

        refusal = await office.database.transact(work)
        if refusal is not None:
            raise refusal
        view = await office.view(question.commitment)
        if view.state == Escrow.OPENED:
            await office.wait_for_change(question.commitment, office.config.answer_wait_ms / 1000)
            view = await office.view(question.commitment)
        return view

    def _open_new(self, tx: Transaction, question: SubmissionOpen) -> L402Error | None:
        spent = books.token(tx, question.token_id)
        if spent is not None:
            return Conflict("token_spent", f"this credential was already used ({spent.outcome})")
        round_ = books.round_row(tx, question.round)
        statement = open_signed(question.statement, Statement.tag, Statement, signer=question.peer)
        if (statement.commitment, statement.peer, statement.token_id, statement.round) != (
            question.commitment, question.peer, question.token_id, question.round,
        ):  # fmt: skip
            return Malformed(
                "statement", "the statement names another commitment, peer, token or round than the request"
            )
        if round_ is None:
            refusal: L402Error | None = NotFound("round_unknown", f"round {question.round} was never opened")
        else:
            peers = frozenset(
                row.peer for row in books.submissions_of(tx, question.round) if row.state != Escrow.FAILED
            )
            refusal = may_open(
                statement, terms_of(round_), phase=round_.phase, room=self.room(tx, terms_of(round_)), open_peers=peers,
                now_ms=self._office.now_ms(),
            )  # fmt: skip
        if round_ is None or refusal is not None:
            assert refusal is not None
            return self._keep_fee_as_credit(tx, question, refusal)
        return self._admit(tx, question, statement, terms_of(round_))

    def _admit(self, tx: Transaction, question: SubmissionOpen, statement: Statement, terms: Terms) -> L402Error | None:
        office, now_ms = self._office, self._office.now_ms()
        fee_msat = terms.fee_msat
        if question.credit:
            known = books.credit(tx, question.payment_hash)
            if known is None or known.peer != question.peer:
                return Unauthorized("credit_foreign", "this credit was issued to another peer, or never")
            if not books.spend_credit(tx, question.payment_hash, question.token_id, question.commitment):
                return Conflict("token_spent", "this credit was already used")
            fee_msat = known.amount_msat
            books.post(
                tx, ledger.credit_spent(question.token_id, question.peer, question.commitment, fee_msat), now_ms=now_ms
            )
            id_, at = office.stamp()
            tx.say(
                CreditSpent(
                    id=id_, occurred_at_ms=at, payment_hash=question.payment_hash, peer=question.peer,
                    commitment=question.commitment,
                )
            )  # fmt: skip
        else:
            books.post(tx, ledger.fee_earned(question.token_id, question.commitment, fee_msat), now_ms=now_ms)
        books.spend_token(
            tx, token_id=question.token_id, payment_hash=question.payment_hash, commitment=question.commitment,
            peer=question.peer, outcome="opened a submission",
        )  # fmt: skip
        seq = books.next_seq(tx, question.round)
        books.add_submission(
            tx, commitment=question.commitment, round=question.round, seq=seq, peer=question.peer, state=Escrow.OPENED,
            token_id=question.token_id, payment_hash=question.payment_hash, fee_msat=fee_msat,
            reserved_msat=terms.ladder_msat(), request_hash=question.request_hash,
            statement=books.to_json(question.statement), traceparent=telemetry.traceparent(), opened_at_ms=now_ms,
        )  # fmt: skip
        id_, at = office.stamp()
        tx.say(
            SubmissionOpened(
                id=id_, occurred_at_ms=at, round=question.round, commitment=question.commitment, peer=question.peer,
                seq=seq, fee_msat=fee_msat,
            )
        )  # fmt: skip
        round_ = books.round_row(tx, question.round)
        assert round_ is not None
        say_offer_make(office, tx, question.round, question.commitment, statement, seq, round_.terms)
        log.info("submission.opened", commitment=question.commitment, round=question.round, seq=seq)
        return None

    def _keep_fee_as_credit(self, tx: Transaction, question: SubmissionOpen, refusal: L402Error) -> L402Error:
        """A paid submission that cannot be served keeps its fee: an unspent credit, or a new one."""
        if question.credit:
            return refusal
        fee, round_ = books.fee(tx, question.payment_hash), books.round_row(tx, question.round)
        if fee is None and round_ is None:
            return Unavailable("fee_not_seen", "the fee has not been seen at our node yet; send the same request again")
        fee_msat = fee.amount_msat if fee is not None else terms_of(round_).fee_msat if round_ is not None else 0
        books.spend_token(
            tx, token_id=question.token_id, payment_hash=question.payment_hash, commitment=question.commitment,
            peer=question.peer, outcome=f"refused: {refusal.code}",
        )  # fmt: skip
        issue_credit(
            self._office, tx, payment_hash=question.payment_hash, token_id=question.token_id, peer=question.peer,
            commitment=question.commitment, fee_msat=fee_msat, reason=refusal.detail, was_earned=False,
        )  # fmt: skip
        return type(refusal)(refusal.code, f"{refusal.detail}; the fee of {fee_msat} msat is kept for you as a credit")

    async def register_locks(self, question: RegisterLocks) -> SubmissionView:
        """Check the peer's invoices, record the intent to lock each, ask the invoicer to pay."""
        office = self._office

        def work(tx: Transaction) -> SubmissionView:
            row = _own(books.submission(tx, question.commitment), question.peer)
            known = tuple(line.bolt11 for line in books.rungs_of(tx, row.commitment))
            if known:
                if known != question.bolt11s:
                    raise Conflict("other_invoices", "other reward invoices are registered for this submission")
                return submission_view(tx, row)
            round_ = books.round_row(tx, row.round)
            assert round_ is not None
            terms, now_ms = terms_of(round_), office.now_ms()
            if row.state == Escrow.OPENED:
                raise TooEarly("offer_pending", "the oracle's offer is not there yet")
            if row.state != Escrow.OFFERED or now_ms >= terms.lock_by_ms:
                raise TooLate("lock_closed", f"no ladder can be locked any more: the submission is {row.state}")
            signed = msgspec.json.decode(row.offer, type=Signed)
            offer = msgspec.json.decode(signed.body, type=Offer)
            statement = msgspec.json.decode(msgspec.json.decode(row.statement, type=Signed).body, type=Statement)
            check_ladder(question.bolt11s, offer, statement, terms, now_s=now_ms // 1000)
            for index, bolt11 in enumerate(question.bolt11s):
                hash_, amount = offer.reward_hashes[index], offer.amounts_msat[index]
                if books.rung(tx, hash_) is not None:
                    raise Conflict("hash_used", f"rung {index}: this payment hash is already in the books")
                books.add_rung(
                    tx, payment_hash=hash_, commitment=row.commitment, rung=index, amount_msat=amount, bolt11=bolt11,
                    state=Rung.REGISTERED, not_after_ms=terms.lock_by_ms,
                )  # fmt: skip
                books.post(tx, ledger.rung_locked(hash_, row.peer, row.commitment, amount), now_ms=now_ms)
            move_escrow(tx, row.commitment, Escrow(row.state), Trigger.LOCKS_REGISTERED)
            say_escrow_lock(
                office, tx, row.round, row.commitment, signed, question.bolt11s, statement.payout_node, terms
            )
            return submission_view(tx, _own(books.submission(tx, question.commitment), question.peer))

        return await office.database.transact(work)

    async def register_accepted(self, question: RegisterAccepted) -> SubmissionView:
        """The peer's end of the lock; joined with ours it makes the signed `Locked`."""
        office = self._office

        def work(tx: Transaction) -> SubmissionView:
            row = _own(books.submission(tx, question.commitment), question.peer)
            claim = open_signed(question.accepted, Accepted.tag, Accepted, signer=question.peer)
            hashes = tuple(line.payment_hash for line in books.rungs_of(tx, row.commitment))
            if not hashes:
                raise TooEarly("no_ladder", "no reward invoices are registered yet")
            if (claim.commitment, claim.round, claim.peer, claim.payment_hashes) != (
                row.commitment, row.round, row.peer, hashes,
            ):  # fmt: skip
                raise Malformed("accepted", "the signed claim names another submission or other payment hashes")
            if len(claim.expiry_heights) != len(hashes):
                raise Malformed("accepted", f"{len(claim.expiry_heights)} expiry heights, expected {len(hashes)}")
            if row.accepted is None:
                books.note(tx, row.commitment, accepted=books.to_json(question.accepted))
                try_lock(office, tx, row.commitment)
            return submission_view(tx, _own(books.submission(tx, question.commitment), question.peer))

        view = await office.database.transact(work)
        if view.state == Escrow.LOCKING:
            await office.wait_for_change(question.commitment, office.config.answer_wait_ms / 1000)
            view = await office.view(question.commitment)
        return view

    async def register_upload(self, question: RegisterUpload) -> SubmissionView:
        """The sealed payload has arrived: sign for it, and tell the workers."""
        office = self._office

        def work(tx: Transaction) -> SubmissionView:
            row = _own(books.submission(tx, question.commitment), question.peer)
            if row.payload is not None:
                if msgspec.json.decode(row.payload)["sha256"] != question.payload.sha256:
                    raise Conflict("other_payload", "another payload was uploaded for this submission")
                return submission_view(tx, row)
            round_ = books.round_row(tx, row.round)
            assert round_ is not None
            terms, now_ms = terms_of(round_), office.now_ms()
            if round_.phase == COMMIT:
                raise TooEarly("commits_open", "uploads begin once the round's commits are closed")
            if row.state in (Escrow.OPENED, Escrow.OFFERED, Escrow.LOCKING):
                raise TooEarly("not_locked", "the reward is not locked yet; keep the gradient until it is")
            if round_.phase != UPLOAD or now_ms >= terms.upload_until_ms or row.state != Escrow.LOCKED:
                raise TooLate("upload_closed", f"round {row.round} takes no more uploads from this submission")
            receipt = UploadReceipt(
                commitment=row.commitment, round=row.round, peer=row.peer, payload_hash=question.payload.sha256,
                size=question.payload.size, uploaded_at_ms=now_ms,
            )  # fmt: skip
            move_escrow(
                tx, row.commitment, Escrow.LOCKED, Trigger.UPLOADED, payload=books.to_json(question.payload),
                upload=books.to_json(office.key.sign(UploadReceipt.tag, receipt)),
            )  # fmt: skip
            id_, at = office.stamp()
            tx.say(
                GradientUploaded(
                    id=id_, occurred_at_ms=at, round=row.round, commitment=row.commitment, peer=row.peer,
                    checkpoint=terms.checkpoint.sha256, model_id=terms.model_id, payload=question.payload,
                )
            )  # fmt: skip
            log.info("gradient.uploaded", commitment=row.commitment, size=question.payload.size)
            return submission_view(tx, _own(books.submission(tx, question.commitment), question.peer))

        return await office.database.transact(work)

    async def read_round(self, question: ReadRound) -> RoundView:
        """One round, or the newest."""

        def work(tx: Transaction) -> RoundView:
            row = books.round_row(tx, question.round) if question.round else books.current_round(tx)
            if row is None:
                raise NotFound("round_unknown", "no such round was opened")
            return round_view(tx, row, self.room(tx, terms_of(row)))

        return await self._office.database.read(work)

    async def read_submission(self, question: ReadSubmission) -> SubmissionView:
        """One submission."""
        view = await self._office.view(question.commitment)
        if view.round != question.round:
            raise NotFound("submission_unknown", "this commitment belongs to another round")
        return view

    async def claim_credit(self, question: ClaimCredit) -> CreditView:
        """The open credit over a paid payment hash, for the peer that paid."""

        def work(tx: Transaction) -> CreditView:
            row = books.credit(tx, question.payment_hash)
            if row is None or row.peer != question.peer or row.spent_on is not None:
                raise NotFound("no_credit", "no open credit of yours stands for this payment hash")
            token_id = row.token_id or question.token_id
            books.name_credit(tx, row.payment_hash, token_id)
            return CreditView(
                payment_hash=row.payment_hash, token_id=token_id, peer=row.peer, amount_msat=row.amount_msat
            )

        return await self._office.database.transact(work)

    def room(self, tx: Transaction, terms: Terms) -> Room:
        """What is left to sell now: the terms' limits less what is reserved."""
        office, sight = self._office, self._office.sight
        held = [row for row in books.unended(tx) if row.round == terms.round]
        reserved = sum(row.reserved_msat for row in books.submissions_of(tx, terms.round) if row.state != Escrow.ENDED)
        waiting = sum(row.state in (Escrow.OPENED, Escrow.OFFERED, Escrow.LOCKING) for row in held)
        taken = sum(row.state != Escrow.FAILED for row in books.submissions_of(tx, terms.round))
        return Room(
            places=terms.places - taken,
            budget_msat=terms.budget_msat - reserved,
            day_msat=office.config.day_cap_msat - books.locked_since(tx, office.now_ms() - books.DAY_MS),
            liquidity_msat=sight.liquidity_msat - waiting * terms.ladder_msat(),
            slots=sight.slots - waiting * len(terms.rungs),
            node_trouble=sight.trouble,
        )


def say_offer_make(
    office: Office, tx: Transaction, round_: int, commitment: str, statement: Statement, seq: int, terms: str
) -> None:
    """Ask the oracle for its offer."""
    id_, at = office.stamp()
    tx.say(
        OfferMake(
            id=id_, occurred_at_ms=at, round=round_, commitment=commitment, peer=statement.peer,
            seal_to=statement.seal_to, seq=seq, terms=msgspec.json.decode(terms, type=Signed), attempt=1,
        )
    )  # fmt: skip


def say_escrow_lock(
    office: Office, tx: Transaction, round_: int, commitment: str, offer: Signed, bolt11s: tuple[str, ...], payee: str,
    terms: Terms,
) -> None:  # fmt: skip
    """Ask the invoicer to pay the ladder."""
    id_, at = office.stamp()
    tx.say(
        EscrowLock(
            id=id_, occurred_at_ms=at, round=round_, commitment=commitment, offer=offer, bolt11s=bolt11s, payee=payee,
            not_after_ms=terms.lock_by_ms, fee_limit_msat=office.config.fee_limit_msat,
            cltv_limit=terms.cltv_max + office.config.cltv_route_slack,
        )
    )  # fmt: skip


def try_lock(office: Office, tx: Transaction, commitment: str) -> None:
    """Sign `Locked` once the peer says accepted and every rung is in flight at our node."""
    row = books.submission(tx, commitment)
    assert row is not None
    lines = books.rungs_of(tx, commitment)
    if row.state != Escrow.LOCKING or row.accepted is None or any(line.state != Rung.IN_FLIGHT for line in lines):
        return
    claim = msgspec.json.decode(msgspec.json.decode(row.accepted, type=Signed).body, type=Accepted)
    heights = [*claim.expiry_heights, *(line.expiry_height for line in lines if line.expiry_height)]
    locked = office.key.sign(
        Locked.tag,
        Locked(
            commitment=commitment, round=row.round, peer=row.peer,
            payment_hashes=tuple(line.payment_hash for line in lines), expiry_height=min(heights),
            locked_at_ms=office.now_ms(),
        ),
    )  # fmt: skip
    move_escrow(tx, commitment, Escrow.LOCKING, Trigger.BOTH_ENDS_SEEN, locked=books.to_json(locked))
    id_, at = office.stamp()
    tx.say(
        EscrowLocked(id=id_, occurred_at_ms=at, round=row.round, commitment=commitment, locked=locked),
        parent=row.traceparent,
    )
    log.info("escrow.locked", commitment=commitment)
    office.changed(commitment)


def issue_credit(
    office: Office, tx: Transaction, *, payment_hash: str, token_id: str, peer: str, commitment: str, fee_msat: int,
    reason: str, was_earned: bool,
) -> None:  # fmt: skip
    """Turn a fee that could not be served into a credit, once per token."""
    line = ledger.fee_credited(token_id, peer, commitment, fee_msat, was_earned=was_earned)
    if not books.post(tx, line, now_ms=office.now_ms()):
        return
    if books.credit(tx, payment_hash) is None:
        books.add_credit(tx, payment_hash=payment_hash, peer=peer, amount_msat=fee_msat, reason=reason)
    else:
        books.reopen_credit(tx, payment_hash, reason)
    id_, at = office.stamp()
    revision = int(token_id[-8:], 16)  # a credit may be issued again for the same hash: another occurrence
    tx.say(
        CreditIssued(
            id=id_, occurred_at_ms=at, revision=revision, payment_hash=payment_hash, peer=peer, amount_msat=fee_msat,
            reason=reason,
        )
    )  # fmt: skip
    log.info("credit.issued", commitment=commitment, amount_msat=fee_msat, reason=reason)


def move_escrow(tx: Transaction, commitment: str, state: Escrow, trigger: Trigger, **values: object) -> bool:
    """Follow the escrow's table; False where the trigger is to be ignored. Raises Contradiction."""
    target = move(state, trigger)
    if target is None:
        return False
    books.move_submission(tx, commitment, state, target, **values)
    return True


def _own(row: sa.Row[Any] | None, peer: str) -> sa.Row[Any]:
    """The submission, if it is this peer's. Raises NotFound, Unauthorized."""
    if row is None:
        raise NotFound("submission_unknown", "no submission of this commitment was opened")
    if row.peer != peer:
        raise Unauthorized("peer_foreign", "this submission belongs to another peer")
    return row


def _same_request(request_hash: str, token_id: str, question: SubmissionOpen) -> L402Error | None:
    if request_hash != question.request_hash or token_id != question.token_id:
        return Conflict("other_request", "this commitment was opened by another request")
    return None
