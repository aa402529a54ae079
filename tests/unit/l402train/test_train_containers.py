"""What compose.yaml runs before the services: secrets that are made once, coins that nobody signs for."""

import json
import stat
from pathlib import Path

import pytest
from l402_oracle.keys import read_attestor_keys
from l402core.l402 import keys as root_keys
from l402train.containers import coins
from l402train.containers.shelves import DONE, Shelves
from l402train.keys import Keyring
from l402train.lightning.btcd import address_of_script

PEERS = ("peer-1", "peer-2")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_there_is_never_made_again(tmp_path: Path) -> None:
    """A second start with other keys would leave every open escrow to nobody."""
    assert Shelves(tmp_path, PEERS).fill()
    before = contents(tmp_path)
    assert not Shelves(tmp_path, PEERS).fill()
    assert contents(tmp_path) == before


def test_what_a_crash_left_half_done_is_made_whole(tmp_path: Path) -> None:
    """The mark comes last: before it nobody has used a key."""
    Shelves(tmp_path, PEERS).fill()
    (tmp_path / "operator" / DONE).unlink()
    (tmp_path / "settler" / "key.json").unlink()
    assert Shelves(tmp_path, PEERS).fill()
    assert json.loads((tmp_path / "settler" / "key.json").read_bytes())["signing_key"]


def test_two_networks_share_no_secret(tmp_path: Path) -> None:
    """They come from the system's randomness, not from a seed."""
    one, other = tmp_path / "one", tmp_path / "other"
    Shelves(one, PEERS).fill()
    Shelves(other, PEERS).fill()
    for file in ("settler/key.json", "worker/key.json", "gateway/nats_url", "postgres/password", "btcd/btcd.json"):
        assert (one / file).read_bytes() != (other / file).read_bytes(), file


def test_key_files_are_read_by_their_services_and_by_nobody_else(tmp_path: Path) -> None:
    """The same files as a network on one machine has."""
    Shelves(tmp_path, PEERS, Keyring.from_seed(3)).fill()
    assert read_attestor_keys(tmp_path / "attestor" / "key.json").newest() == "k1"
    assert root_keys.load(tmp_path / "gateway" / "key.json")
    for path in tmp_path.rglob("key.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_script_goes_into_each_empty_input_and_nothing_else_moves() -> None:
    """The legacy serialization of two inputs and one output."""
    outpoint, sequence, tail = bytes(36), b"\xff" * 4, b"\x01" + bytes(8) + b"\x01\x6a" + bytes(4)
    unsigned = b"\x02\0\0\0\x02" + (outpoint + b"\0" + sequence) * 2 + tail
    assert coins.with_scripts(unsigned, 2) == b"\x02\0\0\0\x02" + (outpoint + b"\x02\x01\x51" + sequence) * 2 + tail
    with pytest.raises(ValueError, match="a script already"):
        coins.with_scripts(coins.with_scripts(unsigned, 2), 2)


def test_the_mining_address_is_p2sh_of_simnet() -> None:
    """BIP 16 with btcd's version byte for simnet, 0x7b; such addresses begin with r."""
    assert address_of_script(b"\x51") == coins.ADDRESS
    assert coins.ADDRESS.startswith("r")
