"""The folder and the keys: made for their owner alone, never over something else, and refused with one sentence."""

import errno
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from l402core.l402 import keys as root_keys
from l402core.signing import SigningKey
from l402train.exits import Exit, Stop, stop_for
from l402train.folder import Description, Folder
from l402train.keys import Keyring, write_keys


def a_description(pid: int) -> Description:
    """What `up` leaves behind."""
    return Description(
        pid=pid,
        network="simnet",
        gateway_url="http://127.0.0.1:1",
        attestor_url="",
        nats_url="",
        redis_url="",
        nodes_file="",
        parts={},
        pids={},
    )


def refused(folder: Folder, *, replace: bool = False) -> Stop:
    """How making it ends."""
    with pytest.raises(Stop) as stop:
        folder.create(replace=replace)
    return stop.value


def test_everything_is_its_owners_alone(tmp_path: Path) -> None:
    """Folders 0700 and key files 0600: another user of the machine reads no key."""
    folder = Folder(tmp_path / "net")
    folder.create()
    write_keys(folder, Keyring.from_seed(1), ("peer-1",))
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.keys.iterdir()}
    assert modes == {0o600}


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """Nobody's files are mixed with ours or removed, not even with `replace`."""
    (tmp_path / "thesis.txt").write_text("precious")
    assert refused(Folder(tmp_path), replace=True).code is Exit.FOLDER
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_earlier_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """The default report folder is reused; a kept one is kept."""
    folder = Folder(tmp_path / "net")
    folder.create()
    folder.write_description(a_description(pid=2**22 + 1))
    assert refused(folder).code is Exit.FOLDER
    folder.create(replace=True)
    assert not folder.mark.exists()


def test_a_running_network_is_never_replaced(tmp_path: Path) -> None:
    """Its process lives, so its folder stays."""
    folder = Folder(tmp_path / "net")
    folder.create()
    folder.write_description(a_description(pid=os.getpid()))
    assert "is running" in refused(folder, replace=True).sentence


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    """The path is named, with the system's reason."""
    (tmp_path / "net").write_text("")
    stop = refused(Folder(tmp_path / "net"))
    assert stop.code is Exit.FOLDER
    assert str(tmp_path / "net") in stop.sentence


def test_a_disk_without_room_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that would end half-way is not begun."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert refused(Folder(tmp_path / "net")).code is Exit.DISK_FULL


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, Exit.DISK_FULL),
        (errno.EADDRINUSE, Exit.PORT_IN_USE),
        (errno.EACCES, Exit.FOLDER),
        (errno.EROFS, Exit.FOLDER),
    ],
)
def test_the_systems_errors_have_exit_codes(number: int, code: Exit) -> None:
    """Each is one line that names what could not be used."""
    stop = stop_for(OSError(number, os.strerror(number)), "/some/where")
    assert stop.code is code
    assert "/some/where" in stop.sentence


def test_the_same_seed_gives_the_same_keys(tmp_path: Path) -> None:
    """A demo can be repeated; another seed is another world, and no seed is a world of its own."""
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None), ("e", None)):
        folder = Folder(tmp_path / name)
        folder.create()
        written.append(write_keys(folder, Keyring.from_seed(seed), ("peer-1", "peer-2")))
    assert written[0] == written[1]
    assert len({public.settler for public in written}) == 4
    assert len(set(written[0].peers)) == 2


def test_the_files_are_what_services_read(tmp_path: Path) -> None:
    """The public halves that the others are told belong to the secrets in the files."""
    folder = Folder(tmp_path / "net")
    folder.create()
    ring = Keyring.from_seed(1)
    public = write_keys(folder, ring, ("peer-1",))
    assert root_keys.load(folder.keys / "gateway.json").active
    assert SigningKey(ring.secret("peer-1/identity")).public == public.peers[0]
    assert ring.secret("peer-1/identity").hex() in (folder.keys / "peer-1.json").read_text()
