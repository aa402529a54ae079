"""A payment's life: its steps in order of time and in plain words, and nothing else."""

from pathlib import Path

import msgspec
import pytest
from l402train import lives, screen, spans
from l402train.exits import Stop
from l402train.spans import Span

from tests.support.runs import a_span


def a_payment() -> list[Span]:
    """A few steps among plumbing, in no order."""
    return [
        a_span("ledger", start_ms=90, service="settler", name="ledger succeeded"),
        a_span("look", start_ms=50, name="GET submission"),
        a_span("priced", start_ms=10, name="POST submission", attributes={"http.response.status_code": 402}),
        a_span("opened", start_ms=20, name="POST submission", attributes={"http.response.status_code": 201}),
        a_span("two", start_ms=85, service="peer-agent", name="invoicesrpc.Invoices/SettleInvoice"),
        a_span("one", start_ms=80, service="peer-agent", name="invoicesrpc.Invoices/SettleInvoice"),
        a_span("told", start_ms=70, service="settler", name="consume gradient.scored.v1"),
        a_span("train", start_ms=0, service="peer-agent", name="train"),
    ]


def test_steps_are_told_in_order_of_time_and_plumbing_is_not() -> None:
    """The request that only got a price is not the one that opens."""
    told = [(one.what, one.start_ms) for one in lives.life(a_payment()).moments]
    assert told == [
        ("train on its own data", 0.0),
        ("open the submission", 20.0),
        ("reveal the earned rungs", 70.0),
        ("settle the earned rungs", 80.0),
        ("ledger: reward paid", 90.0),
    ]


def test_what_is_done_again_and_again_is_one_step() -> None:
    """Two rungs settled are one line with both pieces in it."""
    settled = lives.life(a_payment()).moments[3]
    assert (settled.pieces, settled.busy_ms) == (((80.0, 10.0), (85.0, 10.0)), 20.0)


def test_a_trace_that_is_no_payment_has_no_steps() -> None:
    """Background work is shown as a tree instead."""
    assert lives.life([a_span("tick")]).moments == ()


def test_a_sponsorship_is_told_from_the_pledge_to_the_end_of_its_money() -> None:
    """Each tranche goes through the same steps; they are one line with as many pieces."""
    once = [a_span(step.span, start_ms=10 * n, service=step.service) for n, step in enumerate(lives.SPONSORSHIP)]
    again = [
        a_span(step.span, start_ms=100 + 10 * n, service=step.service) for n, step in enumerate(lives.SPONSORSHIP[2:6])
    ]
    moments = lives.life(once + again).moments
    assert [one.what for one in moments] == [step.what for step in lives.SPONSORSHIP]
    assert [len(one.pieces) for one in moments] == [1, 1, 2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize("steps", [lives.PAYMENT, lives.SPONSORSHIP], ids=["payment", "sponsorship"])
def test_no_line_is_wider_than_a_hundred_columns(steps: tuple[lives._Step, ...]) -> None:
    """The longest words and names of all steps, on one screen."""
    every = [a_span(step.span, start_ms=n, service=step.service) for n, step in enumerate(steps)]
    out = screen.console()
    with out.capture() as told:
        out.print(screen.life_table(lives.life(every)))
    lines = told.get().splitlines()
    assert len(lines) <= 25
    assert max(len(line.rstrip()) for line in lines) <= screen.WIDTH
    assert all(step.what in told.get() and step.span in told.get() for step in steps)


def test_the_last_pledge_is_found_by_a_word(tmp_path: Path) -> None:
    """Without its trace id; and where nobody has pledged, that is said."""
    pledges = [
        a_span(name, start_ms=at, name=spans.PLEDGED, service="gateway")
        for name, at in (("old", 1), ("new", 9), ("mid", 5))
    ]
    told = [msgspec.structs.replace(one, trace_id=one.span_id) for one in pledges]
    (tmp_path / "gateway.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in told))
    assert [one.span_id for one in spans.find(tmp_path, "sponsor")] == ["new"]
    (tmp_path / "gateway.jsonl").write_bytes(msgspec.json.encode(a_span("tick")) + b"\n")
    with pytest.raises(Stop, match="nobody has pledged"):
        spans.find(tmp_path, "sponsor")
