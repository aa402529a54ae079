"""An upgrade of the chart from the version before: what would change is printed, and what a cluster would refuse fails.

The version before is rendered and kept in `before.yaml`; a release keeps its own rendering there (UPGRADED=1 with this test).
"""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import rendered
from tests.deploy.upgrade import differences, refused

BEFORE = Path(__file__).with_name("before.yaml")
Objects = list[dict[str, Any]]

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def after() -> Objects:
    """The chart as it is now, without alerts and dashboards, which are long, and nothing depends on them."""
    return rendered("--set=monitoring.dashboards.enabled=false,monitoring.rules.enabled=false")


@pytest.fixture(scope="module")
def before(after: Objects) -> Objects:
    """The chart as those have it who installed it before."""
    if os.environ.get("UPGRADED") == "1":
        BEFORE.write_text(yaml.safe_dump_all(after, sort_keys=False, width=120))
    return list(yaml.safe_load_all(BEFORE.read_text()))


def test_a_cluster_takes_the_upgrade_and_no_data_is_lost(before: Objects, after: Objects) -> None:
    """And whoever reviews it sees what changes."""
    print("\n".join(differences(before, after)))  # noqa: T201 - with `pytest -s`
    assert not refused(before, after)


def _object(objects: Objects, kind: str) -> dict[str, Any]:
    return next(found for found in objects if found["kind"] == kind)


def test_a_selector_that_changed_is_found(after: Objects) -> None:
    """The API server would say "field is immutable", in the middle of an upgrade."""
    changed = copy.deepcopy(after)
    _object(changed, "Deployment")["spec"]["selector"]["matchLabels"]["new"] = "label"
    assert any("selector cannot be changed" in why for why in refused(after, changed))


def test_a_disk_that_changed_or_went_is_found(after: Objects) -> None:
    """The invoicer's tally of what it has sent is on it."""
    changed = copy.deepcopy(after)
    claim = _object(changed, "StatefulSet")["spec"]["volumeClaimTemplates"][0]
    claim["spec"]["resources"]["requests"]["storage"] = "9Gi"
    assert any("volumeClaimTemplates cannot be changed" in why for why in refused(after, changed))
    renamed = copy.deepcopy(after)
    _object(renamed, "StatefulSet")["metadata"]["name"] = "other"
    assert any("is gone" in why for why in refused(after, renamed))


def test_what_may_change_is_said_and_not_refused(after: Objects) -> None:
    """A new image, one object more, one less."""
    changed = copy.deepcopy(after)
    deployment = _object(changed, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "l402-train/other:2"
    changed.remove(_object(changed, "PodDisruptionBudget"))
    assert not refused(after, changed)
    said = "\n".join(differences(after, changed))
    assert "l402-train/other:2" in said
    assert "- PodDisruptionBudget" in said
