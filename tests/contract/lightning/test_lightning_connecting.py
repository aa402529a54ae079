"""A node that is slow to greet is there all the same: a busy machine takes a second for a handshake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire

from tests.contract.lightning.test_lightning_telemetry import spying_server

GREETS_AFTER_S = 1.5
"""Of every new connection; more than the pause before the next try."""


@asynccontextmanager
async def in_front_of(endpoint: LndEndpoint) -> AsyncIterator[LndEndpoint]:
    """The same node behind a door that opens late."""
    host, _, port = endpoint.host.rpartition(":")
    serving: set[asyncio.Task[None]] = set()

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await asyncio.sleep(GREETS_AFTER_S)
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    door = await asyncio.start_server(let_in, "127.0.0.1", 0)
    try:
        yield msgspec.structs.replace(endpoint, host=f"127.0.0.1:{door.sockets[0].getsockname()[1]}")
    finally:
        door.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_a_handshake_may_take_longer_than_the_pause_between_two_tries(tmp_path: Path) -> None:
    """The first call waits for it, within its own deadline, and is answered."""
    async with spying_server(tmp_path, []) as endpoint, in_front_of(endpoint) as late:
        wire = Wire(late)
        answer = await wire.call("/lnrpc.Lightning/GetInfo", lnrpc.GetInfoRequest())
        await wire.close()
    assert isinstance(answer, lnrpc.GetInfoResponse)
