"""Our books against LND's own lists: every difference named and weighed. Pure: it changes nothing and asks nobody.

A *lag* is what the next look will join (LND ended a rung that the books still have open). A *contradiction* is what cannot
be true of both (paid in the books, failed at LND): it freezes the escrow and wakes someone; nothing is corrected in
silence. *Routing* is what a payment cost on its way, where the books have another sum: it is ours alone, and freezes nobody.
*Foreign* is what our node did and the books do not know: a person should, and explains it. *Undecided* is what only the
chain can tell: the books gave up a rung that LND calls in flight for ever, and a channel that may still hold it is being
closed.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec
from l402core import bolt11
from l402core.escrow import Rung
from l402core.events import LedgerDifference
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus, PaymentView

LAG, CONTRADICTION, FOREIGN, UNDECIDED = "lag", "contradiction", "foreign", "undecided"
ROUTING = "routing"
EXPLAINED = "explained"
"""A contradiction that a person has written off: told, and nothing more."""
GRAVITY = (CONTRADICTION, FOREIGN, ROUTING, UNDECIDED, EXPLAINED, LAG)

AGREES: dict[Rung, set[PaymentStatus | None]] = {
    Rung.REGISTERED: {None, PaymentStatus.UNKNOWN},
    Rung.IN_FLIGHT: {PaymentStatus.IN_FLIGHT, PaymentStatus.UNKNOWN},
    Rung.SETTLED: {PaymentStatus.SETTLED},
    Rung.RETURNED: {PaymentStatus.FAILED, None},
    Rung.UNSENT: {None},
}
"""What LND may say of a rung that the books have in this state."""

WILL_JOIN: dict[Rung, set[PaymentStatus | None]] = {
    Rung.REGISTERED: {PaymentStatus.IN_FLIGHT, PaymentStatus.SETTLED, PaymentStatus.FAILED},
    Rung.IN_FLIGHT: {PaymentStatus.SETTLED, PaymentStatus.FAILED},
}
"""What LND may be ahead with."""


class BookedRung(msgspec.Struct, frozen=True, kw_only=True):
    """A rung as the books have it."""

    payment_hash: str
    commitment: str
    amount_msat: int
    state: Rung
    routing_msat: int = 0
    """What its route kept."""


def compare_rungs(
    rungs: Iterable[BookedRung], payments: Mapping[str, PaymentView], *, undecided: Collection[str] = ()
) -> list[LedgerDifference]:
    """Each rung beside LND's payment of the same hash (hex), then LND's payments that are no rung of ours.

    `undecided` are the hashes of payments that may have been noted only, or may be in a channel that is being closed.
    """
    booked = {rung.payment_hash: rung for rung in rungs}
    pairs = ((rung, payments.get(hash_), hash_ in undecided) for hash_, rung in booked.items())
    found = [one for rung, view, open_ in pairs if (one := _rung(rung, view, open_=open_)) is not None]
    foreign = [
        view for hash_, view in payments.items() if hash_ not in booked and view.status is not PaymentStatus.FAILED
    ]
    return found + [
        LedgerDifference(
            weight=FOREIGN, what="payment", payment_hash=view.payment_hash.hex(), commitment="", books="unknown",
            lnd=str(view.status), amount_msat=view.amount_msat,
        )
        for view in foreign
    ]  # fmt: skip


def compare_fees(
    fees: Mapping[str, int], invoices: Iterable[InvoiceView], *, memo_prefix: str
) -> list[LedgerDifference]:
    """Each booked fee (hash hex → msat) beside our node's invoice, and settled invoices that no fee stands for.

    A fee whose message was lost is a lag; what another program of this node was paid is foreign. The memo tells.
    """
    settled = {view.payment_hash.hex(): view for view in invoices if view.state is InvoiceState.SETTLED}
    missing = [
        LedgerDifference(
            weight=CONTRADICTION, what="fee", payment_hash=hash_, commitment="", books="received",
            lnd="not settled" if hash_ not in settled else f"{settled[hash_].paid_msat} msat", amount_msat=amount,
        )
        for hash_, amount in fees.items()
        if hash_ not in settled or settled[hash_].paid_msat != amount
    ]  # fmt: skip
    return missing + [_unbooked(view, memo_prefix) for hash_, view in settled.items() if hash_ not in fees]


def _unbooked(view: InvoiceView, memo_prefix: str) -> LedgerDifference:
    ours = is_fee(view, memo_prefix)
    return LedgerDifference(
        weight=LAG if ours else FOREIGN, what="fee" if ours else "receipt", payment_hash=view.payment_hash.hex(),
        commitment="", books="unknown", lnd="SETTLED", amount_msat=view.paid_msat,
    )  # fmt: skip


def is_fee(invoice: InvoiceView, memo_prefix: str) -> bool:
    """Whether our invoicer made it."""
    try:
        return (bolt11.decode(invoice.bolt11).description or "").startswith(memo_prefix)
    except bolt11.InvalidInvoice:
        return False  # a keysend has no request


def _rung(rung: BookedRung, view: PaymentView | None, *, open_: bool) -> LedgerDifference | None:
    status = view.status if view else None
    wrong_amount = view is not None and status is PaymentStatus.SETTLED and view.amount_msat != rung.amount_msat
    if status in AGREES[rung.state] and not wrong_amount:
        return _routing(rung, view) if view is not None and status is PaymentStatus.SETTLED else None
    ahead = status in WILL_JOIN.get(rung.state, set()) and not wrong_amount
    given_up = open_ and rung.state is Rung.RETURNED
    return LedgerDifference(
        weight=LAG if ahead else UNDECIDED if given_up else CONTRADICTION, what="rung", payment_hash=rung.payment_hash,
        commitment=rung.commitment, books=str(rung.state), lnd=str(status) if status else "never seen",
        amount_msat=view.amount_msat if wrong_amount and view else rung.amount_msat,
    )  # fmt: skip


def _routing(rung: BookedRung, view: PaymentView) -> LedgerDifference | None:
    if view.fee_msat == rung.routing_msat:
        return None
    return LedgerDifference(
        weight=ROUTING, what="routing", payment_hash=rung.payment_hash, commitment=rung.commitment,
        books=f"{rung.routing_msat} msat", lnd=f"{view.fee_msat} msat",
        amount_msat=abs(view.fee_msat - rung.routing_msat),
    )  # fmt: skip
