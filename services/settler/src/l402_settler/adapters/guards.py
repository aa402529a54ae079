"""The triggers that guard the books, in both dialects. They know no caller, and trust none.

What is only ever added to; an end that is its own pending transfer's; sums that follow every transfer in the same
statement.
"""

from l402core.guards import append_only

from l402_settler.ledger import LIGHTNING

APPEND_ONLY = (
    "transfers", "fees", "tokens", "past_offers", "freezes", "settlements", "outages", "explained", "outside",
)  # fmt: skip
"""Facts: who would change or forget one would write another history."""

SLOT_MS = 600_000

_NO_PENDING = """not exists (
    select 1 from transfers where id = new.pending_id and phase = 'pending'
    and debit = new.debit and credit = new.credit and amount_msat = new.amount_msat
)"""
_POSTED = "case when {0}phase in ('single', 'post') then {0}amount_msat else 0 end"
_PENDING = "case {0}phase when 'pending' then {0}amount_msat when 'single' then 0 else -{0}amount_msat end"
_POSTED_NEW, _PENDING_NEW = _POSTED.format("new."), _PENDING.format("new.")
_SUMS = f"""
    insert into accounts (name) values (new.debit), (new.credit) on conflict (name) do nothing;
    update accounts set debits_msat = debits_msat + {_POSTED_NEW},
        pending_debits_msat = pending_debits_msat + {_PENDING_NEW} where name = new.debit;
    update accounts set credits_msat = credits_msat + {_POSTED_NEW},
        pending_credits_msat = pending_credits_msat + {_PENDING_NEW} where name = new.credit;
"""  # noqa: S608 - made of constants
_LOCKED = "{0}phase = 'pending' and {0}credit = '" + LIGHTNING + "'"
_ADD_UP = "on conflict (slot) do update set amount_msat = locked.amount_msat + excluded.amount_msat"
_SLOT = f"""
    insert into locked (slot, amount_msat) values (new.at_ms / {SLOT_MS}, new.amount_msat) {_ADD_UP};
"""  # noqa: S608 - made of constants
_SUMS_OF_ALL = f"""
    insert into accounts (name) select debit from fresh union select credit from fresh on conflict (name) do nothing;
    update accounts set
        debits_msat = debits_msat + moved.debits, pending_debits_msat = pending_debits_msat + moved.pending_debits,
        credits_msat = credits_msat + moved.credits, pending_credits_msat = pending_credits_msat + moved.pending_credits
    from (
        select name, sum(debits) as debits, sum(pending_debits) as pending_debits,
            sum(credits) as credits, sum(pending_credits) as pending_credits
        from (
            select debit as name, {_POSTED.format("")} as debits, {_PENDING.format("")} as pending_debits,
                0 as credits, 0 as pending_credits from fresh
            union all
            select credit, 0, 0, {_POSTED.format("")}, {_PENDING.format("")} from fresh
        ) as sides group by name
    ) as moved where accounts.name = moved.name;
    insert into locked (slot, amount_msat) select at_ms / {SLOT_MS}, sum(amount_msat) from fresh
        where {_LOCKED.format("")} group by at_ms / {SLOT_MS} {_ADD_UP};
"""  # noqa: S608 - made of constants
"""Of all rows of one statement at once: six rungs of a ladder change three accounts, not twelve times one. So an account may
not be negative at the end of a statement here, and after each of its rows on SQLite, which refuses rather more."""

SQLITE = (
    *append_only("sqlite", APPEND_ONLY),
    "create trigger transfers_end before insert on transfers when new.pending_id is not null begin "
    f"select raise(abort, 'an end is that of a pending transfer of the same accounts and amount') where {_NO_PENDING}; end",
    f"create trigger transfers_sums after insert on transfers begin {_SUMS} end",
    f"create trigger transfers_locked after insert on transfers when {_LOCKED.format('new.')} begin {_SLOT} end",
)

POSTGRES = (
    *append_only("postgresql", APPEND_ONLY),
    "create function check_journal_end() returns trigger language plpgsql as "
    f"$$ begin if new.pending_id is not null and {_NO_PENDING} then raise exception "
    "'an end is that of a pending transfer of the same accounts and amount' "
    "using errcode = 'integrity_constraint_violation'; end if; return new; end $$",
    "create trigger transfers_end before insert on transfers for each row execute function check_journal_end()",
    f"create function follow_journal() returns trigger language plpgsql as $$ begin {_SUMS_OF_ALL} return null; end $$",
    "create trigger transfers_sums after insert on transfers referencing new table as fresh "
    "for each statement execute function follow_journal()",
)

BY_DIALECT = {"sqlite": SQLITE, "postgresql": POSTGRES}
