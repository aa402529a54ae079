"""What one of LND's macaroons opens, read from itself, and what of it is too much. It asks no node.

Only the node can tell whether a macaroon is its own. But the permissions are written in the identifier (the bakery's
version 3: nonce, root key, operations), and caveats can only narrow them: nothing opens more than is read here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from l402core.errors import Malformed, Unavailable
from l402core.l402 import macaroon
from l402core.lnd.stubs import lnrpc

_BAKERY_VERSION: Final = 3
_URI: Final = "uri"


class Scope(msgspec.Struct, frozen=True):
    """Permissions as `lncli bakemacaroon` writes them: a call's URI, or `entity:action` for a whole family of calls."""

    opens: tuple[str, ...]
    root_key: str
    """The number of the node's root key that it was made under; '0' is the node's first."""
    caveats: tuple[str, ...]
    """What narrows it further, as written; they are not weighed here."""

    def excess(self, allowed: Iterable[str]) -> tuple[str, ...]:
        """What it opens beyond `allowed`. A family of calls is too much unless it is allowed by that name."""
        return tuple(sorted(set(self.opens) - set(allowed)))


def read_scope(raw: bytes) -> Scope:
    """Of a macaroon as LND's files hold it. Raises Malformed for what is none of LND's."""
    read = macaroon.decode(raw)
    if not read.identifier or read.identifier[0] != _BAKERY_VERSION:
        raise Malformed("bad_macaroon", "the macaroon's identifier is not written as LND's are")
    try:
        written = lnrpc.MacaroonId.FromString(read.identifier[1:])
    except DecodeError as error:
        raise Malformed("bad_macaroon", "the macaroon's identifier lists no permissions") from error
    return Scope(
        opens=tuple(
            action if op.entity == _URI else f"{op.entity}:{action}" for op in written.ops for action in op.actions
        ),
        root_key=written.storageId.decode(errors="replace"),
        caveats=tuple(caveat.decode(errors="replace") for caveat in read.caveats),
    )


def refuse_excess(path: Path, allowed: Iterable[str], *, tolerated: Iterable[str], service: str) -> None:
    """Before a service starts: its macaroon opens what it needs and nothing else, except what is tolerated by name.

    Raises Unavailable where the file cannot be read, Malformed where it is no macaroon of LND's, or opens too much.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Unavailable("lnd_credentials", f"cannot read {path}: {error.strerror}") from error
    excess = read_scope(raw).excess((*allowed, *tolerated))
    if excess:
        raise Malformed(
            "lnd_macaroon_excess",
            f"{path} opens more than this service needs: {', '.join(excess)}. "
            f"Bake one with `l402-train bake {service}`, or tolerate these by name in "
            f"L402_{service.upper()}_LND_MACAROON_EXCESS",
        )
