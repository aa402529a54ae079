"""L402 as text: the challenge every client reads, credentials read strictly, challenges read tolerantly."""

import base64
import contextlib
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.bolt11 import InvalidInvoice, encode
from l402core.errors import Malformed
from l402core.l402 import (
    Credential,
    Identifier,
    Macaroon,
    challenge,
    credential,
    parse_challenge,
    parse_credential,
    parse_grpc_metadata,
)
from l402core.l402.header import MAX_HEADER_CHARS
from l402core.l402.macaroon import append, mint
from l402core.secret import Secret

PREIMAGE = Secret(b"\x11" * 32)
PAYMENT_HASH = sha256(PREIMAGE.reveal()).digest()
# A token id of 0xfb gives base64 with both "+" and "/" in it.
TOKEN = mint(Secret(bytes(32)), Identifier(PAYMENT_HASH, b"\xfb\xff" * 16).encode(), [b"round=3"], b"l402")
M = base64.b64encode(TOKEN.encode()).decode()
URLSAFE = base64.urlsafe_b64encode(TOKEN.encode()).decode()
HEX = PREIMAGE.reveal().hex()


def a_bolt11(payment_hash: bytes = PAYMENT_HASH) -> str:
    """An invoice on the token's payment hash, unless another is given."""
    return encode(b"\x01" * 32, payment_hash=payment_hash, payment_secret=bytes(32), timestamp=0, amount_msat=500_000)


BOLT11 = a_bolt11()


def test_the_challenge_is_the_one_line_that_every_client_parses() -> None:
    """Byte for byte, and with the patterns of clients that only read `macaroon="…", invoice="…"`."""
    assert "+" in M
    assert "/" in M
    line = challenge(TOKEN, BOLT11)
    assert line == f'L402 macaroon="{M}", invoice="{BOLT11}", version="0", token="{M}"'
    assert re.search(r'^L402 macaroon="(.*?)", invoice="(.*?)"', line)
    assert re.search(r'token="?([A-Za-z0-9+/=_-]+)"?', line)


@pytest.mark.parametrize("bolt11", ['lnbc1"', "lnbc1\r\nSet-Cookie: a=b", "", "lnbc 1"])
def test_a_challenge_cannot_be_made_to_carry_another_header(bolt11: str) -> None:
    """What goes between the quotes are letters and digits."""
    with pytest.raises(ValueError, match="letters and digits"):
        challenge(TOKEN, bolt11)


@pytest.mark.parametrize("scheme", ["L402", "l402", "LSAT", "lsat", "LsAt"])
@pytest.mark.parametrize("encoded", [M, M.rstrip("="), URLSAFE, URLSAFE.rstrip("=")])
@pytest.mark.parametrize("preimage", [HEX, HEX.upper()])
def test_a_credential_is_read_in_every_form_that_clients_send(scheme: str, encoded: str, preimage: str) -> None:
    """Either scheme in any case, four kinds of base64, hex in either case."""
    assert parse_credential([f"{scheme} {encoded}:{preimage}"]) == Credential(TOKEN, PREIMAGE)


def test_what_a_client_writes_is_read_back() -> None:
    """Our own client's header is our own server's credential, also beside another scheme and doubled."""
    line = credential(TOKEN, PREIMAGE)
    assert line == f"L402 {M}:{HEX}"
    for lines in ([line], [line, line], ["Bearer abc", line], [f"\t{line} "], [line, f"LSAT {URLSAFE}:{HEX.upper()}"]):
        assert parse_credential(lines) == Credential(TOKEN, PREIMAGE)


@pytest.mark.parametrize("lines", [[], [""], ["Bearer abc"], ["Basic YTpi"], ["L4020 x:y"], ["XL402 a:b"], [M]])
def test_other_authorizations_are_not_ours(lines: list[str]) -> None:
    """They are no credential, and no error."""
    assert parse_credential(lines) is None


@pytest.mark.parametrize(
    "line",
    [
        *("L402", "L402 ", "LSAT", f"L402 {M}", f"L402 {M}:", f"L402 :{HEX}", f"L402:{HEX}", f"L402:{M}:{HEX}"),
        *(f"L402 {M}:{HEX[:-1]}", f"L402 {M}:{HEX}0", f"L402 {M}:{HEX[:-1]}g", f"L402 {M}:{HEX} x"),
        *(f"L402 {M}:{HEX},", f"L402 {M}:{HEX}, L402 {M}:{HEX}", f"L402 {M},{M}:{HEX}", f"L402 {M}:{HEX}\n"),
        *(f"L402\t{M}:{HEX}", f"L402 {M} :{HEX}", f'L402 "{M}:{HEX}"', f"L402 {M}:{HEX}\0"),
        *(f"L402 {M}=:{HEX}", f"L402 {M}===:{HEX}", f"L402 {M.replace('+', '-')}:{HEX}", f"L402 {M[:-1]}:{HEX}"),
        *(f"L402 {M[:-3]}:{HEX}", f"L402 AAAA:{HEX}", f"L402 {'A' * 6000}:{HEX}", f"L402 {M}:{chr(0xFF11) * 64}"),
        "L402 " + base64.b64encode(b'{"token_id":1,"payment_hash":"00"}').decode() + f":{HEX}",
    ],
)
def test_a_credential_outside_the_grammar_is_malformed(line: str) -> None:
    """Anchored at both ends, one macaroon, canonical base64; an unsigned JSON 'macaroon' is none."""
    with pytest.raises(Malformed):
        parse_credential([line])


def test_a_long_s_is_not_an_s() -> None:
    """Case folding beyond ASCII would read U+017F, the long s, as the S of LSAT."""
    assert parse_credential([f"L\u017fAT {M}:{HEX}"]) is None


def test_base64_whose_last_bits_are_not_zero_is_malformed() -> None:
    """One macaroon has one text per alphabet and padding, so that a token is not presented under two names."""
    raw = append(append(TOKEN, b"round=3"), b"methods=PU").encode()
    text = base64.b64encode(raw).decode().rstrip("=")
    while len(text) % 4 == 0:
        raw = append(TOKEN, b"x" * (len(raw) % 7 + 1)).encode()
        text = base64.b64encode(raw).decode().rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    changed = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    with pytest.raises(Malformed, match="canonical"):
        parse_credential([f"L402 {changed}:{HEX}"])


@pytest.mark.parametrize(
    "other",
    [f"L402 {M}:{'22' * 32}", f"LSAT {base64.b64encode(append(TOKEN, b'round=3').encode()).decode()}:{HEX}"],
)
def test_two_credentials_in_conflict_are_malformed(other: str) -> None:
    """Elsewhere the last of several lines wins; here nobody guesses."""
    with pytest.raises(Malformed) as refusal:
        parse_credential([credential(TOKEN, PREIMAGE), other])
    assert refusal.value.code == "credential_conflict"


def test_too_much_header_is_malformed() -> None:
    """Whatever it is, it is not read."""
    for lines in (["L402 " + "A" * MAX_HEADER_CHARS], ["Bearer x"] * 17, ["x" * (MAX_HEADER_CHARS + 1)]):
        with pytest.raises(Malformed) as refusal:
            parse_credential(lines)
        assert refusal.value.code == "header_too_long"


def test_grpc_metadata_carries_the_preimage_in_a_caveat() -> None:
    """Hex in either case; repeated alike is fine, and no value at all is no credential."""
    told = append(TOKEN, b"preimage=" + HEX.encode())
    text = told.encode().hex()
    assert parse_grpc_metadata([]) is None
    assert parse_grpc_metadata([text]) == Credential(told, PREIMAGE)
    assert parse_grpc_metadata([text, text.upper()]) == Credential(told, PREIMAGE)
    twice = append(told, b"preimage=" + HEX.upper().encode())
    assert parse_grpc_metadata([twice.encode().hex()]) == Credential(twice, PREIMAGE)


@pytest.mark.parametrize(
    "text",
    [
        *("", "zz", "0", "é", TOKEN.encode().hex(), M, TOKEN.encode().hex() + "\n"),
        append(TOKEN, b"preimage=11").encode().hex(),
        append(append(TOKEN, b"preimage=" + b"11" * 32), b"preimage=" + b"22" * 32).encode().hex(),
    ],
)
def test_metadata_without_exactly_one_preimage_is_malformed(text: str) -> None:
    """None, a wrong one, or two that differ."""
    with pytest.raises(Malformed):
        parse_grpc_metadata([text])


@pytest.mark.parametrize(
    "value",
    [
        challenge(TOKEN, BOLT11),
        f'LSAT macaroon="{M}", invoice="{BOLT11}"',
        f'L402 version="0", token="{M}", invoice="{BOLT11}"',
        f"L402 token={M}, invoice={BOLT11}, version=0",
        f"l402 TOKEN={URLSAFE.rstrip('=')},INVOICE={BOLT11}",
        f'LSAT macaroon="{M}", invoice="{BOLT11}", L402 macaroon="{M}", invoice="{BOLT11}"',
        f'Payment id="x", request="eyJ9", L402 macaroon="{M}", invoice="{BOLT11}"',
        f'L402 macaroon="{M}", invoice="{BOLT11}", Payment id="x", Bearer',
        f'Basic realm="a \\"quoted\\", L402 realm", L402 macaroon="{M}", invoice="{BOLT11}"',
        f'Negotiate YII/+abc==, L402 macaroon="{M}", invoice="{BOLT11}"',
        f'Negotiate, L402 macaroon = "{M}" , invoice = "{BOLT11}"',
        f'L402 macaroon="broken", invoice="{BOLT11}", L402 token="{M}", invoice="{BOLT11}"',
        f'L402 invoice="{BOLT11}", L402 token="{M}", invoice="{BOLT11.upper()}"',
    ],
)
def test_a_client_reads_every_challenge_that_servers_send(value: str) -> None:
    """Names, quotes, order, neighbours: the macaroon and the invoice come out the same."""
    found = parse_challenge(value)
    assert found.macaroon == TOKEN
    assert found.bolt11.lower() == BOLT11
    assert found.invoice.amount_msat == 500_000
    assert M not in repr(found)


def test_l402_is_preferred_to_lsat() -> None:
    """Where a server offers both names, the present one is taken, whatever the order."""
    newer = append(TOKEN, b"methods=PUT")
    value = f'LSAT macaroon="{M}", invoice="{BOLT11}", {challenge(newer, BOLT11)}'
    assert parse_challenge(value).macaroon == newer


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "no_challenge"),
        ("Bearer", "no_challenge"),
        ('Basic realm="x"', "no_challenge"),
        ("L402", "bad_challenge"),
        (f'L402 macaroon="{M}"', "bad_challenge"),
        (f'L402 invoice="{BOLT11}"', "bad_challenge"),
        (f'macaroon="{M}", invoice="{BOLT11}"', "bad_challenge"),
        (f'L402 macaroon="{M}", invoice="{BOLT11}', "bad_challenge"),
        (f'L402 macaroon="{M}", token="AgE", invoice="{BOLT11}"', "bad_challenge"),
        (f'L402 macaroon="{M}", invoice="{BOLT11}", invoice="{a_bolt11(bytes(32))}"', "bad_challenge"),
        (f'L402 macaroon="{M}", invoice="{a_bolt11(bytes(32))}"', "challenge_mismatch"),
        (f'L402 macaroon="{M}", invoice="lnbc1"', "invalid_invoice"),
        (f'L402 macaroon="!", invoice="{BOLT11}"', "bad_base64"),
        (f'L402 macaroon="e30", invoice="{BOLT11}"', "bad_macaroon"),
        ("x" * 9_000, "header_too_long"),
    ],
)
def test_a_challenge_that_is_not_worth_paying_is_refused(value: str, code: str) -> None:
    """Elsewhere an invoice for another macaroon's hash is paid without anybody noticing."""
    with pytest.raises(Malformed) as refusal:
        parse_challenge(value)
    assert refusal.value.code == code


def test_a_macaroon_of_another_kind_is_not_paid_for() -> None:
    """Without a payment hash inside, nothing says what paying would buy."""
    foreign = base64.b64encode(Macaroon(b"", b"{}", (), bytes(32)).encode()).decode()
    with pytest.raises(Malformed) as refusal:
        parse_challenge(f'L402 macaroon="{foreign}", invoice="{BOLT11}"')
    assert refusal.value.code == "bad_identifier"


NOISE = st.text(max_size=200) | st.text(alphabet='L402SAT macroninvke=",:\\\t' + M[:20], max_size=200)


@given(noise=NOISE)
def test_no_text_does_anything_but_parse_or_be_malformed(noise: str) -> None:
    """Header text of strangers raises Malformed, and nothing else, in every parser."""
    for text in (noise, f"L402 {noise}", f"L402 {M}:{HEX}{noise}", f"LSAT macaroon={noise}"):
        with contextlib.suppress(Malformed):
            parse_credential([text])
        with contextlib.suppress(Malformed):
            parse_grpc_metadata([text])
        with contextlib.suppress(Malformed, InvalidInvoice):
            parse_challenge(text)


def test_a_credential_shows_neither_half() -> None:
    """Not in its repr, not in an f-string, not in the errors."""
    shown = f"{Credential(TOKEN, PREIMAGE)!r} {Credential(TOKEN, PREIMAGE)} {TOKEN!r} {PREIMAGE!r}"
    assert HEX not in shown
    assert M[:16] not in shown
    with pytest.raises(Malformed) as refusal:
        parse_credential([f"L402 {M}:{HEX}!"])
    assert HEX not in str(refusal.value)
    assert M[:16] not in str(refusal.value)
