"""`l402-train status`: what each part says of itself, in words."""

import pytest
from l402train.looking import _parts


@pytest.mark.parametrize(
    ("ready", "said"),
    [
        ({}, "ready"),
        ({"bus": True, "lnd": True}, "ready: bus, lnd"),
        ({"bus": True, "lnd": False, "lnd_network": False, "ready": False}, "NOT READY: lnd, lnd_network; ready: bus"),
        ({"bus": False}, "NOT READY: bus"),
        ({"bus": True, "ready": False}, "NOT READY; ready: bus"),
    ],
    ids=["says nothing", "all", "some", "none", "the whole alone"],
)
def test_what_a_part_lacks_comes_first(ready: dict[str, bool], said: str) -> None:
    """A part that answers 503 with every part well still says that it is not ready."""
    assert _parts(ready) == said
