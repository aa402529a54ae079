"""`l402-train rungs`: what an operator sees of money that is locked, on either database."""

import io
import json

from l402core.lnd.port import PaymentStatus
from l402train import looking, open_rungs
from l402train.exits import Exit
from rich.console import Console

from tests.support.settler import PEER, Stage, sha


async def test_open_rungs_are_told_with_their_expiry_the_nearest_first(stage: Stage) -> None:
    """Those that have ended are not, and one of which our node has not told comes last."""
    where = stage.config.database_url
    assert open_rungs.open_rungs(where) == []
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    for index, height in ((2, 190), (4, 170), (5, 180)):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT, height=height)
    await stage.seen("a", 5, PaymentStatus.FAILED)
    found = open_rungs.open_rungs(where)
    assert [(one.index, one.expiry_height, one.state) for one in found] == [
        (4, 170, "in flight"), (2, 190, "in flight"), (0, 0, "registered"), (1, 0, "registered"), (3, 0, "registered"),
    ]  # fmt: skip
    assert {(one.commitment, one.peer, one.round) for one in found} == {(sha("a"), PEER.public, 1)}
    assert found[0].payment_hash == sha("rung a 4")
    assert found[0].amount_msat == 16 * stage.terms().unit_msat
    assert not any(one.frozen for one in found)
    await stage.freeze(sha("a"))
    assert all(one.frozen for one in open_rungs.open_rungs(where))


async def test_they_are_a_table_or_json(stage: Stage) -> None:
    """Nothing is a sentence, and every rung is a line."""
    where = stage.config.database_url
    assert told(where, as_json=False) == "No rung is open.\n"
    assert json.loads(told(where, as_json=True)) == []
    await stage.locked("a")
    lines = told(where, as_json=False).splitlines()
    assert len(lines) == 1 + 6
    assert all(sha("a")[:16] in line and "190" in line for line in lines[1:])
    assert [one["payment_hash"] for one in json.loads(told(where, as_json=True))] == [
        sha(f"rung a {index}") for index in range(6)
    ]


def told(where: str, *, as_json: bool) -> str:
    """What stands on a wide screen."""
    out = io.StringIO()
    assert looking.rungs(Console(file=out, width=200), where=where, as_json=as_json) is Exit.FINE
    return out.getvalue()
