"""Where spans go: to a collector where one is named, else to a file; and what they never carry."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.otlp import Receiver, receiver

PROGRAM = """
import sys
from pathlib import Path
from l402core import telemetry

provider = telemetry.setup("tester", trace_file=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
with telemetry.span("outer"):
    parent = telemetry.traceparent()
try:
    with telemetry.span("inner", parent=parent, attributes={"commitment": "c"}):
        raise ValueError("a preimage that an error's text might carry")
except ValueError:
    pass
provider.shutdown()
"""

SAMPLED = """
import sys
from pathlib import Path
from l402core import telemetry

provider = telemetry.setup("tester", trace_file=Path(sys.argv[1]))
stranger = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
told = {"ours": "", "a stranger's, sampled": stranger + "01", "a stranger's, not sampled": stranger + "00"}
for name, parent in told.items():
    with telemetry.span(name, parent=parent):
        pass
provider.shutdown()
"""


@pytest.fixture
def collector() -> Iterator[Receiver]:
    """Who takes spans as a collector does."""
    with receiver() as taking:
        yield taking


def test_without_a_collector_spans_go_to_the_file(tmp_path: Path) -> None:
    """One JSON object a line; the child names its parent, also across a process's border."""
    run(tmp_path / "spans.jsonl")
    outer, inner = (json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines())
    assert (outer["name"], inner["name"], inner["service"]) == ("outer", "inner", "tester")
    assert (inner["trace_id"], inner["parent_id"]) == (outer["trace_id"], outer["span_id"])
    assert inner["attributes"] == {"commitment": "c"}
    assert inner["status"] == "ERROR"


def test_with_a_collector_spans_go_there_and_not_to_the_file(tmp_path: Path, collector: Receiver) -> None:
    """OTEL_EXPORTER_OTLP_ENDPOINT, as everywhere."""
    run(tmp_path / "spans.jsonl", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    outer, inner = sorted(collector.spans(), key=lambda span: span.start_ns)
    assert (outer.name, inner.name, inner.service, inner.status) == ("outer", "inner", "tester", "ERROR")
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
    assert not (tmp_path / "spans.jsonl").exists()


def test_the_text_of_an_error_never_reaches_a_span(tmp_path: Path, collector: Receiver) -> None:
    """An error's class tells enough; its text might carry what must stay secret."""
    run(tmp_path / "spans.jsonl")
    assert "preimage" not in (tmp_path / "spans.jsonl").read_text()
    run(tmp_path / "other.jsonl", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert b"inner" in collector.body
    assert b"preimage" not in collector.body


@pytest.mark.parametrize(
    ("sampler", "share", "kept"),
    [
        ("parentbased_traceidratio", "1", {"ours", "a stranger's, sampled"}),
        ("parentbased_traceidratio", "0", {"a stranger's, sampled"}),
        ("traceidratio", "0", set()),
        ("", "", {"ours", "a stranger's, sampled"}),
    ],
)
def test_how_much_is_kept_is_the_sdks_own_setting(tmp_path: Path, sampler: str, share: str, kept: set[str]) -> None:
    """OTEL_TRACES_SAMPLER: by default, and where it is parent based, whoever sends a traceparent decides; else we do."""
    chosen = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": share} if sampler else {}
    file = tmp_path / "spans.jsonl"
    run(file, program=SAMPLED, **chosen)
    lines = file.read_text().splitlines() if file.exists() else []
    assert {json.loads(line)["name"] for line in lines} == kept


def run(trace_file: Path, *, program: str = PROGRAM, **environment: str) -> None:
    """A process that makes a few spans and ends."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run(
        [sys.executable, "-c", program, str(trace_file)], env={**clean, **environment}, check=True, timeout=60
    )
