"""The Grafana dashboards of the chart, made from a table of panels: `python tools/dashboards.py [--check]`.

It knows Grafana's JSON and our metrics' names; that every query parses and every metric is told, tests see.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

INTO: Final = Path(__file__).parent.parent / "deploy" / "k8s" / "dashboards"
ONCE: Final = "max without (instance, pod) "
"""Books are told by each replica that reads them: the same number, not more of it."""


class Panel(NamedTuple):
    """One picture: its title, what it says, its unit, and queries with their legends."""

    title: str
    says: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 12


def hourly(metric: str) -> str:
    """What came in an hour, in satoshi."""
    return f"{ONCE}(increase({metric}[1h])) / 1000"


def at_quantile(share: float, metric: str, by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))"


def sat(metric: str) -> str:
    """A gauge of the books, in satoshi."""
    return f"{ONCE}({metric}) / 1000"


MONEY: Final = (
    Panel(
        "Locked", "Rewards in rungs whose end is not known, sat.", "none", ((sat("l402_locked_msat"), ""),), "stat", 6
    ),
    Panel("Owed", "Decided and not delivered yet, sat.", "none", ((sat("l402_owed_msat"), ""),), "stat", 6),
    Panel("Credits", "Fees that may be used once more, sat.", "none", ((sat("l402_credits_msat"), ""),), "stat", 6),
    Panel("Frozen", "What waits for a person.", "none", ((f"sum ({ONCE}(l402_frozen))", ""),), "stat", 6),
    Panel(
        "In and out in an hour",
        "Fees and sponsors above zero, rewards and routing below, sat.",
        "none",
        (
            (hourly("l402_fees_msat_total"), "fees"),
            (hourly("l402_sponsored_msat_total"), "sponsors"),
            ("- " + hourly("l402_rewards_msat_total"), "rewards"),
            ("- " + hourly("l402_routing_msat_total"), "routing"),
            (hourly("l402_forfeited_msat_total"), "forfeited"),
        ),
    ),
    Panel(
        "What waits",
        "Money that is neither ours nor a peer's for good, sat.",
        "none",
        (
            (sat("l402_locked_msat"), "locked"),
            (sat("l402_owed_msat"), "owed"),
            (sat("l402_credits_msat"), "credits"),
            (sat("l402_fees_unclaimed_msat"), "fees that opened nothing yet"),
        ),
    ),
    Panel("Open escrows", "By state.", "none", ((f"{ONCE}(l402_escrows_open)", "{{state}}"),)),
    Panel("The oldest open escrow", "By state.", "s", ((f"{ONCE}(l402_escrow_oldest_seconds)", "{{state}}"),)),
    Panel("Open rungs", "HTLCs whose end is not known.", "none", ((f"{ONCE}(l402_rungs_open)", "rungs"),)),
    Panel(
        "Books and node",
        "What the last comparison saw differently; contradiction and foreign are for a person.",
        "none",
        ((f"{ONCE}(l402_ledger_differences)", "{{weight}}"),),
    ),
    Panel(
        "Last compared",
        "How long ago the books were held against the node's lists.",
        "s",
        ((f"time() - {ONCE}(l402_ledger_reconciled_timestamp_seconds)", "ago"),),
    ),
)
ROUNDS: Final = (
    Panel("Round", "The newest one.", "none", ((f"{ONCE}(l402_round)", ""),), "stat", 6),
    Panel(
        "Held-out loss",
        "Nats per token, newest checkpoint.",
        "none",
        ((f"{ONCE}(l402_held_out_loss_nats)", ""),),
        "stat",
        6,
    ),
    Panel(
        "Newest checkpoint", "The round whose base it is.", "none", ((f"{ONCE}(l402_checkpoint_round)", ""),), "stat", 6
    ),
    Panel(
        "Overdue",
        "How far the phase is past its deadline.",
        "s",
        ((f"{ONCE}(l402_round_overdue_seconds)", ""),),
        "stat",
        6,
    ),
    Panel(
        "How good the model is",
        "Held-out loss, nats per token.",
        "none",
        ((f"{ONCE}(l402_held_out_loss_nats)", "loss"),),
    ),
    Panel("The newest round fills", "Submissions so far.", "none", ((f"{ONCE}(l402_round_submissions)", "{{stage}}"),)),
    Panel(
        "Verdicts in an hour",
        "What was decided.",
        "none",
        (("sum by (verdict) (increase(l402_judgements_total[1h]))", "{{verdict}}"),),
    ),
    Panel(
        "Rejected, by reason",
        "The first check that failed, in an hour.",
        "none",
        (('sum by (reason) (increase(l402_judgements_total{verdict="rejected"}[1h]))', "{{reason}}"),),
    ),
)
ORACLE: Final = (
    Panel(
        "Peers that fit",
        "Measured in time on the whole sample, beside a full round's.",
        "none",
        ((f"{ONCE}(l402_plan_peers_fitting)", "fit"), (f"{ONCE}(l402_plan_peers)", "a full round")),
    ),
    Panel(
        "A full round",
        "What measuring it takes, beside its window.",
        "s",
        ((f"{ONCE}(l402_plan_needed_seconds)", "takes"), (f"{ONCE}(l402_plan_window_seconds)", "window")),
    ),
    Panel(
        "Queue",
        "Jobs that wait, and that workers have in hand.",
        "none",
        (
            (f'{ONCE}(l402_bus_backlog{{consumer=~"worker-.*"}})', "{{consumer}} waits"),
            (f'{ONCE}(l402_bus_in_hand{{consumer=~"worker-.*"}})', "{{consumer}} in hand"),
        ),
    ),
    Panel(
        "How busy workers are",
        "Share of its time that a worker's thread works.",
        "percentunit",
        (("sum by (instance) (rate(l402_work_seconds_sum[$__rate_interval]))", "{{instance}}"),),
    ),
    Panel(
        "Seconds per peer",
        "Measuring one gradient: half of them, and all but one in twenty.",
        "s",
        (
            (at_quantile(0.5, "l402_work_seconds", "job"), "{{job}} half"),
            (at_quantile(0.95, "l402_work_seconds", "job"), "{{job}} 95 %"),
        ),
    ),
    Panel(
        "Peers held back",
        "Workers did not survive a payload of theirs: no offers for 32 rounds.",
        "none",
        ((f"{ONCE}(l402_peers_held_back)", "peers"),),
    ),
    Panel(
        "Jobs",
        "Done in a second, by kind.",
        "ops",
        (("sum by (job) (rate(l402_work_seconds_count[$__rate_interval]))", "{{job}}"),),
    ),
)
NODE_AND_BUS: Final = (
    Panel(
        "Checks of our node",
        "1 passes, 0 fails.",
        "none",
        (("min by (job, check) (l402_node_fit)", "{{job}} {{check}}"),),
    ),
    Panel(
        "Blocks to the nearest expiry",
        "Of an open HTLC.",
        "none",
        (("min without (instance, pod) (l402_guardian_blocks_left)", "blocks"),),
    ),
    Panel("What channels can send", "Sat; a bound, not a promise.", "none", ((sat("l402_node_sendable_msat"), "sat"),)),
    Panel(
        "Channels and slots",
        "Active channels, and HTLC slots that are left on them.",
        "none",
        ((f"{ONCE}(l402_node_channels_active)", "channels"), (f"{ONCE}(l402_node_htlc_slots_free)", "slots free")),
    ),
    Panel(
        "Calls on our node",
        "All but one in twenty take less.",
        "s",
        ((at_quantile(0.95, "l402_node_call_seconds", "call"), "{{call}}"),),
    ),
    Panel(
        "Refused by our node",
        "Calls in a second that did not succeed.",
        "ops",
        (
            (
                'sum by (call, outcome) (rate(l402_node_call_seconds_count{outcome!="ok"}[$__rate_interval]))',
                "{{call}}: {{outcome}}",
            ),
        ),
    ),
    Panel("Block height", "As last believed.", "none", (("max by (job) (l402_node_block_height)", "{{job}}"),)),
    Panel("Guardian's alarms", "In an hour.", "none", (("increase(l402_guardian_alarms_total[1h])", "alarms"),)),
    Panel("Messages that wait", "By consumer.", "none", ((f"{ONCE}(l402_bus_backlog)", "{{consumer}}"),)),
    Panel("Messages in hand", "By consumer.", "none", ((f"{ONCE}(l402_bus_in_hand)", "{{consumer}}"),)),
    Panel(
        "Lag of the bus",
        "How long messages lie before they are taken; all but one in twenty.",
        "s",
        ((at_quantile(0.95, "l402_message_wait_seconds", "event"), "{{event}}"),),
    ),
    Panel(
        "Handling a message",
        "All but one in twenty.",
        "s",
        ((at_quantile(0.95, "l402_message_seconds", "event"), "{{event}}"),),
    ),
    Panel(
        "Tried again, given up",
        "Deliveries in a second that were not done.",
        "ops",
        (
            (
                'sum by (event, outcome) (rate(l402_message_seconds_count{outcome!="done"}[$__rate_interval]))',
                "{{event}} {{outcome}}",
            ),
        ),
    ),
    Panel(
        "Dead letters",
        "On their stream, and by event in an hour.",
        "none",
        (
            (f"{ONCE}(l402_dead_letters_kept)", "kept"),
            ("sum by (event) (increase(l402_dead_letters_total[1h]))", "{{event}}"),
        ),
    ),
    Panel(
        "Requests",
        "In a second, by route and answer.",
        "reqps",
        (("sum by (route, status) (rate(l402_request_seconds_count[$__rate_interval]))", "{{route}} {{status}}"),),
    ),
    Panel(
        "Answering a request",
        "All but one in twenty.",
        "s",
        ((at_quantile(0.95, "l402_request_seconds", "route"), "{{route}}"),),
    ),
    Panel("Who listens", "To server-sent hints.", "none", (("sum (l402_hint_listeners)", "listeners"),)),
    Panel("Parts", "1 answers, 0 does not.", "none", (("min by (job, part) (l402_ready)", "{{job}} {{part}}"),)),
)
DASHBOARDS: Final = {
    "money": ("l402-train: money", MONEY),
    "rounds": ("l402-train: rounds", ROUNDS),
    "oracle": ("l402-train: oracle", ORACLE),
    "node-and-bus": ("l402-train: node and bus", NODE_AND_BUS),
}


def dashboard(name: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """As Grafana imports it; its data source is a variable."""
    made, x, y, tallest = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        height = 4 if panel.kind == "stat" else 8
        if x + panel.width > 24:
            x, y, tallest = 0, y + tallest, 0
        made.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
        x, tallest = x + panel.width, max(tallest, height)
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": f"l402-{name}", "title": title, "tags": ["l402-train"], "timezone": "utc", "schemaVersion": 39,
        "refresh": "30s", "time": {"from": "now-6h", "to": "now"}, "templating": {"list": [source]}, "panels": made,
    }  # fmt: skip


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(65 + index), "datasource": source, "expr": query, "legendFormat": legend, "exemplar": "_bucket" in query}
        for index, (query, legend) in enumerate(panel.queries)
    ]  # fmt: skip
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.says, "gridPos": place,
        "datasource": source, "targets": targets, "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
    }  # fmt: skip


def main() -> int:
    """Write, or with --check say what is stale and exit 1."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true")
    check = options.parse_args().check
    stale = 0
    for name, (title, panels) in DASHBOARDS.items():
        path, text = INTO / f"{name}.json", json.dumps(dashboard(name, title, panels), indent=2) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if check:
            print(f"{path} is stale: python tools/dashboards.py")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"{path} written")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
