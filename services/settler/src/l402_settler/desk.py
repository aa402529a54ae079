"""The desk that answers the gateway: open, locks, accepted, upload, reads, credits. One SQL transaction each.

Every answer is the submission's view, so that the same question again gets the same answer.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core.documents import Accepted, Offer, Terms, UploadReceipt
from l402core.errors import Conflict, L402Error, Malformed, NotFound, TooEarly, TooLate, Unauthorized, Unavailable
from l402core.escrow import Escrow, Rung, Trigger
from l402core.events import (
    ClaimCredit,
    CreditView,
    PeerStanding,
    ReadRound,
    ReadStanding,
    ReadSubmission,
    RegisterAccepted,
    RegisterLocks,
    RegisterUpload,
    RoundView,
    SubmissionOpen,
    SubmissionView,
)
from l402core.outbox import Transaction
from l402core.signing import Signed, open_signed

from l402_settler import ledger
from l402_settler.adapters import books, fee_books, journal
from l402_settler.adapters.freeze_books import fee_is_held
from l402_settler.admission import admit, room_of, standing
from l402_settler.escrows import move_escrow, say_escrow_lock, say_uploaded, statement_of, try_lock
from l402_settler.office import Office
from l402_settler.outside import OUT, take_back
from l402_settler.owed import ACCEPT_MS, offered_rungs
from l402_settler.rounds import COMMIT, UPLOAD, locks_until_ms, owed_locks_until_ms
from l402_settler.submissions import check_ladder
from l402_settler.views import round_view, submission_view, terms_of

log = structlog.get_logger()
HEIGHT_END = 500_000_000
"""From here on Bitcoin reads a lock time as seconds."""


class Desk:
    """Answers questions; each answer is durable before it is given."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def open(self, question: SubmissionOpen) -> SubmissionView:
        """Spend the token, reserve place and budget, number the submission, ask for the offer."""
        office = self._office

        def work(tx: Transaction) -> L402Error | None:
            known = books.submission(tx, question.commitment)
            if known is not None and known.token_id == question.token_id:
                return _same_request(known.request_hash, question)
            return admit(office, tx, question)

        refusal = await office.database.transact(work)
        if refusal is not None:
            raise refusal
        view = await office.view(question.commitment)
        if view.state == Escrow.OPENED:
            await office.wait_for_change(question.commitment, office.config.answer_wait_ms / 1000)
            view = await office.view(question.commitment)
        return view

    async def register_locks(self, question: RegisterLocks) -> SubmissionView:
        """Check the peer's invoices, record the intent to lock each, ask the invoicer to pay."""
        office = self._office

        def work(tx: Transaction) -> SubmissionView:
            row = _own(books.submission(tx, question.commitment), question.peer)
            known = tuple(line.bolt11 for line in books.ladder_of(tx, row))
            if known:
                if known != question.bolt11s:
                    raise Conflict("other_invoices", "other reward invoices are registered for this submission")
                return submission_view(tx, row)
            round_ = books.round_row(tx, row.round)
            assert round_ is not None
            terms, now_ms = terms_of(round_), office.now_ms()
            _not_frozen(row)
            if row.state in (Escrow.OPENED, Escrow.OWED, Escrow.DUE):
                raise TooEarly("offer_pending", "the oracle's offer is not there yet")
            if row.offer is None:
                raise TooLate("lock_closed", f"no ladder can be locked any more: the submission is {row.state}")
            offer = msgspec.json.decode(msgspec.json.decode(row.offer, type=Signed).body, type=Offer)
            not_after_ms = _may_lock(office, row.state, offer, terms)
            check_ladder(
                question.bolt11s, offer, statement_of(row), terms, now_s=now_ms // 1000, not_after_ms=not_after_ms
            )
            _remember_ladder(tx, row, offer, terms, question.bolt11s, now_ms=now_ms, not_after_ms=not_after_ms)
            move_escrow(
                tx, row.commitment, Escrow(row.state), Trigger.LOCKS_REGISTERED, due_by_ms=not_after_ms + ACCEPT_MS
            )
            say_escrow_lock(office, tx, row, terms)
            return submission_view(tx, _own(books.submission(tx, question.commitment), question.peer))

        return await office.database.transact(work, about=question.commitment)

    async def register_accepted(self, question: RegisterAccepted) -> SubmissionView:
        """The peer's end of the lock; joined with ours it makes the signed `Locked`."""
        office = self._office

        def work(tx: Transaction) -> SubmissionView:
            row = _own(books.submission(tx, question.commitment), question.peer)
            claim = open_signed(question.accepted, Accepted.tag, Accepted, signer=question.peer)
            hashes = tuple(line.payment_hash for line in books.ladder_of(tx, row))
            if not hashes:
                raise TooEarly("no_ladder", "no reward invoices are registered yet")
            if (claim.commitment, claim.round, claim.peer, claim.payment_hashes) != (
                row.commitment, row.round, row.peer, hashes,
            ):  # fmt: skip
                raise Malformed("accepted", "the signed claim names another submission or other payment hashes")
            if len(claim.expiry_heights) != len(hashes):
                raise Malformed("accepted", f"{len(claim.expiry_heights)} expiry heights, expected {len(hashes)}")
            if not all(0 < height < HEIGHT_END for height in claim.expiry_heights):
                raise Malformed("accepted", f"an expiry height is between 1 and {HEIGHT_END - 1}")
            said = books.to_json(question.accepted)
            if row.accepted is None and not try_lock(office, tx, row.commitment, accepted=said):
                books.note(tx, row.commitment, accepted=said)
            return submission_view(tx, _own(books.submission(tx, question.commitment), question.peer))

        view = await office.database.transact(work, about=question.commitment)
        office.changed(question.commitment)
        if view.state in (Escrow.LOCKING, Escrow.RELOCKING):
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
            _not_frozen(row)
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
                upload=books.to_json(office.signing(tx, row.round).sign(UploadReceipt.tag, receipt)),
            )  # fmt: skip
            say_uploaded(office, tx, row, terms, question.payload)
            log.info("gradient.uploaded", commitment=row.commitment, size=question.payload.size)
            return submission_view(tx, _own(books.submission(tx, question.commitment), question.peer))

        return await office.database.transact(work, about=question.commitment)

    async def read_round(self, question: ReadRound) -> RoundView:
        """One round, or the newest."""

        def work(tx: Transaction) -> RoundView:
            row = books.round_row(tx, question.round) if question.round else books.current_round(tx)
            if row is None:
                raise NotFound("round_unknown", "no such round was opened")
            return round_view(tx, row, room_of(self._office, tx, terms_of(row)))

        return await self._office.database.read(work)

    async def read_submission(self, question: ReadSubmission) -> SubmissionView:
        """One submission."""
        view = await self._office.view(question.commitment)
        if view.round != question.round:
            raise NotFound("submission_unknown", "this commitment belongs to another round")
        return view

    async def read_standing(self, question: ReadStanding) -> PeerStanding:
        """What is exposed to one peer, and whether it would be sold another place."""
        return await self._office.database.read(lambda tx: standing(self._office, tx, question.peer))

    async def claim_credit(self, question: ClaimCredit) -> CreditView:
        """The open credit over a paid payment hash, for the peer that paid."""

        def work(tx: Transaction) -> CreditView:
            row = fee_books.credit(tx, question.payment_hash)
            if row is None or row.peer != question.peer or row.spent_on is not None:
                raise NotFound("no_credit", "no open credit of yours stands for this payment hash")
            if fee_is_held(tx, question.payment_hash):
                raise HELD
            token_id = row.token_id or question.token_id
            fee_books.name_credit(tx, row.payment_hash, token_id)
            if question.replaces and question.replaces == row.token_id:
                token_id = question.token_id
                fee_books.rename_credit(tx, row.payment_hash, row.token_id, token_id)
            return CreditView(
                payment_hash=row.payment_hash, token_id=token_id, peer=row.peer, amount_msat=row.amount_msat
            )

        return await self._office.database.transact(work)


def _own(row: sa.Row[Any] | None, peer: str) -> sa.Row[Any]:
    """The submission, if it is this peer's. Raises NotFound, Unauthorized."""
    if row is None:
        raise NotFound("submission_unknown", "no submission of this commitment was opened")
    if row.peer != peer:
        raise Unauthorized("peer_foreign", "this submission belongs to another peer")
    return row


HELD = Unavailable("held", "something about this cannot be true, and a person looks at it first: ask again later")


def _not_frozen(row: sa.Row[Any]) -> None:
    """Nothing is promised about what waits for a person. Raises Unavailable."""
    if row.frozen:
        raise HELD


def _may_lock(office: Office, state: str, offer: Offer, terms: Terms) -> int:
    """The last moment to begin paying a ladder that is handed in now. Raises TooLate."""
    now_ms = office.now_ms()
    if state == Escrow.OFFERED and now_ms < locks_until_ms(terms):
        return terms.lock_by_ms
    if state == Escrow.REOFFERED and now_ms < owed_locks_until_ms(offer):
        return min(offer.lock_by_ms, now_ms + office.config.owed_pay_s * 1_000)
    raise TooLate("lock_closed", f"no ladder can be locked any more: the submission is {state}")


def _remember_ladder(
    tx: Transaction, row: sa.Row[Any], offer: Offer, terms: Terms, bolt11s: tuple[str, ...], *, now_ms: int,
    not_after_ms: int,
) -> None:  # fmt: skip
    """The intent to lock each rung. Raises Conflict where a hash is in the books: none is ever used twice."""
    known, rungs, transfers = (
        set(books.owners(tx, offer.reward_hashes)),
        list[dict[str, Any]](),
        list[ledger.Transfer](),
    )
    indices = offered_rungs(row, terms)
    for index, bolt11, hash_, amount in zip(indices, bolt11s, offer.reward_hashes, offer.amounts_msat, strict=True):
        if hash_ in known:
            raise Conflict("hash_used", f"rung {index}: this payment hash is already in the books")
        rungs.append(
            {
                "payment_hash": hash_, "commitment": row.commitment, "attempt": row.attempt, "rung": index,
                "amount_msat": amount, "bolt11": bolt11, "state": Rung.REGISTERED, "not_after_ms": not_after_ms,
            }
        )  # fmt: skip
        known.add(hash_)
        transfers.append(ledger.rung_locked(hash_, row.peer, row.commitment, amount))
    books.add_rungs(tx, rungs)
    take_back(tx, offer.reward_hashes, OUT, now_ms=now_ms)
    journal.post(tx, *transfers, now_ms=now_ms)


def _same_request(request_hash: str, question: SubmissionOpen) -> L402Error | None:
    if request_hash != question.request_hash:
        return Conflict("other_request", "this commitment was opened by another request")
    return None
