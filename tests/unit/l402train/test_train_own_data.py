"""The question of assigned data, asked again of published losses: agrees with true words, finds false ones."""

import msgspec
import pytest
from l402_oracle.attestor.own_data import answer, not_own_data, question
from l402core.documents import Check, ObjectRef, Receipt
from l402train.own_data_again import _tried, own_findings
from l402train.verifying import Losses

from tests.support.oracle import sha
from tests.support.runs import receipt as a_receipt

SIZE = 32


def losses_of(own: float) -> Losses:
    """Drops around 0.01 on hidden shards, around `own` on assigned data."""
    spread = [0.001 * (n % 3 - 1) for n in range(SIZE)]
    return Losses(
        shards=(1, 2), before=(2.0,) * SIZE, after=tuple(1.99 + x for x in spread), own_before=(2.0,) * SIZE,
        own_after=tuple(2.0 - own + x for x in spread),
    )  # fmt: skip


def a_round(*own: float) -> tuple[list[Receipt], dict[str, bytes]]:
    """Receipts as an honest oracle words them, and the objects they name."""
    objects: dict[str, bytes] = {}
    receipts: list[Receipt] = []
    for number, each in enumerate(own):
        data = msgspec.json.encode(losses_of(each))
        objects[sha(f"losses {number}")] = data
        ref = ObjectRef(uri="", sha256=sha(f"losses {number}"), size=len(data))
        receipts.append(
            msgspec.structs.replace(
                a_receipt(sha(f"c{number}"), reward_msat=0), drop_mean=10_000_000, drop_low=9_000_000,
                drop_high=11_000_000, losses=ref,
            )
        )  # fmt: skip
    tried = {r.commitment: one for r, each in zip(receipts, own, strict=True) if (one := _tried(r, losses_of(each)))}
    asked = question(tried)
    faults = not_own_data(tried, asked)
    assert asked is not None
    return [
        msgspec.structs.replace(
            r,
            checks=(
                Check(code="not_own_data", passed=False, detail=faults[r.commitment].sentence)
                if r.commitment in faults
                else Check(code="own_data", passed=True, detail=answer(tried[r.commitment], asked)),
            ),
        )
        for r in receipts
    ], objects


def agrees(receipts: list[Receipt], objects: dict[str, bytes]) -> set[bool | None]:
    """Every answer that was given."""
    return {one.agrees for one in own_findings(receipts, objects.get, whole_round=True)}


def test_what_an_honest_oracle_says_of_a_round_agrees() -> None:
    """Three who trained on theirs, one who did not and is named."""
    receipts, objects = a_round(0.02, 0.02, 0.02, 0.01)
    assert [r.checks[0].code for r in receipts] == ["own_data"] * 3 + ["not_own_data"]
    assert agrees(receipts, objects) == {True}


@pytest.mark.parametrize("victim", [0, 3])
def test_a_fault_that_the_losses_do_not_show_is_found(victim: int) -> None:
    """An honest peer accused, or a cheat let through, with the right numbers in the words."""
    receipts, objects = a_round(0.02, 0.02, 0.02, 0.01)
    (check,) = receipts[victim].checks
    code = "not_own_data" if check.code == "own_data" else "own_data"
    receipts[victim] = msgspec.structs.replace(
        receipts[victim], checks=(Check(code=code, passed=code == "own_data", detail=check.detail),)
    )
    assert False in agrees(receipts, objects)


def test_another_limit_in_the_words_is_found() -> None:
    """What honest work shows, and from where on one is refused, are the round's and nobody's to choose."""
    receipts, objects = a_round(0.02, 0.02, 0.02, 0.01)
    (check,) = receipts[0].checks
    other = msgspec.structs.replace(check, detail=check.detail.replace("is refused", "is refused, mostly"))
    receipts[0] = msgspec.structs.replace(receipts[0], checks=(other,))
    assert False in agrees(receipts, objects)
    alone = own_findings(receipts[:1], objects.get, whole_round=False)
    assert {one.agrees for one in alone} == {True}  # what was seen is there; the rest needs the round


def test_other_numbers_in_the_words_are_found_and_missing_losses_are_said() -> None:
    """Words must be those of the losses; without the losses nothing is taken for granted."""
    receipts, objects = a_round(0.02, 0.02)
    receipts[0] = msgspec.structs.replace(receipts[0], checks=receipts[1].checks[:0])
    assert False in agrees(receipts, objects)
    assert agrees(receipts, {}) == {None}
