"""Waterfalls: children under their parents, in order of time, and the most telling rows where room is short."""

from pathlib import Path

import msgspec
import pytest
from l402train import spans
from l402train.exits import Exit, Stop

from tests.support.runs import TRACE, a_span


def files(folder: Path, *lines: bytes) -> Path:
    """A traces folder with one file."""
    (folder / "one.jsonl").write_bytes(b"".join(lines))
    return folder


def line(span: spans.Span) -> bytes:
    """A span as services write it."""
    return msgspec.json.encode(span) + b"\n"


def test_children_follow_their_parent_in_order_of_time() -> None:
    """The layout is depth first, by start."""
    tree = [
        a_span("later", "root", start_ms=6),
        a_span("root", length_ms=20),
        a_span("leaf", "early", start_ms=2),
        a_span("early", "root", start_ms=1),
    ]
    bars = spans.waterfall(tree, most=99).bars
    assert [(bar.name, bar.depth) for bar in bars] == [("root", 0), ("early", 1), ("leaf", 2), ("later", 1)]
    assert bars[1].start_ms == 1.0


def test_a_span_whose_parent_was_lost_is_still_shown() -> None:
    """A service that was killed did not write its last spans; what it caused is told all the same."""
    assert [bar.name for bar in spans.waterfall([a_span("orphan", "gone")], most=9).bars] == ["orphan"]


def test_where_room_is_short_every_service_keeps_its_longest_span() -> None:
    """A short span of the settler's is worth more than the tenth of the gateway's."""
    many = [a_span(f"g{n}", length_ms=50 + n) for n in range(9)] + [a_span("s", length_ms=1, service="settler")]
    laid = spans.waterfall(many, most=3)
    assert laid.hidden == 7
    assert {bar.service for bar in laid.bars} == {"gateway", "settler"}


def test_a_trace_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    """A prefix that fits one trace is enough."""
    folder = files(tmp_path, line(a_span("one")), line(msgspec.structs.replace(a_span("two"), trace_id="ff" * 16)))
    assert [span.name for span in spans.find(folder, TRACE[:6])] == ["one"]


def test_latest_is_the_last_that_a_peer_began(tmp_path: Path) -> None:
    """Background work of the services has traces, too, and is not what is meant."""
    mine = a_span("submission", start_ms=5, service="peer-agent")
    background = msgspec.structs.replace(a_span("tick", start_ms=9), trace_id="ff" * 16)
    assert spans.find(files(tmp_path, line(mine), line(background)), "latest") == [mine]


@pytest.mark.parametrize("wanted", ["ee", ""])
def test_none_or_several_is_not_found(tmp_path: Path, wanted: str) -> None:
    """An ambiguous prefix is refused like an unknown one."""
    folder = files(tmp_path, line(a_span("one")), line(msgspec.structs.replace(a_span("two"), trace_id="ff" * 16)))
    with pytest.raises(Stop) as stop:
        spans.find(folder, wanted)
    assert stop.value.code is Exit.NOT_FOUND


def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    """Files are read while services write them."""
    whole = line(a_span("one"))
    assert [span.name for span in spans.read(files(tmp_path, whole, whole[:40]))] == ["one"]


def test_summaries_count_what_was_asked_for() -> None:
    """Each wanted trace has its services and its number of spans; one without spans has none."""
    found = spans.summaries([a_span("a"), a_span("b", service="settler")], frozenset({TRACE, "00" * 16}))
    assert (found[TRACE].services, found[TRACE].spans) == (("gateway", "settler"), 2)
    assert found["00" * 16].spans == 0
