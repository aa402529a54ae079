"""The channels of a run: before beside after, by name, on the screen and on the page."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
from l402core.events import ChannelStanding, ChannelsView, NodeFlow, RoundFlow
from l402train import channel_tables, channels, page, screen
from l402train import report as reports
from l402train.folder import Folder
from l402train.report import FlowReport, Report

from tests.support.runs import a_report

NODE = "02" * 33


def a_view(local_msat: int, **changes: Any) -> ChannelsView:
    """One channel with one peer, which paid two fees and was paid once."""
    flow = NodeFlow(
        node=NODE, fees_msat=1_000_000, rewards_msat=3_100_000,
        rounds=(RoundFlow(round=1, fees_msat=500_000, rewards_msat=3_100_000), RoundFlow(round=2, fees_msat=500_000)),
    )  # fmt: skip
    channel = ChannelStanding(
        channel_id="7", node=NODE, active=True, capacity_msat=90_000_000, local_msat=local_msat,
        remote_msat=90_000_000 - local_msat, slots_used=0, slots_free=483, warning="", needed_msat=8_960_000,
    )  # fmt: skip
    return ChannelsView(
        at_ms=1, channels=(msgspec.structs.replace(channel, **changes),), flows=(flow,), sendable_msat=local_msat,
        needed_msat=50_880_000, slots_free=483, slots_needed=48, warning="it runs short",
    )  # fmt: skip


def a_run(**changes: Any) -> Report:
    """A report whose one channel lost 2,100 sat."""
    after = a_view(42_900_000, **changes)
    compared = channels.compare(a_view(45_000_000), after, {NODE: "peer-1"})
    return msgspec.structs.replace(a_report(), channels=compared, next_round=channels.next_round(after))


def shown(report: Report) -> str:
    """What the terminal shows."""
    out = screen.console()
    with out.capture() as captured:
        out.print(channel_tables.table_of(report.channels))
        out.print(channel_tables.rebalanced(report.channels), soft_wrap=True)
    return captured.get()


def test_a_channel_is_told_before_and_after() -> None:
    """By its peer's name, with the flow of each round and its net."""
    (one,) = a_run().channels
    assert (one.peer, one.local_before_msat, one.local_after_msat) == ("peer-1", 45_000_000, 42_900_000)
    assert (one.fees_msat, one.rewards_msat) == (1_000_000, 3_100_000)
    assert [flow.net_msat for flow in one.flow] == [-2_600_000, 500_000]


def test_a_channel_that_is_new_has_not_moved() -> None:
    """What was opened during the run is not counted as money that came in."""
    nothing = msgspec.structs.replace(a_view(0), channels=())
    (one,) = channels.compare(nothing, a_view(42_900_000), {})
    assert (one.peer, one.local_before_msat) == (NODE, one.local_after_msat)


def test_the_terminal_shows_both_directions() -> None:
    """The table fits, and the sentence holds the node's measurement beside the books."""
    text = shown(a_run())
    for words in ("45,000", "42,900", "-2,600 +500", "0/483", "1 of 1 channels carried both",
                  "moved by -2,100 sat where fees less rewards are -2,100 sat"):  # fmt: skip
        assert words in text
    assert max(map(len, text.splitlines()[:-1])) <= screen.WIDTH


def test_no_figure_is_cut_however_long_and_the_last_rounds_stay_on_one_line() -> None:
    """Rather a number over two lines than one without its end."""
    flow = tuple(FlowReport(round=number, fees_msat=0, rewards_msat=9_999_000) for number in range(3))
    (one,) = a_run().channels
    long = msgspec.structs.replace(
        one, capacity_msat=10**15, local_before_msat=10**15, local_after_msat=10**15, flow=flow
    )
    text = shown(msgspec.structs.replace(a_run(), channels=(long,)))
    assert "…" not in text
    assert "-9,999 -9,999 -9,999" in text


def test_two_channels_to_one_node_carry_its_money_once() -> None:
    """The books know the node; its fees and rewards stand beside each of its channels, and are added up once."""
    (one,) = a_run().channels
    both = (one, msgspec.structs.replace(one, channel_id="8"))
    *_, fees, rewards, _, _, _ = channel_tables.sums_of(both)
    assert (fees, rewards) == ("1,000", "3,100")
    assert "1,000 sat came in as fees and 3,100 sat went out" in channel_tables.rebalanced(both)


def test_many_rounds_fit_the_terminal_and_the_page_has_all() -> None:
    """A long run shows its newest rounds in the table, and each that is told on the page."""
    report = a_run()
    (one,) = report.channels
    flow = tuple(msgspec.structs.replace(one.flow[0], round=n, fees_msat=n * 1_000_000) for n in range(1, 13))
    report = msgspec.structs.replace(report, channels=(msgspec.structs.replace(one, flow=flow),))
    assert "+6,900 +7,900 +8,900" in shown(report)
    assert max(map(len, shown(report).splitlines()[:-1])) <= screen.WIDTH
    assert "-2,100 -1,100 -100 +900" in page.render(report, b"", None, faults=[])


def test_the_page_shows_the_channels_and_their_warnings() -> None:
    """The same numbers, escaped; and no section where nothing is known of channels."""
    html = page.render(a_run(warning="<soon>"), b"", None, faults=[])
    for words in ("42,900", "47,100", "8,960", "A full next round takes up to 50,880 sat and 48 HTLC", "it runs short"):
        assert words in html
    assert "peer-1: &lt;soon&gt;" in html
    assert "The coordinator's channels" not in page.render(a_report(), b"", None, faults=[])


def test_status_shows_what_the_next_round_needs() -> None:
    """Balances, flow, and the warning."""
    out = screen.console()
    with out.capture() as captured:
        channel_tables.tell(out, a_view(42_900_000))
    text = captured.get()
    assert "A full next round takes up to 50,880 sat and 48 HTLC slots; 42,900 sat and 483 are there." in text
    assert "next round: it runs short" in text
    assert "3,100" in text
    assert "8,960" in text


def test_a_report_with_channels_fits_its_schema() -> None:
    """The new key is one that readers of older reports may leave out."""
    schema = reports.schema()
    document = json.loads(reports.encode(a_run()))
    jsonschema.validate(document, schema)
    del document["channels"], document["next_round"]
    jsonschema.validate(document, schema)


def test_nodes_are_named_by_the_network_that_made_them(tmp_path: Path) -> None:
    """Names come from `nodes.json`; without one, public keys do."""
    folder = Folder(tmp_path)
    assert channels.names(folder) == {}
    folder.lnd.mkdir(parents=True)
    folder.nodes.write_text(json.dumps({"peer-1": {"pubkey": NODE}, "other": {"host": "x"}}))
    assert channels.names(folder) == {NODE: "peer-1"}
