"""The coordinator's channels: what flowed by node, from real books, and the warning before they run short."""

from typing import Any

import pytest
from l402_settler.channels import Channels
from l402_settler.config import Config
from l402core.events import ChannelsView, ReadChannels
from l402core.lnd.port import ChannelView, PaymentStatus
from l402core.signing import SigningKey

from tests.support.settler import NODE_PUBLIC, Stage, sha

PLENTY_MSAT = 1_000_000_000


def a_channel(**changes: Any) -> ChannelView:
    """A channel with the payout node of the stories, half of it ours."""
    values: dict[str, Any] = {
        "channel_id": 1, "remote_pubkey": NODE_PUBLIC, "active": True, "capacity_msat": 2 * PLENTY_MSAT,
        "local_msat": PLENTY_MSAT, "remote_msat": PLENTY_MSAT, "pending_out": 0,
    }  # fmt: skip
    return ChannelView(**{**values, **changes})


class OneNode:
    """A node with these channels."""

    def __init__(self, *channels: ChannelView) -> None:
        self._channels = list(channels)

    async def channels(self) -> list[ChannelView]:
        """As told."""
        return self._channels


async def seen(stage: Stage, *channels: ChannelView) -> ChannelsView:
    """The answer to one question."""
    return await Channels(stage.office, OneNode(*channels)).read(ReadChannels())


async def judged(stage: Stage, name: str = "a", mask: int = 0b111) -> None:
    """A story up to its end: the rungs of the mask settled, the others returned."""
    await stage.uploaded(name)
    await stage.settler.on_scored(stage.decision(name, mask))
    for index in range(6):
        await stage.seen(name, index, PaymentStatus.SETTLED if mask >> index & 1 else PaymentStatus.FAILED)


async def test_fees_come_in_and_rewards_go_out_by_node(stage: Stage) -> None:
    """Both directions of one peer's money, by its payout node and round."""
    await judged(stage)
    (flow,) = (await seen(stage, a_channel())).flows
    assert (flow.node, flow.fees_msat, flow.rewards_msat) == (NODE_PUBLIC, 500_000, 700_000)
    assert [(one.round, one.fees_msat, one.rewards_msat) for one in flow.rounds] == [(1, 500_000, 700_000)]


async def test_what_is_only_locked_has_not_flowed(stage: Stage) -> None:
    """A reward counts once it is collected."""
    await stage.locked()
    (flow,) = (await seen(stage, a_channel())).flows
    assert (flow.fees_msat, flow.rewards_msat) == (500_000, 0)


async def test_a_fee_that_became_a_credit_came_in_once(stage: Stage) -> None:
    """Two submissions on one payment hash are one payment to us."""
    await stage.desk.open(stage.opening("a"))
    await stage.desk.open(stage.opening("b", peer=SigningKey(b"\x07" * 32), payment_hash=sha("fee a")))
    (flow,) = (await seen(stage, a_channel())).flows
    assert flow.fees_msat == 500_000


async def test_rounds_that_are_over_are_not_read_again(stage: Stage) -> None:
    """The sums stay as the books grow, and so does the cost of asking."""
    channels = Channels(stage.office, OneNode(a_channel()))
    await judged(stage)
    await channels.read(ReadChannels())
    assert channels._over.next_round == 0  # round 1 is not done
    await stage.turn(now_ms=stage.terms().upload_until_ms)
    await stage.open_round(2)
    first = await channels.read(ReadChannels())
    assert channels._over.next_round == 2
    assert (await channels.read(ReadChannels())).flows == first.flows
    await stage.desk.open(stage.opening("b", round_=2))
    (flow,) = (await channels.read(ReadChannels())).flows
    assert [one.round for one in flow.rounds] == [1, 2]
    assert (flow.fees_msat, flow.rewards_msat) == (1_000_000, 700_000)


async def test_nodes_behind_others_are_told_together(stage: Stage) -> None:
    """A peer reached over another's channel is no channel of ours, and its money is told all the same."""
    await judged(stage)
    direct, others = (await seen(stage, a_channel(remote_pubkey="02" * 33))).flows
    assert (direct.node, direct.fees_msat) == ("02" * 33, 0)
    assert (others.node, others.fees_msat, others.rewards_msat) == ("", 500_000, 700_000)


async def test_the_next_round_needs_a_ladder_and_routing_for_each_place(stage: Stage) -> None:
    """Two places of 63 units, and six rungs' routing fees each."""
    told = await seen(stage, a_channel(pending_out=3))
    assert told.needed_msat == 2 * (6_300_000 + 6 * 10_000)
    assert (told.slots_needed, told.slots_free, told.sendable_msat) == (12, 480, PLENTY_MSAT)
    assert told.warning == ""
    assert (told.channels[0].slots_used, told.channels[0].slots_free) == (3, 480)


@pytest.mark.parametrize(
    ("channel", "of_channel", "of_all"),
    [
        (a_channel(local_msat=12_719_999), "", "12,719.999 sat can be sent, and a full next round takes up to 12,720"),
        (a_channel(local_msat=6_000_000), "6,000 sat can be sent, and a ladder takes up to 6,360", "6,000 sat can be"),
        (
            a_channel(local_msat=7_000_000, reserve_msat=1_000_000),
            "6,000 sat can be sent, and a ladder",
            "6,000 sat can be",
        ),
        (a_channel(pending_out=478), "5 HTLC slots are free, and a ladder takes 6", "5 HTLC slots are free"),
        (a_channel(pending_out=472), "", "11 HTLC slots are free, and a full next round takes 12"),
        (a_channel(active=False), "it is not active", "0 sat can be sent"),
    ],
    ids=["one sat short", "no ladder", "no ladder above the reserve", "no slots", "few slots", "inactive"],
)
async def test_it_warns_before_it_runs_short(stage: Stage, channel: ChannelView, of_channel: str, of_all: str) -> None:
    """A sentence of the channel's own, and one of all channels, each at its bound."""
    told = await seen(stage, channel)
    assert of_channel in told.channels[0].warning
    assert bool(of_channel) == bool(told.channels[0].warning)
    assert of_all in told.warning


async def test_a_channel_warns_one_round_ahead(stage: Stage) -> None:
    """It still carries a ladder, and after another round like this one it would not."""
    await judged(stage, mask=0b111111)
    enough = 5_800_000 + 6_360_000  # what the round took net of its fee, and a ladder
    (channel,) = (await seen(stage, a_channel(local_msat=enough))).channels
    assert (channel.warning, channel.needed_msat) == ("", enough)
    told = (await seen(stage, a_channel(local_msat=enough - 1_000))).channels[0].warning
    assert told == "another round like its dearest leaves 6,359 sat to send, and a ladder takes up to 6,360 sat"


async def test_what_is_needed_follows_the_configuration(make_stage: Any) -> None:
    """Places and unit are the operator's."""
    stage: Stage = make_stage(places=5, unit_msat=2_000, fee_limit_msat=0)
    assert isinstance(stage.config, Config)
    assert (await seen(stage, a_channel())).needed_msat == 5 * 63 * 2_000
