"""Which uploads of a closed round repeat earlier works: their sketches fetched, opened and compared. It refuses nobody.

A sketch shows the payload, so workers seal it to us. Copies are looked for in this round and in some before it.
"""

import asyncio

import structlog
from l402core.documents import ObjectRef
from l402core.errors import Unavailable

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.case import Case
from l402_oracle.attestor.parts import Parts
from l402_oracle.copies import ROUNDS_BACK, Work, find_copies
from l402_oracle.similarity import Duplicate, SketchError, read_sketch

log = structlog.get_logger()


async def find_repeats(parts: Parts, case: Case) -> dict[str, Duplicate]:
    """Commitment → what it repeats. Raises Unavailable while a sketch of this round cannot be read."""
    number = case.row.number
    rounds = range(max(1, number - ROUNDS_BACK), number)
    known = await parts.database.transact(lambda tx: [one for before in rounds for one in books.sketched(tx, before)])
    earlier = [await _earlier(parts, commitment, peer, said.sketch) for commitment, peer, said in known]
    mine = [
        await _work(parts, s.commitment, s.offer.peer, s.screened.sketch)
        for s in case.uploaded
        if s.screened is not None and s.screened.passed
    ]
    works, old = [work for work in mine if work], [work for work in earlier if work]
    try:
        return await asyncio.to_thread(find_copies, works, old)
    except ValueError as error:
        raise Unavailable("sketches", f"the sketches of round {number} do not compare: {error}") from error


async def _earlier(parts: Parts, commitment: str, peer: str, ref: ObjectRef | None) -> Work | None:
    """None where its key was dropped: an old round cannot hold up a new one."""
    try:
        return await _work(parts, commitment, peer, ref)
    except Unavailable as error:
        if error.code != "unknown_key":
            raise
        log.warning("sketch.shut", commitment=commitment, detail=error.detail)
        return None


async def _work(parts: Parts, commitment: str, peer: str, ref: ObjectRef | None) -> Work | None:
    if ref is None:
        return None
    try:
        return Work(commitment, peer, read_sketch(parts.opened(await parts.objects.get(ref))))
    except SketchError as error:
        raise Unavailable("sketch", f"the sketch of {commitment[:16]}… is not one: {error}") from error
