"""What a person has explained as outside of the protocol, from the books. It reads, and refuses to judge."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from l402core.money import show_sat
from rich.console import Console

from l402train.books import opened

_FIND = """
    select payment_hash, way, amount_msat, fee_msat, "by", reason, at_ms, in_opening from outside
    where payment_hash like :w order by payment_hash, way desc
"""
_BACK = "select count(*) from transfers where id = :id"
_ID = {"out": "back:outside:", "in": "back:outside-in:"}


class OutsideStory(msgspec.Struct, frozen=True, kw_only=True):
    """One payment or receipt of our node, and who said that it was none of ours."""

    payment_hash: str
    way: str
    """out or in."""
    amount_msat: int
    fee_msat: int
    by: str
    reason: str
    at_ms: int
    in_opening: bool
    """It is older than the books, whose opening balance has it."""
    taken_back: bool
    """The books have learned since whose it was."""

    def sentence(self) -> str:
        """For a screen."""
        what = "paid" if self.way == "out" else "received"
        fee = f", and {show_sat(self.fee_msat)} to its route" if self.fee_msat else ""
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        since = "; the books have learned since whose it was" if self.taken_back else ""
        older = "; it is older than the books, whose opening balance has it" if self.in_opening else ""
        said = f"explained at {at} by {self.by}: {self.reason}"
        return f"{self.payment_hash}: {show_sat(self.amount_msat)} {what} outside of the protocol{fee}, {said}{older}{since}"


def outside(where: Path | str, wanted: str) -> list[OutsideStory]:
    """Whose payment hashes begin so; a payment to ourselves goes both ways."""
    with opened(where) as books:
        rows = books.execute(sa.text(_FIND), {"w": f"{wanted}%"}).all()
        return [
            OutsideStory(
                **{**row._mapping, "in_opening": bool(row.in_opening)},
                taken_back=bool(books.execute(sa.text(_BACK), {"id": _ID[row.way] + row.payment_hash}).scalar_one()),
            )
            for row in rows
        ]


def tell(out: Console, found: list[OutsideStory]) -> None:
    """A sentence each."""
    for one in found:
        out.print(one.sentence(), soft_wrap=True)
