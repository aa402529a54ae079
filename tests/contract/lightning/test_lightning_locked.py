"""What a real lnd says before its wallet is made, and while it is locked; and that the simulator says the same when locked."""

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
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import NodeInfo
from l402core.lnd.stubs import statesrpc
from l402core.lnd.wire import LndEndpoint, Wire
from l402train import parts
from l402train.lightning import programs
from lndgrpc.compiled import walletunlocker_pb2, walletunlocker_pb2_grpc
from lndsim import Control, Guise, Simulation
from lndsim.control import ControlServer

from tests.contract.lightning.backends import sentence, status
from tests.support.lnd import lnd_is_there
from tests.support.real import require_real

pytestmark = pytest.mark.timeout(120)
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


async def state_of(endpoint: LndEndpoint) -> int:
    """What it answers to the one call that a locked node answers."""
    wire = Wire(endpoint)
    try:
        return int((await wire.call("/lnrpc.State/GetState", statesrpc.GetStateRequest())).state)
    finally:
        await wire.close()


@pytest.mark.real
@pytest.mark.xdist_group("lnd")
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
        state = await state_of(endpoint)
    async with await Simulation.start(tmp_path / "simulated") as simulation:
        await simulation.add_node("ann")
        await simulation.set_guise("ann", Guise(locked=True))
        pretended = await refusal(simulation.endpoint("ann"))
        assert (said(pretended), await state_of(simulation.endpoint("ann"))) == (said(refused), state)


def said(refused: Unavailable) -> tuple[grpc.StatusCode, str]:
    """The node's own words."""
    with pytest.raises(Unavailable) as caught:
        raise refused
    return status(caught), sentence(refused)


async def test_a_simulated_node_is_unfit_when_told_and_well_again_after(tmp_path: Path) -> None:
    """Through the door of another process: what it says of itself is what it was told, its streams are cut when it locks."""
    async with await Simulation.start(tmp_path) as simulation:
        await simulation.add_node("ann")
        server = ControlServer(simulation)
        await server.start()
        ann = connect(simulation.endpoint("ann"))
        async with Control(tmp_path) as control:
            before = await ann.info()
            await control.set_guise("ann", Guise(version="0.18.5-beta", network="regtest", synced=False))
            unfit = await ann.info()
            assert (unfit.version, unfit.network, unfit.synced) == ("0.18.5-beta", "regtest", False)
            blocks = ann.watch_blocks()
            await anext(blocks)
            await control.set_guise("ann", Guise(locked=True))
            with pytest.raises(Unavailable):
                await asyncio.wait_for(anext(blocks), PATIENCE_S)
            assert (await refusal(simulation.endpoint("ann"))).code == "lnd_locked"
            await control.set_guise("ann", Guise())
            async with asyncio.timeout(PATIENCE_S):
                while await info_or_none(ann) != before:  # noqa: ASYNC110 - it sends no event
                    await asyncio.sleep(0.05)
            with pytest.raises(ValueError, match="sideways"):
                await control._ask("set_guise", name="ann", sideways=True)
        await ann.close()
        await server.stop()


async def info_or_none(node: GrpcNode) -> NodeInfo | None:
    """None while it is not found again."""
    try:
        return await node.info()
    except Unavailable:
        return None
