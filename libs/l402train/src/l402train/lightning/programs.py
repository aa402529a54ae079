"""Where lnd and btcd are: as told, as `make tools` built them, or on the PATH. It builds and downloads nothing."""

import os
import shutil
from pathlib import Path

import msgspec
from l402core.lnd.fitness import VERSION_MIN, version_of

from l402train import parts
from l402train.exits import Exit, Stop

ADVICE = "build them with `make tools`, or name the folder that holds lnd with --lnd-dir"
LND_LOG_LEVEL = "info,SRVR=warn,INVC=critical"
"""Of every lnd that we start. By itself its SRVR logs the preimage of each HTLC that is settled, and its INVC, as an error,
that of each invoice that it did not settle."""


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """Both programs, and lnd's version as it tells it."""

    lnd: Path
    btcd: Path
    version: str


def find(lnd_dir: Path | None = None) -> Programs:
    """Both programs. Raises Stop: one is missing, or lnd is too old."""
    lnd, btcd = _find("lnd", lnd_dir), _find("btcd", lnd_dir)
    version = parts.version_of(lnd)
    numbers = version_of(version)
    if numbers is None or numbers < VERSION_MIN:
        floor = ".".join(map(str, VERSION_MIN))
        raise Stop(Exit.PART_FAILED, f"{lnd} is version {version}; lnd {floor} or newer is needed: {ADVICE}")
    return Programs(lnd=lnd, btcd=btcd, version=version)


def _find(program: str, lnd_dir: Path | None) -> Path:
    places = [*([lnd_dir] if lnd_dir else []), *_built()]
    for folder in places:
        for candidate in (folder / program, folder / "bin" / program):
            if os.access(candidate, os.X_OK) and candidate.is_file():
                return candidate.absolute()
    installed = shutil.which(program)
    if installed:
        return Path(installed)
    looked = ", ".join(str(folder) for folder in places) or "no folder"
    raise Stop(Exit.PART_FAILED, f"{program} is not there (looked in {looked} and on the PATH): {ADVICE}")


def _built() -> list[Path]:
    """Where `make tools` puts programs: as the environment says, below here, or below the checkout this file is in."""
    told = os.environ.get("L402_TOOLS_DIR")
    if told:
        return [Path(told) / "bin"]
    roots = [Path.cwd(), *Path(__file__).parents[5:6]]
    return list(dict.fromkeys(root / ".tools" / "bin" for root in roots))
