"""Which nodes are trusted with money, and what is said of those that are not."""

import msgspec
import pytest
from l402core.errors import Unauthorized, Unavailable
from l402core.lnd.fitness import shortage, silence, trouble, version_of
from l402core.lnd.port import ChannelView, NodeInfo

FIT = NodeInfo(
    pubkey="02" * 33,
    alias="a",
    version="0.21.0-beta commit=v0.21.0-beta",
    block_height=316,
    network="simnet",
    synced=True,
)


def a_channel(
    *, active: bool = True, local_msat: int = 1_000, pending_out: int = 0, reserve_msat: int = 0
) -> ChannelView:
    """One of the node's."""
    return ChannelView(
        channel_id=1,
        remote_pubkey="03" * 33,
        active=active,
        capacity_msat=10_000,
        local_msat=local_msat,
        remote_msat=0,
        pending_out=pending_out,
        reserve_msat=reserve_msat,
    )


def test_a_synced_node_of_a_good_version_on_our_network_is_fit() -> None:
    """There is nothing to say."""
    assert trouble(FIT, network="simnet") is None


@pytest.mark.parametrize(
    ("told", "check", "words"),
    [
        ({"network": "mainnet"}, "network", "on mainnet, configured is simnet"),
        ({"network": ""}, "network", "on no network"),
        ({"version": "0.18.5-beta"}, "version", "0.19.0 or newer"),
        ({"version": "custom"}, "version", "'custom'"),
        ({"synced": False}, "synced", "at height 316"),
    ],
)
def test_an_unfit_node_is_named_by_check_and_sentence(told: dict[str, object], check: str, words: str) -> None:
    """One check, and a sentence that says what was found."""
    found = trouble(msgspec.structs.replace(FIT, **told), network="simnet")
    assert found is not None
    assert found.check == check
    assert words in found.sentence


def test_the_network_is_said_before_anything_else() -> None:
    """A node of another network may be old and behind too; that is not what to repair."""
    found = trouble(msgspec.structs.replace(FIT, network="mainnet", version="0.1.0", synced=False), network="simnet")
    assert found is not None
    assert found.check == "network"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.19.0-beta commit=", (0, 19, 0)), ("v0.20.1-beta.rc1", (0, 20, 1)), ("0.9", None), ("", None)],
)
def test_a_version_is_read_as_numbers(text: str, numbers: tuple[int, int, int] | None) -> None:
    """0.9 is not above 0.19, and what is no version is none."""
    assert version_of(text) == numbers


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (Unavailable("lnd_locked", "wallet locked"), "unlocked"),
        (Unavailable("lnd_no_wallet", "wallet not created"), "unlocked"),
        (Unauthorized("lnd_macaroon", "permission denied"), "macaroon"),
        (Unavailable("lnd_unavailable", "connection refused"), "answers"),
    ],
)
def test_a_failed_call_says_what_to_repair(error: Unavailable, check: str) -> None:
    """Locked, refused and silent are three different errands."""
    assert silence(error).check == check


@pytest.mark.parametrize(
    ("channels", "check"),
    [
        ([], "channels"),
        ([a_channel(active=False)], "channels"),
        ([a_channel(local_msat=499), a_channel(local_msat=500)], "liquidity"),
        ([a_channel(local_msat=1_099, reserve_msat=100), a_channel(local_msat=50, reserve_msat=100)], "liquidity"),
        ([a_channel(pending_out=480), a_channel(pending_out=481)], "slots"),
    ],
)
def test_what_is_short_is_named(channels: list[ChannelView], check: str) -> None:
    """Sums over active channels, against one ladder."""
    found = shortage(channels, needed_msat=1_000, needed_slots=6, slots_per_channel=483)
    assert found is not None
    assert found.check == check


def test_a_node_that_can_lock_one_ladder_is_short_of_nothing() -> None:
    """Exactly enough is enough."""
    channels = [a_channel(local_msat=500, pending_out=480), a_channel(local_msat=500, pending_out=480)]
    assert shortage(channels, needed_msat=1_000, needed_slots=6, slots_per_channel=483) is None
