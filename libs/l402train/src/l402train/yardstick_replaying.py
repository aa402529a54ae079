"""Trains the oracle's own update of a round again and measures it again, from public objects. It needs torch, and no key."""

import hashlib
from collections.abc import Callable

from l402_oracle.derive import yardstick_question
from l402_oracle.worker.bench import TorchBench
from l402_oracle.worker.results import Opened
from l402core.documents import ObjectRef, Terms
from l402core.errors import PeerError
from l402core.events import GradientMeasure, YardstickMake
from l402core.evidence import JudgedRound, Yardstick
from l402core.sealing import open_payload
from sparseloco.model import CheckpointError

from l402train.verifying import Finding
from l402train.yardstick_again import memory_of

Get = Callable[[str], bytes | None]


async def trained_again(
    bench: TorchBench, terms: Terms, judged: JudgedRound, get: Get, *, allowed: int
) -> list[Finding]:
    """`allowed`: nano-nats per token that its drop may lie off; 0 on the same hardware class, where bytes are equal too."""
    own = judged.yardstick
    assert own is not None
    sealed, base = get(own.payload_hash), get(terms.checkpoint.sha256)
    state, _ = memory_of(own, get)
    if sealed is None or base is None or state is None:
        return [Finding(check="the yardstick again", agrees=None, detail="payload, checkpoint or state is not at hand")]
    try:
        packed = open_payload(sealed, bytes.fromhex(own.content_key))
        trained = await _trained(bench, terms, own, packed, base, state, exact=allowed == 0)
        return [trained, await _measured(bench, terms, judged, own, packed, base, allowed)]
    except (PeerError, ValueError, CheckpointError) as error:
        return [Finding(check="the yardstick again", agrees=False, detail=str(error))]


async def _trained(
    bench: TorchBench, terms: Terms, own: Yardstick, packed: bytes, base: bytes, state: bytes, *, exact: bool
) -> Finding:
    request = YardstickMake(
        id="", occurred_at_ms=0, round=terms.round, checkpoint=terms.checkpoint, model_id=terms.model_id,
        recipe=terms.recipe, state=None,
    )  # fmt: skip
    worked = await bench.work(base, state, request)
    here = (worked.packed, worked.norms, hashlib.sha256(worked.state).hexdigest())
    same = here == (packed, own.norms, own.next_state)
    detail = "to the byte" if same else "other bytes" if exact else "other bytes, on another hardware class"
    return Finding(check="the yardstick trained again", agrees=same if exact or same else None, detail=detail)


async def _measured(
    bench: TorchBench, terms: Terms, judged: JudgedRound, own: Yardstick, packed: bytes, base: bytes, allowed: int
) -> Finding:
    opened = Opened(
        packed=packed, content_key=own.content_key, round=terms.round, checkpoint=terms.checkpoint.sha256, peer=own.name
    )
    nowhere = ObjectRef(uri="", sha256=terms.checkpoint.sha256, size=0)
    request = GradientMeasure(
        id="", occurred_at_ms=0, round=terms.round, commitment=own.name, peer=own.name, checkpoint=nowhere,
        model_id=terms.model_id, payload=nowhere, clip_norms=judged.clip_norms, shards=judged.shards,
        eval_tokens=terms.eval_tokens, outer_rate_ppm=terms.recipe.outer_rate_ppm,
        **yardstick_question(terms, judged.seed, own.name),
    )  # fmt: skip
    seen = await bench.measure(opened, base, request)
    detail = f"here {seen.drop_mean / 1e9:.9f}, the page says {own.drop_mean / 1e9:.9f} nats per token"
    near = abs(seen.drop_mean - own.drop_mean) <= allowed
    return Finding(check="the yardstick measured again", agrees=near, detail=detail)
