"""The simulator's macaroons against pymacaroons, a known implementation of the same paper."""

from typing import Any

import pytest
from lndsim.macaroon import Bakery, check_bakeable
from lndsim.refusal import Refusal
from pymacaroons import MACAROON_V2, Macaroon
from pymacaroons.serializers import BinarySerializer

SECRET, NONCE = bytes(32), bytes(16)
GET_INFO = "/lnrpc.Lightning/GetInfo"
NOW_NS = 1_700_000_000 * 10**9


def read(data: bytes) -> Any:
    """As pymacaroons reads it."""
    return BinarySerializer().deserialize_raw(data)


def test_another_implementation_makes_the_same_bytes() -> None:
    """Same identifier and root key: same macaroon, byte for byte."""
    bakery = Bakery(SECRET)
    ours = bakery.mint([("uri", GET_INFO)], nonce=NONCE)
    identifier = read(ours).identifier_bytes
    theirs = Macaroon(location="lnd", identifier=identifier, key=bakery._root_key(b"0"), version=MACAROON_V2)
    assert BinarySerializer().serialize_raw(theirs) == ours


def test_a_caveat_added_by_the_holder_is_checked() -> None:
    """`time-before` holds until then; what we do not know is not satisfied."""
    bakery = Bakery(SECRET)
    macaroon = read(bakery.mint([("info", "read")], nonce=NONCE))
    macaroon.add_first_party_caveat("time-before 2023-11-15T00:00:00+00:00")
    timed = BinarySerializer().serialize_raw(macaroon).hex()
    bakery.admit(timed, [("info", "read")], GET_INFO, NOW_NS)
    with pytest.raises(Refusal, match="macaroon has expired"):
        bakery.admit(timed, [("info", "read")], GET_INFO, NOW_NS + 10**6 * 10**9)
    macaroon.add_first_party_caveat("only on sundays")
    with pytest.raises(Refusal, match="not recognized"):
        bakery.admit(BinarySerializer().serialize_raw(macaroon).hex(), [("info", "read")], GET_INFO, NOW_NS)


def test_every_flipped_bit_is_noticed() -> None:
    """No byte of a macaroon can change and still open anything."""
    bakery = Bakery(SECRET)
    good = bakery.mint([("info", "read")], nonce=NONCE)
    location = range(1, 2 + len(b"lnd") + 1)  # a hint that is not signed, in any implementation
    for position in (p for p in range(len(good)) if p not in location):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises(Refusal):
            bakery.admit(bytes(bad).hex(), [("info", "read")], GET_INFO, NOW_NS)


@pytest.mark.parametrize("text", ["", "zz", "02", "00" * 40, "02" * 40, "ff" * 300])
def test_nonsense_is_refused_not_crashed_on(text: str) -> None:
    """Whatever is sent as a macaroon gets a Refusal."""
    with pytest.raises(Refusal):
        Bakery(SECRET).admit(text, [("info", "read")], GET_INFO, NOW_NS)


def test_permissions_are_all_needed_or_the_uri() -> None:
    """Entity and action both count; a URI permission is enough for that URI and no other."""
    bakery = Bakery(SECRET)
    reader = bakery.mint([("info", "read"), ("invoices", "read")], nonce=NONCE).hex()
    named = bakery.mint([("uri", GET_INFO)], nonce=NONCE).hex()
    bakery.admit(reader, [("info", "read"), ("invoices", "read")], GET_INFO, NOW_NS)
    bakery.admit(named, [("info", "read")], GET_INFO, NOW_NS)
    for macaroon, needed, uri in (
        (reader, ("info", "write"), GET_INFO),
        (reader, ("offchain", "read"), GET_INFO),
        (named, ("info", "read"), "/lnrpc.Lightning/ListChannels"),
    ):
        with pytest.raises(Refusal, match="permission denied"):
            bakery.admit(macaroon, [needed], uri, NOW_NS)


def test_baking_asks_for_known_permissions() -> None:
    """Of entities, actions and URIs that exist."""
    check_bakeable([("uri", GET_INFO), ("info", "read")], [GET_INFO])
    for permissions in ([("uri", "/x")], [("x", "read")], [("info", "x")], []):
        with pytest.raises(Refusal):
            check_bakeable(permissions, [GET_INFO])
