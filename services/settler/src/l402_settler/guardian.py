"""The guardian: it alarms before an open HTLC of ours, a rung's or a tranche's, comes near its expiry. It asks no node.

It reads the books, and the last height that our node told: so it goes on while the node is silent.
"""

import math
from typing import Any

import sqlalchemy as sa
import structlog
from l402core.outbox import Transaction

from l402_settler import metrics
from l402_settler.adapters import books, sponsor_books
from l402_settler.office import Office

log = structlog.get_logger()
Row = sa.Row[Any]


async def guard(office: Office) -> None:
    """One look: a count where everything is far from its expiry. Raises Unavailable."""
    tip = office.sight.tip
    open_, nearest = await office.database.read(books.nearest_expiry)
    metrics.RUNGS_OPEN.set(open_)
    if not tip and nearest < math.inf:  # just started beside a silent node: how far it is nobody can say
        metrics.GUARDIAN_BLOCKS.set(0)
        log.warning("guardian.blind", detail="our node has told no height yet")
        return
    metrics.GUARDIAN_BLOCKS.set(nearest - tip)
    if nearest - tip > office.config.guardian_blocks:
        return
    rungs, tranches = await office.database.read(_open)
    for line in rungs:
        _alarm_if_near(office, line, commitment=line.commitment, index=line.rung)
    for line in tranches:
        _alarm_if_near(
            office, line, sponsorship=line.sponsorship, tranche=line.tranche, payment_hash=line.payment_hash,
            state=line.state,
        )  # fmt: skip


def _open(tx: Transaction) -> tuple[list[Row], list[Row]]:
    return books.open_rungs(tx), sponsor_books.live_tranches(tx)


def _alarm_if_near(office: Office, line: Row, **about: Any) -> None:
    sight = office.sight
    left = line.expiry_height - sight.tip
    if line.expiry_height and left <= office.config.guardian_blocks:
        metrics.GUARDIAN_ALARMS.inc()
        age_s = (office.now_ms() - sight.tip_ms) // 1_000
        log.critical("guardian.alarm", **about, blocks_left=left, height=sight.tip, height_age_s=age_s)
