"""The books in numbers, read now and then for Prometheus. It only looks; what is told lies in `metrics`."""

import asyncio

import msgspec
import structlog
from l402core.errors import Unavailable
from l402core.escrow import Escrow
from l402core.events import EscrowLine, Reconciled
from l402core.outbox import Transaction

from l402_settler import ledger, metrics
from l402_settler.adapters import books, status_books
from l402_settler.office import Office
from l402_settler.reconcile import GRAVITY
from l402_settler.rounds import COMMIT, JUDGE, UPLOAD
from l402_settler.status import escrow_lines
from l402_settler.views import terms_of

log = structlog.get_logger()
EVERY_S = 5.0
STATES = tuple(state for state in Escrow if state is not Escrow.ENDED)


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of the ledger. Amounts in msat."""

    sums: dict[str, int]
    owed_msat: int
    credits_msat: int
    unclaimed_msat: int
    escrows: tuple[EscrowLine, ...]
    frozen: dict[str, int]


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of the newest round."""

    round: int = 0
    overdue_ms: int = 0
    opened: int = 0
    uploaded: int = 0
    scored: int = 0


async def tell_forever(office: Office) -> None:
    """Read and tell, for ever."""
    while True:
        try:
            await tell(office)
        except Unavailable as error:
            log.warning("metrics.wait", detail=error.detail)
        await asyncio.sleep(EVERY_S)


async def tell(office: Office) -> None:
    """Once. Raises Unavailable."""
    now_ms = office.now_ms()
    money, now = await office.database.read(lambda tx: (_money(tx), _now(tx, now_ms)))
    for name, value in money.sums.items():
        metrics.SUMS.tell(name, value)
    metrics.OWED.set(money.owed_msat)
    metrics.CREDITS.set(money.credits_msat)
    metrics.UNCLAIMED.set(money.unclaimed_msat)
    metrics.LOCKED.set(sum(one.locked_msat for one in money.escrows))
    by_state = {one.state: one for one in money.escrows}
    for state in STATES:
        line = by_state.get(state)
        metrics.ESCROWS.labels(state).set(line.escrows if line else 0)
        metrics.ESCROW_AGE.labels(state).set(max(0, now_ms - line.oldest_ms) / 1_000 if line else 0)
    for what, count in money.frozen.items():
        metrics.FROZEN.labels(what).set(count)
    metrics.ROUND.set(now.round)
    metrics.ROUND_OVERDUE.set(now.overdue_ms / 1_000)
    for stage in ("opened", "uploaded", "scored"):
        metrics.SUBMISSIONS.labels(stage).set(getattr(now, stage))


def tell_differences(found: Reconciled) -> None:
    """Of one comparison with our node's lists."""
    for weight in GRAVITY:
        metrics.DIFFERENCES.labels(weight).set(sum(one.weight == weight for one in found.differences))
    metrics.RECONCILED.set(found.at_ms / 1_000)


def _money(tx: Transaction) -> Money:
    rewards = status_books.account(tx, ledger.REWARDS)
    sums = {
        "l402_fees_msat": status_books.account(tx, ledger.EARNED).credits_msat,
        "l402_rewards_msat": rewards.debits_msat,
        "l402_forfeited_msat": rewards.credits_msat,
        "l402_sponsored_msat": status_books.accounts_under(tx, ledger.SPONSORS).credits_msat,
        "l402_routing_msat": status_books.account(tx, ledger.ROUTING).debits_msat,
    }
    return Money(
        sums=sums, owed_msat=status_books.accounts_under(tx, ledger.OWED).owed_msat, escrows=escrow_lines(tx),
        credits_msat=status_books.accounts_under(tx, ledger.CREDITS).owed_msat,
        unclaimed_msat=status_books.account(tx, ledger.UNCLAIMED).owed_msat, frozen=status_books.frozen(tx),
    )  # fmt: skip


def _now(tx: Transaction, now_ms: int) -> Now:
    row = books.current_round(tx)
    if row is None:
        return Now()
    terms, counts = terms_of(row), books.counts(tx, row.round)
    deadlines = {COMMIT: terms.commit_until_ms, UPLOAD: terms.upload_until_ms, JUDGE: terms.judge_by_ms}
    return Now(
        round=row.round, overdue_ms=max(0, now_ms - deadlines.get(row.phase, now_ms)), opened=counts.opened,
        uploaded=counts.uploaded, scored=counts.scored,
    )  # fmt: skip
