"""Builds a round's next checkpoint again from the updates that its page names, from public objects. It needs torch."""

import hashlib
from collections.abc import Callable

import msgspec
from l402_oracle.worker.bench import TorchBench
from l402_oracle.worker.results import Opened
from l402core.documents import ObjectRef, Terms
from l402core.errors import PeerError
from l402core.events import AggregateItem, RoundAggregate
from l402core.sealing import open_payload
from sparseloco.model import CheckpointError

from l402train import verifying
from l402train.verifying import Finding

Get = Callable[[str], bytes | None]
CHECK = "the next checkpoint again"
NOWHERE = ObjectRef(uri="", sha256="", size=0)


async def built_again(bench: TorchBench, found: verifying.Opened, following: Terms, get: Get) -> Finding:
    """The same bytes on any hardware: sums are made in one order, in float64. `following`: the next round's terms."""
    terms, wanted = found.terms, found.judged.aggregated
    if not wanted:
        same = following.checkpoint.sha256 == terms.checkpoint.sha256
        return Finding(check=CHECK, agrees=same, detail="nothing was accepted: it is the same one")
    parts = _parts(found)
    if any(name not in parts for name in wanted):
        return Finding(check=CHECK, agrees=False, detail="the page puts something into it that was not accepted")
    base = get(terms.checkpoint.sha256)
    sealed = {name: get(parts[name].payload_hash) for name in wanted}
    if base is None or None in sealed.values():
        return Finding(check=CHECK, agrees=None, detail="the checkpoint or a payload is not at hand")
    try:
        payloads = [_opened(found.terms, parts[name], sealed[name] or b"") for name in wanted]
        built = await bench.step(base, payloads, _request(found, parts))
    except (PeerError, ValueError, CheckpointError) as error:
        return Finding(check=CHECK, agrees=False, detail=str(error))
    here, said = hashlib.sha256(built.checkpoint).hexdigest(), following.checkpoint.sha256
    return Finding(check=CHECK, agrees=here == said, detail=f"here {here[:16]}…, the next terms say {said[:16]}…")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One update that may be in it."""

    peer: str
    payload_hash: str
    content_key: str


def _parts(found: verifying.Opened) -> dict[str, Part]:
    """What was accepted, by commitment, and the oracle's own update where it improved."""
    parts = {
        one.commitment: Part(peer=one.peer, payload_hash=one.payload_hash, content_key=one.content_key)
        for one, _ in found.receipts
        if one.verdict == "accepted"
    }
    own = found.judged.yardstick
    if own is not None and own.drop_low > 0:
        parts[own.name] = Part(peer=own.name, payload_hash=own.payload_hash, content_key=own.content_key)
    return parts


def _request(found: verifying.Opened, parts: dict[str, Part]) -> RoundAggregate:
    return RoundAggregate(
        id="", occurred_at_ms=0, round=found.terms.round, checkpoint=found.terms.checkpoint,
        model_id=found.terms.model_id, clip_norms=found.judged.clip_norms,
        outer_rate_ppm=found.terms.recipe.outer_rate_ppm, init_seed=0,
        items=tuple(
            AggregateItem(commitment=name, peer=parts[name].peer, payload=NOWHERE) for name in found.judged.aggregated
        ),
    )  # fmt: skip


def _opened(terms: Terms, part: Part, sealed: bytes) -> Opened:
    return Opened(
        packed=open_payload(sealed, bytes.fromhex(part.content_key)), content_key=part.content_key, round=terms.round,
        checkpoint=terms.checkpoint.sha256, peer=part.peer,
    )  # fmt: skip
