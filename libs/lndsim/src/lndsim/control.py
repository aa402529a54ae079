"""The simulator's own door, apart from LND's: JSON lines over loopback TCP, with a token. It carries no money calls."""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from lndsim.faults import Fault, Kind
from lndsim.guise import Guise
from lndsim.simulation import Simulation, write_private

CONTROL_FILE: Final = "control.json"
_MAX_LINE_BYTES: Final = 64 * 1024
_TIMEOUT_S: Final = 30.0


class Address(msgspec.Struct, frozen=True):
    """The content of `control.json`."""

    port: int
    token: str


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One line from a client."""

    token: str
    command: str
    arguments: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line back: `result`, or `error` with a sentence."""

    result: Any = None
    error: str = ""


class ControlServer:
    """Lets whoever can read `control.json` grow and age a running network."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._token = secrets.token_hex(16)
        self._server: asyncio.Server | None = None
        network = simulation.network
        self._commands: dict[str, Callable[..., Awaitable[Any] | Any]] = {
            "add_node": self._add_node,
            "open_channel": self._open_channel,
            "mine": network.mine,
            "height": lambda: network.height,
            "set_online": network.set_online,
            "set_dispatching": network.set_dispatching,
            "set_listening": simulation.set_listening,
            "set_guise": lambda name, **guise: simulation.set_guise(name, msgspec.convert(guise, Guise)),
            "set_hold_expiry_delta": network.set_hold_expiry_delta,
            "set_stranding": network.set_stranding,
            "set_stuck": network.set_stuck,
            "fill": network.fill,
            "drain": network.drain,
            "plan_fault": lambda **fault: simulation.faults.plan(msgspec.convert(fault, Fault)),
            "clear_faults": simulation.faults.clear,
            "faults_happened": lambda: simulation.faults.happened,
        }

    async def start(self) -> None:
        """Listen on a random port and write `control.json`."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=_MAX_LINE_BYTES)
        address = Address(self._server.sockets[0].getsockname()[1], self._token)
        write_private(self._simulation.directory / CONTROL_FILE, msgspec.json.encode(address))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line beyond the limit: either way this client is done
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            ask = msgspec.json.decode(line, type=Ask)
            if not hmac.compare_digest(ask.token, self._token):
                return Answer(error="the token is not the one in control.json")
            if ask.command not in self._commands:
                return Answer(error=f"no command {ask.command!r}; there are {', '.join(sorted(self._commands))}")
            result = self._commands[ask.command](**ask.arguments)
            return Answer(result=await result if asyncio.iscoroutine(result) else result)
        except KeyError as error:
            return Answer(error=f"no node is named {error}")
        except (msgspec.DecodeError, ValueError, TypeError, RuntimeError) as error:
            return Answer(error=str(error))

    async def _add_node(self, name: str) -> str:
        return (await self._simulation.add_node(name)).pubkey

    def _open_channel(self, opener: str, peer: str, capacity_msat: int, push_msat: int = 0) -> int:
        return self._simulation.network.open_channel(opener, peer, capacity_msat, push_msat).channel_id


class Control:
    """The client: `async with Control(directory) as control: await control.mine(6)`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._token = ""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        address = msgspec.json.decode((self._directory / CONTROL_FILE).read_bytes(), type=Address)
        self._token = address.token
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", address.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()

    async def add_node(self, name: str) -> str:
        """Add a node, or find it; answers its public key. Its files are in `nodes.json` when this returns."""
        return str(await self._ask("add_node", name=name))

    async def open_channel(self, opener: str, peer: str, capacity_msat: int, push_msat: int = 0) -> int:
        """Open a channel, usable at once; answers its id."""
        return int(
            await self._ask("open_channel", opener=opener, peer=peer, capacity_msat=capacity_msat, push_msat=push_msat)
        )

    async def mine(self, blocks: int = 1) -> int:
        """Mine; answers the new height."""
        return int(await self._ask("mine", blocks=blocks))

    async def height(self) -> int:
        return int(await self._ask("height"))

    async def set_online(self, name: str, online: bool) -> None:
        """Take a node off the network or bring it back; its gRPC goes on answering."""
        await self._ask("set_online", name=name, online=online)

    async def set_dispatching(self, name: str, dispatching: bool) -> None:
        """False keeps new payments in INITIATED."""
        await self._ask("set_dispatching", name=name, dispatching=dispatching)

    async def set_listening(self, name: str, listening: bool) -> None:
        """Stop or start a node's gRPC; the node stays on the network."""
        await self._ask("set_listening", name=name, listening=listening)

    async def set_guise(self, name: str, guise: Guise) -> None:
        """What a node says of itself; `Guise()` is well. See `lndsim.guise`."""
        await self._ask("set_guise", name=name, **msgspec.to_builtins(guise))

    async def set_hold_expiry_delta(self, name: str, blocks: int) -> None:
        """How early this node cancels a held invoice before its HTLC expires."""
        await self._ask("set_hold_expiry_delta", name=name, blocks=blocks)

    async def set_stranding(self, name: str, stranding: bool) -> None:
        """True: new payments of this node are noted as in flight, and never sent."""
        await self._ask("set_stranding", name=name, stranding=stranding)

    async def set_stuck(self, name: str, stuck: bool) -> None:
        """True: HTLCs reach this node's channels, and its invoices do not hear of them."""
        await self._ask("set_stuck", name=name, stuck=stuck)

    async def fill(self, name: str, peer: str) -> int:
        """Take all HTLC slots from `name` to `peer`; answers how many were free."""
        return int(await self._ask("fill", name=name, peer=peer))

    async def drain(self, name: str, peer: str) -> int:
        """Free those slots; answers how many."""
        return int(await self._ask("drain", name=name, peer=peer))

    async def plan_fault(self, fault: Fault) -> None:
        """See `lndsim.faults`."""
        await self._ask("plan_fault", **msgspec.to_builtins(fault))

    async def clear_faults(self) -> None:
        """Nothing planned happens any more."""
        await self._ask("clear_faults")

    async def faults_happened(self) -> list[tuple[str, str, Kind]]:
        """(node, URI, kind) of each, oldest first."""
        return msgspec.convert(await self._ask("faults_happened"), list[tuple[str, str, Kind]])

    async def _ask(self, command: str, **arguments: Any) -> Any:
        if self._reader is None or self._writer is None:
            raise RuntimeError("use Control as an async context manager")
        async with self._turn, asyncio.timeout(_TIMEOUT_S):
            ask = Ask(token=self._token, command=command, arguments=arguments)
            self._writer.write(msgspec.json.encode(ask) + b"\n")
            await self._writer.drain()
            line = await self._reader.readline()
        if not line:
            raise ConnectionError("the simulator closed the control connection")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise ValueError(answer.error)
        return answer.result
