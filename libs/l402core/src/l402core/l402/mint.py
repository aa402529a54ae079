"""Minting a token for one payment hash. It refuses to sign a caveat that our own check would not understand."""

from collections.abc import Iterable

from l402core.l402.caveats import Narrowing
from l402core.l402.identifier import Identifier
from l402core.l402.keys import RootKeys
from l402core.l402.macaroon import Macaroon, mint


def mint_token(
    keys: RootKeys,
    payment_hash: bytes,
    token_id: bytes,
    caveats: Iterable[bytes],
    location: bytes = b"l402-train",
) -> Macaroon:
    """A token of `keys`' ring for whoever learns the preimage of `payment_hash`.

    Raises Unauthorized where a caveat is unknown, malformed or widens an earlier one (a value taken from a request may
    do so), or where the token id names a key that is unknown or revoked; ValueError for wrong lengths.
    """
    listed = tuple(caveats)
    narrowing = Narrowing()
    for caveat in listed:
        narrowing.add(caveat)
    return mint(keys.for_token(token_id), Identifier(payment_hash, token_id).encode(), listed, location)
