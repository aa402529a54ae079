"""A judged round with everything that is public about it, for tests that hold an oracle to its word."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from l402_oracle import scoring
from l402_oracle.adapters.records import Records
from l402core.documents import Conditions, Receipt
from l402core.events import GradientMeasured, RoundAssessed
from l402core.evidence import Evidence, JudgedEntry, JudgedRound, counts, receipts_root
from l402core.signing import Signed
from sparseloco.corpus import load_corpus
from sparseloco.defaults import CONTEXT, SHARD_WINDOWS

from tests.support.oracle import (
    ATTESTOR,
    JUDGE_BY_MS,
    NANO,
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    round_closed,
)

NAMES = ("ann", "bob", "cy", "dan", "eve", "fay")
DROPS = {"ann": 0.4, "bob": 0.3, "dan": -0.5, "eve": 0.15, "fay": 0.3}
"""What each does to the loss; cy copies ann, and is not measured."""
OWN_DROPS = {"ann": 0.6, "fay": 0.3}
"""What who is tried on assigned data does there: fay does not do more than on hidden shards."""
YARDSTICK = 0.35
"""What the oracle's own update does to it."""


async def a_judged_round() -> tuple[Evidence, dict[str, bytes]]:
    """Two accepted, one below the floor, one harmful, one copy, one trained elsewhere; and the objects by hash."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), yardstick=True)
        await stage.announce()
        stage.now_ms = UPLOAD_UNTIL_MS
        await stage.hear(stage.round_opened())
        for seq, name in enumerate(NAMES):
            offer = await stage.offer(name, seq)
            screened = stage.screened(name, like="ann" if name == "cy" else "")
            await stage.hear(locked(offer), stage.uploaded(name), screened)
        made = stage.yardstick_made()
        await stage.hear(made)
        await stage.hear(commits_closed(*NAMES), round_closed(*NAMES))
        assessed = stage.ears.last(RoundAssessed)
        own_of = OWN_DROPS.get
        await stage.hear(*(_measured(stage, n, drop, assessed.shards, own_of(n, 0.0)) for n, drop in DROPS.items()))
        own = _measured(stage, "yardstick", YARDSTICK, assessed.shards, own=0.5)
        await stage.hear(msgspec.structs.replace(own, commitment=made.yardstick))
        await stage.tick(to_ms=JUDGE_BY_MS)
        evidence = await Records(stage.database).of_round(1)
        stage.database.close()
        return evidence, stage.shelf.kept


def _measured(stage: Stage, name: str, drop: float, shards: tuple[int, ...], own: float = 0.0) -> GradientMeasured:
    """With losses that give exactly what it says; `own`: the drop on assigned data, where it was tried on it."""
    rng = np.random.default_rng(len(name) + int(drop * 100) % 97)
    used = shards[:8]
    before = (3 + rng.normal(size=len(used) * SHARD_WINDOWS) * 0.1).tolist()
    after = [loss - drop + float(rng.normal()) * 0.01 for loss in before]
    seen = scoring.interval([b - a for b, a in zip(before, after, strict=True)])
    told: dict[str, Any] = {"shards": used, "before": before, "after": after}
    tried: dict[str, int] = {}
    if own:
        told |= {"own_before": [3.0] * 16, "own_after": [3 - own + 0.01 * (n % 3 - 1) for n in range(16)]}
        mine = [b - a for b, a in zip(told["own_before"], told["own_after"], strict=True)]
        theirs = [b - a for b, a in zip(before, after, strict=True)]
        tried = {
            "own_mean": round(scoring.interval(mine).mean * NANO), "own_sequences": len(mine),
            "own_excess_milli": scoring.excess_milli(mine, theirs),
        }  # fmt: skip
    kept = stage.shelf.keep(msgspec.json.encode(told))
    conditions = Conditions(
        hardware="cpu", dtype="float32", batch=(SHARD_WINDOWS, CONTEXT), shapes=((2, 2), (2, 2), (2,)),
        corpus=load_corpus().sha256.hex(), code="l402-oracle 0",
    )  # fmt: skip
    return msgspec.structs.replace(
        measured(name, drop), drop_mean=round(seen.mean * NANO), drop_low=round(seen.lo * NANO),
        drop_high=round(seen.hi * NANO), sequences=seen.n, tokens=seen.n * CONTEXT, losses=kept, conditions=conditions,
        **tried,
    )  # fmt: skip


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a JSON document that holds a value, and every list."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from leaves(value, (*path, name))
        return
    yield path
    if isinstance(document, list):
        for place, value in enumerate(document):
            yield from leaves(value, (*path, place))


def tampered(document: Any, path: tuple[str | int, ...]) -> Any:
    """The document with one value changed."""
    if not path:
        return _other(document)
    changed = document.copy()
    changed[path[0]] = tampered(document[path[0]], path[1:])
    return changed


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if value:
            return ("0" if value[0] != "0" else "1") + value[1:]
        case str():
            return "00"
        case None:
            return {"uri": "", "sha256": "00" * 32, "size": 1}
        case _:
            return [*value, value[0]] if value else ["more"]


def signed_anew(evidence: Evidence, place: int, body: Receipt) -> Evidence:
    """As a dishonest oracle would: the receipt, every one after it, and the round's page, all signed again."""
    receipts = list(evidence.receipts)
    documents = [msgspec.json.decode(signed.body, type=Receipt) for signed in receipts]
    documents[place] = body
    for number in range(place, len(receipts)):
        previous = body.previous if number == place else receipts[number - 1].digest()
        documents[number] = msgspec.structs.replace(documents[number], previous=previous)
        receipts[number] = ATTESTOR.sign(Receipt.tag, documents[number])
    page = msgspec.json.decode(evidence.judged.body, type=JudgedRound)
    entries = tuple(_entry(receipt, signed) for receipt, signed in zip(documents, receipts, strict=True))
    root = receipts_root(tuple(entry.receipt for entry in entries))
    page = msgspec.structs.replace(page, entries=entries, receipts_root=root)
    return Evidence(terms=evidence.terms, judged=ATTESTOR.sign(JudgedRound.tag, page), receipts=tuple(receipts))


def _entry(receipt: Receipt, signed: Signed) -> JudgedEntry:
    return JudgedEntry(
        commitment=receipt.commitment, peer=receipt.peer, verdict=receipt.verdict, drop_mean=receipt.drop_mean,
        drop_low=receipt.drop_low, units=receipt.units, receipt=signed.digest(), counts=counts(receipt),
    )  # fmt: skip
