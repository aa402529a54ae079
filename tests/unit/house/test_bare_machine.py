"""What `make setup` and `make tools` say on a machine that lacks something. Nothing is installed or built here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BASICS = ("bash", "cat", "dirname", "env", "flock", "head", "make", "mkdir", "rm", "sed", "sh", "sort")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout with the build files only, beside a `bin` with a few basic programs and nothing else."""
    (tmp_path / "bin").mkdir()
    for program in BASICS:
        found = shutil.which(program)
        assert found, f"{program} is missing here"
        (tmp_path / "bin" / program).symlink_to(found)
    for kept in ("Makefile", "tools/build-lightning", "tools/go.mod", "tools/go.sum"):
        copied = tmp_path / kept
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / kept, copied)
    return tmp_path


def make(bare: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run one target with nothing but the few programs on PATH."""
    return subprocess.run(
        [str(bare / "bin/make"), target],
        cwd=bare,
        env={"PATH": str(bare / "bin"), "L402_TOOLS_DIR": str(bare / "built"), "GOROOT": str(bare / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def give(bare: Path, program: str, script: str) -> None:
    """Put a stand-in for a program on PATH."""
    path = bare / "bin" / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_setup_without_python_says_what_to_install(bare: Path) -> None:
    """No Python 3.11: the package to install is named, and nothing is left behind."""
    result = make(bare, "setup")
    assert result.returncode != 0
    assert "python3.11 is missing" in result.stderr
    assert "apt-get install python3.11" in result.stderr
    assert not (bare / ".uv").exists()


def test_setup_without_the_venv_module_says_what_to_install(bare: Path) -> None:
    """Debian keeps ensurepip in a package of its own, which is named."""
    give(bare, "python3.11", 'case "$*" in *ensurepip*) exit 1;; esac')
    result = make(bare, "setup")
    assert result.returncode != 0
    assert "apt-get install python3.11-venv" in result.stderr
    assert not (bare / ".uv").exists()


def test_setup_with_another_python_under_that_name_is_refused(bare: Path) -> None:
    """A stand-in that is not 3.11 is not used."""
    give(bare, "python3.11", "exit 1")
    assert "not Python 3.11" in make(bare, "setup").stderr


def test_tools_without_go_says_what_to_install(bare: Path) -> None:
    """No Go: where to get it is named."""
    result = make(bare, "tools")
    assert result.returncode != 0
    assert "Go is not installed: install Go 1." in result.stderr


@pytest.mark.parametrize("version", ["go1.9", "go1.25.10"])
def test_tools_with_an_old_go_says_which_is_needed(version: str, bare: Path) -> None:
    """Versions are compared as versions: 1.9 is older than 1.26."""
    give(bare, "go", f"echo {version}")
    result = make(bare, "tools")
    assert result.returncode != 0
    assert f"Go {version.removeprefix('go')} is too old: install Go 1.26 or newer" in result.stderr


def test_make_alone_lists_every_target() -> None:
    """Whoever types `make` is told what there is."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = [line for line in makefile.splitlines() if line.startswith(".PHONY:")]
    # The environment is empty because under `make test` an outer make would speak through it.
    environment = {"PATH": os.environ["PATH"]}
    listing = subprocess.run(
        ["make"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert [line.split()[1] for line in listing.splitlines()] == phony.split()[1:]
