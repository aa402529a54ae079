"""Macaroons on the wire: known vectors, agreement with pymacaroons, and every attack on the chain refused."""

import base64
import contextlib

import pymacaroons
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.errors import Malformed
from l402core.l402.macaroon import Macaroon, append, decode, mint, verify_signature
from l402core.l402.wire import MAX_CAVEATS, MAX_MACAROON_BYTES
from l402core.secret import Secret
from pymacaroons.serializers.binary_serializer import BinarySerializer

ROOT = Secret(bytes(range(32)))
L402_VECTOR = (
    "AgEEbHNhdAJCAAAC1EmjH7smfI81Lplop54+X8lcG76qUC/WRU695aS+3CIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiAAITc2Vydmlj"
    "ZXM9c2VydmljZTE6MAACInNlcnZpY2UxX2NhcGFiaWxpdGllcz1hZGQsc3VidHJhY3QAAh9zZXJ2aWNlMV92YWxpZF91bnRpbD0xODkzNDU2MDAw"
    "AAAGIEurzlbMpvI5zso00i5AdmwbMH/DetZdC7ys5gev6mcq"
)
LIBMACAROONS_KEY = Secret(b"this is the key")
LIBMACAROONS = {
    "V1, no caveat": (
        "TURBeU1XeHZZMkYwYVc5dUlHaDBkSEE2THk5bGVHRnRjR3hsTG05eVp5OEtNREF4Tldsa1pXNTBhV1pwWlhJZ2EyVjVhV1FLTURBeVpuTnBa"
        "MjVoZEhWeVpTQjgzdWVTVVJ4Ynh2VW9TRmdGMy1teVRuaGVLT0twa3dINTF4SEdDZU9POXdv",
        (),
    ),
    "V1, one caveat": (
        "TURBeU1XeHZZMkYwYVc5dUlHaDBkSEE2THk5bGVHRnRjR3hsTG05eVp5OEtNREF4Tldsa1pXNTBhV1pwWlhJZ2EyVjVhV1FLTURBeFpHTnBa"
        "Q0JoWTJOdmRXNTBJRDBnTXpjek5Ua3lPRFUxT1Fvd01ESm1jMmxuYm1GMGRYSmxJUFZJQl9iY2J0LUl2dzl6QnJPQ0pXS2pZbE05djNNNXVt"
        "RjJYYVM5SloySENn",
        (b"account = 3735928559",),
    ),
    "V1, two caveats": (
        "TURBeU1XeHZZMkYwYVc5dUlHaDBkSEE2THk5bGVHRnRjR3hsTG05eVp5OEtNREF4Tldsa1pXNTBhV1pwWlhJZ2EyVjVhV1FLTURBeFpHTnBa"
        "Q0JoWTJOdmRXNTBJRDBnTXpjek5Ua3lPRFUxT1Fvd01ERTFZMmxrSUhWelpYSWdQU0JoYkdsalpRb3dNREptYzJsbmJtRjBkWEpsSUV2cFo4"
        "MGVvTWF5YTY5cVNwVHVtd1d4V0liYUM2aGVqRUtwUEkwT0VsNzhDZw==",
        (b"account = 3735928559", b"user = alice"),
    ),
    "V2, no caveat": ("AgETaHR0cDovL2V4YW1wbGUub3JnLwIFa2V5aWQAAAYgfN7nklEcW8b1KEhYBd_psk54XijiqZMB-dcRxgnjjvc", ()),
    "V2, one caveat": (
        "AgETaHR0cDovL2V4YW1wbGUub3JnLwIFa2V5aWQAAhRhY2NvdW50ID0gMzczNTkyODU1OQAABiD1SAf23G7fiL8PcwazgiVio2JTPb9zObph"
        "dl2kvSWdhw",
        (b"account = 3735928559",),
    ),
    "V2, two caveats": (
        "AgETaHR0cDovL2V4YW1wbGUub3JnLwIFa2V5aWQAAhRhY2NvdW50ID0gMzczNTkyODU1OQACDHVzZXIgPSBhbGljZQAABiBL6WfNHqDGsmuv"
        "akqU7psFsViG2guoXoxCqTyNDhJe_A",
        (b"account = 3735928559", b"user = alice"),
    ),
}

KEYS = st.binary(min_size=32, max_size=32).map(Secret)
CAVEATS = st.lists(st.text(min_size=1, max_size=60).map(str.encode), max_size=6).map(tuple)
IDENTIFIERS = st.binary(min_size=1, max_size=200)
LOCATIONS = st.text(min_size=1, max_size=20).map(str.encode)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _token(*caveats: bytes, root: Secret = ROOT) -> Macaroon:
    return mint(root, b"\x22" * 66, caveats, b"l402-train")


def test_the_published_l402_macaroon_is_read_written_and_verified_byte_for_byte() -> None:
    """204 bytes on which an independent encoder and pymacaroons agree."""
    raw = base64.b64decode(L402_VECTOR)
    macaroon = decode(raw)
    assert len(raw) == 204
    assert macaroon.location == b"lsat"
    assert macaroon.identifier == bytes(2) + bytes.fromhex(
        "02d449a31fbb267c8f352e9968a79e3e5fc95c1bbeaa502fd6454ebde5a4bedc" + "22" * 32
    )
    assert macaroon.caveats == (
        b"services=service1:0",
        b"service1_capabilities=add,subtract",
        b"service1_valid_until=1893456000",
    )
    assert macaroon.signature.hex() == "4babce56cca6f239ceca34d22e40766c1b307fc37ad65d0bbcace607afea672a"
    assert verify_signature(macaroon, ROOT)
    assert macaroon.encode() == raw
    assert mint(ROOT, macaroon.identifier, macaroon.caveats, b"lsat") == macaroon


@pytest.mark.parametrize("name", LIBMACAROONS)
def test_the_vectors_of_libmacaroons_verify(name: str) -> None:
    """V1 and V2 of the same macaroons, as libmacaroons' own tests have them; another key verifies none."""
    text, caveats = LIBMACAROONS[name]
    raw = _bytes(text)
    if name.startswith("V1"):
        raw = _bytes(raw.decode())  # the V1 vectors are base64 of base64
    macaroon = decode(raw)
    assert (macaroon.location, macaroon.identifier, macaroon.caveats) == (b"http://example.org/", b"keyid", caveats)
    assert verify_signature(macaroon, LIBMACAROONS_KEY)
    assert not verify_signature(macaroon, Secret(b"this is not the key"))
    assert macaroon.encode() == _bytes(LIBMACAROONS[name.replace("V1", "V2")][0])


@given(root=KEYS, identifier=IDENTIFIERS, caveats=CAVEATS, location=LOCATIONS)
def test_what_pymacaroons_writes_we_read_and_write_the_same(
    root: Secret, identifier: bytes, caveats: tuple[bytes, ...], location: bytes
) -> None:
    """One direction of the cross-check, byte for byte."""
    theirs = pymacaroons.Macaroon(location, identifier, root.reveal(), version=pymacaroons.MACAROON_V2)
    for caveat in caveats:
        theirs.add_first_party_caveat(caveat)
    raw = BinarySerializer().serialize_raw(theirs)
    ours = decode(raw)
    assert ours.encode() == raw
    assert ours.signature.hex() == theirs.signature
    assert verify_signature(ours, root)


@given(root=KEYS, identifier=IDENTIFIERS, caveats=CAVEATS, location=LOCATIONS)
def test_what_we_write_pymacaroons_reads_and_verifies(
    root: Secret, identifier: bytes, caveats: tuple[bytes, ...], location: bytes
) -> None:
    """The other direction: a token attenuated with our `append` satisfies their verifier."""
    ours = mint(root, identifier, (), location)
    for caveat in caveats:
        ours = append(ours, caveat)
    assert ours == mint(root, identifier, caveats, location)
    theirs = BinarySerializer().deserialize_raw(ours.encode())
    verifier = pymacaroons.Verifier()
    verifier.satisfy_general(lambda _: True)
    assert verifier.verify(theirs, root.reveal())


@given(root=KEYS, caveats=CAVEATS.filter(lambda listed: len(set(listed)) > 1), data=st.data())
def test_no_change_to_the_chain_verifies(root: Secret, caveats: tuple[bytes, ...], data: st.DataObject) -> None:
    """Dropping, doubling, swapping, cutting off or inventing a caveat without the key breaks the signature."""
    token = mint(root, b"i" * 66, caveats, b"")
    at = data.draw(st.integers(0, len(caveats) - 1))
    attacks = [
        caveats[:at] + caveats[at + 1 :],
        caveats[: at + 1] + caveats[at:],
        caveats[::-1],
        caveats[:at],
        (*caveats[:at], caveats[at] + b"x", *caveats[at + 1 :]),
        (*caveats[:at], caveats[at][:-1], *caveats[at + 1 :]),
        (*caveats, b"valid_until=99999999999"),
    ]
    for attack in attacks:
        if attack != caveats:
            assert not verify_signature(Macaroon(token.location, token.identifier, attack, token.signature), root)


@given(root=KEYS, one=CAVEATS, other=CAVEATS)
def test_two_tokens_cannot_be_spliced(root: Secret, one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    """The identifier, caveats and signature of one token do not go with those of another."""
    first, second = mint(root, b"1" * 66, one, b""), mint(root, b"2" * 66, other, b"")
    for identifier, caveats, signature in [
        (first.identifier, second.caveats, second.signature),
        (second.identifier, first.caveats, first.signature),
        (first.identifier, first.caveats, second.signature),
        (first.identifier, first.caveats + second.caveats, second.signature),
    ]:
        assert not verify_signature(Macaroon(b"", identifier, caveats, signature), root)


def test_no_flipped_bit_verifies() -> None:
    """Every single bit of a token: it is then malformed or badly signed, save in the location, which is not signed."""
    token = _token(b"round=3", b"methods=POST")
    raw = token.encode()
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = decode(bytes(changed))
        except Malformed:
            continue
        if found.location == token.location:
            assert not verify_signature(found, ROOT), f"bit {bit}"


def test_every_prefix_and_every_appendix_is_malformed() -> None:
    """A token has one length, in both formats."""
    for raw in (_token(b"round=3").encode(), _bytes(_bytes(LIBMACAROONS["V1, one caveat"][0]).decode())):
        for cut in range(len(raw)):
            with pytest.raises(Malformed):
                decode(raw[:cut])
        with pytest.raises(Malformed, match="after its signature"):
            decode(raw + b"\0")


SIGNATURE = b"\x06\x20" + bytes(32)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"\x03\x02\x01i\x00\x00" + SIGNATURE, "neither"),
        (b"{}", "neither"),
        (b"\x02\x00\x00" + SIGNATURE, "the identifier"),
        (b"\x02\x02\x01i\x02\x01i\x00\x00" + SIGNATURE, "after the header"),
        (b"\x02\x02\x81\x00i\x00\x00" + SIGNATURE, "shortest form"),
        (b"\x02\x02\xff\xff\xff\xff\x7fi\x00\x00" + SIGNATURE, "beyond the limit"),
        (b"\x02\x02\x01i\x00\x02\x01c\x04\x01v\x00\x00" + SIGNATURE, "third-party"),
        (b"\x02\x02\x01i\x00\x01\x01l\x02\x01c\x00\x00" + SIGNATURE, "third-party"),
        (b"\x02\x02\x01i\x00\x02\x00\x00\x00" + SIGNATURE, "empty caveat"),
        (b"\x02\x02\x01i\x00\x02\x01c\x05\x00\x00" + SIGNATURE, "after a caveat"),
        (b"\x02\x02\x01i\x00\x00\x06\x1f" + bytes(31), "31 bytes"),
        (b"\x02\x02\x05id", "ends before the 5 bytes of the identifier"),
        (b"\x02\x02\x01i\x00" + b"\x02\x01c\x00" * (MAX_CAVEATS + 1) + b"\x00" + SIGNATURE, "more than 64 caveats"),
        (b"\x02" + bytes(MAX_MACAROON_BYTES), "beyond 4096"),
        (b"000elocation x0010identifier \n", "newline"),
        (b"000elocation \n0010identifier \n0008cl \n", "third-party"),
        (b"000elocation \n0010identifier \n0009cid \n", "empty caveat"),
        (b"zzzzlocation \n", "neither"),
        (b"00zzlocation \n", "hex digits"),
        (b"00ffocation", "whole packet"),
    ],
)
def test_each_malformation_is_named_with_its_offset(raw: bytes, says: str) -> None:
    """Refusals help whoever writes the other side."""
    with pytest.raises(Malformed, match=says) as refusal:
        decode(raw)
    assert refusal.value.code == "bad_macaroon"
    assert "offset" in refusal.value.detail


@given(raw=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"\x02\x02\x01i\x00" + tail))
def test_no_bytes_do_anything_but_decode_or_be_malformed(raw: bytes) -> None:
    """And what decodes from V2 is written back as the same bytes, but for an empty location."""
    with contextlib.suppress(Malformed):
        found = decode(raw)
        assert decode(found.encode()) == found


def test_the_holder_cannot_append_beyond_the_limits() -> None:
    """The client learns it, instead of being refused by the server later."""
    token = _token(*[b"c"] * MAX_CAVEATS)
    with pytest.raises(ValueError, match="one caveat more"):
        append(token, b"c")
    for caveat in (b"", b"c" * MAX_MACAROON_BYTES):
        with pytest.raises(ValueError, match="one caveat more"):
            append(_token(), caveat)
    with pytest.raises(ValueError, match="would not be read"):
        _token(*[b"c"] * (MAX_CAVEATS + 1))


def test_a_macaroon_does_not_show_itself() -> None:
    """It is worth money to whoever reads it in a log."""
    assert repr(_token(b"round=3")) == "Macaroon(… 1 caveats)"
    assert "round" not in f"{_token(b'round=3')}"
