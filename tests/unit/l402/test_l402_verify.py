"""From minting to verifying: what opens, what refuses and why, with keys that rotate and are revoked."""

import os
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.errors import Malformed, Unauthorized
from l402core.l402 import (
    Credential,
    Identifier,
    Macaroon,
    Request,
    RootKeys,
    credential,
    keys,
    mint_token,
    parse_credential,
    parse_grpc_metadata,
    verify,
)
from l402core.l402.identifier import decode as decode_identifier
from l402core.l402.macaroon import append, mint
from l402core.secret import Secret

PREIMAGE = Secret(b"\x11" * 32)
PAYMENT_HASH = sha256(PREIMAGE.reveal()).digest()
REQUEST = Request(method="PUT", path="/v1/rounds/3/x", now_unix=1_000, round=3, commitment="c0" * 32)
CAVEATS = (b"methods=PUT", b"path=/v1/rounds/3/*", b"round=3", b"valid_until=1001")


def a_token(ring: RootKeys, *caveats: bytes) -> Macaroon:
    """A token for the usual preimage with a fresh token id."""
    return mint_token(ring, PAYMENT_HASH, ring.new_token_id(os.urandom), caveats)


def refusal(ring: RootKeys, token: Macaroon, preimage: Secret = PREIMAGE, request: Request = REQUEST) -> str:
    """The code with which this credential refuses, or 'fine'."""
    try:
        verify(Credential(token, preimage), ring, request)
    except Unauthorized as error:
        return error.code
    return "fine"


@pytest.fixture
def ring() -> RootKeys:
    """A ring with one fresh key."""
    return keys.create(os.urandom)


def test_a_paid_token_opens_what_it_was_minted_for(ring: RootKeys) -> None:
    """The whole way: mint, header, parse, verify; the caller learns the hash, the token id and the caveats."""
    token_id = ring.new_token_id(os.urandom)
    token = mint_token(ring, PAYMENT_HASH, token_id, CAVEATS)
    presented = parse_credential([credential(token, PREIMAGE)])
    assert presented is not None
    found = verify(presented, ring, REQUEST)
    assert (found.payment_hash, found.token_id, found.caveats) == (PAYMENT_HASH, token_id, CAVEATS)
    assert token_id[:4] == ring.active == decode_identifier(token.identifier).key_id
    assert token.location == b"l402-train"


def test_every_single_reason_refuses_with_its_own_code(ring: RootKeys) -> None:
    """A wrong preimage, a foreign key, a foreign signature, a caveat: four faults, four codes."""
    token = a_token(ring, *CAVEATS)
    other = keys.create(os.urandom)
    assert refusal(ring, token) == "fine"
    assert refusal(ring, token, Secret(b"\x12" * 32)) == "bad_preimage"
    assert refusal(ring, token, Secret(b"")) == "bad_preimage"
    assert refusal(other, token) == "unknown_root_key"
    same_id = RootKeys(keys={ring.active: Secret(bytes(32))}, active=ring.active)
    assert refusal(same_id, token) == "bad_signature"
    assert refusal(ring, append(token, b"round=4")) == "caveat_widens"
    assert refusal(ring, append(token, b"unheard=of")) == "caveat_unknown"
    assert refusal(ring, append(token, b"valid_until=1000")) == "caveat_expired"


def test_a_self_made_macaroon_with_a_self_made_preimage_opens_nothing(ring: RootKeys) -> None:
    """Elsewhere an unsigned JSON 'macaroon' is satisfied by any preimage its maker likes."""
    identifier = Identifier(PAYMENT_HASH, ring.new_token_id(os.urandom)).encode()
    assert refusal(ring, mint(Secret(b"mine"), identifier, CAVEATS, b"")) == "bad_signature"
    assert refusal(ring, Macaroon(b"", identifier, (), bytes(32))) == "bad_signature"
    with pytest.raises(Malformed):
        verify(Credential(Macaroon(b"", b'{"payment_hash":"00"}', (), bytes(32)), PREIMAGE), ring, REQUEST)


def test_an_identifier_of_another_version_or_length_is_malformed(ring: RootKeys) -> None:
    """Version 0 and 66 bytes, or we do not guess."""
    good = Identifier(PAYMENT_HASH, bytes(32)).encode()
    for raw in (good[:-1], good + b"\0", b"\0\1" + good[2:], b""):
        with pytest.raises(Malformed, match="identifier"):
            verify(Credential(Macaroon(b"", raw, (), bytes(32)), PREIMAGE), ring, REQUEST)
    for wrong in (
        Identifier(bytes(31), bytes(32)),
        Identifier(bytes(32), bytes(33)),
        Identifier(bytes(32), bytes(32), 1),
    ):
        with pytest.raises(ValueError, match="identifier"):
            wrong.encode()


def test_a_credit_opens_nothing_until_its_holder_binds_it(ring: RootKeys) -> None:
    """A credit carries no round and no commitment; the peer appends them, and cannot change them again."""
    needed = frozenset({"round", "commitment"})
    credit = a_token(ring, b"methods=PUT")
    bound = append(append(credit, b"round=3"), b"commitment=" + b"c0" * 32)
    assert verify(Credential(bound, PREIMAGE), ring, REQUEST, needed).caveats[-1] == b"commitment=" + b"c0" * 32
    for token in (credit, append(credit, b"round=3")):
        with pytest.raises(Unauthorized) as missing:
            verify(Credential(token, PREIMAGE), ring, REQUEST, needed)
        assert missing.value.code == "caveat_missing"
    assert refusal(ring, append(bound, b"round=4")) == "caveat_widens"


def test_a_grpc_credential_is_verified_by_the_same_rules(ring: RootKeys) -> None:
    """The preimage caveat is known only as the credential's own preimage, and never handed on."""
    token = append(a_token(ring, *CAVEATS), b"preimage=" + PREIMAGE.reveal().hex().encode())
    presented = parse_grpc_metadata([token.encode().hex()])
    assert presented is not None
    assert verify(presented, ring, REQUEST).caveats == CAVEATS
    assert refusal(ring, append(token, b"preimage=" + b"22" * 32)) == "caveat_unknown"


def test_a_rotated_ring_mints_with_the_new_key_and_verifies_with_both(ring: RootKeys) -> None:
    """Old tokens go on opening until their key is revoked."""
    old = a_token(ring)
    rotated = ring.rotate(os.urandom)
    new = a_token(rotated)
    assert rotated.active != ring.active
    assert (refusal(rotated, old), refusal(rotated, new), refusal(ring, new)) == ("fine", "fine", "unknown_root_key")
    revoked = rotated.revoke_key(ring.active)
    assert (refusal(revoked, old), refusal(revoked, new)) == ("revoked", "fine")
    assert ring.active not in revoked.keys


def test_one_token_is_revoked_alone(ring: RootKeys) -> None:
    """Its holder's attenuations with it; its sister not."""
    one, sister = a_token(ring), a_token(ring)
    revoked = ring.revoke_token(decode_identifier(one.identifier).token_id)
    codes = [refusal(revoked, token) for token in (one, append(one, b"round=3"), sister)]
    assert codes == ["revoked", "revoked", "fine"]
    with pytest.raises(Unauthorized):
        mint_token(revoked, PAYMENT_HASH, decode_identifier(one.identifier).token_id, [])


def test_an_incoherent_ring_cannot_be_made(ring: RootKeys) -> None:
    """No active key, a key of the wrong length, too many: a ValueError before anything is signed."""
    with pytest.raises(ValueError, match="active"):
        ring.revoke_key(ring.active)
    with pytest.raises(ValueError, match="active"):
        RootKeys(keys={}, active=b"abcd")
    with pytest.raises(ValueError, match="32 bytes"):
        RootKeys(keys={b"abcd": Secret(b"short")}, active=b"abcd")
    with pytest.raises(ValueError, match="id of 4"):
        RootKeys(keys={b"abc": Secret(bytes(32))}, active=b"abc")
    with pytest.raises(ValueError, match="at most"):
        RootKeys(keys={i.to_bytes(4, "big"): Secret(bytes(32)) for i in range(65)}, active=bytes(4))
    with pytest.raises(ValueError, match="repeated"):
        keys.create(bytes).rotate(bytes)


def test_two_tokens_never_share_a_key(ring: RootKeys) -> None:
    """Derived per token id, so that a leaked token key opens one token."""
    one, other = ring.new_token_id(os.urandom), ring.new_token_id(os.urandom)
    assert ring.for_token(one) == ring.for_token(one)
    assert ring.for_token(one) != ring.for_token(other)
    assert ring.for_token(one) != ring.keys[ring.active]


@pytest.mark.parametrize("caveat", [b"services=x:0,premium", b"unknown=1", b"round=x", b"path=/a/../b"])
def test_nothing_is_minted_that_would_not_be_understood(ring: RootKeys, caveat: bytes) -> None:
    """A value taken from a request cannot become a caveat of another meaning, nor a token that never opens."""
    with pytest.raises(Unauthorized):
        a_token(ring, caveat)
    with pytest.raises(Unauthorized):
        a_token(ring, b"round=3", b"round=4")


@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=3, unique=True),
    halves=st.booleans(),
)
def test_no_change_to_a_credential_s_text_opens_anything(flips: list[tuple[int, int]], halves: bool) -> None:
    """Bits flipped in the header's own text: malformed, unauthorized, or the very same credential."""
    ring = keys.create(lambda count: b"\x07" * count)
    line = credential(mint_token(ring, PAYMENT_HASH, ring.new_token_id(bytes), CAVEATS), PREIMAGE).encode()
    original = parse_credential([line.decode()])
    assert original is not None
    changed = bytearray(line)
    for at, bit in flips:
        changed[at % len(line) if halves else -1 - at % 70] ^= 1 << bit
    try:
        presented = parse_credential([changed.decode("latin-1")])
        if presented is not None:
            verify(presented, ring, REQUEST)
    except (Malformed, Unauthorized):
        return
    if presented is not None:
        # Only the case of a letter, or the unsigned location, may differ.
        assert presented.preimage == original.preimage
        assert (presented.macaroon.identifier, presented.macaroon.caveats) == (
            original.macaroon.identifier,
            original.macaroon.caveats,
        )


def test_the_published_vector_carries_the_payment_hash_of_its_preimage() -> None:
    """The identifier of the reference macaroon: version 0, hash of 32 bytes 0x11, token id of 32 bytes 0x22."""
    raw = bytes.fromhex("0000" + "02d449a31fbb267c8f352e9968a79e3e5fc95c1bbeaa502fd6454ebde5a4bedc" + "22" * 32)
    assert decode_identifier(raw) == Identifier(PAYMENT_HASH, b"\x22" * 32)
    assert Identifier(PAYMENT_HASH, b"\x22" * 32).encode() == raw
