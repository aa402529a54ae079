"""What `deploy/simnet` and `tools/simnet.py` give is what `deploy/k8s` asks for on one node: secrets, keys in them, names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from l402train.containers.shelves import Shelves
from l402train.peers import names

from tests.deploy.chart import DEVELOPMENT, HOUSE, helm, pods, rendered
from tests.deploy.test_chart_schemas import complaints
from tests.deploy.test_chart_schemas import schemas as schemas  # noqa: PLC0414 - a fixture
from tools.simnet import WITH_NODE, public, secrets

SIMNET = HOUSE / "deploy" / "simnet"
PEERS = names(3)
EVERYTHING = "--set=peers.enabled=true,torchFolder=/torch"

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("schemas")]


def test_a_cluster_takes_every_object(schemas: Path) -> None:
    """Strict: a field that nobody knows is refused."""
    helm("lint", "--strict", str(SIMNET))
    assert not complaints(helm("template", "simnet", str(SIMNET), EVERYTHING), schemas)


def test_every_secret_that_the_charts_name_is_made(tmp_path: Path) -> None:
    """With the keys that they take from it; the macaroons come later, when there are nodes."""
    Shelves(tmp_path, PEERS).fill()
    made = {name: set(held) for name, held in secrets(tmp_path, PEERS).items()}
    made |= {f"l402-lnd-{part}": {"tls.cert", f"{part}.macaroon"} for part in WITH_NODE}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(public(tmp_path)))
    asked = list(_asked(rendered("-f", str(tmp_path / "values.yaml"), values=DEVELOPMENT)))
    text = helm("template", "simnet", str(SIMNET), EVERYTHING)
    whole = [volume["secret"]["secretName"] for one in yaml.safe_load_all(text) for volume in _volumes(one)]
    assert asked
    assert whole
    for name, key in asked:
        assert key in made[name], name
    assert set(whole) <= made.keys()


def test_every_host_of_the_addresses_has_a_service() -> None:
    """`nats:4222` in a secret is of use where a Service `nats` listens there."""
    text = helm("template", "simnet", str(SIMNET), EVERYTHING)
    services = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]}
        for one in yaml.safe_load_all(text)
        if one and one["kind"] == "Service"
    }
    nodes = {f"lnd-{name}": {9735, 10009} for name in ("coordinator", "observer", "sponsor", *PEERS)}
    parts = {"nats": {4222, 8222}, "redis": {6379}, "postgres": {5432}, "btcd": {18555, 18556}}
    assert services == {**parts, **nodes}


def _asked(objects: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Secret and key of every reference."""
    for _, template in pods(objects):
        for container in template["spec"]["containers"]:
            for variable in container["env"]:
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    yield reference["name"], reference["key"]
        for volume in template["spec"]["volumes"]:
            for item in volume.get("secret", {}).get("items", ()):
                yield volume["secret"]["secretName"], item["key"]


def _volumes(one: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if one and one["kind"] in {"Deployment", "Job"}:
        yield from (volume for volume in one["spec"]["template"]["spec"]["volumes"] if "secret" in volume)
