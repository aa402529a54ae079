"""What a real lnd says before its wallet is made, and while it is locked. The simulator has no wallet to lock."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from l402core.errors import Unavailable
from l402core.lnd.fitness import silence
from l402core.lnd.grpc import connect
from l402core.lnd.wire import LndEndpoint
from l402train import parts
from l402train.lightning import programs
from lndgrpc.compiled import walletunlocker_pb2, walletunlocker_pb2_grpc

from tests.support.lnd import lnd_is_there
from tests.support.real import require_real

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lnd"), pytest.mark.timeout(120)]
PATIENCE_S = 60.0
END_S = 20.0
unlocker: Any = walletunlocker_pb2  # the generated messages name no fields that a type checker could see


@contextmanager
def lnd_without_wallet(folder: Path, port: int) -> Iterator[LndEndpoint]:
    """A real lnd that waits for its wallet; it has no chain yet, and needs none."""
    command = [
        str(programs.find().lnd), f"--lnddir={folder}", "--nobootstrap", "--norest", "--bitcoin.simnet",
        "--bitcoin.node=btcd", "--btcd.rpchost=127.0.0.1:1", "--btcd.rpcuser=none", "--btcd.rpcpass=none",
        "--nolisten", f"--rpclisten=127.0.0.1:{port}", "--tlsdisableautofill",
    ]  # fmt: skip
    (folder / "none.macaroon").write_bytes(b"no macaroon is asked for yet")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not (folder / "tls.cert").is_file():
                time.sleep(0.1)
            yield LndEndpoint(f"127.0.0.1:{port}", folder / "tls.cert", folder / "none.macaroon")
        finally:
            process.terminate()
            process.wait(END_S)


async def refusal(endpoint: LndEndpoint) -> Unavailable:
    """Its first answer to GetInfo, once it listens."""
    node = connect(endpoint)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with pytest.raises(Unavailable) as refused:
                    await node.info()
                if refused.value.code not in ("lnd_unavailable", "lnd_starting"):
                    return refused.value
                await asyncio.sleep(0.1)
    finally:
        await node.close()


async def make_wallet(endpoint: LndEndpoint) -> None:
    """As `lncli create` does."""
    credentials = grpc.ssl_channel_credentials(endpoint.tls_cert_path.read_bytes())
    async with grpc.aio.secure_channel(endpoint.host, credentials) as channel:
        stub: Any = walletunlocker_pb2_grpc.WalletUnlockerStub(channel)
        seed = await stub.GenSeed(unlocker.GenSeedRequest())
        words = seed.cipher_seed_mnemonic
        await stub.InitWallet(unlocker.InitWalletRequest(wallet_password=b"correct horse", cipher_seed_mnemonic=words))


async def test_a_node_that_is_locked_or_has_no_wallet_is_named_as_that(tmp_path: Path) -> None:
    """Somebody must unlock it: that is another errand than a node that does not answer."""
    require_real(lnd_is_there(), "lnd (run `make tools`)")
    port = parts.free_port()
    with lnd_without_wallet(tmp_path, port) as endpoint:
        refused = await refusal(endpoint)
        assert (refused.code, silence(refused).check) == ("lnd_no_wallet", "unlocked")
        await make_wallet(endpoint)
    with lnd_without_wallet(tmp_path, port) as endpoint:
        refused = await refusal(endpoint)
        assert (refused.code, silence(refused).check) == ("lnd_locked", "unlocked")
