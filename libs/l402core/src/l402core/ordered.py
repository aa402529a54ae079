"""What an order of a person needs before anything is done: who gives it, and why. It knows no order."""

from l402core.errors import Malformed

REASON_MAX = 1_000
BY_MAX = 80


def checked_order(by: str, reason: str) -> tuple[str, str]:
    """Both, trimmed. Raises Malformed where one is missing or too long to be kept."""
    by, reason = by.strip(), reason.strip()
    if not 1 <= len(by) <= BY_MAX or not 1 <= len(reason) <= REASON_MAX:
        limits = f"in 1 to {BY_MAX} characters, and why in 1 to {REASON_MAX}"
        raise Malformed("order", f"an order names who gives it {limits}")
    return by, reason
