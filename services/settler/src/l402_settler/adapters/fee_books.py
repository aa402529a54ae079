"""Tokens, fees and credits over one open transaction: each is used once. It decides nothing."""

from typing import Any

import sqlalchemy as sa
from l402core.outbox import Transaction

from l402_settler.adapters import statements as q
from l402_settler.adapters.tables import credits_, submissions


def token(tx: Transaction, token_id: str) -> sa.Row[Any] | None:
    """What a token was spent on."""
    return tx.row(q.TOKEN, b_token=token_id)


def spend_token(tx: Transaction, **values: Any) -> None:
    """Consume a token id, once."""
    tx.execute(q.SPEND_TOKEN, values)


def add_fee(tx: Transaction, payment_hash: str, amount_msat: int, settle_index: int) -> bool:
    """A paid fee; False when it is known."""
    if fee(tx, payment_hash) is not None:
        return False
    tx.execute(q.ADD_FEE, {"payment_hash": payment_hash, "amount_msat": amount_msat, "settle_index": settle_index})
    return True


def fee(tx: Transaction, payment_hash: str) -> sa.Row[Any] | None:
    """A fee that arrived."""
    return tx.row(q.FEE, b_hash=payment_hash)


def add_credit(tx: Transaction, **values: Any) -> None:
    """A credit over a paid payment hash; one per hash for all time."""
    tx.execute(sa.insert(credits_), values)


def credit(tx: Transaction, payment_hash: str) -> sa.Row[Any] | None:
    """The credit that stands for a fee."""
    return tx.row(q.CREDIT, b_hash=payment_hash)


def times_returned(tx: Transaction, payment_hash: str) -> int:
    """How many submissions of this one fee have failed through our fault."""
    where = (submissions.c.payment_hash == payment_hash) & submissions.c.credit_due
    return int(tx.scalar(sa.select(sa.func.count()).select_from(submissions).where(where)))


def spend_credit(tx: Transaction, payment_hash: str, token_id: str, commitment: str) -> bool:
    """Use an open credit; False when there is none, or it is spent."""
    statement = sa.update(credits_).where(
        credits_.c.payment_hash == payment_hash, credits_.c.token_id == token_id, credits_.c.spent_on.is_(None)
    )
    return tx.execute(statement.values(spent_on=commitment)) == 1


def name_credit(tx: Transaction, payment_hash: str, token_id: str) -> None:
    """Bind a credit to its token id; the first one stays."""
    statement = sa.update(credits_).where(credits_.c.payment_hash == payment_hash, credits_.c.token_id.is_(None))
    tx.execute(statement.values(token_id=token_id))


def rename_credit(tx: Transaction, payment_hash: str, before: str, after: str) -> None:
    """Compare-and-set an open credit's token id: the one before opens nothing from here on."""
    statement = sa.update(credits_).where(
        credits_.c.payment_hash == payment_hash, credits_.c.token_id == before, credits_.c.spent_on.is_(None)
    )
    tx.execute(statement.values(token_id=after))


def reopen_credit(tx: Transaction, payment_hash: str, reason: str) -> None:
    """A spent credit could not be served: it is open again, and will be bound to a fresh token id."""
    statement = sa.update(credits_).where(credits_.c.payment_hash == payment_hash)
    tx.execute(statement.values(spent_on=None, token_id=None, reason=reason))


def fees_after(tx: Transaction, after: str, at_most: int) -> dict[str, int]:
    """The next fees that arrived, in order of their hashes: payment hash to msat."""
    return {row.payment_hash: row.amount_msat for row in tx.rows(q.FEES_AFTER, b_after=after, b_limit=at_most)}
