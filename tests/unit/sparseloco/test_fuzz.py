"""The short form of `make fuzz`, and proof that it would find what it looks for."""

from collections.abc import Callable

import numpy as np
import pytest
from sparseloco import wire
from sparseloco.sparse import Sparse

from tests.fuzz.payloads import Finding, run


def test_thousands_of_mutated_payloads_are_refused_with_reason_or_well_formed(
    record_property: Callable[[str, object], None],
) -> None:
    """Many kinds of refusal at many places, some payloads that are well formed, and no surprise."""
    tally = run(cases=4000, seed=20)
    refused = f"{len(tally.reasons)} kinds of refusal at {len(tally.places)} places"
    record_property("covered", f"fuzz: {tally.cases} mutated payloads, {refused}; a million by `make fuzz`")
    assert tally.cases == 4000
    assert tally.accepted > 40
    assert len(tally.reasons) > 15
    assert len(tally.places) > 200
    assert tally.device == tally.cases // 64 + 1


def _no_check(*_: object, **__: object) -> None:
    return None


def _greedy(real: Callable[..., object]) -> Callable[..., object]:
    def unpack(*args: object, **kwargs: object) -> object:
        np.zeros(1 << 20)
        return real(*args, **kwargs)

    return unpack


def test_it_finds_a_decoder_that_lets_positions_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check of order and bounds, host and device no longer agree, or an index error comes out."""
    monkeypatch.setattr(wire, "_check_positions", _no_check)
    with pytest.raises((Finding, AssertionError)):
        run(cases=20_000, seed=1)


def test_it_finds_a_decoder_that_ignores_unused_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two encodings of one update."""
    real = wire.unpack_codes

    def lenient(view: memoryview, entries: int, at: int) -> object:
        return (
            real(memoryview(bytes(view) + b"\0"), entries + 3, at)[:entries] if entries % 4 else real(view, entries, at)
        )

    monkeypatch.setattr(wire, "unpack_codes", lenient)
    with pytest.raises(Finding, match="not the encoding"):
        run(cases=20_000, seed=1)


def test_it_finds_a_decoder_that_raises_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is not a refusal."""
    monkeypatch.setattr(wire, "_check_scales", _broken)
    with pytest.raises(Finding, match="ZeroDivisionError"):
        run(cases=1000, seed=1)


def test_it_finds_a_decoder_that_holds_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight megabytes for a payload of a few hundred bytes."""
    monkeypatch.setattr(wire, "unpack", _greedy(wire.unpack))
    with pytest.raises(Finding, match="bytes were held"):
        run(cases=1, seed=1)


def _broken(*_: object, **__: object) -> Sparse:
    raise ZeroDivisionError
