"""The local PostgreSQL image's first start, killed before and after each of its steps: the next start ends it.

PostgreSQL's own programs are played by small ones that leave the files of theirs; the container suite runs the real ones.
"""

import itertools
import os
import stat
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "deploy/images/postgres-entrypoint"
PROGRAMS = {
    "initdb": 'for word; do case $word in --pgdata=*) data=${word#*=};; esac; done; mkdir "$data" && mkdir "$data/base"'
    ' && echo 15 >"$data/PG_VERSION" && : >"$data/pg_hba.conf"',
    "pg_ctl": "true",
    "psql": 'for word; do case $word in --file=*) cat "${word#*=}" >>"$PGDATA/.making/base/run";; esac; done',
    "mv": '/bin/mv "$@"',
    "rm": '/bin/rm "$@"',
    "touch": '/usr/bin/touch "$@"',
}
COUNTED = """#!/bin/sh
echo x >>"$CALLS"
[ "$(wc -l <"$CALLS")" = "$DIES_BEFORE" ] && kill -9 $PPID && exit 1
{ %s; } || exit 1
[ "$(wc -l <"$CALLS")" = "$DIES_AFTER" ] && kill -9 $PPID
exit 0
"""
MOST_STEPS = 30


class Image:
    """A volume for the data, and a first start that can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.data = folder / "data"
        programs, scripts = folder / "bin", folder / "sql"
        for each in (programs, scripts):
            each.mkdir()
        for name, does in PROGRAMS.items():
            (programs / name).write_text(COUNTED % does)
            (programs / name).chmod(0o755)
        for name in ("1-roles", "2-tables"):
            (scripts / f"{name}.sql").write_text(f"{name}\n")
        (folder / "entrypoint").write_text(ENTRYPOINT.read_text().replace("/docker-entrypoint-initdb.d", str(scripts)))

    def start(self, *, before: int = 0, after: int = 0) -> subprocess.CompletedProcess[str]:
        """Start it; it dies before, or after, that step of the way."""
        calls = self._folder / "calls"
        calls.write_text("")
        said = {
            "PATH": f"{self._folder}/bin:{os.environ['PATH']}", "PGDATA": str(self.data), "POSTGRES_PASSWORD_FILE": "/dev/null",
            "CALLS": str(calls), "DIES_BEFORE": str(before), "DIES_AFTER": str(after),
        }  # fmt: skip
        return subprocess.run(
            ["/bin/sh", str(self._folder / "entrypoint"), "echo", "runs"], env=said, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip


def is_whole(data: Path) -> bool:
    """One cluster in its place, with every script run in it once, and nothing left beside it."""
    names = {each.name for each in data.iterdir()}
    if stat.S_IMODE(data.stat().st_mode) != 0o700 or names != {"PG_VERSION", "pg_hba.conf", "base"}:
        return False
    hosts, run = (data / "pg_hba.conf").read_text(), (data / "base/run").read_text()
    return hosts == "host all all all scram-sha-256\n" and run == "1-roles\n2-tables\n"


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_first_start_that_is_killed_anywhere_is_ended_by_the_next(tmp_path: Path, where: str) -> None:
    """Also where the next one is killed at the same step of its own way, and the third is not."""
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        folder.mkdir()
        image = Image(folder)
        if image.start(**{where: step}).returncode == 0:
            assert step > 8  # every step of the way was one to die at
            break
        image.start(**{where: step})
        ended = image.start()
        assert ended.stdout == "runs -c listen_addresses=*\n", (step, ended.stderr)
        assert is_whole(image.data), step
        assert step < MOST_STEPS


def test_a_cluster_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """A second start makes nothing, and moves nothing."""
    image = Image(tmp_path)
    image.start()
    (image.data / "base/run").write_text("1-roles\n2-tables\n")
    (image.data / "base/of-a-user").write_text("kept")
    assert image.start().returncode == 0
    assert (image.data / "base/of-a-user").read_text() == "kept"
    assert is_whole(image.data)
