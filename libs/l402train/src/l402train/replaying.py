"""Measures a judged payload again, from public objects and with the oracle's own code. It needs torch, and no key.

On the hardware class that the receipt names, every loss must be equal to the bit; elsewhere the mean drop must lie
within a stated tolerance. What was refused before it was measured is opened again and must be refused for the same.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from l402_oracle.copies import ROUNDS_BACK, Work, find_copies
from l402_oracle.derive import own_question
from l402_oracle.similarity import Duplicate, read_sketch
from l402_oracle.worker.bench import TorchBench, hardware
from l402_oracle.worker.results import Measurement, Opened, Screening
from l402core.documents import ObjectRef, Receipt, Terms
from l402core.errors import PeerError
from l402core.events import GradientMeasure
from l402core.evidence import JudgedRound
from l402core.sealing import open_payload
from sparseloco.clip import median_norms
from sparseloco.corpus import load_corpus
from sparseloco.model import CheckpointError, GPTShape

from l402train.building_again import built_again
from l402train.neighbours import Neighbours
from l402train.verifying import Finding, Losses
from l402train.verifying import Opened as Found
from l402train.yardstick_replaying import trained_again

Get = Callable[[str], bytes | None]
TOLERANCE = {"float32": 20_000, "bfloat16": 500_000}
"""How far the mean drop may lie off on another hardware class, in nano-nats per token, by the lower of both precisions."""
MAX_HEADS = 256
_NOT_AT_HAND = "the following round's terms, which name it, are not at hand"
SCREENED = frozenset({"not_finite", "zero_update", "norm_insane", "malformed", "wrong_round", "wrong_model",
                      "stale_checkpoint", "wrong_peer", "unsealable"})  # fmt: skip
"""Codes that a payload's own bytes explain."""
COPIED = frozenset({"duplicate", "mixture"})
UNMEASURED = frozenset({"not_measured", "not_screened", "not_finite", "not_payable", "not_in_time"})
"""Codes of what may have counted for the medians, and has no measurement."""


class Replay:
    """One bench for all receipts of a round."""

    def __init__(self, terms: Terms, *, device: str, threads: int) -> None:
        self._terms, self._corpus = terms, load_corpus()
        self._device, self._class = device, hardware(device, threads)
        self._threads = threads
        self._bench: TorchBench | None = None

    def close(self) -> None:
        """End its threads."""
        if self._bench is not None:
            self._bench.close()

    async def findings(self, receipt: Receipt, get: Get) -> list[Finding]:
        """What measuring again says about one receipt."""
        refused = _refused(receipt)
        if receipt.eval_tokens == 0 and not refused & SCREENED:
            why = "it was judged without a measurement" if refused else "nothing to repeat"
            return [Finding(check="measured again", agrees=None, detail=f"{why} ({', '.join(sorted(refused))})")]
        sealed, base = get(receipt.payload_hash), get(receipt.checkpoint)
        if sealed is None or base is None:
            missing = "payload" if sealed is None else "checkpoint"
            return [Finding(check="measured again", agrees=None, detail=f"the {missing} is not at hand")]
        try:
            bench = self._bench_for(receipt)
            opened = _opened(receipt, open_payload(sealed, bytes.fromhex(receipt.content_key)))
            if receipt.eval_tokens == 0:
                return [await _screened(bench, opened, refused)]
            seen = await bench.measure(opened, base, self._request(receipt))
        except PeerError as error:
            same = error.code in refused
            return [Finding(check="opened again", agrees=same, detail=f"refused: {error.detail}")]
        except (ValueError, CheckpointError) as error:
            return [Finding(check="measured again", agrees=False, detail=str(error))]
        return list(self._compared(receipt, seen, get))

    async def yardstick(self, judged: JudgedRound, receipts: tuple[Receipt, ...], get: Get) -> list[Finding]:
        """The oracle's own update trained again, and measured again."""
        if judged.yardstick is None or not receipts:
            return []
        named = next((one for one in receipts if one.conditions.shapes), receipts[0])
        exact = self._class in {one.conditions.hardware for one in receipts}
        allowed = 0 if exact else max(TOLERANCE.values())
        return await trained_again(self._bench_for(named), self._terms, judged, get, allowed=allowed)

    async def together(self, found: Found, beside: Neighbours, get: Get) -> list[Finding]:
        """Medians, copies and the next checkpoint, from all of the round's payloads and those of the rounds before."""
        receipts = tuple(receipt for receipt, _ in found.receipts)
        passed = await self._passed(receipts, get)
        if passed is None:
            return [Finding(check="the round's medians and copies", agrees=None, detail="a payload is not at hand")]
        earlier = await self._earlier(beside, get)
        copies = find_copies(_works(passed), earlier or ())
        findings = list(_copies(receipts, copies, complete=earlier is not None and not any(map(_shut, receipts))))
        if not self._terms.yardstick:
            findings += _medians(passed, receipts)
        following = beside.following()
        bench = self._bench_for(receipts[0]) if receipts else None
        if following is None or bench is None:
            return [*findings, Finding(check="the next checkpoint again", agrees=None, detail=_NOT_AT_HAND)]
        return [*findings, await built_again(bench, found, following.terms, get)]

    async def _earlier(self, beside: Neighbours, get: Get) -> list[Work] | None:
        """The works that a copy may be of, oldest round first; None where they are not all at hand."""
        rounds, works = beside.before(ROUNDS_BACK), list[Work]()
        for one in rounds or ():
            passed = await self._passed(tuple(receipt for receipt, _ in one.receipts), get)
            if passed is None or any(_shut(receipt) for receipt, _ in one.receipts):
                return None
            works += _works(sorted(passed, key=lambda pair: pair[0].commitment))
        return None if rounds is None else works

    async def _passed(self, receipts: tuple[Receipt, ...], get: Get) -> list[tuple[Receipt, Screening]] | None:
        """Those of a round whose payloads pass the screening, as far as they are shown; None where one is missing."""
        seen = [(receipt, await self._sketched(receipt, get)) for receipt in receipts if not _shut(receipt)]
        if any(screening is None and not _refused(receipt) & SCREENED for receipt, screening in seen):
            return None
        return [(receipt, screening) for receipt, screening in seen if screening and not screening.code]

    async def _sketched(self, receipt: Receipt, get: Get) -> Screening | None:
        sealed = get(receipt.payload_hash)
        if sealed is None:
            return None
        try:
            packed = open_payload(sealed, bytes.fromhex(receipt.content_key))
            return await self._bench_for(receipt).screen(_opened(receipt, packed))
        except (PeerError, ValueError):
            return None

    def _compared(self, receipt: Receipt, seen: Measurement, get: Get) -> Iterator[Finding]:
        if seen.failure:
            yield Finding(check="measured again", agrees=False, detail=seen.failure)
            return
        exact = self._class == receipt.conditions.hardware
        if exact:
            yield from _to_the_bit(receipt, seen, get)
        off = abs(seen.drop_mean - receipt.drop_mean)
        allowed = 0 if exact else max(TOLERANCE[seen.conditions.dtype], TOLERANCE.get(receipt.conditions.dtype, 0))
        here = f"here {seen.drop_mean / 1e9:.9f}, the receipt says {receipt.drop_mean / 1e9:.9f} nats per token"
        kind = "to the bit, the same hardware class" if exact else f"another hardware class, within {allowed / 1e9:g}"
        yield Finding(check="measured again", agrees=off <= allowed, detail=f"{here} ({kind})")
        if seen.conditions.code != receipt.conditions.code:
            yield Finding(
                check="the measuring code", agrees=None,
                detail=f"{seen.conditions.code} here, {receipt.conditions.code} there",
            )  # fmt: skip

    def _bench_for(self, receipt: Receipt) -> TorchBench:
        if self._bench is None:
            shape = shape_of(receipt)
            self._bench = TorchBench(
                shape=shape, corpus=self._corpus, chunk_k=self._terms.recipe.chunk_k, threads=self._threads,
                device=self._device,
            )  # fmt: skip
        return self._bench

    def _request(self, receipt: Receipt) -> GradientMeasure:
        nowhere = ObjectRef(uri="", sha256=receipt.checkpoint, size=0)
        return GradientMeasure(
            id="", occurred_at_ms=0, round=receipt.round, commitment=receipt.commitment, peer=receipt.peer,
            checkpoint=nowhere, model_id=receipt.model_id, payload=nowhere, clip_norms=receipt.clip_norms,
            shards=receipt.shards, eval_tokens=receipt.eval_tokens, outer_rate_ppm=receipt.outer_rate_ppm,
            **own_question(self._terms, receipt.seed, receipt.peer),
        )  # fmt: skip


def shape_of(receipt: Receipt) -> GPTShape:
    """The model whose id the receipt names. Raises ValueError for one that this build does not have."""
    default = GPTShape()
    shapes = receipt.conditions.shapes or tuple(dims for _, dims in default.spec().tensors)
    width, context, layers = shapes[0][-1], shapes[1][0], (len(shapes) - 3) // 6
    for heads in range(1, min(width, MAX_HEADS) + 1):
        shape = GPTShape(width=width, layers=layers, heads=heads, context=context)
        if width % heads == 0 and shape.spec().model_id.hex() == receipt.model_id:
            return shape
    raise ValueError(f"model {receipt.model_id[:16]}… is none that is built here")


def _refused(receipt: Receipt) -> set[str]:
    return {check.code for check in receipt.checks if not check.passed}


def _shut(receipt: Receipt) -> bool:
    """What was not judged nobody can open; copies of it look like none."""
    return receipt.verdict == "unscored"


def _opened(receipt: Receipt, packed: bytes) -> Opened:
    return Opened(
        packed=packed, content_key=receipt.content_key, round=receipt.round, checkpoint=receipt.checkpoint,
        peer=receipt.peer,
    )  # fmt: skip


def _works(passed: Sequence[tuple[Receipt, Screening]]) -> list[Work]:
    return [Work(receipt.commitment, receipt.peer, read_sketch(each.sketch)) for receipt, each in passed]


def _copies(receipts: tuple[Receipt, ...], copies: Mapping[str, Duplicate], *, complete: bool) -> Iterator[Finding]:
    """Who repeats whom; `complete`: the works of earlier rounds were all looked at."""
    for receipt in receipts:
        said, found = bool(COPIED & _refused(receipt)), receipt.commitment in copies
        if said == found:
            continue
        about = f"{receipt.commitment[:16]}… " + ("copies nothing that is at hand" if said else "is a copy, and passed")
        yield Finding(check="the round's copies", agrees=None if said and not complete else False, detail=about)
    where = f"this round and up to {ROUNDS_BACK} before it" if complete else "this round; an earlier one is not at hand"
    yield Finding(check="the round's copies again", agrees=True, detail=f"{len(copies)} found, in {where}")


def _medians(passed: list[tuple[Receipt, Screening]], receipts: tuple[Receipt, ...]) -> Iterator[Finding]:
    measured = [(receipt, screening) for receipt, screening in passed if receipt.eval_tokens]
    if not measured or any(UNMEASURED & _refused(receipt) for receipt in receipts):
        yield Finding(check="the medians again", agrees=None, detail="not everybody who counts was measured")
        return
    medians = median_norms([screening.norms for _, screening in measured])
    yield Finding(check="the medians again", agrees=medians == measured[0][0].clip_norms)


def _to_the_bit(receipt: Receipt, seen: Measurement, get: Get) -> Iterator[Finding]:
    theirs = get(receipt.losses.sha256) if receipt.losses else None
    if theirs is None:
        yield Finding(check="every loss again", agrees=None, detail="the published losses are not at hand")
        return
    mine, said = (msgspec.json.decode(data, type=Losses) for data in (seen.losses, theirs))
    for name, here, there in (
        ("before", mine.before, said.before), ("after", mine.after, said.after),
        ("on assigned data before", mine.own_before, said.own_before),
        ("on assigned data after", mine.own_after, said.own_after),
    ):  # fmt: skip
        differing = sum(a != b for a, b in zip(here, there, strict=False)) + abs(len(here) - len(there))
        detail = f"{differing} of {len(there)} losses {name} the update differ" if differing else f"{len(there)} losses"
        yield Finding(check=f"every loss {name} the update", agrees=not differing, detail=detail)


async def _screened(bench: TorchBench, opened: Opened, refused: set[str]) -> Finding:
    screening = await bench.screen(opened)
    found = screening.code or "nothing is wrong with it"
    return Finding(check="screened again", agrees=screening.code in refused, detail=found)


def threads_of(receipts: tuple[Receipt, ...]) -> int:
    """The threads that the oracle measured with on a CPU, for the same bits here; 1 where none is named."""
    for receipt in receipts:
        words = receipt.conditions.hardware.split()
        if "threads" in words:
            return int(words[words.index("threads") + 1])
    return 1


def replayed(
    found: Found, beside: Neighbours, get: Get, *, device: str, whole_round: bool
) -> tuple[dict[str, list[Finding]], list[Finding]]:
    """Every receipt measured again, by commitment; with the whole round, what its payloads say of one another."""
    receipts = tuple(receipt for receipt, _ in found.receipts)

    async def all_of_them() -> tuple[dict[str, list[Finding]], list[Finding]]:
        replay = Replay(found.terms, device=device, threads=threads_of(receipts))
        try:
            again = {receipt.commitment: await replay.findings(receipt, get) for receipt in receipts}
            shared = await replay.yardstick(found.judged, receipts, get)
            return again, shared + (await replay.together(found, beside, get) if whole_round else [])
        finally:
            replay.close()

    return asyncio.run(all_of_them())
