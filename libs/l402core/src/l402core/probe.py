"""`python -m l402core.probe`: whether the service beside it is ready, for images without a shell or curl.

It finds the address that the service wrote into its data folder, and refuses to guess one.
"""

import http.client
import os
import sys
import urllib.parse
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 2.0
DATA_DIR: Final = ".l402-train"
"""The services' default, in the working directory."""


def address(folder: Path) -> str:
    """The base URL in the folder's one address file. Raises FileNotFoundError before the service listens."""
    files = sorted(folder.glob("*.url"))
    if not files:
        raise FileNotFoundError(f"no service listens: there is no *.url in {folder}")
    return files[0].read_text().strip()


def ready(url: str, path: str = "/readyz") -> tuple[bool, str]:
    """Whether the answer is 200, and what it says. Raises OSError when nobody answers in time."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == 200, answer.read(4096).decode(errors="replace")
    finally:
        connection.close()


def main() -> int:
    """Exit code 0 when ready, 1 when not; says why."""
    chosen = [value for name, value in os.environ.items() if name.startswith("L402_") and name.endswith("_DATA_DIR")]
    try:
        well, said = ready(address(Path(chosen[0] if chosen else DATA_DIR)))
    except (OSError, http.client.HTTPException) as error:
        well, said = False, str(error)
    print(said)  # noqa: T201 - what `docker inspect` shows
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
