"""What holds for every invoice: it reads back, no changed letter passes, and an independent reader agrees."""

import contextlib
from typing import Any

import bech32
import bolt11 as reference
import pytest
from coincurve import PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from l402core.bolt11 import Fallback, Hop, InvalidInvoice, Invoice, decode, encode
from l402core.bolt11.bech32 import CHARSET, MAX_CHARS, join, split
from l402core.bolt11.invoice import PREFIX_OF_NETWORK
from l402core.money import MAX_MSAT

KEYS = st.integers(1, 2**250).map(lambda number: number.to_bytes(32, "big"))
HASHES = st.binary(min_size=32, max_size=32)
POINTS = KEYS.map(lambda key: PrivateKey(key).public_key.format())
NUMBERS = st.integers(0, 2**32 - 1)
HOPS = st.builds(Hop, POINTS, st.integers(0, 2**64 - 1), NUMBERS, NUMBERS, st.integers(0, 2**16 - 1))
FALLBACKS = st.one_of(
    st.builds(Fallback, st.sampled_from([0, 17, 18]), st.binary(min_size=20, max_size=20)),
    st.builds(Fallback, st.sampled_from([0, 1]), st.binary(min_size=32, max_size=32)),
    st.builds(Fallback, st.integers(2, 16), st.binary(min_size=2, max_size=40)),
)
FEATURES = st.sets(st.sampled_from([8, 9, 17, 25, 49, 99])).map(lambda bits: frozenset(bits | {8, 14}))
WORDS = st.text(max_size=80)


def terms(networks: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Everything `encode` takes, but for the description."""
    return st.fixed_dictionaries(
        {
            "payment_hash": HASHES,
            "payment_secret": HASHES,
            "timestamp": st.integers(0, 2**35 - 1),
            "amount_msat": st.none() | st.integers(1, MAX_MSAT),
            "expiry": NUMBERS,
            "min_final_cltv": NUMBERS,
            "network": networks,
            "features": FEATURES,
            "route_hints": st.lists(st.lists(HOPS, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple),
            "fallbacks": st.lists(FALLBACKS, max_size=2).map(tuple),
            "metadata": st.none() | st.binary(max_size=40),
        }
    )


DESCRIPTIONS = st.one_of(
    WORDS.map(lambda text: {"description": text}), HASHES.map(lambda digest: {"description_hash": digest})
)
AN_INVOICE = encode(
    b"\x01" * 32, payment_hash=b"\x02" * 32, payment_secret=b"\x03" * 32, timestamp=1_700_000_000, amount_msat=12_345
)


@given(groups=st.binary(max_size=300).map(lambda data: bytes(byte & 31 for byte in data)))
@example(groups=bytes(255))
@example(groups=bytes(range(32)) * 220)
def test_the_checksum_is_that_of_an_independent_writer(groups: bytes) -> None:
    """Of any length up to the longest text, though it is not computed letter by letter here."""
    text = bech32.bech32_encode("lnbc", groups)
    assert text == join("lnbc", groups)
    assert len(text) <= MAX_CHARS
    assert split(text) == ("lnbc", groups)


@given(key=KEYS, said=terms(st.sampled_from(sorted(PREFIX_OF_NETWORK))), about=DESCRIPTIONS, named=st.booleans())
def test_what_is_written_is_read_back(key: bytes, said: dict[str, Any], about: dict[str, Any], named: bool) -> None:
    """Every field survives, on every network, with the payee named or recovered."""
    payee = PrivateKey(key).public_key.format()
    text = encode(key, **said, **about, payee=payee if named else None)
    found = decode(text)
    assert found == Invoice(**said, **about, payee=payee, signature=found.signature)
    assert decode(text.upper()) == found


@given(at=st.integers(0, len(AN_INVOICE) - 1), letter=st.sampled_from("1" + CHARSET + "bio-é\n "))
def test_one_wrong_letter_never_passes(at: int, letter: str) -> None:
    """Bech32 finds every single substitution, so no typing error pays somebody else."""
    changed = AN_INVOICE[:at] + letter + AN_INVOICE[at + 1 :]
    if changed == AN_INVOICE:
        return
    with pytest.raises(InvalidInvoice):
        decode(changed)


@given(at=st.integers(0, len(AN_INVOICE)), cut=st.integers(1, 40))
def test_a_cut_invoice_never_passes(at: int, cut: int) -> None:
    """Leaving letters out anywhere is found, too."""
    shorter = AN_INVOICE[:at] + AN_INVOICE[at + cut :]
    if shorter == AN_INVOICE:
        return
    with pytest.raises(InvalidInvoice):
        decode(shorter)


@given(
    text=st.text(max_size=300) | st.text(alphabet=CHARSET + "1lnbcrt", max_size=400).map(lambda tail: "lnbc1" + tail)
)
def test_no_text_does_anything_but_decode_or_be_refused(text: str) -> None:
    """Whatever a stranger sends, the only answer beside an invoice is InvalidInvoice."""
    with contextlib.suppress(InvalidInvoice):
        decode(text)


# The reference package knows neither these fallbacks nor simnet, and reads numbers signed and features as one list.
COMPARABLE = terms(st.sampled_from(["mainnet", "testnet", "signet", "regtest"]))


@given(key=KEYS, said=COMPARABLE, about=WORDS.filter(bool))
def test_an_independent_reader_finds_the_same(key: bytes, said: dict[str, Any], about: str) -> None:
    """The `bolt11` package, written by others, agrees with ours on what our writer wrote."""
    text = encode(key, **{**said, "fallbacks": (), "description": about})
    ours, theirs = decode(text), reference.decode(text)
    assert theirs.payment_hash == ours.payment_hash.hex()
    assert theirs.payment_secret == ours.payment_secret.hex()
    assert theirs.amount_msat == ours.amount_msat
    assert theirs.description == ours.description
    assert theirs.date == ours.timestamp
    assert theirs.expiry == ours.expiry
    assert theirs.min_final_cltv_expiry == ours.min_final_cltv
    assert theirs.payee == ours.payee.hex()
    assert "ln" + theirs.currency == "ln" + PREFIX_OF_NETWORK[ours.network]
    assert (theirs.metadata or "") == (ours.metadata or b"").hex()


@given(key=KEYS, hashes=st.tuples(HASHES, HASHES), about=WORDS.filter(bool), amount=st.integers(1, 10**12))
def test_we_read_what_an_independent_writer_wrote(
    key: bytes, hashes: tuple[bytes, bytes], about: str, amount: int
) -> None:
    """And the other way round, with the reference package as the writer."""
    tags = reference.Tags.from_dict(
        {"payment_hash": hashes[0].hex(), "payment_secret": hashes[1].hex(), "description": about}
    )
    theirs = reference.Bolt11(
        currency="bcrt", amount_msat=reference.MilliSatoshi(amount), date=amount % 2**31, tags=tags
    )
    found = decode(reference.encode(theirs, key.hex()))
    assert (found.payment_hash, found.payment_secret, found.description) == (*hashes, about)
    assert (found.amount_msat, found.timestamp, found.network) == (amount, amount % 2**31, "regtest")
    assert found.payee == PrivateKey(key).public_key.format()
