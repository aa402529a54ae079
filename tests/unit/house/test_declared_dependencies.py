"""Each service imports what it declares, and nothing that only another package of this environment brings.

An image holds one service's packages; what is missing there is here for everybody to import.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[3]
SERVICES = {
    "l402-gateway": "l402_gateway.__main__",
    "l402-invoicer": "l402_invoicer.__main__",
    "l402-settler": "l402_settler.__main__",
    "l402-oracle": "l402_oracle.__main__ l402_oracle.attestor.wiring l402_oracle.worker.wiring",
    "l402-peer-agent": "l402_peer_agent.__main__ l402_peer_agent.app",
    "l402-train": "l402train.cli l402train.stack",
}
_PROGRAM = """
import importlib, importlib.abc, importlib.metadata, sys

declared, modules = set(sys.argv[1].split()), sys.argv[2].split()
canonical = lambda name: name.lower().replace("_", "-").replace(".", "-")
owners = importlib.metadata.packages_distributions()
strangers = {top for top, names in owners.items() if not declared & {canonical(name) for name in names}}

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in strangers:
            raise ModuleNotFoundError(f"not declared: {name}", name=name)

sys.meta_path.insert(0, Refusing())
for module in modules:
    importlib.import_module(module)
"""


def declared(package: str) -> set[str]:
    """What the lock file installs for one package, itself included."""
    words = [
        "export",
        "--frozen",
        "--quiet",
        "--no-dev",
        "--no-hashes",
        "--no-header",
        "--no-annotate",
        "--no-editable",
    ]
    told = subprocess.run(
        [HOUSE / ".uv/bin/uv", *words, "--package", package], cwd=HOUSE, capture_output=True, text=True, check=True
    )
    lines = [line.split(";")[0].strip() for line in told.stdout.splitlines()]
    ours = {Path(line).name for line in lines if line.startswith("./")}
    return {line.split("==")[0].lower() for line in lines} | ours | {f"l402-{name}" for name in ours}


@pytest.mark.parametrize("package", SERVICES)
def test_a_service_declares_what_it_imports(package: str) -> None:
    """With everything else hidden."""
    words = [sys.executable, "-c", _PROGRAM, " ".join(declared(package)), SERVICES[package]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-800:]
