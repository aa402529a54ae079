"""What the settler sees of its own node, and when that stops it from selling a place."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
from l402_settler import metrics
from l402_settler.watch import Watch
from l402core.errors import Contradiction, Unavailable
from l402core.lnd.port import ChannelView, NodeInfo, PaymentView
from prometheus_client import REGISTRY

from tests.support.pages import Paged
from tests.support.settler import Stage, sha
from tests.support.sponsors import Patron, payment_hash


class OneNode(Paged):
    """A node that says what a test wants to hear."""

    def __init__(
        self, *, network: str = "simnet", version: str = "0.21.0-beta", synced: bool = True, silent: bool = False,
        channels: tuple[ChannelView, ...] = (), height: int = 321,
    ) -> None:  # fmt: skip
        self._info = NodeInfo(
            pubkey="02" * 33, alias="one", version=version, network=network, block_height=height, synced=synced
        )
        self._silent = silent
        self._channels = channels

    async def info(self) -> NodeInfo:
        """Itself, or nothing."""
        if self._silent:
            raise Unavailable("lnd", "asleep")
        return self._info

    async def channels(self) -> list[ChannelView]:
        """As given."""
        return list(self._channels)

    async def closing_channels(self) -> int:
        """None."""
        return 0

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Never heard of it."""
        return None

    async def watch_payments(self) -> AsyncIterator[PaymentView]:
        """Nothing happens."""
        return
        yield


async def seen_by(stage: Stage, node: OneNode) -> str:
    """The trouble after one look; empty: there is none."""
    await Watch(stage.office, node).look()
    return stage.office.sight.trouble


async def test_a_node_that_is_well_is_no_trouble(stage: Stage) -> None:
    """Its height is what the next terms count from."""
    assert await seen_by(stage, OneNode()) == ""
    assert stage.office.sight.height == 321


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (OneNode(network="regtest"), "is on regtest, configured is simnet"),
        (OneNode(version="0.18.5-beta"), "0.19.0 or newer"),
        (OneNode(synced=False), "not synced"),
        (OneNode(silent=True), "asleep"),
    ],
    ids=["another network", "too old", "behind", "silent"],
)
async def test_a_node_that_cannot_lock_is_trouble(stage: Stage, node: OneNode, words: str) -> None:
    """No place is sold on a node of another network, behind the chain, or silent."""
    assert words in await seen_by(stage, node)


async def test_readiness_names_what_stands_against_a_lock(stage: Stage) -> None:
    """`/readyz` says by name what to repair, and nothing once all is well."""
    assert stage.office.sight.readiness() == {"lightning": False, "lightning_answers": False}
    await seen_by(stage, OneNode(version="0.18.5-beta"))
    assert stage.office.sight.readiness() == {"lightning": False, "lightning_version": False}
    await seen_by(stage, OneNode())
    assert stage.office.sight.readiness() == {"lightning": False, "lightning_channels": False}


async def test_of_an_unfit_node_no_height_is_believed(stage: Stage) -> None:
    """Terms that name a height must not count from another chain, or from where a node lags."""
    before = stage.office.sight.height
    await seen_by(stage, OneNode(network="regtest"))
    await seen_by(stage, OneNode(synced=False))
    assert stage.office.sight.height == before


def a_channel(*, active: bool = True) -> ChannelView:
    """One that can send three ladders, and has three HTLCs out."""
    return ChannelView(
        channel_id=1, remote_pubkey="03" * 33, active=active, capacity_msat=10**8, local_msat=18_900_000,
        remote_msat=0, pending_out=3,
    )  # fmt: skip


def number(name: str, **labels: str) -> float:
    """A metric's value now."""
    value = REGISTRY.get_sample_value(f"l402_{name}", labels)
    assert value is not None
    return value


async def test_what_the_node_can_still_lock_is_told_in_numbers(stage: Stage) -> None:
    """Of active channels alone; a check that fails is 0, the others 1."""
    await seen_by(stage, OneNode(channels=(a_channel(), a_channel(), a_channel(active=False))))
    assert number("node_sendable_msat") == 2 * 18_900_000
    assert number("node_htlc_slots_free") == 2 * 480
    assert number("node_channels_active") == 2
    assert number("node_block_height") == 321
    assert number("node_fit", check="synced") == number("node_fit", check="liquidity") == 1
    await seen_by(stage, OneNode(synced=False))
    assert (number("node_fit", check="synced"), number("node_fit", check="network")) == (0, 1)
    await seen_by(stage, OneNode(channels=()))
    assert (number("node_fit", check="synced"), number("node_fit", check="channels")) == (1, 0)


async def test_the_books_begin_with_what_every_channel_holds(stage: Stage) -> None:
    """One whose other end is away at the first look is ours as well, and what it holds is sent later."""
    await seen_by(stage, OneNode(channels=(a_channel(), a_channel(active=False))))
    assert (await stage.ledger())["treasury"] == 2 * 18_900_000


async def test_the_guardian_counts_the_blocks_to_the_nearest_expiry_and_alarms_at_24(stage: Stage) -> None:
    """HTLCs that expire at 190: 25 blocks before nobody is woken, 24 before somebody is, whoever the node's chain is."""
    await stage.locked("a")
    for height, left, alarmed in ((100, 90, False), (165, 25, False), (166, 24, True), (189, 1, True)):
        before = number("guardian_alarms_total")
        await seen_by(stage, OneNode(height=height))
        assert number("guardian_blocks_left") == left
        assert (number("guardian_alarms_total") > before) is alarmed, height
    assert number("rungs_open") == 6


async def alarmed_by(stage: Stage, node: OneNode) -> list[dict[str, Any]]:
    """What the guardian says at one look."""
    with structlog.testing.capture_logs() as logs:
        await seen_by(stage, node)
    return [dict(line) for line in logs if line["event"] == "guardian.alarm"]


async def test_the_guardian_judges_by_the_last_height_while_the_node_is_silent(stage: Stage) -> None:
    """What is locked expires whether or not the node answers; how old the height is stands beside it."""
    await stage.locked("a")
    await seen_by(stage, OneNode(height=166))
    stage.now_ms += 90_000
    alarms = await alarmed_by(stage, OneNode(silent=True))
    assert [(one["index"], one["blocks_left"], one["height"], one["height_age_s"]) for one in alarms] == [
        (index, 24, 166, 90) for index in range(6)
    ]
    assert number("guardian_blocks_left") == 24


@pytest.mark.parametrize(
    "node",
    [OneNode(height=100, synced=False), OneNode(height=900, network="regtest")],
    ids=["reads its chain anew", "another network"],
)
async def test_no_lesser_and_no_foreign_height_calms_or_wakes_the_guardian(stage: Stage, node: OneNode) -> None:
    """A node that lags knows less than it did, and another chain's height says nothing of ours."""
    await stage.locked("a")
    await seen_by(stage, OneNode(height=166))
    assert {one["blocks_left"] for one in await alarmed_by(stage, node)} == {24}


async def test_a_height_that_nobody_told_is_far_from_nothing(stage: Stage) -> None:
    """Just started beside a silent node: the whole 190 blocks would be a comfort that nobody has seen."""
    await stage.locked("a")
    with structlog.testing.capture_logs() as logs:
        await seen_by(stage, OneNode(silent=True))
    assert [line["event"] for line in logs if line["event"].startswith("guardian.")] == ["guardian.blind"]
    assert (number("guardian_blocks_left"), number("rungs_open")) == (0, 6)


async def test_books_that_do_not_answer_end_no_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guardian says that it sees nothing, and the node is not to blame."""

    async def asleep(*_: object) -> None:
        raise Unavailable("database", "asleep")

    monkeypatch.setattr(stage.database, "read", asleep)
    with structlog.testing.capture_logs() as logs:
        assert await seen_by(stage, OneNode(channels=(a_channel(),))) == ""
    assert [line["detail"] for line in logs if line["event"] == "guardian.blind"] == ["asleep"]


async def stays_locked(_at: Patron, _id: str) -> None:
    """No round takes it."""


async def funds(at: Patron, _id: str) -> None:
    """A round names it, and nobody judges."""
    await at.stage.open_round(2)


async def is_earned(at: Patron, id_: str) -> None:
    """Its preimage is in the books, and does not reach the node."""
    await at.stage.open_round(2)
    await at.desk.on_judged(at.judged(id_, round_=2))
    await at.desk.tending.tend()


async def is_not_earned(at: Patron, id_: str) -> None:
    """It is to go back, and the node does not hear of it."""
    await at.stage.open_round(2)
    await at.desk.on_judged(at.judged(id_, round_=2, earned=False))
    await at.desk.tending.tend()


async def is_frozen(at: Patron, _id: str) -> None:
    """Nobody ends it until a person has looked."""
    await at.desk.tending.freeze(payment_hash("p", 0), Contradiction("planted", "to be seen"))


@pytest.mark.parametrize(
    ("after", "state"),
    [
        (stays_locked, "locked"), (funds, "funding"), (is_earned, "settling"), (is_not_earned, "returning"),
        (is_frozen, "locked"),
    ],
)  # fmt: skip
async def test_the_guardian_watches_a_sponsors_htlc_in_every_state_that_has_one(
    stage: Stage, after: Callable[[Patron, str], Awaitable[None]], state: str
) -> None:
    """It expires at 250 as a rung would; until the node has ended it, its money may be lost or its channel closed."""
    at = Patron(stage)
    id_ = await at.locked()
    at.node.cut = True
    await after(at, id_)
    assert await alarmed_by(stage, OneNode(height=225)) == []
    assert number("guardian_blocks_left") == 25
    alarms = await alarmed_by(stage, OneNode(height=226))
    assert [(one["payment_hash"], one["state"], one["blocks_left"]) for one in alarms] == [
        (payment_hash("p", 0), state, 24)
    ]
    assert number("guardian_blocks_left") == 24


async def test_a_tranche_that_has_ended_is_watched_no_more(stage: Stage) -> None:
    """Our node has its preimage: nothing of it is open."""
    at = Patron(stage)
    id_ = await at.locked()
    await is_earned(at, id_)
    assert (await at.tranche(id_)).state == "settled"
    assert await alarmed_by(stage, OneNode(height=240)) == []
    assert number("guardian_blocks_left") == math.inf


async def test_the_nearest_expiry_is_that_of_rungs_and_tranches_together(stage: Stage) -> None:
    """Rungs at 190, a tranche at 250: each alarms by its own."""
    await Patron(stage).locked()
    await stage.locked("a")
    alarms = await alarmed_by(stage, OneNode(height=180))
    assert [one["commitment"] for one in alarms] == [sha("a")] * 6
    assert (number("guardian_blocks_left"), number("rungs_open")) == (10, 6)


async def test_a_sponsors_htlc_that_is_not_taken_is_watched_until_it_is_back(stage: Stage) -> None:
    """Paid too late to outlive a round: it is there until our node has cancelled it."""
    at = Patron(stage)
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    at.node.pay(payment_hash("p", 0), expiry_height=190)
    await at.desk.tending.tend()
    assert [one["state"] for one in await alarmed_by(stage, OneNode(height=166))] == ["returning"]
    await at.desk.tending.tend()
    assert await alarmed_by(stage, OneNode(height=166)) == []


async def test_with_nothing_locked_there_is_no_expiry_to_come_near(stage: Stage) -> None:
    """Infinity is above every threshold that one may set, whether or not a node has told where it is."""
    for node in (OneNode(silent=True), OneNode()):
        metrics.GUARDIAN_BLOCKS.set(0)
        await seen_by(stage, node)
        assert (number("guardian_blocks_left"), number("rungs_open")) == (math.inf, 0)
