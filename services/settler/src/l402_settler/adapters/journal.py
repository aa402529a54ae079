"""The double-entry journal over one open transaction: lines are written once, and never otherwise. It decides nothing."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from l402core import telemetry
from l402core.errors import Contradiction
from l402core.outbox import Transaction
from sqlalchemy.exc import IntegrityError

from l402_settler.adapters import statements as q
from l402_settler.adapters.guards import SLOT_MS
from l402_settler.adapters.tables import accounts, locked, transfers
from l402_settler.ledger import Balance, Phase, Transfer

DAY_MS = 86_400_000


def post(tx: Transaction, *lines: Transfer, now_ms: int) -> bool:
    """Write lines, each once. False when they all stand there already. Raises Contradiction when another does, or where the
    database refuses one: after that nothing of this change may be kept."""
    if not lines:
        return False
    common = {"trace_id": telemetry.trace_id(), "at_ms": now_ms}
    values = {
        f"b_{number}_{name}": value
        for number, line in enumerate(lines)
        for name, value in {**msgspec.structs.asdict(line), "phase": str(line.phase), **common}.items()
    }
    try:
        written = tx.execute(q.add_transfers(len(lines)), values)
    except IntegrityError as error:
        raise Contradiction(
            "ledger", f"{', '.join(line.id for line in lines)}: the books refuse it: {error.orig}"
        ) from error
    if written < len(lines):
        _check_known(tx, lines)
    return written > 0


def _check_known(tx: Transaction, lines: Sequence[Transfer]) -> None:
    """What stands there is what would have been written. Raises Contradiction."""
    known = {
        row.id: row for row in tx.rows(q.transfers_of(len(lines)), **{f"b_{n}": one.id for n, one in enumerate(lines)})
    }
    for line in lines:
        row = known[line.id]
        if (row.debit, row.credit, row.amount_msat, row.phase) != (
            line.debit, line.credit, line.amount_msat, line.phase,
        ):  # fmt: skip
            raise Contradiction("ledger", f"transfer {line.id} is already in the books with other contents")


def all_transfers(tx: Transaction) -> list[Transfer]:
    """The whole journal, in order of time."""
    columns = [transfers.c[name] for name in Transfer.__struct_fields__]
    return [
        Transfer(**{**row._asdict(), "phase": Phase(row.phase)})
        for row in tx.rows(sa.select(*columns).order_by(transfers.c.at_ms, transfers.c.id))
    ]


def balances(tx: Transaction) -> dict[str, Balance]:
    """The trial balance, from the sums that the database keeps."""
    return {
        row.name: Balance(**{name: getattr(row, name) for name in Balance.__struct_fields__})
        for row in tx.rows(sa.select(accounts).order_by(accounts.c.name))
    }


def locked_since(tx: Transaction, since_ms: int) -> int:
    """What was locked in rewards since then or a little longer (the slots are ten minutes), whether or not it came back."""
    query = sa.select(sa.func.coalesce(sa.func.sum(locked.c.amount_msat), 0)).where(
        locked.c.slot >= since_ms // SLOT_MS
    )
    return int(tx.scalar(query))


def opened_at_ms(tx: Transaction) -> int | None:
    """When the first line was written; None where it does not stand yet."""
    row = tx.row(sa.select(transfers.c.at_ms).where(transfers.c.id == "opening"))
    return None if row is None else int(row.at_ms)
