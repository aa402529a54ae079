"""One lnd of a local network: its flags, its files, and calls to it by URI. It moves no money by itself."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from l402core.errors import L402Error
from l402core.lnd.scope import read_scope
from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire

from l402train import parts
from l402train.exits import Exit, Stop
from l402train.lightning.btcd import Btcd
from l402train.lightning.programs import LND_LOG_LEVEL
from l402train.process import Process

LIGHTNING = "/lnrpc.Lightning/"
ROUTER = "/routerrpc.Router/"
START_S = 120.0
"""Eight at once on two cores need a quarter of it."""
CALL_S = 60.0
POLL_S = 0.1


class LndNode:
    """A node that was started; `rpc` and `listen` are host:port."""

    def __init__(self, name: str, folder: Path, rpc: str = "", listen: str = "") -> None:
        """One of ours, on free ports; or one that runs elsewhere, by its addresses and what it wrote into its folder."""
        self.name = name
        self.folder = folder
        self.rpc = rpc or f"127.0.0.1:{parts.free_port()}"
        self.listen = listen or f"127.0.0.1:{parts.free_port()}"
        self.pubkey = ""
        self.process: Process | None = None
        self._wire: Wire | None = None

    def start(self, program: Path, btcd: Btcd, log: Path, environment: dict[str, str]) -> Process:
        """Run it, on the same ports each time."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        command = [
            str(program), f"--lnddir={self.folder}", "--noseedbackup", "--nobootstrap", "--norest",
            f"--alias={self.name}", "--bitcoin.simnet", "--bitcoin.node=btcd", f"--btcd.rpchost={btcd.rpc}",
            f"--btcd.rpcuser={btcd.user}", f"--btcd.rpcpass={btcd.password}", f"--btcd.rpccert={btcd.cert}",
            f"--listen={self.listen}", f"--rpclisten={self.rpc}", "--tlsdisableautofill",
            "--bitcoin.defaultchanconfs=1", "--trickledelay=50", "--maxpendingchannels=8",
            f"--debuglevel={LND_LOG_LEVEL}",
        ]  # fmt: skip
        self.process = Process(self.name, command, log, environment)
        return self.process

    async def answering(self) -> None:
        """Wait for its RPC server. Raises Stop when it ends first, or takes too long."""
        ends_at = time.monotonic() + START_S
        if self.process is not None:
            await self.process.until(self._files, deadline_s=START_S)
        while not self._files() and time.monotonic() < ends_at:  # noqa: ASYNC110 - another container writes them
            await asyncio.sleep(POLL_S)
        if not self._files():
            raise Stop(Exit.PART_FAILED, f"{self.name} has written no certificate and macaroon into {self.folder}")
        self._wire = Wire(self.endpoint(deadline_s=CALL_S))
        while True:
            try:
                self.pubkey = (await self.call("GetInfo", lnrpc.GetInfoRequest())).identity_pubkey
            except L402Error as error:  # the wallet opens first, the RPC server some seconds later
                if self.process is not None and self.process.returncode is not None:
                    raise self.process.failure(f"{self.name} ended with {self.process.returncode}") from error
                if time.monotonic() > ends_at:
                    raise Stop(
                        Exit.PART_FAILED, f"{self.name} does not answer at {self.rpc}: {error.detail}"
                    ) from error
                await asyncio.sleep(POLL_S)
            else:
                return

    def _files(self) -> bool | None:
        """True once what lets us in is there, and whole: lnd makes each file empty before it writes it."""
        try:
            read_scope(self.macaroon("admin").read_bytes())
            return True if self.certificate.read_text().rstrip().endswith("END CERTIFICATE-----") else None
        except (OSError, L402Error):
            return None

    async def call(self, method: str, request: Any) -> Any:
        """A unary call of `lnrpc.Lightning`, or one named by its whole URI. Raises L402Error."""
        assert self._wire is not None
        return await self._wire.call(method if method.startswith("/") else LIGHTNING + method, request)

    def stream(self, uri: str, request: Any, *, deadline_s: float) -> AsyncGenerator[Any, None]:
        """A streaming call. Raises L402Error."""
        assert self._wire is not None
        return self._wire.stream(uri, request, deadline_s=deadline_s)

    async def hang_up(self) -> None:
        """Close our connection to it."""
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.cert"

    def macaroon(self, name: str) -> Path:
        """One of those that lnd makes itself."""
        return self._macaroons / f"{name}.macaroon"

    @property
    def _macaroons(self) -> Path:
        return self.folder / "data/chain/bitcoin/simnet"

    def endpoint(self, macaroon: str = "admin", *, deadline_s: float = 10.0) -> LndEndpoint:
        """How to reach it."""
        return LndEndpoint(self.rpc, self.certificate, self.macaroon(macaroon), deadline_s)

    def described(self) -> dict[str, Any]:
        """Its entry in `nodes.json`."""
        return {
            "host": self.rpc,
            "tls_cert": str(self.certificate),
            "macaroons": {path.stem: str(path) for path in sorted(self._macaroons.glob("*.macaroon"))},
            "pubkey": self.pubkey,
        }
