"""`l402-train reconcile` where there is nothing to ask."""

import json
import subprocess

import pytest

from tests.support.demos import COMMAND, Run, environment, printed


@pytest.mark.xdist_group("demo")
def test_a_demo_ends_with_books_that_agree_with_the_node(demo_run: Run) -> None:
    """Made while the node still runs, told in one line: 6 rungs and a fee a submission, and a tranche a round."""
    count, rounds = len(demo_run.submissions()), len(demo_run.report["rounds"])
    assert f"agree on {6 * count} rungs, {count} fees and {rounds} tranches" in demo_run.output


@pytest.mark.xdist_group("demo")
def test_a_network_that_is_gone_is_named_in_one_line(demo_run: Run) -> None:
    """Exit code 7, one line, no traceback; as JSON too."""
    command = [*COMMAND, "reconcile", "--dir", str(demo_run.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    printed(demo_run.place, done.stdout, done.stderr)
    assert done.returncode == 7
    assert len(done.stderr.strip().splitlines()) == 1
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    printed(demo_run.place, done.stdout, done.stderr)
    assert done.returncode == 7
    assert "no bus answers" in json.dumps(json.loads(done.stdout or done.stderr))
