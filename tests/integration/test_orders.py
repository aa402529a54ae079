"""An operator's orders over a real bus: the command, the settler's and the oracle's answers, and dead letters on their way."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from l402_invoicer.app import CONSUMERS as INVOICER
from l402_settler.app import CONSUMERS as SETTLER
from l402_settler.writing_off import WritingOff
from l402core.bus import Bus, migrate
from l402core.errors import Conflict, Contradiction, NotFound
from l402core.events import (
    ChannelStanding,
    ChannelsView,
    EndRound,
    EscrowLock,
    Freeze,
    NodeFlow,
    Pardon,
    Pardoned,
    ReadChannels,
    RoundEnded,
    SaidAgain,
    SayAgain,
    Thaw,
    WorkDead,
    WriteOff,
)
from l402core.signing import Signed
from l402train.exits import Exit

from tests.support.demos import COMMAND, environment
from tests.support.nats import running_nats
from tests.support.pages import Paged
from tests.support.settler import Stage, sha

LOCK, *_ = INVOICER
DEAD = next(one for one in SETTLER if one.event is WorkDead)
LIMIT_S = 30


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with the streams that are needed here."""
    with running_nats(tmp_path / "nats") as address:
        asyncio.run(migrate(address, (LOCK, DEAD)))
        yield address


@pytest.fixture
async def stage(tmp_path: Path, each_database: str, url: str) -> AsyncIterator[Stage]:
    """A settler that answers orders, and a submission."""
    made = Stage(tmp_path)
    await made.open_round()
    await made.desk.open(made.opening("a"))
    bus = Bus(url, "settler")
    bus.answer(Freeze, made.thawing.freeze)
    bus.answer(Thaw, made.thawing.thaw)
    bus.answer(WriteOff, WritingOff(made.office, Paged()).write_off)

    async def on_dead(event: WorkDead) -> None:
        await made.thawing.on_work_dead(event)
        made.heard.set()

    bus.consume(DEAD, on_dead)
    await bus.start()
    yield made
    await bus.stop()
    made.database.close()


async def order(url: str, *words: str) -> tuple[int, str]:
    """The real command on this bus: its exit code, and what it printed."""
    command = [*COMMAND, *words, "--nats", url]
    made = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment()
    )
    told, _ = await asyncio.wait_for(made.communicate(), 2 * LIMIT_S)
    assert made.returncode is not None
    return made.returncode, told.decode()


async def test_an_operator_freezes_and_thaws(stage: Stage, url: str) -> None:
    """Each order says what came of it; one that makes no sense is one line and an exit code."""
    freeze = ("--reason", "it looks odd", "--by", "ann")
    code, told = await order(url, "freeze", sha("a")[:12], *freeze, "--json")
    assert (code, json.loads(told)["frozen"]) == (Exit.FINE, True)
    assert await stage.is_frozen(sha("a"))
    code, told = await order(url, "freeze", sha("a"), *freeze)
    assert (code, "refuses" in told, told.count("\n")) == (Exit.NOT_FOUND, True, 1)
    assert (await order(url, "freeze", "xyz", *freeze))[0] == Exit.USAGE
    code, told = await order(url, "thaw", sha("a")[:12], "--reason", "it was nothing")
    assert (code, "goes on, now opened" in told) == (Exit.FINE, True)


async def test_an_operator_explains_what_the_node_has_forgotten(stage: Stage, url: str) -> None:
    """The node knows nothing of a fee that the books have: frozen, written off by name, and thawed."""
    await stage.fee("a")
    write_off = ("write-off", sha("fee a"), "--reason", "old invoices were deleted", "--by", "ann")
    assert (await order(url, *write_off))[0] == Exit.NOT_FOUND  # nothing is frozen
    await stage.freeze(sha("a"))
    assert await order(url, *write_off) == (Exit.FINE, f"fee {sha('fee a')} is explained: no money differs\n")
    code, told = await order(url, *write_off, "--json")
    assert (code, json.loads(told)["lost_msat"]) == (Exit.FINE, 0)
    assert (await order(url, "thaw", sha("a"), "--reason", "explained"))[0] == Exit.FINE


async def test_what_the_invoicer_cannot_do_freezes_the_escrow(stage: Stage, url: str) -> None:
    """From the handler's refusal over the bus into the books."""
    invoicer = Bus(url, "invoicer")

    async def refuse(_work: EscrowLock) -> None:
        raise Contradiction("impossible", "two facts")

    async def give_up(subject: str, _body: bytes, error: Exception) -> None:
        await invoicer.publish(WorkDead(id="w", occurred_at_ms=0, request=subject, reason=str(error)))

    invoicer.consume(LOCK, refuse, give_up)
    await invoicer.start()
    offer = Signed(body="", signer="", signature="")
    await invoicer.publish(
        EscrowLock(
            id="l", occurred_at_ms=0, round=1, commitment=sha("a"), offer=offer, bolt11s=(), payee="", not_after_ms=0,
            fee_limit_msat=0, cltv_limit=0,
        )
    )  # fmt: skip
    async with asyncio.timeout(LIMIT_S):
        await stage.heard.wait()
    await invoicer.stop()
    assert await stage.is_frozen(sha("a"))


async def test_the_oracle_is_asked_to_say_it_again(url: str) -> None:
    """The command prints what was said."""
    bus = Bus(url, "attestor")

    async def say(_question: SayAgain) -> SaidAgain:
        return SaidAgain(said=("round.aggregate.v1.7",))

    bus.answer(SayAgain, say)
    await bus.start()
    assert await order(url, "again") == (Exit.FINE, "round.aggregate.v1.7\n")
    await bus.stop()


async def test_an_operator_sees_the_channels_though_no_stranger_may(url: str) -> None:
    """The settler tells them over the bus; with what stands against the next round."""
    bus, node = Bus(url, "settler"), sha("node")
    standing = ChannelStanding(
        node=node, channel_id="1", active=True, capacity_msat=20_000_000, local_msat=9_000_000, remote_msat=11_000_000,
        slots_used=6, slots_free=477, needed_msat=6_300_000, warning="",
    )  # fmt: skip
    view = ChannelsView(
        at_ms=1, channels=(standing,), flows=(NodeFlow(node=node, fees_msat=500_000, rewards_msat=200_000, rounds=()),),
        sendable_msat=9_000_000, needed_msat=12_600_000, slots_free=477, slots_needed=12, warning="too little is sendable",
    )  # fmt: skip

    async def read(_question: ReadChannels) -> ChannelsView:
        return view

    bus.answer(ReadChannels, read)
    await bus.start()
    code, told = await order(url, "channels", "--json")
    assert (code, json.loads(told)) == (Exit.FINE, json.loads(msgspec.json.encode(view)))
    code, told = await order(url, "channels")
    assert (code, "6/483" in told, "too little is sendable" in told) == (Exit.FINE, True, True)
    await bus.stop()


async def test_a_peer_is_pardoned_by_a_command(url: str) -> None:
    """By the beginning of its key, with who and why; where nobody is held back it is refused in the oracle's words."""
    bus, orders = Bus(url, "attestor"), list[Pardon]()

    async def forgive(order: Pardon) -> Pardoned:
        orders.append(order)
        if order.peer != "ab12cd34":
            raise NotFound("peer", f"no peer is held back whose key begins with {order.peer}")
        return Pardoned(peer="ab12cd34" * 8, round=7, commitment=sha("c"))

    bus.answer(Pardon, forgive)
    await bus.start()
    code, printed = await order(url, "pardon", "AB12CD34", "--reason", "our decoder", "--by", "olga")
    assert (code, "gets offers again" in printed, "round 7" in printed) == (Exit.FINE, True, True)
    code, printed = await order(url, "pardon", "ffffffff", "--reason", "our decoder", "--by", "olga")
    assert (code == Exit.FINE, "no peer is held back" in printed) == (False, True)
    assert [(one.peer, one.by, one.reason) for one in orders] == [
        ("ab12cd34", "olga", "our decoder"), ("ffffffff", "olga", "our decoder"),
    ]  # fmt: skip
    await bus.stop()


async def test_a_frozen_round_is_ended_by_a_command(url: str) -> None:
    """It names who orders it and why, and tells what was wrong; one that is not frozen is refused in the oracle's words."""
    bus, orders = Bus(url, "attestor"), list[EndRound]()

    async def end(order: EndRound) -> RoundEnded:
        orders.append(order)
        if order.round != 7:
            raise Conflict("not_frozen", "round 8 is assessed: only a frozen one is ended by hand")
        return RoundEnded(round=7, trouble="two closings", checkpoint=sha("c"))

    bus.answer(EndRound, end)
    await bus.start()
    code, printed = await order(url, "end-round", "7", "--reason", "the settler lied", "--by", "olga")
    assert (code, printed.split(",")[0], "two closings" in printed) == (Exit.FINE, "Round 7 is over", True)
    code, printed = await order(url, "end-round", "8", "--reason", "why not", "--by", "olga")
    assert (code == Exit.FINE, "only a frozen one" in printed) == (False, True)
    assert [(one.round, one.by, one.reason) for one in orders] == [
        (7, "olga", "the settler lied"), (8, "olga", "why not"),
    ]  # fmt: skip
    await bus.stop()
