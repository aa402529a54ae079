"""One contract, tried against every backend: the simulator, and a real lnd where it is built."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.wire import Wire
from lndsim import Simulation

from tests.contract.lightning.backends import Backend, SimBackend
from tests.contract.lightning.real_network import RealBackend, running_contract
from tests.support.lnd import lnd_is_there
from tests.support.real import require_real

REAL = pytest.param("lnd", marks=[pytest.mark.real, pytest.mark.xdist_group("lnd-network")])


@pytest.fixture(scope="session")
def real_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBackend]:
    """Four real lnds, started once for all tests that ask."""
    require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    with running_contract(tmp_path_factory.mktemp("network")) as network:
        yield network


@pytest.fixture(params=["lndsim", REAL])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A network to be tried."""
    if request.param == "lnd":
        yield request.getfixturevalue("real_network")
        return
    async with await Simulation.start(tmp_path) as simulation:
        sim = SimBackend(simulation)
        await sim.build()
        yield sim


@pytest.fixture
async def alice(backend: Backend) -> AsyncIterator[GrpcNode]:
    """She has money and a channel to bob."""
    node = connect(backend.endpoint("alice"))
    yield node
    await node.close()


@pytest.fixture
async def bob(backend: Backend) -> AsyncIterator[GrpcNode]:
    """He is paid by alice, and forwards to carol."""
    node = connect(backend.endpoint("bob"))
    yield node
    await node.close()


@pytest.fixture
async def carol(backend: Backend) -> AsyncIterator[GrpcNode]:
    """She is reached through bob only."""
    node = connect(backend.endpoint("carol"))
    yield node
    await node.close()


@pytest.fixture
async def dave(backend: Backend) -> AsyncIterator[GrpcNode]:
    """Nobody has a channel to him."""
    node = connect(backend.endpoint("dave"))
    yield node
    await node.close()


@pytest.fixture
async def alice_wire(backend: Backend) -> AsyncIterator[Wire]:
    """Alice's LND as it is on the wire."""
    wire = Wire(backend.endpoint("alice"))
    yield wire
    await wire.close()


@pytest.fixture
async def bob_wire(backend: Backend) -> AsyncIterator[Wire]:
    """Bob's LND as it is on the wire."""
    wire = Wire(backend.endpoint("bob"))
    yield wire
    await wire.close()
