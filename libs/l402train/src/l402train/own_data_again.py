"""Whether each update was trained on what the terms assigned, asked again of the published losses. No tensor.

The question compares an update with the round's yardstick, which its page holds; without one it compares a round's
updates with one another, so the verdicts need all receipts. The words need only one.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from l402_oracle.attestor.own_data import Tried, answer, not_own_data, question, shown
from l402_oracle.scoring import excess_milli, interval
from l402core.documents import Receipt
from l402core.evidence import Yardstick

from l402train.verifying import NANO, Finding, Losses

Get = Callable[[str], bytes | None]
FAULT = "not_own_data"


def own_findings(
    receipts: Sequence[Receipt], get: Get, *, whole_round: bool, yardstick: Yardstick | None = None
) -> Iterator[Finding]:
    """What the losses on assigned data make of receipts that were measured."""
    improving = [receipt for receipt in receipts if receipt.drop_low > 0]
    tried: dict[str, Tried] = {}
    for receipt in improving:
        losses = _losses(receipt, get)
        if losses is None:
            yield Finding(check="its assigned data", agrees=None, detail="the published losses are not at hand")
            return
        if (one := _tried(receipt, losses)) is not None:
            tried[receipt.commitment] = one
    own = yardstick_tried(yardstick) if yardstick else None
    if not whole_round and own is None:
        yield from (_seen(one, tried[one.commitment]) for one in improving if one.commitment in tried)
        return
    asked = question(tried, own)
    faults = not_own_data(tried, asked)
    for receipt in improving:
        if asked and (one := tried.get(receipt.commitment)) is not None:
            fault = faults.get(receipt.commitment)
            yield _said(receipt, fault.sentence if fault else answer(one, asked))
    said = {receipt.commitment for receipt in improving if FAULT in _failed(receipt)}
    about = "" if set(faults) == said else f"differs for {', '.join(n[:16] + '…' for n in sorted(set(faults) ^ said))}"
    yield Finding(check="who trained on assigned data", agrees=set(faults) == said, detail=about)


def yardstick_tried(own: Yardstick) -> Tried | None:
    """What the oracle's own update does for the data that its name draws; None where that was not measured."""
    if not own.own_sequences or own.drop_low <= 0:
        return None
    return Tried(own.drop_mean, own.own_mean, own.own_excess_milli)


def _seen(receipt: Receipt, one: Tried) -> Finding:
    """Where the question needs receipts that are not here: what was seen, not what followed from it."""
    mine = _details(receipt)
    return Finding(check="its assigned data", agrees=len(mine) == 1 and shown(one) in mine[0], detail=shown(one))


def _said(receipt: Receipt, words: str) -> Finding:
    return Finding(check="its assigned data", agrees=_details(receipt) == [words], detail=words)


def _details(receipt: Receipt) -> list[str]:
    return [check.detail for check in receipt.checks if check.code in ("own_data", FAULT)]


def _tried(receipt: Receipt, losses: Losses) -> Tried | None:
    if not losses.own_before:
        return None
    own = losses.own_drops
    return Tried(receipt.drop_mean, round(interval(own).mean * NANO), excess_milli(own, losses.drops))


def _losses(receipt: Receipt, get: Get) -> Losses | None:
    data = get(receipt.losses.sha256) if receipt.losses else None
    try:
        return msgspec.json.decode(data, type=Losses) if data is not None else None
    except msgspec.MsgspecError:
        return None  # said where the losses themselves are looked at


def _failed(receipt: Receipt) -> set[str]:
    return {check.code for check in receipt.checks if not check.passed}
