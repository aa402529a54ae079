"""What a peer must not forget, as values: its attempt at a round and its fee payments. It knows no database."""

import msgspec
from l402core.secret import Secret
from l402core.signing import Signed


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What opens a submission once `payment_hash` is paid. The macaroon is money's worth."""

    macaroon: Secret
    payment_hash: str
    token_id: str
    amount_msat: int
    credit: bool = False
    """It stands for a fee that was paid before."""

    def __repr__(self) -> str:
        return f"Token(payment_hash={self.payment_hash}, credit={self.credit})"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One round, as far as this peer has come; enough to go on after a restart."""

    round: int
    terms: Signed
    traceparent: str
    commitment: str = ""
    nonce: str = ""
    payload_hash: str = ""
    token: Token | None = None
    statement: Signed | None = None
    offer: Signed | None = None
    locked: bool = False
    uploading: bool = False
    """The payload has left, or may have: from here on only a decision, or its absence, ends the round."""
    done: bool = False
    receipt: Signed | None = None
    """What was decided, once it is owed."""
    offers: tuple[Signed, ...] = ()
    """New offers of what is owed, as far as we made invoices for them."""


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One outgoing fee. `pending` may have been sent; only LND's FAILED makes it `failed`."""

    payment_hash: str
    bolt11: str
    amount_msat: int
    status: str = "pending"
    preimage: Secret | None = None
    again: bool = False
    """LND has failed it before, and the coordinator asks for the same invoice again."""

    def __repr__(self) -> str:
        return f"Payment({self.payment_hash}, {self.status}, amount_msat={self.amount_msat})"
