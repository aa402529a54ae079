"""`python -m l402train.lightning PLAN.json`: a network from a file, for programs; one line of JSON when it is ready."""

import sys
from pathlib import Path

import msgspec

from l402train.exits import Exit
from l402train.lightning.serve import read_plan, up
from l402train.running import run


def main() -> int:
    """The exit code."""
    try:
        plan = read_plan(Path(sys.argv[1]))
    except (IndexError, OSError, msgspec.DecodeError) as error:
        sys.stderr.write(f"usage: python -m l402train.lightning PLAN.json: {error}\n")
        return int(Exit.USAGE)
    return run(up(plan, as_json=True))


if __name__ == "__main__":
    sys.exit(main())
