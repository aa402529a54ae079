"""The examples of the BOLT 11 text itself, valid and invalid, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from l402core.bolt11 import InvalidInvoice, Invoice, decode, encode
from l402core.errors import Malformed

VECTORS = json.loads((Path(__file__).parent / "bolt11_vectors.json").read_text())
KEY = bytes.fromhex("e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734")


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def as_json(invoice: Invoice) -> dict[str, Any]:
    """The invoice in the words of the vector file."""
    return {
        "network": invoice.network,
        "amount_msat": invoice.amount_msat,
        "timestamp": invoice.timestamp,
        "payment_hash": _hex(invoice.payment_hash),
        "payment_secret": _hex(invoice.payment_secret),
        "payee": _hex(invoice.payee),
        "description": invoice.description,
        "description_hash": _hex(invoice.description_hash),
        "expiry": invoice.expiry,
        "min_final_cltv": invoice.min_final_cltv,
        "features": sorted(invoice.features),
        "route_hints": [
            [
                [
                    h.pubkey.hex(),
                    h.short_channel_id,
                    h.fee_base_msat,
                    h.fee_proportional_millionths,
                    h.cltv_expiry_delta,
                ]
                for h in hops
            ]
            for hops in invoice.route_hints
        ],
        "fallbacks": [[fallback.version, fallback.program.hex()] for fallback in invoice.fallbacks],
        "metadata": _hex(invoice.metadata),
        "unknown": len(invoice.unknown),
    }


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_every_valid_example_says_what_the_specification_says(vector: dict[str, Any]) -> None:
    """Every field of every valid example, including those it leaves at their defaults."""
    found = as_json(decode(vector["invoice"]))
    if vector["expected"]["payee"] is None:
        # The specification negated s and kept the recovery id: a key is recovered, but not the usual one.
        found["payee"] = None
    assert found == vector["expected"]


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["name"])
def test_every_invalid_example_is_refused_with_its_reason(vector: dict[str, Any]) -> None:
    """The refusal names what is wrong with that example, not something else."""
    with pytest.raises(InvalidInvoice) as refusal:
        decode(vector["invoice"])
    assert vector["says"] in refusal.value.detail
    assert isinstance(refusal.value, Malformed)
    assert refusal.value.code == "invalid_invoice"


def test_the_specification_s_own_key_signs_the_same_letters() -> None:
    """RFC 6979 makes signatures deterministic, so our writer must give one of the examples byte for byte."""
    # Field order is a writer's choice: this is the example whose order is ours, but for its features.
    text = encode(
        KEY,
        payment_hash=bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102"),
        payment_secret=b"\x11" * 32,
        timestamp=1496314658,
        amount_msat=2_500_000_000,
        description="coffee beans",
        network="mainnet",
        features=frozenset({8, 14, 99}),
        expiry=None,
        min_final_cltv=None,
    )
    coffee = next(vector for vector in VECTORS["valid"] if vector["name"] == "features 8, 14 and 99")
    assert text == coffee["invoice"]
