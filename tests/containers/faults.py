"""What is done to the containers of a running system: killed, stopped, cut off, their disks spoiled, their clocks moved.

It waits for nothing to come back; `System.after` does.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.containers.system import HOUSE, System, docker
from tests.support.real import require_real


def kill(system: System, *services: str) -> None:
    """kill -9 of all of them, then up again as the engine would restart them."""
    names = [system.container(service) for service in services]
    docker("kill", "--signal", "KILL", *names)
    docker("start", *names)


@contextmanager
def stopped(system: System, *services: str) -> Iterator[None]:
    """Down inside the block, after a SIGTERM that they may take their time over."""
    names = [system.container(service) for service in services]
    docker("stop", "--time", "20", *names)
    try:
        yield
    finally:
        docker("start", *names)


@contextmanager
def cut_off(system: System, service: str) -> Iterator[None]:
    """Running, and reached by nobody, inside the block."""
    name, network = system.container(service), f"{system.project}_inside"
    docker("network", "disconnect", network, name)
    try:
        yield
    finally:
        docker("network", "connect", "--alias", service, network, name)


@contextmanager
def cut_between(system: System, one: str, other: str) -> Iterator[None]:
    """Both run and reach everybody else; what one sends the other is dropped inside the block, both ways.

    By a rule in the network namespace of `one`, which only root on the engine's own machine may enter.
    """
    require_real(os.geteuid() == 0, "root, on the machine of the Docker engine, to cut two containers apart")
    inside = docker("inspect", "--format", "{{.State.Pid}}", system.container(one)).strip()
    address = _address(system, other)
    rules = [["INPUT", "-s", address, "-j", "DROP"], ["OUTPUT", "-d", address, "-j", "DROP"]]
    for rule in rules:
        _iptables(inside, "-I", *rule)
    try:
        yield
    finally:
        for rule in rules:
            _iptables(inside, "-D", *rule)


def _address(system: System, service: str) -> str:
    found = json.loads(docker("inspect", system.container(service)))[0]
    address: str = found["NetworkSettings"]["Networks"][f"{system.project}_inside"]["IPAddress"]
    return address


def _iptables(pid: str, *words: str) -> None:
    entered = ["nsenter", "--target", pid, "--net", "iptables", *words]
    done = subprocess.run(entered, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(entered)}: {done.stderr}"


# Every block of the stream's messages: one bit of each 512 bytes, so that no message in it keeps its checksum.
_FLIP = """
import pathlib, sys
for path in pathlib.Path("/data").rglob(f"streams/{sys.argv[1]}/msgs/*.blk"):
    spoiled = bytearray(path.read_bytes())
    for at in range(256, len(spoiled), 512):
        spoiled[at] ^= 0x40
    path.write_bytes(spoiled)
    print(path.name, len(spoiled))
"""


def spoil_stream(system: System, stream: str) -> str:
    """NATS dies, bits of the stream's file flip, NATS comes back; what was spoiled."""
    name = system.container("nats")
    docker("kill", "--signal", "KILL", name)
    image = docker("inspect", "--format", "{{.Config.Image}}", system.container("migrate")).strip()
    words = ["--rm", "--user", "0", "--network", "none", "--volumes-from", name, "--entrypoint", "python3.11"]
    spoiled = docker("run", *words, image, "-c", _FLIP, stream)
    docker("start", name)
    return spoiled


_DELETE = """
import asyncio, nats, sys
async def gone():
    client = await nats.connect(open("/secrets/nats_url").read().strip(), inbox_prefix="_INBOX_migrate")
    await client.jetstream().delete_stream(sys.argv[1])
    await client.close()
asyncio.run(gone())
"""


def delete_stream(system: System, stream: str) -> None:
    """By the one user of the bus who may."""
    system.inside("migrate", _DELETE, stream)


SKEWED = ("gateway", "invoicer", "settler")
"""The second of each of these may run with a wrong clock."""


@contextmanager
def skewed(system: System, seconds: int) -> Iterator[None]:
    """The second gateway, invoicer and settler live so many seconds later than everybody else inside the block."""
    registry, tag = os.environ.get("REGISTRY", "l402-train"), os.environ.get("TAG", "0.1.0")
    for name in SKEWED:
        words = ["--build-arg", f"BASE={registry}/{name}:{tag}", "--tag", f"{registry}/{name}:{tag}-skewed"]
        recipe = HOUSE / "tests" / "containers" / "skewed.Dockerfile"
        docker("build", "--quiet", *words, "--file", str(recipe), str(recipe.parent), timeout_s=600.0)
    clock = {"SKEWED_TAG": f"{tag}-skewed", "SKEW_LIBRARY": "/usr/local/lib/faketime.so", "SKEW": f"{seconds:+d}"}
    second = [f"{name}-2" for name in SKEWED]
    os.environ.update(clock)
    try:
        system.run("up", "--detach", "--no-deps", "--wait", *second)
        yield
    finally:
        for name in clock:
            del os.environ[name]
        system.run("up", "--detach", "--no-deps", "--wait", *second)


_FILL = """
import pathlib, sys
path = pathlib.Path("/disks", sys.argv[1], "filling")
with path.open("wb", buffering=0) as file:
    try:
        while file.write(bytes(65536)): pass
    except OSError as error:
        print(error.strerror)
"""


@contextmanager
def disks_full(system: System, *volumes: str) -> Iterator[None]:
    """Not a byte more fits on these volumes inside the block."""
    for name in volumes:
        told = docker("exec", system.container("disks"), "python3.11", "-c", _FILL, name)
        assert "No space left" in told, told
    try:
        yield
    finally:
        for name in volumes:
            docker("exec", system.container("disks"), "rm", f"/disks/{name}/filling")


def lost_and_restored(system: System) -> None:
    """Both databases saved while nobody writes them, dropped, and made again from what was saved."""
    postgres = system.container("postgres")
    with stopped(system, "settler", "settler-2", "attestor"):
        for name in ("books", "decisions"):
            saved = f"/tmp/{name}.dump"  # noqa: S108 - in the container
            docker("exec", postgres, "pg_dump", "-U", "l402", "--format=custom", f"--file={saved}", name)
            docker("exec", postgres, "dropdb", "-U", "l402", "--force", name)
            docker("exec", postgres, "pg_restore", "-U", "l402", "--create", "--exit-on-error", "-d", "postgres", saved)
