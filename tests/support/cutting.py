"""A wire to a server that a test can cut and mend: a proxy on the loopback. It reads nothing of what it carries."""

import asyncio
import contextlib
from types import TracebackType
from urllib.parse import urlsplit


class Cut:
    """Inside the block `url` leads to the server. `off` breaks every connection and takes no new ones until `mend`."""

    def __init__(self, server_url: str) -> None:
        at = urlsplit(server_url)
        self._scheme, self._host, self._port = at.scheme, at.hostname, at.port
        self._open: set[asyncio.StreamWriter] = set()
        self._is_off = False
        self._silent: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> "Cut":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"{self._scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.off()
        assert self._server is not None
        self._server.close()

    def off(self) -> None:
        """From now on nobody gets through."""
        self._is_off = True
        for writer in self._open:
            writer.transport.abort()

    def silence(self) -> None:
        """The connections that there are stay, and carry nothing any more; new ones are taken."""
        self._silent |= self._open

    def mend(self) -> None:
        """From now on new connections are taken."""
        self._is_off = False

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_off:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._host, self._port)
        ends = {writer, back}
        self._open |= ends
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pour(reader, back), self._pour(there, writer))
        self._open -= ends
        self._silent -= ends
        for end in ends:
            end.transport.abort()

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            if writer not in self._silent:
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()
