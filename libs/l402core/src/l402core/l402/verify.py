"""Verifying a credential, with no input or output: key, chain, preimage, caveats. It refuses to know spent tokens."""

import hmac
from collections.abc import Set
from hashlib import sha256

import msgspec

from l402core.errors import Unauthorized
from l402core.l402 import caveats, identifier
from l402core.l402.caveats import PREIMAGE_KEY, Request
from l402core.l402.header import Credential
from l402core.l402.keys import RootKeys
from l402core.l402.macaroon import verify_signature
from l402core.secret import Secret


class Verified(msgspec.Struct, frozen=True):
    """What a good credential proves. `caveats` are those that were satisfied, without a `preimage` one."""

    payment_hash: bytes
    token_id: bytes
    caveats: tuple[bytes, ...]


def verify(credential: Credential, keys: RootKeys, request: Request, required: Set[str] = frozenset()) -> Verified:
    """Check everything that can be checked without asking anybody.

    Raises Malformed for a foreign identifier, Unauthorized with code `unknown_root_key`, `revoked`, `bad_signature`,
    `bad_preimage`, or one of `caveats.check`. `required` names caveat keys that must be there.
    """
    token = identifier.decode(credential.macaroon.identifier)
    if not verify_signature(credential.macaroon, keys.for_token(token.token_id)):
        raise Unauthorized("bad_signature", "the macaroon was not signed by us, or it was changed")
    preimage = credential.preimage
    if not hmac.compare_digest(sha256(preimage.reveal()).digest(), token.payment_hash):
        raise Unauthorized("bad_preimage", "the preimage is not that of the macaroon's payment hash")
    told = tuple(caveat for caveat in credential.macaroon.caveats if not _tells(caveat, preimage))
    caveats.check(told, request, required)
    return Verified(token.payment_hash, token.token_id, told)


def _tells(caveat: bytes, preimage: Secret) -> bool:
    """Whether it is the caveat in which gRPC clients carry the preimage; any other preimage is an unknown caveat."""
    key, _, value = caveat.partition(b"=")
    return key == PREIMAGE_KEY.encode() and hmac.compare_digest(value.lower(), preimage.reveal().hex().encode())
