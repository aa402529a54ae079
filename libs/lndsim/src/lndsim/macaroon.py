"""LND's macaroons: minted for a set of permissions, checked per call. It knows no services, only entities and actions.

Binary V2 with HMAC-SHA256 chains (research.google/pubs/pub41892); the identifier is the bakery's version 3 with
LND's `MacaroonId`.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from google.protobuf.message import DecodeError
from l402core.lnd.stubs import lnrpc

from lndsim.clock import NS_PER_S
from lndsim.refusal import PERMISSION_DENIED, Code, Refusal

Permission = tuple[str, str]
"""Entity and action, such as ("invoices", "read"), or ("uri", "/lnrpc.Lightning/GetInfo")."""

URI: Final = "uri"
ENTITIES: Final = (
    "onchain", "offchain", "address", "message", "peers", "info", "invoices", "signer", "macaroon", URI,
)  # fmt: skip
ACTIONS: Final = ("read", "write", "generate")
READONLY: Final[tuple[Permission, ...]] = tuple((entity, "read") for entity in ENTITIES[:-1])
ADMIN: Final[tuple[Permission, ...]] = (
    *READONLY, *((entity, "write") for entity in ENTITIES[:-1]), ("macaroon", "generate"), ("signer", "generate"),
)  # fmt: skip
INVOICE: Final[tuple[Permission, ...]] = (
    ("invoices", "read"), ("invoices", "write"), ("address", "read"), ("address", "write"), ("onchain", "read"),
)  # fmt: skip

_BAKERY_VERSION: Final = b"\x03"
_V2: Final = 2
_END, _LOCATION, _IDENTIFIER, _VERIFICATION, _SIGNATURE = 0, 1, 2, 4, 6
_TIME_BEFORE: Final = "time-before "
_CACHE_SIZE: Final = 4_096


class Bakery:
    """Mints and checks the macaroons of one node; `secret` (32 bytes) is the source of its root keys."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: dict[str, frozenset[Permission]] = {}
        self._deleted: set[bytes] = set()
        """Root keys that are gone; a simulator that starts again has them back."""

    def mint(self, permissions: Iterable[Permission], *, nonce: bytes, root_key_id: int = 0) -> bytes:
        """A new macaroon, binary. `nonce` (16 bytes) makes it different from others with the same permissions."""
        actions: dict[str, list[str]] = {}
        for entity, action in permissions:
            actions.setdefault(entity, []).append(action)
        storage = str(root_key_id).encode()
        identifier = lnrpc.MacaroonId(
            nonce=nonce, storageId=storage, ops=[lnrpc.Op(entity=e, actions=a) for e, a in sorted(actions.items())]
        )
        body = _BAKERY_VERSION + identifier.SerializeToString()
        head = _field(_LOCATION, b"lnd") + _field(_IDENTIFIER, body) + b"\0" + b"\0"
        return bytes([_V2]) + head + _field(_SIGNATURE, _sign(self._root_key(storage), body, []))

    def admit(self, hexed: str, required: Iterable[Permission], uri: str, now_ns: int) -> None:
        """Pass if the macaroon is ours and allows `required`, or this very URI. Raises LND's refusals."""
        granted = self._known.get(hexed)
        if granted is None:
            granted, caveats = self._verify(hexed)
            if caveats:
                _check_caveats(caveats, now_ns)
            elif len(self._known) < _CACHE_SIZE:
                self._known[hexed] = granted
        if (URI, uri) not in granted and not granted.issuperset(required):
            raise Refusal(PERMISSION_DENIED)

    def delete(self, root_key_id: int) -> bool:
        """What was made under this root key opens nothing any more; whether it was there. Raises LND's refusal of 0."""
        if root_key_id == 0:
            raise Refusal("the specified ID cannot be deleted")
        storage = str(root_key_id).encode()
        there = storage not in self._deleted
        self._deleted.add(storage)
        self._known.clear()
        return there

    def _verify(self, hexed: str) -> tuple[frozenset[Permission], list[bytes]]:
        try:
            identifier, caveats, signature = _parse(bytes.fromhex(hexed))
            said = lnrpc.MacaroonId.FromString(identifier[1:])
        except (ValueError, IndexError, KeyError, DecodeError) as error:
            raise Refusal("cannot get macaroon: not a macaroon") from error
        if said.storageId in self._deleted:
            raise Refusal(f"cannot get macaroon: root key with id {said.storageId.decode()} doesn't exist")
        if not hmac.compare_digest(_sign(self._root_key(said.storageId), identifier, caveats), signature):
            raise Refusal("verification failed: signature mismatch after caveat verification")
        return frozenset((op.entity, action) for op in said.ops for action in op.actions), caveats

    def _root_key(self, storage: bytes) -> bytes:
        return hmac.digest(self._secret, b"root key " + storage, "sha256")


def check_bakeable(permissions: Iterable[Permission], uris: Iterable[str]) -> None:
    """LND's validation of BakeMacaroon. Raises Refusal."""
    known = frozenset(uris)
    help_text = f"supported actions are [{' '.join(ACTIONS)}], supported entities are [{' '.join(ENTITIES)}]"
    asked = list(permissions)
    if not asked:
        raise Refusal(
            f"permission list cannot be empty. specify at least one action/entity pair. {help_text}",
        )
    for entity, action in asked:
        if entity not in ENTITIES:
            raise Refusal(f"invalid permission entity. {help_text}")
        if entity == URI and action not in known:
            raise Refusal(
                "invalid permission action, must be an existing URI in the format /package.Service/MethodName"
            )
        if entity != URI and action not in ACTIONS:
            raise Refusal(f"invalid permission action. {help_text}")


def _check_caveats(caveats: list[bytes], now_ns: int) -> None:
    for caveat in caveats:
        text = caveat.decode(errors="replace")
        if not text.startswith(_TIME_BEFORE):
            raise Refusal(f'verification failed: caveat "{text}" not satisfied: caveat not recognized')
        try:
            end_s = datetime.fromisoformat(text.removeprefix(_TIME_BEFORE)).timestamp()
        except ValueError as error:
            raise Refusal(f'verification failed: caveat "{text}" not satisfied: bad time', Code.UNKNOWN) from error
        if now_ns >= end_s * NS_PER_S:
            raise Refusal(f'verification failed: caveat "{text}" not satisfied: macaroon has expired')


def _sign(root_key: bytes, identifier: bytes, caveats: list[bytes]) -> bytes:
    key = hmac.digest(b"macaroons-key-generator".ljust(32, b"\0"), root_key, hashlib.sha256)
    signature = hmac.digest(key, identifier, hashlib.sha256)
    for caveat in caveats:
        signature = hmac.digest(signature, caveat, hashlib.sha256)
    return signature


def _parse(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Identifier, first-party caveats and signature. Raises ValueError or IndexError for anything else."""
    if data[0] != _V2:
        raise ValueError("not version 2")
    position = 1
    sections: list[dict[int, bytes]] = [{}]
    signature = b""
    while position < len(data):
        kind, position = _varint(data, position)
        if kind == _END:
            sections.append({})
            continue
        length, position = _varint(data, position)
        value = data[position : position + length]
        if len(value) != length:
            raise ValueError("it ends early")
        position += length
        if signature or (kind == _SIGNATURE and (len(sections) < 3 or sections[-1] or sections[-2])):
            raise ValueError("the signature comes once, last, after two ends")
        if kind == _SIGNATURE:
            signature = value
        else:
            sections[-1][kind] = value
    if any(_VERIFICATION in section for section in sections):
        raise ValueError("third-party caveats are not for us")
    caveats = [section[_IDENTIFIER] for section in sections[1:] if section]
    return sections[0][_IDENTIFIER], caveats, signature


def _field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + _to_varint(len(value)) + value


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 28:
            raise ValueError("a length that large is a mistake")
