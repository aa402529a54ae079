"""The gateway as a program: how it starts, says no, tells its address, keeps secrets and ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
from l402core.bus import Bus
from l402core.l402 import credential, parse_challenge
from l402core.l402 import keys as root_keys
from l402core.l402.identifier import decode as decode_identifier
from l402core.secret import Secret

from tests.support.gateway import Coordinator, Draft, servers
from tests.support.nats import running_nats

TRACE = "0af7651916cd43dd8448eb211c80319c"


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """The variables of one gateway."""
    chosen = {
        "data_dir": str(folder), "key_file": str(folder / "gateway.json"), "objects_url": f"file://{folder}/objects",
        "trace_file": str(folder / "traces.jsonl"),
    } | changes  # fmt: skip
    return {**os.environ, **{f"L402_GATEWAY_{name.upper()}": value for name, value in chosen.items()}}


@contextlib.asynccontextmanager
async def gateway(folder: Path, **changes: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m l402_gateway`, ended with the block; what it says goes to a file."""
    with (folder / "gateway.log").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "l402_gateway", env=environment(folder, **changes), stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def address(folder: Path, process: asyncio.subprocess.Process) -> str:
    """The base URL, once it is written."""
    for _ in range(400):
        if (folder / "gateway.url").exists():
            return (folder / "gateway.url").read_text()
        if process.returncode is not None:
            break
        await asyncio.sleep(0.05)
    raise AssertionError((folder / "gateway.log").read_text())


async def test_it_ends_cleanly_with_a_listener_connected(tmp_path: Path) -> None:
    """SIGTERM: exit 0, the address is gone, and a listener to hints does not hold it up."""
    root_keys.save(root_keys.create(os.urandom), tmp_path / "gateway.json")
    async with servers(tmp_path) as (nats_url, redis_url, _):
        bus = Bus(nats_url, "settler")
        await Coordinator().start(bus)
        async with gateway(tmp_path, nats_url=nats_url, redis_url=redis_url) as process:
            url = await address(tmp_path, process)
            async with httpx.AsyncClient(base_url=url) as http, http.stream("GET", "/v1/rounds/1/events") as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                process.send_signal(signal.SIGTERM)
                assert [line async for line in lines if line] == [], "the stream ends, it is not cut off"
                async with asyncio.timeout(10):
                    assert await process.wait() == 0
        await bus.stop()
    assert not (tmp_path / "gateway.url").exists()


async def test_a_port_in_use_is_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    """Who starts it is told which address is taken."""
    root_keys.save(root_keys.create(os.urandom), tmp_path / "gateway.json")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running_nats(tmp_path / "nats") as nats_url:
            async with gateway(tmp_path, nats_url=nats_url, http_port=str(port)) as process:
                assert await process.wait() == 2
    assert (tmp_path / "gateway.log").read_text().strip().endswith(f"127.0.0.1:{port}: Address already in use")
    assert "Traceback" not in (tmp_path / "gateway.log").read_text()


async def test_a_missing_key_file_or_bus_is_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    """No traceback for what the operator can mend."""
    async with gateway(tmp_path) as process:
        assert await process.wait() == 2
    assert "gateway.json: No such file or directory" in (tmp_path / "gateway.log").read_text()
    async with gateway(tmp_path, uploads_at_once="0") as process:
        assert await process.wait() == 2
    assert "uploads_at_once" in (tmp_path / "gateway.log").read_text()
    assert "Traceback" not in (tmp_path / "gateway.log").read_text()


async def test_the_trace_goes_on_and_no_secret_is_written_down(tmp_path: Path) -> None:
    """One trace from the peer's header to the span file and back; no root key, macaroon, preimage or credential in it."""
    keys = root_keys.create(os.urandom)
    root_keys.save(keys, tmp_path / "gateway.json")
    coordinator = Coordinator()
    draft = Draft(coordinator.terms)
    secrets: list[str] = [key.reveal().hex() for key in keys.keys.values()]
    async with servers(tmp_path) as (nats_url, redis_url, _):
        bus = Bus(nats_url, "settler")
        await coordinator.start(bus)
        changes = {"nats_url": nats_url, "redis_url": redis_url, "log_level": "DEBUG"}
        async with gateway(tmp_path, **changes) as process:
            async with httpx.AsyncClient(base_url=await address(tmp_path, process)) as http:
                parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
                answer = await http.post(draft.path, headers=parent | draft.signed(draft.path))
                assert answer.headers["l402-trace"] == TRACE
                assert answer.headers["traceresponse"].split("-")[1] == TRACE
                told = parse_challenge(answer.headers["www-authenticate"])
                identifier = decode_identifier(told.macaroon.identifier)
                preimage = coordinator.fees[identifier.payment_hash.hex()]
                body = draft.statement(identifier.token_id.hex())
                for given in (preimage, b"\x5a" * 32):
                    authorization = credential(told.macaroon, Secret(given))
                    headers = parent | {"Authorization": authorization} | draft.signed(draft.path, body)
                    answer = await http.post(draft.path, content=body, headers=headers)
                    secrets += [given.hex(), authorization.split()[1].split(":")[0], told.macaroon.signature.hex()]
                garbled = {"Authorization": "L402 5ecre7:" + "5a" * 31}
                assert (await http.post(draft.path, headers=garbled)).status_code == 400
                secrets.append("5ecre7")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        await bus.stop()
    spans = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    mine = {span["name"] for span in spans if span["trace_id"] == TRACE}
    assert {"POST submission", "ask fee.mint.v1", "ask submission.open.v1"} <= mine
    assert {span["service"] for span in spans} == {"gateway"}
    served = [span["attributes"] for span in spans if span["kind"] == "SERVER" and span["trace_id"] == TRACE]
    route = "/v1/rounds/{round}/submissions/{commitment}"
    assert {told["http.route"] for told in served} == {route}
    assert {told["l402.commitment"] for told in served} == {draft.commitment}
    written = "".join(path.read_text() for path in (tmp_path / "traces.jsonl", tmp_path / "gateway.log"))
    assert "challenge.made" in written
    for secret in secrets:
        assert secret not in written
    asked = b"".join(msgspec.json.encode(question) for question in coordinator.questions)
    assert not any(secret.encode() in asked for secret in secrets)
