"""Each import contract of the root pyproject, broken on purpose. It knows none by name, so a new one counts."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LINT_IMPORTS = ROOT / ".venv/bin/lint-imports"
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS: list[dict[str, Any]] = SETTINGS["contracts"]


def offences(contract: dict[str, Any]) -> list[tuple[str, str]]:
    """(importer, imported) pairs, each of which the contract forbids: from both ends of its lists."""
    if contract["type"] == "independence":
        modules = contract["modules"]
        return [(modules[0], modules[-1]), (modules[-1], modules[0])]
    if contract["type"] == "forbidden":
        sources, forbidden = contract["source_modules"], contract["forbidden_modules"]
        return [(sources[0], forbidden[0]), (sources[-1], forbidden[-1])]
    if contract["type"] == "layers":
        return [(contract["layers"][-1], contract["layers"][0])]
    raise NotImplementedError(f"say here how a contract of type {contract['type']!r} is broken")


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Every module of every package, emptied, beside a copy of the contracts: nothing in it offends."""
    for package in SETTINGS["root_packages"]:
        (source,) = [*ROOT.glob(f"libs/*/src/{package}"), *ROOT.glob(f"services/*/src/{package}")]
        for module in source.rglob("*.py"):
            empty = tmp_path / package / module.relative_to(source)
            empty.parent.mkdir(parents=True, exist_ok=True)
            empty.touch()
    lines = ["[tool.importlinter]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in SETTINGS.items() if key != "contracts"]
    for contract in CONTRACTS:
        lines.append("[[tool.importlinter.contracts]]")
        # An exception for an import that the emptied module no longer has would itself be an error.
        lines += [f"{key} = {json.dumps(value)}" for key, value in contract.items() if key != "ignore_imports"]
    (tmp_path / "pyproject.toml").write_text("\n".join(lines) + "\n")
    return tmp_path


def offend(skeleton: Path, importer: str, imported: str) -> None:
    """Add one import to a module of the skeleton; a `*` in its name is filled with the first that fits."""
    pattern = importer.replace(".", "/")
    (module, *_) = [*sorted(skeleton.glob(f"{pattern}.py")), *sorted(skeleton.glob(f"{pattern}/__init__.py"))]
    module.write_text(f"import {imported}\n")


def lint(skeleton: Path) -> subprocess.CompletedProcess[str]:
    """Run the real import-linter on the skeleton, which comes before the installed packages."""
    environment = {**os.environ, "PYTHONPATH": str(skeleton), "COLUMNS": "200"}
    command = [str(LINT_IMPORTS), "--no-cache"]
    return subprocess.run(
        command, cwd=skeleton, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_contracts_are_kept_where_nothing_is_imported(skeleton: Path) -> None:
    """Without an offence every contract is kept: what follows fails for its offence alone."""
    result = lint(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in result.stdout


@pytest.mark.parametrize("contract", CONTRACTS, ids=[contract["name"] for contract in CONTRACTS])
def test_each_contract_fails_when_it_is_broken(contract: dict[str, Any], skeleton: Path) -> None:
    """One offending import breaks the contract by name, from either end of its lists."""
    for number, (importer, imported) in enumerate(offences(contract)):
        broken = shutil.copytree(skeleton, skeleton.parent / f"{skeleton.name}-{number}")
        offend(broken, importer, imported)
        result = lint(broken)
        assert result.returncode == 1, result.stdout + result.stderr
        assert f"{contract['name']} BROKEN" in result.stdout
        assert f"{importer} is not allowed to import {imported}" in result.stdout
