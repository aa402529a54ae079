"""The human-readable part of an invoice: network and amount. It knows msat and refuses fractions of one."""

import re

from l402core.bolt11.invoice import NETWORK_OF_PREFIX, PREFIX_OF_NETWORK, InvalidInvoice
from l402core.money import MAX_MSAT

_PICO_PER_MSAT = 10
_PICO_OF = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_PREFIX = re.compile(r"ln(bcrt|bc|tbs|tb|sb)(.*)", re.ASCII)
_AMOUNT = re.compile(r"([1-9][0-9]{0,19})([munp]?)", re.ASCII)


def parse_prefix(prefix: str) -> tuple[str, int | None]:
    """`lnbc2500u` as ("mainnet", 250_000_000 msat). Raises InvalidInvoice."""
    parts = _PREFIX.fullmatch(prefix)
    if parts is None:
        raise InvalidInvoice("the prefix is not that of a Lightning invoice: lnbc, lntb, lntbs, lnbcrt or lnsb")
    network, amount = NETWORK_OF_PREFIX[parts[1]], parts[2]
    return network, _parse_amount(amount) if amount else None


def write_prefix(network: str, amount_msat: int | None) -> str:
    """The shortest prefix for an amount. Raises ValueError for an unknown network or an amount outside 1..MAX_MSAT."""
    if network not in PREFIX_OF_NETWORK:
        raise ValueError(f"{network!r} is none of {sorted(PREFIX_OF_NETWORK)}")
    prefix = "ln" + PREFIX_OF_NETWORK[network]
    if amount_msat is None:
        return prefix
    if not 0 < amount_msat <= MAX_MSAT:
        raise ValueError(f"an invoice asks for 1..{MAX_MSAT} msat, or for any amount (None), not for {amount_msat}")
    pico = amount_msat * _PICO_PER_MSAT
    multiplier = next(letter for letter, size in _PICO_OF.items() if pico % size == 0)
    return f"{prefix}{pico // _PICO_OF[multiplier]}{multiplier}"


def _parse_amount(text: str) -> int:
    parts = _AMOUNT.fullmatch(text)
    if parts is None:
        raise InvalidInvoice(f"the amount {text[:24]!r} is not a positive number followed by nothing, m, u, n or p")
    amount_msat, rest = divmod(int(parts[1]) * _PICO_OF[parts[2]], _PICO_PER_MSAT)
    if rest:
        raise InvalidInvoice(f"the amount {text!r} has a fraction of a millisatoshi")
    if amount_msat > MAX_MSAT:
        raise InvalidInvoice(f"the amount {text!r} is more than all bitcoin")
    return amount_msat
