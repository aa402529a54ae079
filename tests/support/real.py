"""Which real parts a test needs, and what their absence means. It knows no part in particular."""

import os

import pytest


def require_real(condition: bool, what: str) -> None:
    """Skip where a real part is missing; fail instead under REQUIRE_REAL=1, so that CI cannot lose it unnoticed.

    `what` names the part and how to get it, as in "lnd (run `make tools`)".
    """
    if condition:
        return
    if os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail(f"missing, and REQUIRE_REAL=1: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")
