"""What an engine says of our images once they are built: labels, user, and that a probe asks whether the service is ready."""

import json
import os
import re

import pytest

from tests.containers.system import IMAGES, docker, engine_is_there
from tests.support.real import require_real

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("containers")]


@pytest.mark.parametrize("name", IMAGES)
def test_labels_of_a_built_image_tell_what_it_is(name: str) -> None:
    """With these a stranger finds the code of whatever runs somewhere."""
    require_real(engine_is_there(), "a Docker engine with our images (run `make images`, LOCAL=1 without a registry)")
    tag = os.environ.get("TAG", "0.1.0")
    config = json.loads(docker("image", "inspect", f"l402-train/{name}:{tag}"))[0]["Config"]
    said = {key.rpartition(".")[2]: value for key, value in config["Labels"].items() if ".opencontainers." in key}
    assert said["title"] == f"l402-train {name}"
    assert said["version"] == tag
    assert re.fullmatch("[0-9a-f]{40}", said["revision"])
    assert re.fullmatch("https?://[^@]+|unknown", said["source"])
    assert said["licenses"] == ("MIT AND ISC" if name == "lightning" else "MIT")
    assert config["User"] == "65532:65532"
    assert name == "lightning" or "l402core.probe" in config["Healthcheck"]["Test"]
