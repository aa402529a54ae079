"""docs/metrics.md: every number that a service tells Prometheus, from the modules that make them."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import l402_gateway.metrics
import l402_oracle.attestor.metrics
import l402_oracle.worker.metrics
import l402_settler.metrics
import msgspec
from l402core import bus_metrics, metrics
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from l402train.docs.pages import MADE

COMMON = (metrics.READY,)
NODE = (metrics.NODE_FIT, metrics.NODE_CALLS)
HEIGHT = (metrics.NODE_HEIGHT,)
MESSAGES = (bus_metrics.HANDLED, bus_metrics.WAITED, bus_metrics.DEAD_LETTERS)
STREAMS = (bus_metrics.BACKLOG, bus_metrics.IN_HAND, bus_metrics.DEAD_KEPT)


def _of(module: ModuleType) -> tuple[Collector, ...]:
    return tuple(one for one in vars(module).values() if isinstance(one, MetricWrapperBase | l402_settler.metrics.Sums))


TOLD: dict[str, tuple[Collector, ...]] = {
    "every service": COMMON,
    "gateway": _of(l402_gateway.metrics),
    "invoicer": (*NODE, *MESSAGES),
    "settler": (*_of(l402_settler.metrics), *NODE, *HEIGHT, *MESSAGES, *STREAMS),
    "attestor": (*_of(l402_oracle.attestor.metrics), *NODE, *HEIGHT, *MESSAGES, *STREAMS),
    "worker": (*_of(l402_oracle.worker.metrics), *MESSAGES),
}
"""Who tells what."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One number."""

    name: str
    """As Prometheus knows it."""
    kind: str
    labels: tuple[str, ...]
    means: str


def told_by(service: str) -> tuple[Metric, ...]:
    """All that one service tells, what every service tells included."""
    return tuple(one for part in dict.fromkeys(("every service", service)) for one in _metrics(TOLD[part]))


def page() -> str:
    """The whole page."""
    lines = [
        "# Metrics",
        "",
        MADE,
        "",
        "Every service tells these at `/metrics` on its own address, the gateway only with `L402_GATEWAY_SHOW_METRICS=true`,",
        "because strangers reach it. Money is in millisatoshi. Where several settlers or attestors run, what they read from",
        "their books is the same number told twice: take the largest, `max without (instance, pod) (…)`. Asked for",
        "OpenMetrics, histograms name the trace of a sample (exemplars).",
        "",
        "The alerts over them lie in `deploy/k8s/rules.yaml`, each with a page in [runbooks](runbooks/part-missing.md); the",
        "dashboards in `deploy/k8s/dashboards`.",
    ]
    for who, collectors in TOLD.items():
        lines += [
            "",
            f"## {who[0].upper()}{who[1:]}",
            "",
            "| metric | kind | labels | what it is |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.means} |"
            for one in _metrics(collectors)
        ]
    return "\n".join(lines) + "\n"


def _metrics(collectors: tuple[Collector, ...]) -> Iterator[Metric]:
    for collector in collectors:
        labels: Any = getattr(collector, "_labelnames", ())
        describe: Any = getattr(collector, "describe", tuple)  # not every collector has it
        for family in describe():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Metric(name=name, kind=family.type, labels=tuple(labels), means=family.documentation)
