"""What a network of any size needs, on paper: slots, liquidity, messages, statements, bytes, arithmetic. Pure.

Each line says its formula and what of it was measured; the numbers that were are in `Measured`, and docs/capacity.md
says when and where.
"""

from collections.abc import Callable

import msgspec

SLOTS = 483
"""HTLCs of a channel in one direction (BOLT 2)."""
RUNGS, LADDER_UNITS = 6, 63
ROUNDS_OUT = 2
"""One round's rungs settle while the next one's are locked."""
RATIO = 146.29
"""Of float32 parameters to the codec's entries (docs/benchmarks.md)."""
FLOAT_BYTES = 4
OPEN_VBYTES, OPEN_MORE_VBYTES, CLOSE_VBYTES = 154, 43, 138
"""Assumed: one input, change and one channel; each further channel of the same transaction; a cooperative end."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one peer costs in one round, on the machine of docs/capacity.md."""

    facts: float
    work: float
    fact_bytes: float
    statements: float
    """Of the settler's database."""
    book_bytes: float
    settler_ms: float
    attestor_ms: float
    gateway_ms: float
    invoicer_ms: float
    bus_ms: float
    lock_per_s: float
    """Rungs through our services on real lnd on two cores."""
    tokens: int = 65_536
    """Scored, hidden."""
    own_tokens: int = 20_480
    """Of the peer's own data, before and after."""
    flops_per_s: float = 0.73 * 776e12
    """Of one H200 on 6.85 B parameters."""
    gpu_bytes_per_parameter: float = 6.8
    gpu_bytes: float = 139 * 2**30


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A network."""

    peers: int
    parameters: float
    unit_msat: int = 100_000
    lock_s: float = 10.0
    """In which all ladders are locked."""
    upload_s: float = 60.0
    judge_s: float = 60.0
    round_s: float = 70.0
    sat_per_vbyte: float = 10.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity."""

    name: str
    formula: str
    basis: str
    of: Callable[[Case, Measured], float]
    unit: str = ""


def channels_for(peers: int) -> int:
    """Shared channels whose slots hold two rounds' rungs."""
    return -(-ROUNDS_OUT * RUNGS * peers // SLOTS)


def locked_msat(case: Case) -> int:
    """One round's ladders."""
    return case.peers * LADDER_UNITS * case.unit_msat


def payload_bytes(case: Case) -> float:
    """One peer's."""
    return FLOAT_BYTES * case.parameters / RATIO


def scoring_flops(case: Case, seen: Measured) -> float:
    """One update's: the hidden tokens once, its own data twice; the baseline is shared by all."""
    return 2 * case.parameters * (seen.tokens + 2 * seen.own_tokens)


def gpus(case: Case, seen: Measured) -> float:
    """H200s that score everybody in the window: as many as the arithmetic wants, and never fewer than hold the model."""
    arithmetic = case.peers * scoring_flops(case, seen) / (seen.flops_per_s * case.judge_s)
    holding = max(1, -(-case.parameters * seen.gpu_bytes_per_parameter // seen.gpu_bytes))
    return max(holding, arithmetic)


def opening_sat(case: Case) -> float:
    """All shared channels in one transaction, and their cooperative ends."""
    count = channels_for(case.peers)
    return case.sat_per_vbyte * (OPEN_VBYTES + (count - 1) * OPEN_MORE_VBYTES + count * CLOSE_VBYTES)


LINES: tuple[Line, ...] = (
    Line(name="HTLCs to lock in a round", formula="6 N", basis="the ladder", of=lambda c, _: RUNGS * c.peers),
    Line(
        name="shared channels",
        formula="⌈2 · 6 N / 483⌉",
        basis="BOLT 2's slots; two rounds at once",
        of=lambda c, _: channels_for(c.peers),
    ),
    Line(
        name="rungs to lock per second",
        formula="6 N / lock time",
        basis="the schedule",
        of=lambda c, _: RUNGS * c.peers / c.lock_s,
        unit="/s",
    ),
    Line(
        name="coordinators' nodes for that",
        formula="6 N / lock time / rate",
        basis="rate measured: two cores, six real lnds",
        of=lambda c, m: RUNGS * c.peers / c.lock_s / m.lock_per_s,
    ),
    Line(
        name="locked in a round",
        formula="63 · unit · N",
        basis="the terms",
        of=lambda c, _: locked_msat(c) / 1e3,
        unit="sat",
    ),
    Line(
        name="locked at most, two rounds",
        formula="2 · 63 · unit · N",
        basis="the terms",
        of=lambda c, _: ROUNDS_OUT * locked_msat(c) / 1e11,
        unit="BTC",
    ),
    Line(
        name="a shared channel's outgoing side",
        formula="locked / channels",
        basis="without reserve and drift",
        of=lambda c, _: ROUNDS_OUT * locked_msat(c) / 1e3 / channels_for(c.peers),
        unit="sat",
    ),
    Line(
        name="opening and closing those channels",
        formula="sat/vB · (154 + 43 (n - 1) + 138 n)",
        basis="assumed: 10 sat/vB, sizes",
        of=lambda c, _: opening_sat(c),
        unit="sat",
    ),
    Line(
        name="bus messages per second",
        formula="(facts + work) N / round",
        basis="measured per peer",
        of=lambda c, m: (m.facts + m.work) * c.peers / c.round_s,
        unit="/s",
    ),
    Line(
        name="bus bytes per round",
        formula="bytes of facts · N",
        basis="measured per peer",
        of=lambda c, m: m.fact_bytes * c.peers / 1e6,
        unit="MB",
    ),
    Line(
        name="settler's statements per second",
        formula="statements · N / round",
        basis="measured per peer",
        of=lambda c, m: m.statements * c.peers / c.round_s,
        unit="/s",
    ),
    Line(
        name="books grow per day",
        formula="bytes · N · 86,400 / round",
        basis="measured per peer",
        of=lambda c, m: m.book_bytes * c.peers * 86_400 / c.round_s / 1e9,
        unit="GB",
    ),
    Line(
        name="settlers' cores",
        formula="ms · N / round",
        basis="measured per peer",
        of=lambda c, m: m.settler_ms * c.peers / c.round_s / 1e3,
    ),
    Line(
        name="attestor's cores",
        formula="ms · N / round",
        basis="measured per peer",
        of=lambda c, m: m.attestor_ms * c.peers / c.round_s / 1e3,
    ),
    Line(
        name="gateways' cores",
        formula="ms · N / round",
        basis="measured per peer",
        of=lambda c, m: m.gateway_ms * c.peers / c.round_s / 1e3,
    ),
)
"""What depends on the number of peers only."""

MODEL_LINES: tuple[Line, ...] = (
    Line(name="a payload", formula="4 P / 146.29", basis="measured", of=lambda c, _: payload_bytes(c) / 1e6, unit="MB"),
    Line(
        name="uploads of a round", formula="N · payload", basis="", of=lambda c, _: c.peers * payload_bytes(c) / 1e9, unit="GB"
    ),
    Line(
        name="into the store", formula="N · payload / upload time", basis="the schedule",
        of=lambda c, _: c.peers * payload_bytes(c) / c.upload_s / 1e9, unit="GB/s",
    ),
    Line(
        name="checkpoint to everybody", formula="4 P · N", basis="float32, as it is served now",
        of=lambda c, _: FLOAT_BYTES * c.parameters * c.peers / 1e12, unit="TB",
    ),
    Line(
        name="scoring one update", formula="2 P (65,536 + 2 · 20,480)", basis="two operations a parameter and token",
        of=lambda c, m: scoring_flops(c, m) / 1e15, unit="PFLOP",
    ),
    Line(
        name="H200s for everybody in the window", formula="max(6.8 P / 139 GiB, N · FLOP / (rate · window))",
        basis="rate and memory measured up to 6.85 B", of=gpus,
    ),
)  # fmt: skip
"""What depends on the model as well."""


SIZES = (100, 1_000, 10_000)
MODELS = {"0.84 M": 836_736, "1 B": 1e9, "72 B": 72e9}
LONG_S = 600.0
"""Upload and judging of the largest network: a round is its compute, and what comes after may take minutes."""


def by_peers(seen: Measured) -> str:
    """Markdown: 100, 1,000 and 10,000 peers in rounds of 70 seconds."""
    cases = tuple(Case(peers=peers, parameters=0.0) for peers in SIZES)
    return table(LINES, cases, tuple(f"{peers:,} peers" for peers in SIZES), seen)


def by_model(seen: Measured) -> str:
    """Markdown: as many peers, and a larger model with each step."""
    sizes = list(zip(SIZES, MODELS.items(), strict=True))
    cases = tuple(Case(peers=peers, parameters=count) for peers, (_, count) in sizes)
    long = msgspec.structs.replace(cases[-1], upload_s=LONG_S, judge_s=LONG_S, round_s=2 * LONG_S)
    heads = (*(f"{peers:,} peers, {name}" for peers, (name, _) in sizes), "the same, in ten minutes each")
    return table(MODEL_LINES, (*cases, long), heads, seen)


def table(lines: tuple[Line, ...], cases: tuple[Case, ...], heads: tuple[str, ...], seen: Measured) -> str:
    """Markdown: a row for each line, a column for each case."""
    head = ["what", "formula", *heads, "measured or assumed"]
    rows = [head, ["---"] * len(head)]
    rows += [
        [line.name, line.formula, *(_told(line.of(case, seen), line.unit) for case in cases), line.basis]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _told(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return f"{number} {unit}".strip().replace(" /s", "/s")
