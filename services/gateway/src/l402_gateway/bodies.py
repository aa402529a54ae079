"""What the body of a request says, held against the request. It asks nobody, and knows nothing of what is stored."""

from typing import TypeVar

import msgspec
from l402core.errors import Malformed, Unauthorized
from l402core.signing import Signed, open_signed

from l402_gateway.problems import Meaningless

D = TypeVar("D", bound=msgspec.Struct)


class Locks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/locks`: one hold invoice per rung, lowest first."""

    bolt11s: tuple[str, ...]


def signed_by(body: bytes, tag: str, kind: type[D], peer: str) -> D:
    """The document in the body, signed by the peer. Raises Malformed, Unauthorized with a `peer_…` code."""
    try:
        return open_signed(read(body, Signed), tag, kind, signer=peer)
    except Unauthorized as error:
        raise Unauthorized(f"peer_{kind.__name__.lower()}", error.detail) from error


def read(body: bytes, kind: type[D]) -> D:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Malformed("bad_json", f"the body is not a {kind.__name__.removeprefix('_')} in JSON: {error}") from None


def same(what: str, *pairs: tuple[object, object, str]) -> None:
    for told, known, name in pairs:
        if told != known:
            raise Meaningless(f"{what}_mismatch", f"the signed {what} names another {name} than the request")
