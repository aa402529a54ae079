"""How a round went, as one line of JSON for people and for the report. It decides nothing."""

from pathlib import Path
from typing import Any, Self

import msgspec
from l402core.documents import Receipt

from l402_peer_agent.files import write_whole


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `rounds.jsonl`. Scores in nano-nats per token, money in msat."""

    round: int
    kind: str
    trace_id: str
    commitment: str = ""
    fee_msat: int = 0
    locked_msat: int = 0
    drop_mean: int = 0
    drop_low: int = 0
    drop_high: int = 0
    reference: int = 0
    floor: int = 0
    quality_ppm: int = 0
    units: int = 0
    reward_msat: int = 0
    """What was settled at our own node."""
    owed_msat: int = 0
    """What was decided, and not delivered yet."""
    verdict: str = ""
    """accepted, rejected, unscored, missed (a phase), unread (nobody answered), disputed (a receipt unlike the terms)."""
    reasons: tuple[str, ...] = ()

    def with_(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return msgspec.structs.replace(self, **changes)

    def judged(self, receipt: Receipt) -> Self:
        """With what the receipt says."""
        return self.with_(
            drop_mean=receipt.drop_mean,
            drop_low=receipt.drop_low,
            drop_high=receipt.drop_high,
            reference=receipt.reference,
            floor=receipt.floor,
            quality_ppm=receipt.quality_ppm,
            units=receipt.units,
            verdict=receipt.verdict,
            reasons=receipt.reasons,
        )


def append_line(path: Path, outcome: Outcome) -> None:
    """One more line; where a restart tells a round again, its line is replaced. Whole or not at all."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    kept = [line for line in lines if msgspec.json.decode(line, type=_Numbered).round != outcome.round]
    write_whole(path, b"\n".join([*kept, msgspec.json.encode(outcome), b""]))


def amend(path: Path, round_: int, **changes: Any) -> None:
    """Change what is written of a round, if anything is."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        known = msgspec.json.decode(line, type=Outcome)
        if known.round == round_:
            append_line(path, known.with_(**changes))


class _Numbered(msgspec.Struct):
    round: int
