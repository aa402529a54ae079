"""The ring on disk: readable by its owner only, replaced in one step, and refused when it is not a ring."""

import os
import stat
from pathlib import Path

import pytest
from l402core.errors import Malformed
from l402core.l402 import keys


def test_a_saved_ring_is_loaded_the_same(tmp_path: Path) -> None:
    """Keys, active one and both kinds of revocation survive."""
    ring = keys.create(os.urandom).rotate(os.urandom)
    former = next(key_id for key_id in ring.keys if key_id != ring.active)
    ring = ring.revoke_key(former).revoke_token(bytes(32)).rotate(os.urandom)
    path = tmp_path / "root-keys.json"
    keys.save(ring, path)
    assert keys.load(path) == ring


def test_only_the_owner_can_read_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    """Mode 0600, also where a laxer file was there before; no temporary file stays."""
    path = tmp_path / "root-keys.json"
    path.write_text("{}")
    path.chmod(0o644)
    keys.save(keys.create(os.urandom), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["root-keys.json"]


def test_a_failed_save_leaves_the_former_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk does not cost us the keys of tokens already paid for."""
    path = tmp_path / "root-keys.json"
    ring = keys.create(os.urandom)
    keys.save(ring, path)

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        keys.save(ring.rotate(os.urandom), path)
    assert keys.load(path) == ring
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"active":"00000000","keys":{}}', '{"active":"zz","keys":{"zz":"zz"}}'),
        '{"active":"00000000","keys":{"00000000":"5ec2e7"}}',
        '{"active":"00000000","keys":{"00000000":"%s"},"version":2}' % ("5e" * 32),
        '{"active":"00000000","keys":{"00000000":"%s"},"surprise":1}' % ("5e" * 32),
        '{"active":"00000000","keys":{"00000000":"%s"},"revoked_keys":["00000000"]}' % ("5e" * 32),
    ],
)
def test_a_file_that_is_no_ring_is_malformed_and_stays_secret(tmp_path: Path, text: str) -> None:
    """The error names the file and never quotes it."""
    path = tmp_path / "root-keys.json"
    path.write_text(text)
    with pytest.raises(Malformed) as refusal:
        keys.load(path)
    assert "5e" not in refusal.value.detail.replace(str(path), "")
    assert refusal.value.__cause__ is None


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    """Whether to create a ring is the caller's decision."""
    with pytest.raises(FileNotFoundError):
        keys.load(tmp_path / "none.json")


def test_a_ring_does_not_show_its_keys() -> None:
    """Ids are fine to log, secrets are not."""
    ring = keys.create(lambda count: b"\x5e" * count)
    assert "5e5e5e5e'" in repr(ring)
    assert "5e" * 8 not in repr(ring)
    assert "^" * 8 not in repr(ring)
