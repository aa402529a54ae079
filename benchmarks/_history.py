"""Books with a long past: ended escrows, each with six rungs and fifteen ledger lines, made by SQL alone.

They obey every constraint of the tables; only the guards' triggers are away meanwhile, and their sums are made after. Signed
documents are left out: they are read by key alone.
"""

import sqlalchemy as sa
from l402_settler.adapters.guards import SQLITE
from l402core.outbox import Database

RUNGS = 6
PER_ROUND = 150


def fill(database: Database, escrows: int, terms: str) -> None:
    """Add so many ended escrows of rounds before the first, all paid in full. `terms` are every round's, signed."""
    sqlite = database.engine.dialect.name == "sqlite"
    numbers = (
        f"(with recursive n(i) as (select 1 union all select i + 1 from n where i < {escrows}) select i from n)"
        if sqlite
        else f"(select generate_series(1, {escrows}) as i)"
    )

    def hex_of(value: str) -> str:
        return f"printf('%064x', {value})" if sqlite else f"lpad(to_hex({value}), 64, '0')"

    quoted = "'" + terms.replace("'", "''").replace(":", "\\:") + "'"
    peer = hex_of("i % 64")
    rung = hex_of("i * 8 + r")
    ladder = f"{numbers} as n, ({' union all '.join(f'select {rung} as r' for rung in range(RUNGS))}) as l"
    commitment = hex_of("i")
    columns = "(id, kind, phase, pending_id, debit, credit, amount_msat, commitment, trace_id, at_ms)"
    statements = (
        "insert into rounds (round, phase, terms, traceparent) "
        f"select distinct -(i / {PER_ROUND}), 'done', {quoted}, '' from {numbers} as n",
        "insert into submissions (commitment, round, seq, peer, payee, state, token_id, payment_hash, fee_msat, reserved_msat, "
        "request_hash, statement, attempt, due_by_ms, failure, credit_due, frozen, traceparent, opened_at_ms) "
        f"select {commitment}, -(i / {PER_ROUND}), i, {peer}, {peer}, 'ended', {commitment}, {commitment}, 500000, 63000, "
        f"'', '', 1, 0, '', "
        f"{'0, 0' if sqlite else 'false, false'}, '', i from {numbers} as n",
        "insert into rungs (payment_hash, commitment, attempt, rung, amount_msat, bolt11, state, not_after_ms, "
        f"expiry_height) select {rung}, {commitment}, 1, r, 1000 * (1 << r), '', 'settled', 0, 0 from {ladder}",
        f"insert into fees (payment_hash, amount_msat, settle_index) select {commitment}, 500000, i from {numbers} as n",
        f"insert into transfers {columns} select 'fee:' || {commitment}, 'fee received', 'single', null, 'lightning', "
        f"'fees:unclaimed', 500000, {commitment}, '', i from {numbers} as n",
        f"insert into transfers {columns} select 'claim:' || {commitment}, 'fee earned', 'single', null, "
        f"'fees:unclaimed', 'fees:earned', 500000, {commitment}, '', i from {numbers} as n",
        f"insert into transfers {columns} select 'lock:' || {rung}, 'rung', 'pending', null, 'peer:' || {peer}, "
        f"'lightning', 1000 * (1 << r), {commitment}, '', i from {ladder}",
        f"insert into transfers {columns} select 'reward:' || {commitment}, 'reward', 'single', null, 'rewards', "
        f"'peer:' || {peer}, 63000, {commitment}, '', i from {numbers} as n",
        f"insert into transfers {columns} select 'end:' || {rung}, 'rung', 'post', 'lock:' || {rung}, "
        f"'peer:' || {peer}, 'lightning', 1000 * (1 << r), {commitment}, '', i from {ladder}",
    )  # fmt: skip
    sums = (
        "insert into accounts (name, debits_msat, credits_msat) select account, sum(d), sum(c) from ("
        "select debit as account, amount_msat as d, 0 as c from transfers where phase <> 'pending' "
        "union all select credit, 0, amount_msat from transfers where phase <> 'pending') as sides group by account"
    )
    with database.engine.begin() as connection:
        if sqlite:
            connection.exec_driver_sql("pragma cache_size = -200000")
            for trigger in connection.exec_driver_sql("select name from sqlite_master where type = 'trigger'").all():
                connection.exec_driver_sql(f"drop trigger {trigger.name}")
        else:
            connection.exec_driver_sql("set local statement_timeout = 0")
            connection.exec_driver_sql("set local session_replication_role = replica")
        for statement in (*statements, sums):
            connection.execute(sa.text(statement))
        for guard in SQLITE if sqlite else ():
            connection.exec_driver_sql(guard)
    with database.engine.connect().execution_options(reading=True) as connection:
        connection.exec_driver_sql("analyze")
        connection.commit()
