"""`compose.yaml` says what the code reads: every variable, every secret, each in one container's own volume."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from l402train import peers
from l402train.containers.coins import ADDRESS
from l402train.containers.shelves import Shelves
from l402train.folder import URL_FILE
from l402train.keys import Keyring
from l402train.knobs import knobs

HOUSE = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((HOUSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"secrets", "lightning"}
"""They fill the shelves, and so they see several; as root, for files belong to whom they are for."""
ENDING = {*ONCE, "migrate", "demo"}
"""Jobs: nobody waits for them to be healthy, or stops them."""
ROOTS_OWN = {"secrets": 3, "lightning": 3, "postgres": 5}
"""Capabilities of those that begin as root; nobody else has any."""
SEEN_BY_NOBODY = {"miner", "sponsor", "peer-1", "peer-2", "peer-3", "collector"}
"""They serve nothing, or have nothing in them that could ask: no health is told of them."""
PUBLISHED = {"gateway", "attestor", "prometheus", "grafana"}
LASTING = [name for name in SERVICES if name not in ENDING]
OURS = ("gateway", "invoicer", "settler", "oracle", "peer-agent", "l402-train")
NAMES = peers.names(3)


def mounted(service: dict[str, Any]) -> dict[str, str]:
    """Where each volume is."""
    parts = (volume.split(":") for volume in service.get("volumes", ()))
    return {part[1]: part[0] for part in parts}


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the first job makes."""
    root = tmp_path_factory.mktemp("secrets")
    assert Shelves(root, NAMES, Keyring.from_seed(0)).fill()
    return root


@pytest.mark.parametrize("name", [name for name, one in SERVICES.items() if one.get("environment")])
def test_a_service_reads_every_variable_that_it_is_given(name: str) -> None:
    """A misspelt one would be a default in silence."""
    known = {knob.name for knob in knobs()}
    for variable in SERVICES[name]["environment"]:
        if variable.startswith("L402_"):
            assert variable in {*known, URL_FILE} or variable.removesuffix("_FILE") in known, variable


def test_every_secret_that_is_named_is_on_the_shelf_that_is_mounted(shelves: Path) -> None:
    """But for what only a node can bake; that job puts it beside."""
    baked = {"tls.cert", "node.macaroon"}
    for name, service in SERVICES.items():
        words = [str(word) for word in (*service.get("environment", {}).values(), *service.get("command", ()))]
        wanted = [word.rpartition("=")[2] for word in words if "/secrets/" in word]
        for path in wanted:
            shelf = mounted(service)["/secrets"].removeprefix("secrets-")
            file = path.removeprefix("/secrets/")
            assert file in baked or (shelves / shelf / file).exists(), f"{name}: {path}"


def test_nobody_sees_another_parts_secrets() -> None:
    """A gateway that was taken over holds no key of the settler's. lnds share the chain's password, and workers theirs."""
    seen: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for volume in mounted(service).values():
            if volume.startswith("secrets-") and name not in ONCE:
                seen.setdefault(volume.removeprefix("secrets-"), set()).add(name)
    chain = {name for name in SERVICES if name.startswith("lnd-")} | {"btcd", "miner"}
    allowed = {"btcd": chain, "worker": {"worker-1", "worker-2"}, "operator": {"demo"}, "migrate": {"migrate"}}
    for shelf, users in seen.items():
        assert users <= allowed.get(shelf, {shelf}), shelf


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_runs_bare(name: str) -> None:
    """As on a cluster, ours or not: no root file system to write, no capability, no new privilege, no root; no image that
    tomorrow is another; a log that does not fill the disk. Grafana keeps its own database where it likes."""
    service = SERVICES[name]
    assert service["read_only"] is (name != "grafana")
    assert service["cap_drop"] == ["ALL"]
    assert len(service.get("cap_add", ())) == ROOTS_OWN.get(name, 0)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert (service.get("user") == "0:0") is (name in ONCE)
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert re.search(r":[^:/]*[0-9][^:/]*}?$", service["image"])
    assert ":latest" not in service["image"]


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_given_time_to_end_and_tells_its_health(name: str) -> None:
    """A check of its own, or the one in our image; who waits for it waits until it is healthy."""
    service = SERVICES[name]
    assert int(service["stop_grace_period"].removesuffix("s")) >= 30
    assert service["restart"] == ("on-failure" if name == "sponsor" else "unless-stopped")
    check = service.get("healthcheck", {})
    assert (check == {"disable": True}) is (name in SEEN_BY_NOBODY)
    if not any(f"/{image}:" in service["image"] for image in OURS):
        assert name in SEEN_BY_NOBODY or check["test"]
    for other, how in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ENDING else "service_healthy"
        assert how == {"condition": wanted}, other


def test_only_loopback_is_published_and_nothing_inside_reaches_the_world() -> None:
    """Pages and the oracle's URL; and spans that are handed on leave by the collector alone."""
    assert COMPOSE["networks"] == {"inside": {"internal": True}, "outside": {}}
    for name, service in SERVICES.items():
        ports = service.get("ports", ())
        assert bool(ports) is (name in PUBLISHED), name
        assert all(port.startswith("127.0.0.1:") for port in ports), name
        assert ("outside" in service.get("networks", ())) is (name in PUBLISHED | {"collector"}), name
        assert service.get("network_mode", "none") == "none", name


def test_without_a_registry_everything_can_be_built_but_grafana() -> None:
    """`make images LOCAL=1` knows each image that compose.yaml takes from elsewhere."""
    named = set(re.findall(r"\$\{([A-Z0-9]+)_IMAGE:-", (HOUSE / "compose.yaml").read_text()))
    script = (HOUSE / "tools" / "build-images").read_text()
    local = re.search(r"LOCAL:-} != 1 ]] \|\| parts\+=\(([a-z0-9 ]+)\)", script)
    assert local is not None
    built = {name.upper() for name in local[1].split()} | {"LND"}  # lnd is in our own `lightning`
    assert named - {"GRAFANA"} <= built


def test_the_collector_that_is_built_is_the_one_that_is_named() -> None:
    """One version, whichever way it comes."""
    pinned = re.search(r"/collector/otelcol v([0-9.]+)$", (HOUSE / "tools/collector/go.mod").read_text(), re.MULTILINE)
    assert pinned is not None
    assert SERVICES["collector"]["image"] == f"${{COLLECTOR_IMAGE:-otel/opentelemetry-collector:{pinned[1]}}}"


def test_btcd_mines_what_the_first_job_can_spend() -> None:
    """An address that is fixed there and known here."""
    assert f"--miningaddr={ADDRESS}" in SERVICES["btcd"]["command"]


def test_torchs_layer_is_what_the_lock_file_says() -> None:
    """The image builds it from a list of its own, so that it stays while our code changes."""
    export = ["export", "--frozen", "--quiet", "--no-dev", "--no-emit-workspace", "--no-header", "--no-annotate"]
    told = subprocess.run(
        [HOUSE / ".uv/bin/uv", *export, "--package", "sparseloco"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (HOUSE / "deploy/images/torch.txt").read_text() == told.stdout, (
        "make it again: .uv/bin/uv " + " ".join(export) + " --package sparseloco > deploy/images/torch.txt"
    )
