"""What a challenge says: caveats, invoice life, who may still be sold a place. Pure: no clock, no Redis, no bus."""

import msgspec
from l402core.documents import Terms
from l402core.errors import Exhausted, TooLate
from l402core.events import RoundView
from l402core.l402 import Macaroon, RootKeys, challenge, mint_token
from l402core.signing import Signed

from l402_gateway.problems import TYPE_PREFIX, Problem
from l402_gateway.routes import Paid

LOCATION = b"l402-train"
METHODS = "POST,PUT"
CREDIT_MARK = b"services=credit:0"
"""First caveat of a credit's token. Caveats are only ever appended, so nobody else can put it first."""
MIN_INVOICE_LIFE_S = 60


class Unpaid(msgspec.Struct, frozen=True, kw_only=True):
    """A fee invoice that was handed out: all that is needed to write the same challenge again. No secret in it."""

    payment_hash: str
    bolt11: str
    token_id: str
    expires_at_ms: int
    fee_msat: int
    terms: str
    valid_until_s: int


def may_sell(view: RoundView, terms: Terms, *, now_ms: int) -> None:
    """Raises TooLate once no submission opens any more, Exhausted when nothing is left; then no fee is sold."""
    if view.phase != "commit" or now_ms >= terms.commit_until_ms:
        raise TooLate("round_closed", f"round {view.round} takes no more submissions; it is in phase '{view.phase}'")
    if not view.available:
        raise Exhausted("nothing_left", view.unavailable_reason or "no place, budget, slot or liquidity is left")


def invoice_life_s(terms: Terms, *, now_ms: int, longest_s: int) -> int:
    """How long the fee may be paid: not much longer than it buys anything."""
    left_s = (terms.commit_until_ms - now_ms) // 1_000
    return max(MIN_INVOICE_LIFE_S, min(longest_s, left_s))


def keep_for_s(unpaid: Unpaid, *, now_ms: int, margin_s: int) -> int:
    """How long the same challenge may be given again: until shortly before its invoice expires; 0 is not at all."""
    return max(0, (unpaid.expires_at_ms - now_ms) // 1_000 - margin_s)


def caveats(paid: Paid, *, valid_until_s: int, peer: str) -> tuple[bytes, ...]:
    """One credential for the whole submission; and for one peer, where the request was signed."""
    base = f"/v1/rounds/{paid.round}/submissions/{paid.commitment}"
    listed = [
        f"round={paid.round}", f"commitment={paid.commitment}", f"methods={METHODS}", f"path={base}/*",
        f"valid_until={valid_until_s}",
    ]  # fmt: skip
    return tuple(caveat.encode() for caveat in (*listed, f"peer={peer}")[: len(listed) + bool(peer)])


def token(keys: RootKeys, unpaid: Unpaid, paid: Paid, peer: str) -> Macaroon:
    """The same token for the same unpaid invoice, every time. Raises Unauthorized once its root key is revoked."""
    return mint_token(
        keys,
        bytes.fromhex(unpaid.payment_hash),
        bytes.fromhex(unpaid.token_id),
        caveats(paid, valid_until_s=unpaid.valid_until_s, peer=peer),
        LOCATION,
    )


def credit_token(keys: RootKeys, *, payment_hash: str, token_id: str, peer: str) -> Macaroon:
    """A credit's token: the peer appends round and commitment, without which it opens nothing."""
    listed = (CREDIT_MARK, f"peer={peer}".encode(), f"methods={METHODS}".encode(), b"path=/v1/rounds/*")
    return mint_token(keys, bytes.fromhex(payment_hash), bytes.fromhex(token_id), listed, LOCATION)


def header(macaroon: Macaroon, unpaid: Unpaid) -> str:
    """The WWW-Authenticate value."""
    return challenge(macaroon, unpaid.bolt11)


def problem(unpaid: Unpaid, paid: Paid, terms: Signed) -> Problem:
    """The body that comes with a challenge to somebody who has not paid yet, the round's signed terms in it."""
    return Problem(
        type=TYPE_PREFIX + "payment_required",
        title="Payment required",
        status=402,
        detail=f"pay the invoice of {unpaid.fee_msat} msat, then repeat the request with the credential",
        code="payment_required",
        fault="caller",
        terms=unpaid.terms,
        signed_terms=terms,
        fee_msat=unpaid.fee_msat,
        payment_hash=unpaid.payment_hash,
        round=paid.round,
        commitment=paid.commitment,
    )
