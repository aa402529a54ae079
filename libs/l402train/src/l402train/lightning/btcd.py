"""A btcd on a simnet of its own: how it is started, and JSON-RPC to it. It knows no Lightning."""

import base64
import hashlib
import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

RPC_TIMEOUT_S = 30.0
CLIENTS_MAX = 1_000
"""Each lnd holds four websockets; with btcd's default of 25 the seventh lnd never gets in sync."""
FIRST_BLOCKS = 310
"""Three BIP 9 windows of simnet, so that SegWit is active, and enough for the first coins to be mature."""
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Btcd(msgspec.Struct, frozen=True, kw_only=True):
    """A running btcd; also the content of `btcd.json`, for whoever wants to mine."""

    rpc: str
    """host:port"""
    listen: str
    cert: Path
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Btcd({self.rpc}, user={self.user})"

    def command(self, program: Path, folder: Path, miner: str) -> list[str]:
        """How it is started. btcd takes the address that it mines to only now."""
        return [
            str(program), "--simnet", "--nodnsseed", "--txindex", f"--miningaddr={miner}",
            f"--configfile={folder / 'none.conf'}", f"--datadir={folder / 'data'}", f"--logdir={folder / 'logs'}",
            f"--listen={self.listen}", f"--rpclisten={self.rpc}", f"--rpcuser={self.user}", f"--rpcpass={self.password}",
            f"--rpccert={self.cert}", f"--rpckey={folder / 'rpc.key'}",
            f"--rpcmaxclients={CLIENTS_MAX}", f"--rpcmaxwebsockets={CLIENTS_MAX}",
        ]  # fmt: skip

    def mine(self, blocks: int) -> None:
        """Mine at once. Raises OSError, HTTPException, RuntimeError."""
        self.call("generate", blocks)

    def answers(self) -> bool | None:
        """True once it does."""
        try:
            return True if self.cert.is_file() and self.call("getblockcount") is not None else None
        except (OSError, http.client.HTTPException, RuntimeError):
            return None

    def call(self, method: str, *params: object) -> Any:
        """One JSON-RPC call. Raises OSError, HTTPException for a broken connection, RuntimeError for a refusal."""
        trusted = ssl.create_default_context(cafile=str(self.cert))
        address = urlsplit(f"https://{self.rpc}")
        connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=RPC_TIMEOUT_S, context=trusted
        )
        password = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
        try:
            connection.request("POST", "/", body, {"Authorization": f"Basic {password}"})
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"btcd answers {method} with {answer.status}")
        said = json.loads(told)
        if said["error"] is not None:
            raise RuntimeError(f"btcd refuses {method}: {said['error']['message']}")
        return said["result"]


def nobodys_address() -> str:
    """A P2PKH address of simnet (version 0x3f) over twenty zero bytes: btcd mines only to an address."""
    return _base58(b"\x3f" + bytes(20))


def address_of_script(script: bytes) -> str:
    """The P2SH address of simnet (BIP 16, version 0x7b) of a script."""
    return _base58(b"\x7b" + hashlib.new("ripemd160", hashlib.sha256(script).digest()).digest())


def _base58(payload: bytes) -> str:
    payload += hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(payload), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return text
