"""What was acknowledged is there after a restart, however the process ended."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from lndsim import Network, Refusal, VirtualClock
from lndsim.journal import Journal

PREIMAGE = bytes(32)


def lived(path: Path) -> tuple[Network, VirtualClock, Journal]:
    """A network with a life: paid, held, canceled, refused, expired, offline."""
    clock, journal = VirtualClock(), Journal(path)
    network = Network(seed=b"s" * 32, clock=clock, journal=journal)
    for name in ("ann", "ben", "cat"):
        network.add_node(name)
    network.open_channel("ann", "ben", 10**10, 10**9)
    network.open_channel("ben", "cat", 10**10)
    network.pay("ann", network.add_invoice("cat", value_msat=10**6).bolt11, fee_limit_msat=10**4)
    held = network.add_invoice("ben", payment_hash=hashlib.sha256(PREIMAGE).digest(), value_msat=10**6)
    network.pay(
        "ann",
        held.bolt11,
        outgoing_channels=(network.switch.all_channels_of(network.nodes["ann"].pubkey)[0].channel_id,),
    )
    with pytest.raises(Refusal):
        network.pay("ann", held.bolt11)
    network.add_invoice("cat", expiry_s=5, memo="short")
    clock.advance(60)
    network.mine(7)
    network.set_stranding("ben", True)
    network.pay("ben", network.add_invoice("cat", value_msat=7_000).bolt11)
    network.set_dispatching("cat", False)
    network.pay("cat", network.add_invoice("ben", value_msat=5).bolt11)
    return network, clock, journal


def picture(network: Network) -> Any:
    """Everything there is to see."""
    return (
        network.height,
        network.minted_msat,
        [(repr(node.invoices), repr(node.payments), node.wallet_msat, node.online) for node in network.nodes.values()],
        repr(network.switch.channels),
    )


def test_a_network_comes_back_as_it_was(tmp_path: Path) -> None:
    """Balances, invoices, payments, HTLCs, heights: all of it."""
    network, clock, journal = lived(tmp_path / "j")
    journal.close()
    reopened = Journal(tmp_path / "j")
    back = Network.restore(reopened, clock)
    assert back is not None
    assert picture(back) == picture(network)
    back.settle_invoice("ben", PREIMAGE)
    network.switch.watchers.clear()
    assert back.total_msat() == back.minted_msat
    reopened.close()
    again = Network.restore(Journal(tmp_path / "j"), clock)
    assert again is not None
    assert picture(again) == picture(back)


def test_a_torn_entry_is_cut_off(tmp_path: Path) -> None:
    """At every byte: what was whole before stays, and writing goes on after it."""
    network, clock, journal = lived(tmp_path / "j")
    before = picture(network)
    size = (tmp_path / "j").stat().st_size
    network.settle_invoice("ben", PREIMAGE)
    journal.close()
    whole = (tmp_path / "j").read_bytes()
    for end in range(size, len(whole)):
        torn = tmp_path / f"torn-{end}"
        torn.write_bytes(whole[:end])
        journal = Journal(torn)
        back = Network.restore(journal, clock)
        assert back is not None
        assert picture(back) == before
        assert torn.stat().st_size == size
        back.settle_invoice("ben", PREIMAGE)
        journal.close()
        assert torn.read_bytes() == whole


def test_an_empty_journal_has_no_network(tmp_path: Path) -> None:
    """None: the caller makes a new one."""
    assert Network.restore(Journal(tmp_path / "new"), VirtualClock()) is None


def test_another_format_is_refused(tmp_path: Path) -> None:
    """Rather than told wrongly."""
    journal = Journal(tmp_path / "old")
    journal.append(["network", 0, b"", 1])
    with pytest.raises(ValueError, match="not a journal of format 1"):
        Network.restore(journal, VirtualClock())


def test_one_process_has_the_journal(tmp_path: Path) -> None:
    """Two simulators in one folder would tell two stories."""
    journal = Journal(tmp_path / "j")
    with pytest.raises(RuntimeError, match="in use"):
        Journal(tmp_path / "j")
    journal.close()
    Journal(tmp_path / "j").close()


def test_a_mistake_of_the_owner_is_not_journaled(tmp_path: Path) -> None:
    """An unknown node is a KeyError now, and not again at every restart."""
    network, clock, journal = lived(tmp_path / "j")
    for mistake in (
        lambda: network.set_online("nobody", True),
        lambda: network.settle_invoice("nobody", PREIMAGE),
        lambda: network.open_channel("ann", "nobody", 1_000),
    ):
        with pytest.raises(KeyError):
            mistake()
    journal.close()
    assert Network.restore(Journal(tmp_path / "j"), clock) is not None
