"""Rules of the house that no linter knows. It reads every file that git would carry, and nothing else."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOMEONES_FOLDERS = ("work", "root", "home", "Users")
ABSOLUTE_PATH = re.compile(rb"(?<![\w.~$}-])/(?:" + "|".join(SOMEONES_FOLDERS).encode() + rb")/[\w.-]")
INDEX_HOSTS = {"pypi.org", "files.pythonhosted.org"}


def carried_files() -> list[Path]:
    """What a clone would hold: tracked files, and new ones that are not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def places_of(pattern: re.Pattern[bytes], files: list[Path]) -> list[str]:
    """`file:line` of each match."""
    found = []
    for file in files:
        content, name = file.read_bytes(), file.relative_to(ROOT)
        lines = [content.count(b"\n", 0, match.start()) + 1 for match in pattern.finditer(content)]
        found += [f"{name}:{line}" for line in lines]
    return found


def foreign_hosts(lock: str) -> set[str]:
    """Hosts named in a lock file other than the public index."""
    return set(re.findall(r"\w+://([^/\"\s]+)", lock)) - INDEX_HOSTS


def without_docstring(source: str, wanted: type[ast.AST] | tuple[type[ast.AST], ...], prefix: str = "") -> list[str]:
    """Names of the module, or of its definitions of the wanted kind, that open without a docstring."""
    return [
        getattr(node, "name", "module")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, wanted)
        and getattr(node, "name", "").startswith(prefix)
        and isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef)
        and not ast.get_docstring(node)
    ]


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    """Nothing in the repository works only where it was written."""
    assert places_of(ABSOLUTE_PATH, carried_files()) == []


@pytest.mark.parametrize("folder", SOMEONES_FOLDERS)
def test_a_folder_of_somebodys_machine_would_be_found(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search sees an absolute path, and lets a relative one pass."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    planted = tmp_path / "planted.md"
    planted.write_text(f"fine\nsee /{folder}/me/notes\nand src/{folder}/page or ./{folder}/page\n")
    assert places_of(ABSOLUTE_PATH, [planted]) == ["planted.md:2"]


def test_the_lock_file_names_only_the_public_index() -> None:
    """Whoever clones the repository can install from it."""
    assert foreign_hosts((ROOT / "uv.lock").read_text()) == set()


def test_a_foreign_index_would_be_found() -> None:
    """A mirror's address in the lock file is seen."""
    assert foreign_hosts('{ url = "https://mirror.example/simple" }, { url = "https://pypi.org/simple" }') == {
        "mirror.example"
    }


def test_every_module_says_what_it_is() -> None:
    """A module opens with a sentence."""
    modules = [file for file in carried_files() if file.suffix == ".py"]
    assert [str(f.relative_to(ROOT)) for f in modules if without_docstring(f.read_text(), ast.Module)] == []


def test_every_test_says_what_it_shows() -> None:
    """A test opens with a sentence."""
    tests = [file for file in carried_files() if file.match("tests/**/test_*.py") or file.match("test_*.py")]
    silent = {
        str(file.relative_to(ROOT)): names
        for file in tests
        if (names := without_docstring(file.read_text(), (ast.FunctionDef, ast.AsyncFunctionDef), "test_"))
    }
    assert silent == {}


def test_a_silent_test_would_be_found() -> None:
    """A test without a docstring is named."""
    source = '"""Module."""\ndef test_a():\n    """Speaks."""\nasync def test_b():\n    pass\n'
    assert without_docstring(source, (ast.FunctionDef, ast.AsyncFunctionDef), "test_") == ["test_b"]
    assert without_docstring("x = 1\n", ast.Module) == ["module"]
