"""The free manifest `/.well-known/l402.json`: which routes are sold, how, and for how much. It sells nothing itself."""

from typing import Any

from l402core.documents import Terms

BASE = "/v1/rounds/{round}/submissions/{commitment}"


def manifest(terms: Terms | None) -> dict[str, Any]:
    """One credential opens all four steps of one submission, so the fee is asked once."""
    price = {"amount_msat": terms.fee_msat, "round": terms.round, "terms": terms.digest()} if terms else None
    return {
        "version": 1,
        "scheme": "L402",
        "network": terms.network if terms else None,
        "challenge": {"status": 402, "header": "WWW-Authenticate", "free": True},
        "priced": [
            {
                "path": BASE,
                "methods": ["POST", "PUT"],
                "covers": [BASE, f"{BASE}/locks", f"{BASE}/accepted", f"{BASE}/gradient"],
                "caveats": ["round", "commitment", "methods", "path", "valid_until", "peer"],
                "price": price,
            }
        ],
        "free": [
            "/v1/rounds/current",
            "/v1/rounds/{round}",
            BASE,
            "/v1/channels",
            "/v1/checkpoints/{sha256}",
            "/v1/objects/{sha256}",
        ],
    }
