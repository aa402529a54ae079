"""Tests that share what is dear, a demo that has ended or a real node, stay with one worker of `make test`."""

import pytest


@pytest.mark.xdist_group("together")
def test_a_group_reaches_those_who_hand_out_the_tests(request: pytest.FixtureRequest, worker_id: str) -> None:
    """They go by the node id; a pytest that drops the group from it runs every group on every worker, and says nothing."""
    assert worker_id == "master" or request.node.nodeid.endswith("@together")
