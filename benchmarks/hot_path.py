"""What a credential and an invoice cost, ours beside the reference libraries, interleaved in one run; medians."""

import base64
import hashlib
import statistics
import time
from collections.abc import Callable

import bolt11 as reference_bolt11
import pymacaroons
from l402core import bolt11
from l402core.l402 import RootKeys, header, mint_token, verify
from l402core.l402 import keys as root_keys
from l402core.l402.caveats import Request
from l402core.secret import Secret

REPEATS, CALLS = 15, 200
PREIMAGE = b"\x11" * 32
PATH = "/v1/rounds/1/submissions/" + "ab" * 32


def main() -> None:
    """Print a table: microseconds per call."""
    counter = iter(range(1, 10**6))
    ring: RootKeys = root_keys.create(lambda size: next(counter).to_bytes(size, "big"))
    token_id = ring.new_token_id(lambda size: b"\x22" * size)
    caveats = (
        b"round=1",
        b"commitment=" + b"ab" * 32,
        b"methods=POST,PUT",
        f"path={PATH}/*".encode(),
        b"valid_until=1893456000",
    )
    payment_hash = hashlib.sha256(PREIMAGE).digest()
    macaroon = mint_token(ring, payment_hash, token_id, caveats)
    line = header.credential(macaroon, Secret(PREIMAGE))
    request = Request(method="POST", path=PATH, now_unix=1_700_000_000, round=1, commitment="ab" * 32)

    def ours() -> None:
        credential = header.parse_credential([line])
        assert credential is not None
        verify(credential, ring, request)

    root = ring.for_token(token_id).reveal()
    text = base64.urlsafe_b64encode(macaroon.encode()).decode()

    def reference() -> None:
        read = pymacaroons.Macaroon.deserialize(text)
        verifier = pymacaroons.Verifier()
        verifier.satisfy_general(lambda _caveat: True)
        verifier.verify(read, root)

    invoice = bolt11.encode(
        b"\x05" * 32, payment_hash=payment_hash, payment_secret=bytes(32), timestamp=1_700_000_000,
        amount_msat=500_000, description="fee", network="mainnet",
    )  # fmt: skip
    rows: list[tuple[str, Callable[[], object]]] = [
        ("credential: parse, verify, check caveats (ours)", ours),
        ("macaroon: parse and verify the chain only (pymacaroons)", reference),
        ("bolt11: decode, recover the payee (ours)", lambda: bolt11.decode(invoice)),
        ("bolt11: decode (bolt11 package)", lambda: reference_bolt11.decode(invoice)),
    ]
    seconds: dict[str, list[float]] = {name: [] for name, _ in rows}
    for _ in range(REPEATS):
        for name, call in rows:
            started = time.perf_counter()
            for _ in range(CALLS):
                call()
            seconds[name].append((time.perf_counter() - started) / CALLS)
    for name, _ in rows:
        print(f"{name:58} {statistics.median(seconds[name]) * 1e6:9.1f} µs")


if __name__ == "__main__":
    main()
