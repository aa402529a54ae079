"""The triggers that guard the books, in both dialects. They know no caller, and trust none.

What is only ever added to; an end that is its own pending transfer's; sums that follow every transfer in the same
statement.
"""

from l402core.guards import append_only

from l402_settler.ledger import LIGHTNING

APPEND_ONLY = ("transfers", "fees", "tokens", "past_offers", "freezes", "settlements")
"""Facts: who would change or forget one would write another history."""

SLOT_MS = 600_000

_NO_PENDING = """not exists (
    select 1 from transfers where id = new.pending_id and phase = 'pending'
    and debit = new.debit and credit = new.credit and amount_msat = new.amount_msat
)"""
_POSTED = "case when new.phase in ('single', 'post') then new.amount_msat else 0 end"
_PENDING = "case new.phase when 'pending' then new.amount_msat when 'single' then 0 else -new.amount_msat end"
_SUMS = f"""
    insert into accounts (name) values (new.debit), (new.credit) on conflict (name) do nothing;
    update accounts set debits_msat = debits_msat + {_POSTED}, pending_debits_msat = pending_debits_msat + {_PENDING}
        where name = new.debit;
    update accounts set credits_msat = credits_msat + {_POSTED}, pending_credits_msat = pending_credits_msat + {_PENDING}
        where name = new.credit;
"""  # noqa: S608 - made of constants
_LOCKED = f"new.phase = 'pending' and new.credit = '{LIGHTNING}'"
_SLOT = f"""
    insert into locked (slot, amount_msat) values (new.at_ms / {SLOT_MS}, new.amount_msat)
        on conflict (slot) do update set amount_msat = locked.amount_msat + excluded.amount_msat;
"""  # noqa: S608 - made of constants

SQLITE = (
    *append_only("sqlite", APPEND_ONLY),
    "create trigger transfers_end before insert on transfers when new.pending_id is not null begin "
    f"select raise(abort, 'an end is that of a pending transfer of the same accounts and amount') where {_NO_PENDING}; end",
    f"create trigger transfers_sums after insert on transfers begin {_SUMS} end",
    f"create trigger transfers_locked after insert on transfers when {_LOCKED} begin {_SLOT} end",
)

POSTGRES = (
    *append_only("postgresql", APPEND_ONLY),
    "create function check_journal_end() returns trigger language plpgsql as "
    f"$$ begin if new.pending_id is not null and {_NO_PENDING} then raise exception "
    "'an end is that of a pending transfer of the same accounts and amount' "
    "using errcode = 'integrity_constraint_violation'; end if; return new; end $$",
    "create trigger transfers_end before insert on transfers for each row execute function check_journal_end()",
    "create function follow_journal() returns trigger language plpgsql as "
    f"$$ begin {_SUMS} if {_LOCKED} then {_SLOT} end if; return null; end $$",
    "create trigger transfers_sums after insert on transfers for each row execute function follow_journal()",
)

BY_DIALECT = {"sqlite": SQLITE, "postgresql": POSTGRES}
