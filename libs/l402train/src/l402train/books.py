"""The settler's books, read from outside: trial balance, statements, the journal. It only ever reads, on any database.

The tables are described in `l402_settler.adapters.tables`, and what an account means in `l402_settler.ledger`.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from l402train.exits import Exit, Stop
from l402train.report import AccountReport, LedgerReport

_POSTED = "phase in ('single', 'post')"
_OPEN = "phase = 'pending' and id not in (select pending_id from transfers where pending_id is not null)"
_ACCOUNTS = f"""
    select account, sum(d), sum(c), sum(pd), sum(pc) from (
        select debit as account, amount_msat as d, 0 as c, 0 as pd, 0 as pc from transfers where {_POSTED}
        union all select credit, 0, amount_msat, 0, 0 from transfers where {_POSTED}
        union all select debit, 0, 0, amount_msat, 0 from transfers where {_OPEN}
        union all select credit, 0, 0, 0, amount_msat from transfers where {_OPEN}
    ) as sides group by account order by account
"""  # noqa: S608 - made of constants
_SUMS = """
    select name, debits_msat, credits_msat, pending_debits_msat, pending_credits_msat from accounts
    where debits_msat + credits_msat + pending_debits_msat + pending_credits_msat > 0 order by name
"""
_OPEN_ESCROWS = f"""
    select count(*) from (
        select commitment from transfers where {_OPEN}
        union select commitment from rungs where state in ('registered', 'in flight')
        union select commitment from submissions where state <> 'ended'
    ) as unended
"""  # noqa: S608 - made of constants
_JOURNAL = (
    "select at_ms, id, kind, phase, pending_id, debit, credit, amount_msat, commitment, trace_id from transfers "
    "{where} order by at_ms, case when phase = 'pending' then 0 when kind in ('opening', 'fee received', 'reward') then 1 "
    "when kind in ('forfeit', 'fee credited') then 3 else 2 end, id"  # what one transaction wrote, as it must have been
)
NAMED = 5
"""So many of the accounts that a beginning fits are named."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the journal."""

    at_ms: int
    id: str
    kind: str
    phase: str
    pending_id: str | None
    debit: str
    credit: str
    amount_msat: int
    commitment: str
    trace_id: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line as an account sees it. `balance_msat` is credits less debits of what is posted, this line included."""

    line: Line
    other: str
    debit_msat: int
    credit_msat: int
    balance_msat: int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One account's lines, in order."""

    account: str
    entries: tuple[Entry, ...]
    balance_msat: int
    pending_msat: int
    """Credits less debits of what is pending."""


@contextlib.contextmanager
def opened(where: Path | str) -> Iterator[sa.Connection]:
    """One snapshot of the books at a path or a database URL. Raises Stop where there are none to read."""
    if isinstance(where, Path):
        if not where.exists():
            raise Stop(Exit.NOT_FOUND, f"{where} does not exist: no settler has kept books there")
        url, named = f"sqlite:///file:{where}?mode=ro&uri=true", str(where)
    else:
        url, named = where, _without_password(where)
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with engine.connect().execution_options(**options) as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("begin")
            yield connection
    except (SQLAlchemyError, ImportError) as error:
        told = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise Stop(Exit.NOT_FOUND, f"{named} cannot be read as the settler's books: {told}") from error


def described(where: Path | str) -> str:
    """The database by name and version. Raises Stop where it cannot be asked."""
    if isinstance(where, Path):
        return f"SQLite {sqlite3.sqlite_version} (WAL)"
    with opened(where) as connection:
        version = ".".join(str(number) for number in connection.dialect.server_version_info or ())
        return f"{connection.dialect.name} {version}"


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError as error:
        raise Stop(Exit.USAGE, "that is no database URL, such as postgresql+psycopg://user@host/books") from error


def ledger(where: Path | str) -> LedgerReport:
    """The trial balance, added up from the journal. Raises Stop where there are no books, or their sums are not it."""
    with opened(where) as books:
        rows = [tuple(row) for row in books.execute(sa.text(_ACCOUNTS))]
        kept = [tuple(row) for row in books.execute(sa.text(_SUMS))]
        open_escrows = int(books.execute(sa.text(_OPEN_ESCROWS)).scalar_one())
    told = [(name, *(int(amount) for amount in amounts)) for name, *amounts in rows]
    if [row for row in told if any(row[1:])] != kept:
        raise Stop(Exit.UNTRUE, "the sums that the database keeps are not those of its journal")
    accounts = {
        name: AccountReport(debits_msat=d, credits_msat=c, pending_debits_msat=pd, pending_credits_msat=pc)
        for name, d, c, pd, pc in told
    }
    return LedgerReport(
        debits_msat=sum(account.debits_msat for account in accounts.values()),
        credits_msat=sum(account.credits_msat for account in accounts.values()),
        open_escrows=open_escrows,
        accounts=accounts,
    )


def journal(books: sa.Connection, *, commitment: str = "", account: str = "") -> Iterator[Line]:
    """Every line in order, or those of a submission, or of an account."""
    where = {"c": commitment, "a": account}
    clause = "where commitment = :c" if commitment else "where debit = :a or credit = :a" if account else ""
    asked: dict[str, Any] = {name: value for name, value in where.items() if f":{name}" in clause}
    for row in books.execute(sa.text(_JOURNAL.format(where=clause)), asked):
        yield Line(**row._mapping)


def statement(where: Path | str, wanted: str) -> Statement:
    """One account by its name or a beginning of it. Raises Stop: no such account, or several."""
    with opened(where) as books:
        account = _account(books, wanted)
        entries, balance, pending = [], 0, 0
        for line in journal(books, account=account):
            sign = 1 if line.credit == account else -1
            moved = sign * line.amount_msat if line.phase in ("single", "post") else 0
            pending += {"pending": sign, "single": 0}.get(line.phase, -sign) * line.amount_msat
            balance += moved
            entries.append(
                Entry(
                    line=line, other=line.debit if sign > 0 else line.credit, debit_msat=max(-moved, 0),
                    credit_msat=max(moved, 0), balance_msat=balance,
                )
            )  # fmt: skip
    return Statement(account=account, entries=tuple(entries), balance_msat=balance, pending_msat=pending)


def _account(books: sa.Connection, wanted: str) -> str:
    names = [str(row.name) for row in books.execute(sa.text("select name from accounts order by name"))]
    fitting = [name for name in names if name.startswith(wanted)]
    if wanted in fitting or len(fitting) == 1:
        return wanted if wanted in fitting else fitting[0]
    if fitting:
        more = "" if len(fitting) <= NAMED else f" and {len(fitting) - NAMED} more"
        raise Stop(Exit.NOT_FOUND, f"several accounts begin with {wanted!r}: {', '.join(fitting[:NAMED])}{more}")
    raise Stop(Exit.NOT_FOUND, f"no account is called {wanted!r}; `l402-train ledger` lists them")
