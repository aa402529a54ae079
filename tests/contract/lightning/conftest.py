"""One contract, tried against every backend: the simulator, and a real lnd where it is built."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.wire import Wire
from lndsim import Simulation

from tests.contract.lightning.backends import Backend, SimBackend, look_up_before_any
from tests.contract.lightning.killable import Killable, RealNodes, SimProcess, killable_lnd, killable_sim
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
        real = request.getfixturevalue("real_network")
        real.before_any = real.before_any or await look_up_before_any(real)  # the first test that asks for the network
        yield real
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


@pytest.fixture
async def dave_wire(backend: Backend) -> AsyncIterator[Wire]:
    """Dave's LND as it is on the wire."""
    wire = Wire(backend.endpoint("dave"))
    yield wire
    await wire.close()


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of networks that outlive a test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def real_nodes(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNodes]:
    """Three real lnds that may be killed, started once for all tests that ask."""
    require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    networks = AsyncExitStack()
    try:
        yield runner.run(networks.enter_async_context(killable_lnd(tmp_path_factory.mktemp("killable"))))
    finally:
        runner.run(networks.aclose())


@pytest.fixture(scope="session")
def sim_process(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """The same network on lndsim, as a process."""
    networks = AsyncExitStack()
    try:
        yield runner.run(networks.enter_async_context(killable_sim(tmp_path_factory.mktemp("killable-sim"))))
    finally:
        runner.run(networks.aclose())


@pytest.fixture(params=["lndsim", pytest.param("lnd", marks=[pytest.mark.real, pytest.mark.xdist_group("lnd")])])
def killable(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Killable:
    """A network whose nodes can be killed, and no test before this one did it any harm that lasts: every channel is usable,
    and nobody avoids a node for having been away."""
    network: Killable = request.getfixturevalue("real_nodes" if request.param == "lnd" else "sim_process")
    runner.run(network.usable())
    runner.run(network.forget_failures())
    return network


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many contract tests passed on each network, and what was played side by side."""
    passed = terminalreporter.stats.get("passed", [])
    counts = {kind: sum(f"[{kind}" in report.nodeid for report in passed) for kind in ("lndsim", "lnd")}
    counts["lnd"] -= counts["lndsim"]
    if any(counts.values()):
        terminalreporter.section("lightning contract")
        terminalreporter.line(f"passed on lndsim {counts['lndsim']}, on real lnd {counts['lnd']}")
    for report in (report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])):
        for name, told in getattr(report, "user_properties", ()):
            if name == "played":
                terminalreporter.line(f"side by side: {told}")
