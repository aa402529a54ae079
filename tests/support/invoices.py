"""Invoices nobody thought of: well-formed ones, and ones with a letter, field, amount or signature changed."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st
from l402core.bolt11 import Fallback, Hop, encode
from l402core.bolt11.bech32 import CHARSET, join, split, to_groups
from l402core.bolt11.signature import sign

PREFIXES = {"mainnet": "bc", "testnet": "tb", "signet": "tbs", "regtest": "bcrt", "simnet": "sb"}
SIGNATURE_GROUPS = 104
TIMESTAMP_GROUPS = 7
POINTS = tuple(
    bytes.fromhex(point)
    for point in (
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
        "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
    )
)
"""G, 2G and 3G of secp256k1: real public keys for route hints."""


@dataclass(frozen=True)
class Draft:
    """An invoice taken apart: prefix, the groups before the tagged fields, the fields, and who signed."""

    key: bytes
    prefix: str
    timestamp: bytes
    fields: tuple[tuple[str, bytes], ...]

    def groups(self) -> bytes:
        """What the signature covers, besides the prefix."""
        written = [
            bytes([CHARSET.index(tag), len(groups) >> 5, len(groups) & 31]) + groups for tag, groups in self.fields
        ]
        return self.timestamp + b"".join(written)

    def text(self, signature: bytes | None = None) -> str:
        """The invoice, signed by the draft's key unless a signature (104 groups) is given."""
        groups = self.groups()
        return join(self.prefix, groups + (signature or to_groups(sign(self.key, self.prefix, groups))))


def take_apart(text: str, key: bytes = b"") -> Draft:
    """The parts of a valid invoice."""
    prefix, groups = split(text)
    rest, fields = groups[TIMESTAMP_GROUPS:-SIGNATURE_GROUPS], []
    while rest:
        end = 3 + 32 * rest[1] + rest[2]
        fields.append((CHARSET[rest[0]], rest[3:end]))
        rest = rest[end:]
    return Draft(key, prefix, groups[:TIMESTAMP_GROUPS], tuple(fields))


_hops = st.builds(
    Hop,
    st.sampled_from(POINTS),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
)
_fallbacks = st.one_of(
    st.builds(Fallback, st.sampled_from([0, 17, 18]), st.binary(min_size=20, max_size=20)),
    st.builds(Fallback, st.sampled_from([0, 1]), st.binary(min_size=32, max_size=32)),
)
_groups = st.lists(st.integers(0, 31), max_size=60).map(bytes)
_known_or_odd_bits = st.frozensets(st.one_of(st.just(48), st.integers(9, 130).map(lambda bit: bit | 1)), max_size=4)


@st.composite
def drafts(draw: st.DrawFn, network: str) -> Draft:
    """A well-formed invoice of the network, with any mixture of optional fields."""
    key = draw(st.integers(1, 2**255)).to_bytes(32, "big")
    description = draw(st.text(max_size=60) | st.binary(min_size=32, max_size=32))
    text = encode(
        key,
        network=network,
        payment_hash=draw(st.binary(min_size=32, max_size=32)),
        payment_secret=draw(st.binary(min_size=32, max_size=32)),
        timestamp=draw(st.integers(0, 2**35 - 1)),
        amount_msat=draw(st.none() | st.integers(1, 10**12) | st.integers(1, 9).map(lambda power: 10**power)),
        expiry=draw(st.integers(0, 2**32 - 1)),
        min_final_cltv=draw(st.integers(0, 2**16)),
        features=frozenset({8, 14}) | draw(_known_or_odd_bits),
        route_hints=tuple(tuple(hops) for hops in draw(st.lists(st.lists(_hops, min_size=1, max_size=3), max_size=2))),
        fallbacks=tuple(draw(st.lists(_fallbacks, max_size=1))),
        metadata=draw(st.none() | st.binary(max_size=40)),
        description=description if isinstance(description, str) else None,
        description_hash=description if isinstance(description, bytes) else None,
    )
    return take_apart(text, key)


@st.composite
def changed_invoices(draw: st.DrawFn, network: str) -> str:
    """The text of an invoice after one change, which may or may not leave it valid."""
    draft = draw(drafts(network))
    change = draw(st.sampled_from([_letters, _amount, _field, _field, _field, _order, _signature, _unsigned]))
    text: str = change(draw, draft)
    return text


def _letters(draw: st.DrawFn, draft: Draft) -> str:
    """One letter replaced, added or removed; or the case of a stretch turned."""
    text = draft.text()
    at = draw(st.integers(0, len(text)))
    cut = draw(st.sampled_from([0, 1]))
    letters = draw(st.text(st.sampled_from(CHARSET + "1boiQ !"), max_size=2))
    return draw(st.sampled_from([text[:at] + letters + text[at + cut :], text.upper(), text[:at].upper() + text[at:]]))


def _amount(draw: st.DrawFn, draft: Draft) -> str:
    """Another amount, properly signed."""
    amount = draw(st.from_regex(r"\A[0-9]{0,5}[munpxMs]?\Z"))
    network = next(p for p in sorted(PREFIXES.values(), key=len, reverse=True) if draft.prefix.startswith("ln" + p))
    return replace(draft, prefix=f"ln{network}{amount.lower()}").text()


def _field(draw: st.DrawFn, draft: Draft) -> str:
    """A field removed, doubled, replaced or added, properly signed."""
    fields = list(draft.fields)
    at = draw(st.integers(0, len(fields) - 1))
    tag = draw(st.sampled_from([fields[at][0], fields[at][0], *CHARSET]))
    kept = draw(st.sampled_from([0, 1]))
    fields[at : at + kept] = draw(st.sampled_from([[], [(tag, fields[at][1])], [(tag, draw(_groups))]]))
    return replace(draft, fields=tuple(fields)).text()


def _order(draw: st.DrawFn, draft: Draft) -> str:
    """The fields in another order, properly signed."""
    return replace(draft, fields=tuple(draw(st.permutations(draft.fields)))).text()


def _signature(draw: st.DrawFn, draft: Draft) -> str:
    """One group of the signature changed, the recovery id's among them."""
    signature = bytearray(to_groups(sign(draft.key, draft.prefix, draft.groups())))
    signature[draw(st.sampled_from([0, 51, 102, 103]) | st.integers(0, 103))] = draw(st.integers(0, 31))
    return draft.text(bytes(signature))


def _unsigned(draw: st.DrawFn, draft: Draft) -> str:
    """One group changed after signing: the checksum is right, the payee is somebody else."""
    groups = bytearray(draft.groups() + to_groups(sign(draft.key, draft.prefix, draft.groups())))
    groups[draw(st.integers(0, len(groups) - 1))] = draw(st.integers(0, 31))
    return join(draft.prefix, bytes(groups))
