"""The settler's books, read from outside: trial balance and open escrows. It only ever reads, straight from SQLite.

The tables are described in `l402_settler.adapters.tables`, and what an account means in `l402_settler.ledger`.
"""

import sqlite3
from pathlib import Path

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
    ) group by account order by account
"""  # noqa: S608 - made of constants
_OPEN_ESCROWS = f"""
    select count(*) from (
        select commitment from transfers where {_OPEN}
        union select commitment from rungs where state in ('registered', 'in flight')
        union select commitment from submissions where state <> 'ended'
    )
"""  # noqa: S608 - made of constants


def ledger(books: Path) -> LedgerReport:
    """The trial balance now. Raises Stop where there are no books to read."""
    if not books.exists():
        raise Stop(Exit.NOT_FOUND, f"{books} does not exist: no settler has kept books there")
    try:
        connection = sqlite3.connect(f"{books.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            connection.execute("begin")  # one snapshot for both questions
            rows = connection.execute(_ACCOUNTS).fetchall()
            (open_escrows,) = connection.execute(_OPEN_ESCROWS).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Stop(Exit.NOT_FOUND, f"{books} cannot be read as the settler's books: {error}") from error
    accounts = {
        name: AccountReport(debits_msat=d, credits_msat=c, pending_debits_msat=pd, pending_credits_msat=pc)
        for name, d, c, pd, pc in rows
    }
    return LedgerReport(
        debits_msat=sum(account.debits_msat for account in accounts.values()),
        credits_msat=sum(account.credits_msat for account in accounts.values()),
        open_escrows=open_escrows,
        accounts=accounts,
    )
