"""Runs of more and more peers, side by side, as markdown. Pure."""

from collections.abc import Callable

from _scale_result import Result

OURS = ("settler", "attestor", "gateway", "invoicer", "worker-1", "nats", "lightning", "peers")
Cell = Callable[[Result], str]


def growth_tables(results: list[Result]) -> str:
    """Three: when stages were through, processor time and memory, messages and statements. A column for each run."""
    return "\n\n".join((_table(results, STAGES), _table(results, SERVICES), _table(results, TRAFFIC)))


def _table(results: list[Result], rows: tuple[tuple[str, Cell], ...]) -> str:
    lines = [["peers", *(f"{one.setting.peers:,}" for one in results)], ["---"] * (1 + len(results))]
    lines += [[name, *(cell(one) for one in results)] for name, cell in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _last(stage: str) -> Cell:
    def cell(one: Result) -> str:
        found = one.rounds[0].stages.get(stage) if one.rounds else None
        return f"{found.last_s:.1f}" if found else ""

    return cell


def _each(one: Result, amount: float, digits: int = 0) -> str:
    """Of each peer and round."""
    return f"{amount / (one.setting.peers * one.setting.rounds):,.{digits}f}"


def _ms(service: str) -> Cell:
    return lambda one: _each(one, 1_000 * one.cpu_s.get(service, 0.0))


def _megabytes(service: str) -> Cell:
    return lambda one: f"{one.resident_peak_bytes.get(service, 0) / 1e6:,.0f}"


def _statements(service: str) -> Cell:
    return lambda one: _each(one, sum(one.statements.get(service, {}).values())) if one.statements else ""


def _requests(one: Result) -> str:
    told = one.handled.get("gateway", {})
    return _each(one, sum(count for name, count in told.items() if name.startswith("l402_request_seconds")), 1)


def _settled(one: Result) -> str:
    ended = sum(round_.stages["settled"].count for round_ in one.rounds if "settled" in round_.stages)
    return f"{ended:,} of {sum(round_.opened for round_ in one.rounds):,}"


STAGES: tuple[tuple[str, Cell], ...] = (
    *((f"{stage}: last, s", _last(stage)) for stage in ("trained", "opened", "locked", "uploaded", "judged", "settled")),
    ("next checkpoint, s", _last("next checkpoint")),
    ("settled, of those opened", _settled),
    ("load at most", lambda one: f"{one.load[1]:.1f}"),
)  # fmt: skip
SERVICES: tuple[tuple[str, Cell], ...] = (
    *((f"{name}, ms a peer", _ms(name)) for name in OURS),
    *((f"{name}, MB at most", _megabytes(name)) for name in OURS),
)
TRAFFIC: tuple[tuple[str, Cell], ...] = (
    ("facts, a peer", lambda one: _each(one, one.streams["FACTS"].messages, 1)),
    ("requests on the work queue, a peer", lambda one: _each(one, one.streams["WORK"].messages, 1)),
    ("bytes of facts, a peer", lambda one: _each(one, one.fact_bytes)),
    ("HTTP requests, a peer", _requests),
    ("settler's statements, a peer", _statements("l402_settler")),
    ("attestor's statements, a peer", _statements("l402_oracle-attestor")),
    ("books on disk, MB", lambda one: f"{one.written_bytes['books'] / 1e6:.1f}"),
    ("decisions on disk, MB", lambda one: f"{one.written_bytes['decisions'] / 1e6:.1f}"),
    ("objects on disk, MB", lambda one: f"{one.written_bytes['objects'] / 1e6:.1f}"),
)
