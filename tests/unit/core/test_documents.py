"""Signed documents, requests, sealed payloads and stored objects: what is altered is never accepted."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.documents import Accepted, Locked, commitment_of, mask_indices
from l402core.errors import PeerError, Unauthorized
from l402core.peerauth import MAX_SKEW_MS, SIGNATURE_HEADER, TIME_HEADER, read_peer, sign_request
from l402core.sealing import OVERHEAD_BYTES, UnsealingKey, open_payload, seal, seal_payload, unseal_payload
from l402core.signing import SigningKey, open_signed, tagged_hash

KEY, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
CLAIM = Accepted(commitment="c", round=1, peer="p", payment_hashes=("h",), expiry_heights=(5,))


def test_a_signed_document_opens_to_itself() -> None:
    """What was signed is what is read."""
    assert open_signed(KEY.sign(Accepted.tag, CLAIM), Accepted.tag, Accepted, signer=KEY.public) == CLAIM


def test_another_signer_tag_or_body_is_refused() -> None:
    """A signature means one document, by one key, under one tag."""
    signed = KEY.sign(Accepted.tag, CLAIM)
    altered = msgspec.structs.replace(signed, body=signed.body.replace("5", "6"))
    for document, tag, signer in (
        (signed, Accepted.tag, OTHER.public),
        (signed, Locked.tag, KEY.public),
        (altered, Accepted.tag, KEY.public),
        (msgspec.structs.replace(signed, signature="zz"), Accepted.tag, KEY.public),
    ):
        with pytest.raises(Unauthorized):
            open_signed(document, tag, Accepted, signer=signer)


def test_a_key_cannot_be_printed() -> None:
    """repr names the public half alone."""
    assert ("01" * 32) not in repr(KEY)


@given(st.sampled_from(["method", "path", "body", "time"]))
def test_a_request_signature_covers_method_path_body_and_time(field: str) -> None:
    """Change any of the four and it is no longer this peer's request."""
    said = {"method": "POST", "path": "/v1/x", "body_sha256": "aa" * 32}
    headers = {name.lower(): value for name, value in sign_request(KEY, **said, now_ms=1_000).items()}
    assert read_peer(headers, **said, now_ms=1_000) == KEY.public
    change = {"method": {"method": "PUT"}, "path": {"path": "/v1/y"}, "body": {"body_sha256": "bb" * 32}, "time": {}}[
        field
    ]
    if field == "time":
        headers[TIME_HEADER.lower()] = "1001"
    with pytest.raises(Unauthorized):
        read_peer(headers, **{**said, **change}, now_ms=1_000)


def test_a_stale_or_missing_signature_is_named() -> None:
    """The window is a minute either way; a missing header is its own fault."""
    said = {"method": "POST", "path": "/v1/x", "body_sha256": "aa" * 32}
    headers = {name.lower(): value for name, value in sign_request(KEY, **said, now_ms=0).items()}
    with pytest.raises(Unauthorized) as stale:
        read_peer(headers, **said, now_ms=MAX_SKEW_MS + 1)
    assert stale.value.code == "peer_stale"
    with pytest.raises(Unauthorized) as missing:
        read_peer({**headers, SIGNATURE_HEADER.lower(): ""}, **said, now_ms=0)
    assert missing.value.code == "peer_unsigned"


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_sealed_payload_opens_only_whole(data: bytes, position: int) -> None:
    """The reading key and the content key open it; one flipped bit and nothing does."""
    reader = UnsealingKey(b"\x05" * 32)
    sealed = seal_payload(data, reader.public, b"\x06" * 32)
    assert len(sealed) == len(data) + OVERHEAD_BYTES
    assert unseal_payload(sealed, reader) == (data, b"\x06" * 32)
    assert open_payload(sealed, b"\x06" * 32) == data
    broken = bytearray(sealed)
    broken[position % len(sealed)] ^= 1
    with pytest.raises(PeerError):
        unseal_payload(bytes(broken), reader)


def test_a_box_for_another_key_stays_shut() -> None:
    """A payload sealed to somebody else is the peer's mistake, not ours."""
    with pytest.raises(PeerError):
        UnsealingKey(b"\x07" * 32).unseal(seal(b"x", UnsealingKey(b"\x08" * 32).public))


def test_the_commitment_binds_each_of_its_parts() -> None:
    """Change any part and it is another commitment."""
    parts = {"payload_hash": "01" * 32, "peer": "02" * 32, "round_": 3, "checkpoint": "04" * 32, "nonce": "05" * 32}
    base = commitment_of(**parts)  # type: ignore[arg-type]  # one dictionary of two types
    for name in parts:
        changed = {**parts, name: 9 if name == "round_" else "ff" * 32}
        assert commitment_of(**changed) != base  # type: ignore[arg-type]  # as above
    with pytest.raises(ValueError, match="32 bytes"):
        commitment_of(payload_hash="01", peer="02", round_=1, checkpoint="03", nonce="04")


@given(st.integers(0, 63))
def test_a_mask_is_the_sum_of_its_rungs(mask: int) -> None:
    """Binary rungs: the indices' powers of two add up to the mask."""
    assert sum(1 << index for index in mask_indices(mask, 6)) == mask


def test_tagged_hash_is_bip340s() -> None:
    """sha256(sha256(tag) ‖ sha256(tag) ‖ data)."""
    tag = hashlib.sha256(b"t").digest()
    assert tagged_hash("t", b"d") == hashlib.sha256(tag + tag + b"d").digest()
