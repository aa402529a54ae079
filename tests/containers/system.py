"""`compose.yaml` with two of each service as a running system, for tests: what it says by its own books, and waiting for it.

It reads the books where they are, in the PostgreSQL container, and never writes them.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from testcontainers.compose import DockerCompose

from tests.support.nats import free_port
from tests.support.real import require_real

HOUSE = Path(__file__).parents[2]
PLUGIN = HOUSE / ".tools" / "docker"
"""Docker's configuration with the compose that `make tools-deploy` built, where the client has none of its own."""
HERE = Path(__file__).parent
IMAGES = ("gateway", "invoicer", "settler", "oracle", "peer-agent", "l402-train", "lightning")
PORTS = ("GATEWAY_PORT", "SECOND_GATEWAY_PORT", "ATTESTOR_PORT", "PROMETHEUS_PORT")
PATIENCE_S = 600.0
"""For one thing to come; two busy cores carry six lnds, two workers and three peers that train."""
POLL_S = 2.5
"""Every look is a process in the database's container, on cores that the system needs itself."""
ENDED = ("settled", "returned", "unsent")


def docker(*words: str, check: bool = True, timeout_s: float = 120.0) -> str:
    """What the docker client prints. Raises AssertionError with its complaint."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout


def engine_is_there() -> bool:
    """Whether a Docker engine answers, with our images, and a compose is to be had."""
    if shutil.which("docker") is None or not docker("version", "--format", "{{.Server.Version}}", check=False).strip():
        return False
    tag = os.environ.get("TAG", "0.1.0")
    there = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    return all(f"l402-train/{name}:{tag}" in there for name in IMAGES)


class System:
    """The project of one test run."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.recoveries: list[tuple[str, float]] = []
        """What was done, and seconds until a submission was paid again."""

    # --- what it says ---------------------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """A query on the settler's books."""
        words = ["psql", "-U", "l402", "-d", "books", "-At", "-F", "|", "-c", query]
        told = docker("exec", self.container("postgres"), *words)
        return [tuple(line.split("|")) for line in told.splitlines()]

    def number(self, query: str) -> int:
        """A query's one number."""
        return int(self.rows(query)[0][0] or 0)

    def round(self) -> int:
        """The current round; 0 before the first, or while the books do not answer."""
        try:
            return self.number("select max(round) from rounds")
        except AssertionError:
            return 0

    def open_rungs(self, *, below: int) -> int:
        """Rungs of earlier rounds that still wait for their end."""
        earlier = f"select count(*) from submissions join rungs using (commitment) where round < {below}"  # noqa: S608 - ours
        return self.number(f"{earlier} and rungs.state not in {ENDED}")

    def reconciled(self) -> dict[str, Any]:
        """The books against the node's own lists, asked now."""
        told: dict[str, Any] = json.loads(self.operator("reconcile", "--json", check=False))
        return told

    def operator(self, *words: str, check: bool = True) -> str:
        """What `l402-train` prints for an operator of this network; with `check` it must find nothing wrong."""
        return self.run("run", "--rm", "--no-deps", "--no-TTY", "demo", *words, check=check)

    def run(self, *words: str, check: bool = True) -> str:
        """A docker compose command on this project."""
        return docker("compose", "--project-name", self.project, *words, check=check, timeout_s=PATIENCE_S)

    def inside(self, service: str, program: str, *arguments: str) -> str:
        """What a Python program prints in a new container of this service: its secrets, its users, its network."""
        words = ["run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python3.11", service, "-c", program]
        return self.run(*words, *arguments)

    def log_of(self, *services: str) -> str:
        """All that these services' containers have logged."""
        return self.run("logs", "--no-color", *services)

    def container(self, service: str) -> str:
        """The name of the service's first container; asking compose for it costs half a second of a core."""
        return f"{self.project}-{service}-1"

    # --- waiting --------------------------------------------------------------------------------------------------

    def until(self, what: str, is_so: Callable[[], bool], limit_s: float = PATIENCE_S) -> float:
        """Seconds until it was so. Raises AssertionError, with the last lines of the services' logs."""
        began = time.monotonic()
        while not is_so():
            if time.monotonic() - began > limit_s:
                raise AssertionError(f"{what}: not after {limit_s:g} s\n{self.last_words()}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def last_words(self) -> str:
        """The end of every service's log."""
        return self.run("logs", "--no-color", "--tail", "8")[-12_000:]

    def mid_round(self) -> int:
        """Wait until a submission is in flight: its fee paid, its reward not decided. The round's number."""
        flight = "select count(*) from submissions where state in ('opened', 'offered', 'locking', 'locked')"
        self.until("a submission is in flight", lambda: self.round() > 0 and self.number(flight) > 0)
        return self.round()

    def after(self, fault: str, round_: int) -> None:
        """Wait until a reward of a later round has settled: everything works again. Remembers how long it took."""
        later = f"select count(*) from submissions join rungs using (commitment) where round > {round_}"  # noqa: S608 - ours
        paid = f"{later} and rungs.state = 'settled'"
        took = self.until(f"a reward settles after {fault}", lambda: self.round() > round_ and self.number(paid) > 0)
        self.recoveries.append((fault, took))

    def paid_and_unpaid(self) -> tuple[int, int]:
        """How many submissions of the first three rounds were paid something, and how many nothing, once those are over."""
        self.until("three rounds are over", lambda: self.round() > 3)
        self.is_whole()
        paid, unpaid = self.rows(
            "select count(*) filter (where earned > 0), count(*) filter (where earned = 0) from (select commitment, "
            "sum(case when rungs.state = 'settled' then amount_msat else 0 end) as earned "
            "from submissions join rungs using (commitment) where round <= 3 group by commitment) as each_one"
        )[0]
        return int(paid), int(unpaid)

    def is_whole(self) -> None:
        """Every rung of a round that is over has ended, the books balance, and the node agrees."""
        now = self.round()
        self.until(f"rungs before round {now} end", lambda: self.open_rungs(below=now) == 0)
        assert self.number("select count(*) from submissions where frozen") == 0
        assert self.number("select sum(debits_msat) - sum(credits_msat) from accounts") == 0
        found = self.reconciled()
        grave = [one for one in found["differences"] if one["weight"] not in {"lag", "undecided"}]
        assert not grave, grave


def composed() -> str:
    """The files that make the system, as compose wants them."""
    files = [HOUSE / "compose.yaml", HERE / "two-of-each.yaml"]
    if os.environ.get("WITHOUT_TORCH") == "1":
        found = find_spec("torch")
        assert found is not None
        assert found.origin is not None
        os.environ["TORCH_FOLDER"] = str(Path(found.origin).parents[1])
        files.append(HERE / "torch-mounted.yaml")
    return os.pathsep.join(map(str, files))


@contextmanager
def running() -> Iterator[System]:
    """The system, up and healthy; nothing of it is left after. Skips, or under REQUIRE_REAL=1 fails, without an engine.

    Its name is COMPOSE_PROJECT_NAME's, so that whoever ends this process before its time can find what it left.
    """
    if (PLUGIN / "cli-plugins" / "docker-compose").exists():
        os.environ["DOCKER_CONFIG"] = str(PLUGIN)
    require_real(engine_is_there(), "a Docker engine with our images (run `make images`, LOCAL=1 without a registry)")
    project = os.environ.get("COMPOSE_PROJECT_NAME", f"l402-test-{secrets.token_hex(3)}")
    os.environ.update(
        COMPOSE_FILE=composed(),
        COMPOSE_PROJECT_NAME=project,
        COMMIT_S="240",
        **{name: str(free_port()) for name in PORTS},
    )
    compose = DockerCompose(str(HOUSE), wait=True)
    system = System(project)
    try:
        system.run("up", "--detach", "--wait", "--wait-timeout", str(int(PATIENCE_S)))
        yield system
    finally:
        kept = os.environ.get("KEEP_LOGS")
        if kept:
            Path(kept).write_text(system.run("logs", "--no-color"))
        os.environ["COMPOSE_PROFILES"] = "seeing"  # else what a test started beside stays, and holds the network
        compose.stop()
        del os.environ["COMPOSE_PROFILES"]
