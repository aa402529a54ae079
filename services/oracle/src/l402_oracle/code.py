"""Which code measured and which decided, as a receipt names it: a version, and a hash of the source files. It runs none."""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_MEASURING = (
    "sparseloco.clip", "sparseloco.corpus", "sparseloco.data", "sparseloco.defaults", "sparseloco.device",
    "sparseloco.layout", "sparseloco.model", "sparseloco.sparse", "sparseloco.spec", "sparseloco.wire",
    "l402_oracle.measure", "l402_oracle.resident", "l402_oracle.scoring", "l402_oracle.turns",
    "l402_oracle.worker.bench",
)  # fmt: skip
"""The modules between a payload's bytes and its losses."""
_DECIDING = (
    "l402_oracle.attestor.judgement", "l402_oracle.attestor.own_data", "l402_oracle.copies", "l402_oracle.failures",
    "l402_oracle.mixtures", "l402_oracle.postings", "l402_oracle.scoring", "l402_oracle.similarity",
)  # fmt: skip
"""The modules between losses and units."""


@lru_cache(maxsize=1)
def measuring_code() -> str:
    """Of what is installed here."""
    return _named(_MEASURING)


def _named(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in modules:
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        digest.update(name.encode() + b"\n" + Path(found.origin).read_bytes())
    return f"l402-oracle {version('l402-oracle')} {digest.hexdigest()[:32]}"


JUDGE = _named(_DECIDING)
