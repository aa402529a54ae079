"""`python -m l402_oracle attestor|worker`: one role per process, and each imports only what it needs."""

import sys
from importlib import import_module

ROLES = ("attestor", "worker")


def main() -> None:
    """Start the role that is named."""
    if len(sys.argv) != 2 or sys.argv[1] not in ROLES:
        sys.exit(f"usage: python -m l402_oracle {{{'|'.join(ROLES)}}}")
    sys.exit(import_module(f"l402_oracle.{sys.argv[1]}.wiring").main())


if __name__ == "__main__":
    main()
