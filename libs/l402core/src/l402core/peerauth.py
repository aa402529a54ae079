"""A peer's signature on an HTTP request: method, path, body hash and time under its BIP340 identity.

It reads no clock and remembers nothing: replay is caught by the time window and by idempotent handlers behind it.
"""

import re
from collections.abc import Mapping

import msgspec

from l402core.errors import Unauthorized
from l402core.signing import SigningKey, verify_bytes

TAG = "l402-train/request/1"
PEER_HEADER = "L402-Peer"
TIME_HEADER = "L402-Time"
SIGNATURE_HEADER = "L402-Signature"
MAX_SKEW_MS = 60_000
_KEY = re.compile("[0-9a-f]{64}", re.ASCII)


class _Covered(msgspec.Struct, frozen=True, array_like=True):
    method: str
    path: str
    body_sha256: str
    time_ms: int


def _bytes(method: str, path: str, body_sha256: str, time_ms: int) -> bytes:
    return msgspec.json.encode(_Covered(method.upper(), path, body_sha256, time_ms))


def sign_request(key: SigningKey, *, method: str, path: str, body_sha256: str, now_ms: int) -> dict[str, str]:
    """The three headers of a signed request. `path` is the path alone, without query; `body_sha256` hex."""
    signature = key.sign_bytes(TAG, _bytes(method, path, body_sha256, now_ms))
    return {PEER_HEADER: key.public, TIME_HEADER: str(now_ms), SIGNATURE_HEADER: signature}


def read_peer(headers: Mapping[str, str], *, method: str, path: str, body_sha256: str, now_ms: int) -> str:
    """The peer's public key (hex) once its signature is checked. `headers` has lower-case names. Raises Unauthorized."""
    peer = headers.get(PEER_HEADER.lower(), "")
    time = headers.get(TIME_HEADER.lower(), "")
    signature = headers.get(SIGNATURE_HEADER.lower(), "")
    if not (peer and time and signature):
        raise Unauthorized("peer_unsigned", f"{PEER_HEADER}, {TIME_HEADER} and {SIGNATURE_HEADER} are all required")
    if not _KEY.fullmatch(peer):
        raise Unauthorized("peer_key", f"{PEER_HEADER} is 64 lower-case hex digits: one key has one spelling")
    if not (time.isascii() and time.isdecimal() and len(time) <= 15):
        raise Unauthorized("peer_time", f"{TIME_HEADER} is unix milliseconds in decimal digits")
    if abs(int(time) - now_ms) > MAX_SKEW_MS:
        raise Unauthorized(
            "peer_stale", f"signed {(now_ms - int(time)) / 1000:.0f} s ago, at most {MAX_SKEW_MS // 1000} s"
        )
    if not verify_bytes(peer, TAG, _bytes(method, path, body_sha256, int(time)), signature):
        raise Unauthorized("peer_signature", "the signature does not cover this method, path, body and time")
    return peer
