"""The public record of what was judged, from the attestor's own tables. It refuses what is not decided, and signs nothing."""

import sys

import msgspec
from l402core.errors import NotFound
from l402core.events import OraclePlan, OracleView, ReadOracle
from l402core.evidence import Evidence
from l402core.outbox import Database, Transaction
from l402core.signing import Signed

from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import isolations
from l402_oracle.attestor.quarantine import ROUNDS as HELD_ROUNDS
from l402_oracle.derive import SHARD_TOKENS
from l402_oracle.planning import Plan, plan

CHECKPOINTS_TOLD = 256


class Records:
    """Evidence about a round or a submission."""

    def __init__(self, database: Database, *, pool_shards: int = sys.maxsize) -> None:
        self._db, self._pool_shards = database, pool_shards

    async def of_round(self, number: int) -> Evidence:
        """All receipts of a round. Raises NotFound while it is not judged."""

        def read(tx: Transaction) -> Evidence:
            return _evidence(tx, number, books.receipts_of(tx, number))

        return await self._db.read(read)

    async def of_submission(self, commitment: str) -> Evidence:
        """One receipt, with its round's page. Raises NotFound while nothing is decided."""

        def read(tx: Transaction) -> Evidence:
            scored = books.read_decision(tx, commitment)
            if scored is None:
                raise NotFound("decision", f"nothing is decided about {commitment[:16]}…")
            return _evidence(tx, scored.round, (scored.receipt,))

        return await self._db.read(read)

    async def plan(self) -> Plan:
        """A round as full as the newest terms allow, at the pace of the last ones. Raises NotFound before the first."""

        def read(tx: Transaction) -> Plan:
            newest = books.newest_terms(tx)
            if newest is None:
                raise NotFound("terms", "no round has terms yet")
            terms = books.read_terms(newest[1])
            return plan(
                tokens_per_s=books.pace_before(tx, newest[0] + 1), peers=terms.places,
                yardstick=terms.yardstick, window_ms=terms.judge_by_ms - terms.upload_until_ms,
                wanted_shards=min(terms.eval_tokens // SHARD_TOKENS, self._pool_shards),
            )  # fmt: skip

        return await self._db.read(read)

    async def held_back(self) -> int:
        """Peers that get no offer in the newest round."""
        return await self._db.read(lambda tx: isolations.held_back(tx, rounds_back=HELD_ROUNDS))

    async def oracle(self, _question: ReadOracle) -> OracleView:
        """How the model got on, and the plan; for people who look at the whole network."""
        checkpoints = await self._db.read(lambda tx: books.newest_checkpoints(tx, CHECKPOINTS_TOLD))
        try:
            made = await self.plan()
        except NotFound:
            return OracleView(checkpoints=checkpoints, plan=None)
        return OracleView(checkpoints=checkpoints, plan=msgspec.convert(msgspec.to_builtins(made), OraclePlan))


def _evidence(tx: Transaction, number: int, receipts: tuple[Signed, ...]) -> Evidence:
    row = books.read_round(tx, number)
    if row is None or row.judged is None or row.terms is None:
        raise NotFound("round", f"round {number} is not judged")
    return Evidence(terms=row.terms, judged=row.judged, receipts=receipts)
