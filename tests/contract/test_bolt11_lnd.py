"""`l402core.bolt11.decode` against lnd: its DecodePayReq on simnet, and its zpay32 package on every network."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from l402core.bolt11 import InvalidInvoice, Invoice, decode
from lndgrpc.compiled import invoices_pb2, lightning_pb2

from tests.support.invoices import POINTS, PREFIXES, changed_invoices, drafts, take_apart
from tests.support.lnd import Lnd, lightning_is_built
from tests.support.real import require_real
from tests.support.zpay32 import Zpay32, running_zpay32

lnrpc: Any = lightning_pb2  # the generated messages name no fields that a type checker could see
invoicesrpc: Any = invoices_pb2

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lnd")]

OURS_REFUSES = {
    "twice": r"there are two '.' fields",
    "no secret": r"no payment secret",
    "unknown feature": r"requires feature \d+|offers feature \d+ without feature \d+",
    "number": r"more than 32 bits can hold",
    "amount": r"the amount '0[0-9]*[munp]?' is not a positive number|more than all bitcoin",
    "high S": r"signature is in its high-S form",
    "recovery id": r"the recovery id of the signature is",
    "fallback": r"a fallback address (of version (\d|1[0-8]) has \d+ bytes|is empty)",  # lnd reads only the first that it knows
    "padding": r"the padding of the fallback address",
}
"""Where we refuse on purpose what lnd's decoder lets pass: lnd checks some of these only when it pays, some never."""

LNDS_BLINDED_PATH_TAG = "5"
"""lnd reads, and may refuse, a field that BOLT 11 does not name: a reader must skip it, and we do."""

LND_DEFAULT_FINAL_CLTV, BOLT11_DEFAULT_FINAL_CLTV = 24, 18
"""Without a `c` field lnd assumes more than BOLT 11 says; we say what BOLT 11 says."""

slow_to_draw = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
some = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=slow_to_draw)
many = settings(some, max_examples=400)


@pytest.fixture(scope="module")
def zpay32() -> Iterator[Zpay32]:
    """lnd's decoder as a process."""
    require_real(lightning_is_built(), "lnd, btcd and zpay32 (run `make tools`)")
    with running_zpay32() as process:
        yield process


def our_answer(text: str) -> dict[str, Any] | str:
    """The fields both sides name, or why we refuse."""
    try:
        invoice: Invoice = decode(text)
    except InvalidInvoice as refusal:
        return refusal.detail
    return {
        "payment_hash": invoice.payment_hash.hex(),
        "payment_addr": invoice.payment_secret.hex(),
        "amount_msat": invoice.amount_msat or 0,
        "timestamp": invoice.timestamp,
        "expiry": invoice.expiry,
        "cltv": invoice.min_final_cltv,
        "payee": invoice.payee.hex(),
        "description": invoice.description or "",
        "description_hash": (invoice.description_hash or b"").hex(),
        "features": sorted(invoice.features),
        "route_hints": [
            [
                (
                    h.pubkey.hex(),
                    h.short_channel_id,
                    h.fee_base_msat,
                    h.fee_proportional_millionths,
                    h.cltv_expiry_delta,
                )
                for h in hops
            ]
            for hops in invoice.route_hints
        ],
    }


def lnds_answer(lnd: Lnd, text: str) -> dict[str, Any] | str:
    """DecodePayReq's fields, or its error's sentence."""
    try:
        seen = lnd.lightning.DecodePayReq(lnrpc.PayReqString(pay_req=text), timeout=30)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNKNOWN:  # lnd's own refusals are UNKNOWN; the rest is a node in trouble
            raise
        return str(error.details())
    return {
        "payment_hash": seen.payment_hash,
        "payment_addr": seen.payment_addr.hex(),
        "amount_msat": seen.num_msat,
        "timestamp": seen.timestamp,
        "expiry": seen.expiry,
        "cltv": seen.cltv_expiry,
        "payee": seen.destination,
        "description": seen.description,
        "description_hash": seen.description_hash,
        "features": sorted(seen.features),
        "route_hints": [
            [
                (h.node_id, h.chan_id, h.fee_base_msat, h.fee_proportional_millionths, h.cltv_expiry_delta)
                for h in route.hop_hints
            ]
            for route in seen.route_hints
        ],
    }


def zpay32s_answer(zpay32: Zpay32, network: str, text: str) -> dict[str, Any] | str:
    """The decoder's fields, or its error's sentence."""
    seen = zpay32.decode(network, text)
    if "error" in seen:
        return str(seen["error"])
    return {
        "payment_hash": seen["payment_hash"],
        "payment_addr": seen.get("payment_addr", ""),
        "amount_msat": seen["amount_msat"] or 0,
        "timestamp": seen["timestamp"],
        "expiry": seen["expiry_s"],
        "cltv": seen["min_final_cltv"],
        "payee": seen["payee"],
        "description": seen["description"] or "",
        "description_hash": seen.get("description_hash", ""),
        "features": seen["features"],
        "route_hints": [[tuple(hop.values()) for hop in route] for route in seen["route_hints"]],
    }


def assert_agree(text: str, ours: dict[str, Any] | str, theirs: dict[str, Any] | str) -> None:
    """Both refuse, or both accept and read the same; or one refuses for a reason that is named above."""
    if isinstance(ours, str):
        on_purpose = any(re.search(reason, ours) for reason in OURS_REFUSES.values())
        assert isinstance(theirs, str) or on_purpose, f"only we refuse {text}: {ours}"
        return
    tags = [tag for tag, _ in take_apart(text).fields]
    if isinstance(theirs, str):
        assert LNDS_BLINDED_PATH_TAG in tags, f"only lnd refuses {text}: {theirs}"
        return
    if "c" not in tags:
        assert (ours["cltv"], theirs["cltv"]) == (BOLT11_DEFAULT_FINAL_CLTV, LND_DEFAULT_FINAL_CLTV)
        ours = ours | {"cltv": LND_DEFAULT_FINAL_CLTV}
    assert ours == theirs, text


def network_of(text: str, otherwise: str) -> str:
    """The network we read in an invoice: an `s` for an amount makes a testnet invoice one of signet."""
    try:
        return decode(text).network
    except InvalidInvoice:
        return otherwise


@pytest.mark.parametrize("network", PREFIXES)
@some
@given(data=st.data())
def test_our_invoices_read_the_same_by_lnds_decoder(network: str, zpay32: Zpay32, data: st.DataObject) -> None:
    """Whatever we write, lnd's own package accepts and reads as we do, on every network."""
    text = data.draw(drafts(network)).text()
    ours, theirs = our_answer(text), zpay32s_answer(zpay32, network, text)
    assert isinstance(ours, dict)
    assert ours == theirs


@pytest.mark.parametrize("network", PREFIXES)
@some
@given(data=st.data())
def test_changed_invoices_are_refused_or_read_alike(network: str, zpay32: Zpay32, data: st.DataObject) -> None:
    """One change to an invoice never makes us accept what lnd refuses, nor read anything differently."""
    text = data.draw(changed_invoices(network))
    assert_agree(text, our_answer(text), zpay32s_answer(zpay32, network_of(text, network), text))


@many
@given(data=st.data())
def test_our_invoices_read_the_same_by_a_running_lnd(real_lnd: Lnd, data: st.DataObject) -> None:
    """DecodePayReq of a real node reads what we wrote as we do."""
    text = data.draw(drafts("simnet")).text()
    ours = our_answer(text)
    assert isinstance(ours, dict)
    assert ours == lnds_answer(real_lnd, text)


@many
@given(data=st.data())
def test_changed_invoices_are_refused_or_read_alike_by_a_running_lnd(real_lnd: Lnd, data: st.DataObject) -> None:
    """DecodePayReq of a real node and we agree on changed invoices too."""
    text = data.draw(changed_invoices("simnet"))
    assert_agree(text, our_answer(text), lnds_answer(real_lnd, text))


LNDS_TERMS: dict[str, dict[str, Any]] = {
    "any amount": {},
    "an amount and a memo": {"value_msat": 1_234_567, "memo": "a round of training, naïvely priced"},
    "a single millisatoshi": {"value_msat": 1},
    "a whole bitcoin": {"value_msat": 100_000_000_000},
    "a description hash": {"value_msat": 5_000, "description_hash": bytes(range(32))},
    "its own expiry and final CLTV": {"value_msat": 5_000, "expiry": 86_401, "cltv_expiry": 144},
    "private hints": {"value_msat": 5_000, "private": True, "route_hints": "two"},
    "a fallback address": {"value_msat": 5_000, "fallback_addr": "new"},
}


@pytest.mark.parametrize("hold", [False, True], ids=["plain", "hold"])
@pytest.mark.parametrize("terms", LNDS_TERMS)
def test_lnds_own_invoices_read_as_lnd_reads_them(terms: str, hold: bool, real_lnd: Lnd) -> None:
    """What a real node writes, plain or held, we read as that node does."""
    wanted = dict(LNDS_TERMS[terms])
    if "route_hints" in wanted:
        wanted["route_hints"] = two_route_hints()
    if "fallback_addr" in wanted:
        request = lnrpc.NewAddressRequest(type=lnrpc.WITNESS_PUBKEY_HASH)
        wanted["fallback_addr"] = real_lnd.lightning.NewAddress(request, timeout=30).address
    if hold:
        payment_hash = terms.encode().ljust(32, b"\1")
        held = invoicesrpc.AddHoldInvoiceRequest(hash=payment_hash, **wanted)
        text = real_lnd.invoices.AddHoldInvoice(held, timeout=30).payment_request
        assert decode(text).payment_hash == payment_hash
    else:
        text = real_lnd.lightning.AddInvoice(lnrpc.Invoice(**wanted), timeout=30).payment_request
    ours = our_answer(text)
    assert isinstance(ours, dict), ours
    assert ours == lnds_answer(real_lnd, text)
    assert ours["payee"] == real_lnd.pubkey
    assert decode(text).network == "simnet"


def test_an_amp_invoice_is_refused_by_name(real_lnd: Lnd) -> None:
    """lnd decodes an AMP invoice, which we could not pay: we refuse it for the feature that it requires."""
    request = lnrpc.Invoice(value_msat=1_000, is_amp=True)
    text = real_lnd.lightning.AddInvoice(request, timeout=30).payment_request
    assert isinstance(lnds_answer(real_lnd, text), dict)
    with pytest.raises(InvalidInvoice, match="requires feature 30"):
        decode(text)


def two_route_hints() -> list[Any]:
    """A hint of one hop and one of two."""
    hops = [
        lnrpc.HopHint(
            node_id=point.hex(), chan_id=2**63 - n, fee_base_msat=n, fee_proportional_millionths=n, cltv_expiry_delta=40
        )
        for n, point in enumerate(POINTS, start=1)
    ]
    return [lnrpc.RouteHint(hop_hints=hops[:1]), lnrpc.RouteHint(hop_hints=hops[1:])]
