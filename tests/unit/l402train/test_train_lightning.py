"""Networks of real lnds before anything starts: which channels, which routes, which programs, and clear refusals."""

import hashlib
from pathlib import Path

import pytest
from l402train import stack
from l402train.exits import Exit, Stop
from l402train.lightning import programs
from l402train.lightning.btcd import nobodys_address
from l402train.lightning.node import LndNode
from l402train.lightning.plan import Plan, joined, named
from l402train.lightning.serve import read_plan, write_plan
from lndsim.macaroon import Bakery


def a_plan(**changes: object) -> Plan:
    """A star of three."""
    names = named(3)
    told = {"dir": Path("/nowhere"), "nodes": names, "channels": joined(names, "star"), **changes}
    return Plan(**told)  # type: ignore[arg-type]  # what tests change has its own type


def a_program(folder: Path, name: str, says: str) -> None:
    """A program that only tells its version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def test_a_star_has_its_channels_in_the_middle_and_a_line_one_after_the_other() -> None:
    """As lndsim draws them."""
    assert joined(named(3), "star") == (("node-1", "node-2"), ("node-1", "node-3"))
    assert joined(named(3), "line") == (("node-1", "node-2"), ("node-2", "node-3"))
    assert joined(named(1), "star") == joined(named(1), "line") == ()


def test_balanced_channels_must_carry_payments_both_ways_and_to_the_far_end() -> None:
    """A line is ready when its ends can pay each other."""
    plan = a_plan(channels=joined(named(3), "line"))
    assert {("node-1", "node-3"), ("node-3", "node-1"), ("node-2", "node-1")} <= set(plan.routes())


def test_what_was_not_pushed_is_not_expected_to_flow_back() -> None:
    """With all money at the openers, only forward routes can work."""
    plan = a_plan(channels=joined(named(3), "line"), push_sat=0)
    assert set(plan.routes()) == {("node-1", "node-2"), ("node-2", "node-3"), ("node-1", "node-3")}


def test_a_node_without_channel_is_waited_for_by_nobody() -> None:
    """The observer has none, and knows of none."""
    plan = a_plan(channels=(("node-1", "node-2"),))
    assert "node-3" not in {name for pair in plan.routes() for name in pair}
    assert plan.edges_seen_by("node-3") == 0
    assert plan.edges_seen_by("node-2") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nodes": ()}, "at least one"),
        ({"nodes": ("a", "a")}, "different names"),
        ({"nodes": ("../a",), "channels": ()}, "not a name"),
        ({"channels": (("node-1", "node-9"),)}, "node-9"),
        ({"channels": (("node-1", "node-1"),)}, "two of the nodes"),
        ({"capacity_sat": 20_000_000}, "16,777,215"),
        ({"push_sat": 10_000_000}, "less than all"),
    ],
)
def test_what_cannot_be_started_is_refused_before_anything_is(changes: dict[str, object], words: str) -> None:
    """One sentence says what was wrong."""
    with pytest.raises(Stop, match=words) as stop:
        a_plan(**changes).checked()
    assert stop.value.code == Exit.USAGE


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    """What the stack writes is what the child reads."""
    plan = a_plan(dir=tmp_path, lnd_dir=tmp_path / "bin", block_seconds=20.0)
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan


def test_the_folder_named_comes_first_and_may_lack_btcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's own lnd with the btcd that was built here."""
    a_program(tmp_path / "mine", "lnd", "lnd version 0.20.1-beta commit=")
    a_program(tmp_path / "tools/bin", "lnd", "lnd version 0.21.0-beta commit=")
    a_program(tmp_path / "tools/bin", "btcd", "btcd version 0.25.0-beta")
    monkeypatch.setenv("L402_TOOLS_DIR", str(tmp_path / "tools"))
    found = programs.find(tmp_path / "mine")
    assert (found.lnd, found.version) == (tmp_path / "mine/lnd", "0.20.1")
    assert found.btcd == tmp_path / "tools/bin/btcd"


def test_lnd_that_is_not_built_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names `make tools`, and nothing was started or made."""
    monkeypatch.setenv("L402_TOOLS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Stop, match="make tools"):
        stack.Plan(lightning="lnd").checked()


def test_an_lnd_that_is_too_old_is_refused(tmp_path: Path) -> None:
    """Its version is named, and the floor."""
    a_program(tmp_path, "lnd", "lnd version 0.18.5-beta commit=")
    a_program(tmp_path, "btcd", "btcd version 0.25.0-beta")
    with pytest.raises(Stop, match=r"0\.18\.5.*0\.19\.0"):
        programs.find(tmp_path)


def test_a_line_of_more_peers_than_the_settler_lets_through_is_refused() -> None:
    """Its last peers could never be paid."""
    assert stack.Plan(peers=3, topology="line").checked()
    with pytest.raises(Stop, match="at most 3"):
        stack.Plan(peers=4, topology="line").checked()


def test_blocks_can_be_mined_to_nobody() -> None:
    """A simnet address (version 0x3f) over twenty zero bytes, with its checksum."""
    number = 0
    for letter in nobodys_address():
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(letter)
    raw = number.to_bytes(25)
    assert raw[:21] == b"\x3f" + bytes(20)
    assert raw[21:] == hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4]


def test_a_node_is_not_asked_before_its_files_are_whole(tmp_path: Path) -> None:
    """lnd makes a file empty and then writes it: who reads in between is let in by nothing, for ever."""
    node = LndNode("alice", tmp_path)
    whole = Bakery(bytes(32)).mint([("info", "read")], nonce=bytes(16))
    pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
    node.macaroon("admin").parent.mkdir(parents=True)
    for certificate, macaroon, ready in (
        ("", b"", None), (pem, b"", None), (pem, whole[:-5], None), (pem[:-9], whole, None), ("", whole, None),
        (pem, whole, True),
    ):  # fmt: skip
        assert node._files() is None or ready
        node.certificate.write_text(certificate)
        node.macaroon("admin").write_bytes(macaroon)
        assert node._files() is ready
