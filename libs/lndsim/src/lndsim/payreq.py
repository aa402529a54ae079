"""Payment requests of the simulated network: the one place that knows BOLT 11 is written and read elsewhere."""

from l402core import bolt11
from l402core.errors import Malformed

from lndsim.clock import NS_PER_S
from lndsim.invoice import Invoice
from lndsim.payment import DEFAULT_TIMEOUT_S, MAX_CLTV_LIMIT, Terms
from lndsim.refusal import AMOUNT_MISSING, AMOUNT_UNWANTED, Refusal

NETWORK = "simnet"


def write(secret_key: bytes, invoice: Invoice) -> str:
    """The signed payment request of an invoice. Raises Refusal where BOLT 11 has no room for it.

    It is read once here: a node hands out nothing that it could not read, and whoever pays it finds it read (every node of
    the network is in this process, and `bolt11` remembers what it has read).
    """
    try:
        text = bolt11.encode(
            secret_key,
            payment_hash=invoice.payment_hash,
            payment_secret=invoice.payment_addr,
            timestamp=invoice.created_s,
            amount_msat=invoice.value_msat or None,
            description=None if invoice.description_hash else invoice.memo,
            description_hash=invoice.description_hash or None,
            expiry=invoice.expiry_s,
            min_final_cltv=invoice.cltv_expiry,
            network=NETWORK,
        )
    except ValueError as error:
        raise Refusal(str(error)) from error
    read(text)
    return text


def read(text: str) -> bolt11.Invoice:
    """Decode and verify. Raises Refusal for what is no payment request of this network."""
    try:
        request = bolt11.decode(text)
    except Malformed as error:
        raise Refusal(error.detail) from error
    if request.network != NETWORK:
        raise Refusal(f"invoice not for current active network '{NETWORK}'")
    return request


def terms_of(
    text: str,
    now_ns: int,
    *,
    amount_msat: int = 0,
    fee_limit_msat: int = 0,
    cltv_limit: int = 0,
    timeout_s: int = 0,
    allow_self: bool = False,
    outgoing_channels: tuple[int, ...] = (),
) -> Terms:
    """What SendPaymentV2 is to do with a payment request; zeros mean LND's defaults. Raises Refusal as LND does."""
    request = read(text)
    if now_ns > (request.timestamp + request.expiry) * NS_PER_S:
        raise Refusal(f"invoice expired. Valid until {request.timestamp + request.expiry}")
    if request.amount_msat is None and not amount_msat:
        raise Refusal(AMOUNT_MISSING)
    if request.amount_msat is not None and amount_msat:
        raise Refusal(AMOUNT_UNWANTED)
    return Terms(
        payment_hash=request.payment_hash,
        target=request.payee.hex(),
        amount_msat=request.amount_msat if request.amount_msat is not None else amount_msat,
        payment_addr=request.payment_secret,
        final_cltv_delta=request.min_final_cltv,
        fee_limit_msat=fee_limit_msat,
        cltv_limit=cltv_limit or MAX_CLTV_LIMIT,
        timeout_s=timeout_s or DEFAULT_TIMEOUT_S,
        bolt11=text,
        allow_self=allow_self,
        outgoing_channels=outgoing_channels,
    )
