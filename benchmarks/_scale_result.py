"""One run of `scale.py`, as it is written down and told. Pure: it measures nothing."""

import msgspec
from _scale_meter import StreamUse
from _scale_settings import Setting
from _scale_stages import RoundTimes, money, table
from l402core.events import Reconciled
from l402train import comparing
from l402train.report import LedgerReport


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it is written down."""

    when: str
    machine: str
    lightning: str
    setting: Setting
    seconds: float
    over: bool
    """Whether every round ended within the time."""
    rounds: list[RoundTimes]
    verdicts: dict[str, int]
    """As the peers themselves wrote them down."""
    load: tuple[float, float]
    """At the beginning, and the highest."""
    cpu_s: dict[str, float]
    resident_peak_bytes: dict[str, int]
    streams: dict[str, StreamUse]
    fact_bytes: int
    handled: dict[str, dict[str, int]]
    written_bytes: dict[str, int]
    statements: dict[str, dict[str, int]]
    """Of settler and attestor, where they were counted."""
    ledger: LedgerReport
    reconciled: Reconciled


def is_right(result: Result) -> bool:
    """All over, books balanced, and LND agrees."""
    return result.over and result.ledger.debits_msat == result.ledger.credits_msat and not result.reconciled.differences


def tell(result: Result) -> None:
    """As markdown."""
    print(
        f"\n{result.when}, load {result.load[0]:.1f} at the beginning, at most {result.load[1]:.1f}; {result.seconds} s"
    )
    if not result.over:
        print("NOT OVER within the time")
    print(f"\n{table(result.rounds)}\n\n{money(result.rounds, result.setting.peers)}")
    for one in result.rounds:
        for reason, times in sorted(one.reasons.items(), key=lambda item: -item[1])[:5]:
            print(f"round {one.round}, {times} times: {reason}")
    print(f"\nthe peers themselves: {result.verdicts}")
    share = result.setting.peers * max(1, len(result.rounds))
    print("\n| | processor s | ms per peer and round | resident at most, MB |\n|---|---|---|---|")
    for name, seconds in sorted(result.cpu_s.items(), key=lambda item: -item[1]):
        resident = result.resident_peak_bytes.get(name, 0) / 1e6
        print(f"| {name} | {seconds:.1f} | {1_000 * seconds / share:.1f} | {resident:.0f} |")
    for name, use in result.streams.items():
        print(
            f"{name}: {use.messages} messages ({use.messages / share:.1f} per peer and round), {use.bytes:,} bytes kept"
        )
    for name, kinds in result.statements.items():
        each = {kind: round(count / share, 1) for kind, count in sorted(kinds.items(), key=lambda item: -item[1])}
        print(f"statements of {name} per peer and round: {sum(kinds.values()) / share:.1f}: {each}")
    print("on disk, MB:", {name: round(size / 1e6, 1) for name, size in result.written_bytes.items()})
    ledger = result.ledger
    balanced = "balanced" if ledger.debits_msat == ledger.credits_msat else "NOT BALANCED"
    print(
        f"books: {ledger.debits_msat:,} = {ledger.credits_msat:,} msat, {balanced}, {ledger.open_escrows} escrows open"
    )
    print(comparing.sentence(result.reconciled), flush=True)
