"""Invoices that are wrong in one way each, signed correctly, so that nothing but that one thing can refuse them."""

from typing import Any

import pytest
from coincurve import PrivateKey
from l402core.bolt11 import Hop, InvalidInvoice, decode, encode
from l402core.bolt11.bech32 import CHARSET, MAX_CHARS, int_to_groups, join, split, to_groups
from l402core.bolt11.signature import sign
from l402core.money import MAX_MSAT

KEY = b"\x07" * 32
PAYEE = PrivateKey(KEY).public_key.format()
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HASH = to_groups(b"\x01" * 32)
GOOD = [("p", HASH), ("d", to_groups(b"tea")), ("s", to_groups(b"\x02" * 32))]


def an_invoice(fields: list[tuple[str, bytes]], prefix: str = "lnbcrt10u", tail: bytes = b"") -> str:
    """A correctly signed invoice of just these fields."""
    groups = int_to_groups(1_700_000_000, 7)
    for tag, data in fields:
        groups += bytes([CHARSET.index(tag), len(data) >> 5, len(data) & 31]) + data
    groups += tail
    return join(prefix, groups + to_groups(sign(KEY, prefix, groups)))


def test_the_builder_builds_a_good_invoice() -> None:
    """Otherwise the refusals below would prove nothing."""
    invoice = decode(an_invoice(GOOD))
    assert (invoice.amount_msat, invoice.description, invoice.payee) == (1_000_000, "tea", PAYEE)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (GOOD[1:], "no payment hash"),
        (GOOD[:2], "no payment secret"),
        ([GOOD[0], GOOD[2]], "description"),
        ([*GOOD, ("h", HASH)], "not both"),
        ([*GOOD, ("p", to_groups(b"\x09" * 32))], "two 'p'"),
        ([*GOOD, GOOD[2]], "two 's'"),
        ([*GOOD, ("x", b"\x01"), ("x", b"\x02")], "two 'x'"),
        ([("p", HASH[:-1] + b"\x01"), *GOOD[1:]], "padding of the payment hash"),
        ([GOOD[0], ("d", to_groups(b"tea") + b"\0"), GOOD[2]], "padding of the description"),
        ([GOOD[0], ("d", to_groups(b"\xff\xfe")), GOOD[2]], "not UTF-8"),
        ([*GOOD, ("x", int_to_groups(2**32))], "expiry"),
        ([*GOOD, ("c", int_to_groups(2**32))], "CLTV"),
        ([*GOOD, ("x", bytes(13) + b"\x01")], "14 groups"),
        ([*GOOD, ("c", bytes(14))], "14 groups"),
        ([*GOOD, ("r", b"")], "route hint"),
        ([*GOOD, ("r", to_groups(bytes(51)))], "no public key"),
        ([*GOOD, ("r", to_groups(bytes(50)))], "route hint"),
        ([*GOOD, ("f", b"")], "fallback address is empty"),
        ([*GOOD, ("f", b"\x13")], "fallback address is empty"),
        ([*GOOD, ("f", bytes([1]) + to_groups(bytes(20)))], "fallback"),
        ([*GOOD, ("f", bytes([17]) + to_groups(bytes(19)))], "fallback"),
        ([*GOOD, ("f", bytes([0]) + to_groups(bytes(21)))], "fallback"),
        ([*GOOD, ("9", int_to_groups(1 << 30))], "feature 30"),
        ([*GOOD, ("9", int_to_groups(1 << 17))], "feature 16 without feature 14"),
        ([*GOOD, ("9", int_to_groups(1 << 14))], "feature 14 without feature 8"),
        ([*GOOD, ("n", to_groups(bytes(33)))], "not a point"),
        ([*GOOD, ("n", to_groups(PrivateKey(b"\x08" * 32).public_key.format()))], "not the named payee's"),
    ],
)
def test_one_wrong_field_is_refused_by_name(fields: list[tuple[str, bytes]], says: str) -> None:
    """Each refusal says which field and why."""
    with pytest.raises(InvalidInvoice, match=says):
        decode(an_invoice(fields))


@pytest.mark.parametrize("tail", [b"\x01", b"\x01\x00", b"\x01\x00\x05\x00"])
def test_a_field_cut_off_by_the_signature_is_refused(tail: bytes) -> None:
    """A length that runs into the signature must not be read as anything."""
    with pytest.raises(InvalidInvoice, match=r"cut off|longer than"):
        decode(an_invoice(GOOD, tail=tail))


@pytest.mark.parametrize(
    "prefix",
    [
        *("lnbcrt0", "lnbcrt01u", "lnbcrt1x", "lnbcrt-1u", "lnbcrt1.5u", "lnbcrtu", "lnbcrt1uu", "lnbcrt15p"),
        *("lnbcrt21000001", "lnbcrt" + "9" * 40, "lnxx1u", "bcrt1u", "ln", "xlnbcrt1u"),
    ],
)
def test_a_wrong_prefix_is_refused(prefix: str) -> None:
    """Zero, leading zeros, signs, unknown multipliers and networks, fractions of a msat, more than all bitcoin."""
    with pytest.raises(InvalidInvoice):
        decode(an_invoice(GOOD, prefix=prefix))


@pytest.mark.parametrize(
    ("prefix", "network"),
    [("lnbc", "mainnet"), ("lntb", "testnet"), ("lntbs", "signet"), ("lnbcrt", "regtest"), ("lnsb", "simnet")],
)
@pytest.mark.parametrize(("amount", "msat"), [("", None), ("1", 10**11), ("2m", 2 * 10**8), ("3n", 300), ("10p", 1)])
def test_every_network_and_multiplier_is_read(prefix: str, network: str, amount: str, msat: int | None) -> None:
    """No prefix is mistaken for a longer or shorter one."""
    invoice = decode(an_invoice(GOOD, prefix=prefix + amount))
    assert (invoice.network, invoice.amount_msat) == (network, msat)


@pytest.mark.parametrize("tail", range(4, 32))
def test_a_recovery_id_beyond_three_is_refused(tail: int) -> None:
    """With the payee named, the recovery id is not needed; a strange one is refused all the same."""
    prefix, groups = split(an_invoice([*GOOD, ("n", to_groups(PAYEE))]))
    signature = int.from_bytes(_bytes(groups[-104:])[:64], "big")
    changed = groups[:-104] + to_groups(signature.to_bytes(64, "big") + bytes([tail]))
    with pytest.raises(InvalidInvoice, match="recovery id"):
        decode(join(prefix, changed))


@pytest.mark.parametrize("named", [True, False])
def test_a_high_s_signature_is_good_only_where_the_payee_is_recovered(named: bool) -> None:
    """The other form of the same signature: with `n` it is refused, without it gives the same payee."""
    prefix, groups = split(an_invoice([*GOOD, ("n", to_groups(PAYEE))] if named else GOOD))
    signature = _bytes(groups[-104:])
    high = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    text = join(prefix, groups[:-104] + to_groups(signature[:32] + high + bytes([signature[64] ^ 1])))
    if named:
        with pytest.raises(InvalidInvoice, match="high-S"):
            decode(text)
    else:
        assert decode(text).payee == PAYEE


def test_an_unknown_field_is_kept_and_does_no_harm() -> None:
    """Odd or unknown is fine, as the specification asks; even the empty one."""
    invoice = decode(
        an_invoice([*GOOD, ("2", b"\x01\x02"), ("2", b""), ("f", b"\x13\x01"), ("9", int_to_groups(1 << 41))])
    )
    assert invoice.unknown == (("2", b"\x01\x02"), ("2", b""), ("f", b"\x13\x01"))
    assert invoice.features == frozenset({41})


def test_an_endless_text_is_refused_before_it_is_read() -> None:
    """Nobody makes us compute the checksum of a novel."""
    with pytest.raises(InvalidInvoice, match="7089"):
        decode("lnbcrt1" + "q" * MAX_CHARS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_msat": 0},
        {"amount_msat": MAX_MSAT + 1},
        {"network": "moonnet"},
        {"timestamp": 1 << 35},
        {"timestamp": -1},
        {"expiry": -1},
        {"min_final_cltv": 1 << 32},
        {"payment_hash": bytes(31)},
        {"payment_secret": bytes(33)},
        {"description": "tea", "description_hash": bytes(32)},
        {"description": "x" * 640},
        {"description_hash": b""},
        {"payee": b""},
        {"route_hints": ((Hop(bytes(33), 1 << 64, 0, 0, 0),),)},
    ],
    ids=repr,
)
def test_the_writer_refuses_what_an_invoice_cannot_say(wrong: dict[str, Any]) -> None:
    """A developer's mistake is a ValueError at the writer, not a strange invoice on the wire."""
    said: dict[str, Any] = {"payment_hash": bytes(32), "payment_secret": bytes(32), "timestamp": 0}
    with pytest.raises(ValueError, match=r".+"):
        encode(KEY, **{**said, **wrong})


def _bytes(groups: bytes) -> bytes:
    bits = int("".join(f"{group:05b}" for group in groups), 2)
    return bits.to_bytes(len(groups) * 5 // 8, "big")
