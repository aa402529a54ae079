"""Checkpoints and the public objects of judged rounds, found by their sha256. It serves nothing that no round names."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from l402core.documents import ObjectRef, Receipt, RoundRoot, UploadReceipt
from l402core.errors import NotFound
from l402core.events import RoundView, SubmissionView
from l402core.objects import ObjectStore

from l402_gateway.reads import Shared
from l402_gateway.views import terms_of

READS_AT_ONCE = 8
MISS_S = 0.25
KEPT, KEPT_S = 4, 10.0
"""Objects in memory for whoever asks next, and for how long."""
PIECE_BYTES = 1 << 16


class Library:
    """What may be read by anybody, learnt from the settler's answers; at most `depth` rounds back."""

    def __init__(
        self,
        rounds: Shared[int, RoundView],
        submissions: Shared[tuple[int, str], SubmissionView],
        store: ObjectStore,
        *,
        depth: int,
        clock: Callable[[], float],
    ) -> None:
        self._rounds, self._submissions, self._store, self._depth = rounds, submissions, store, depth
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._checkpoints: dict[int, ObjectRef] = {}
        self._objects: dict[int, dict[str, ObjectRef]] = {}
        self._find_checkpoint: Shared[str, ObjectRef] = Shared(self._seek_checkpoint, ttl_s=MISS_S, clock=clock)
        # All readers of an object hold the same bytes: a slow one costs a connection, and no memory of its own.
        self._bytes: Shared[ObjectRef, bytes] = Shared(self._read, ttl_s=KEPT_S, clock=clock, max_entries=KEPT)
        self._find_object: Shared[str, ObjectRef] = Shared(self._seek_object, ttl_s=MISS_S, clock=clock)

    async def checkpoint(self, sha256: str) -> bytes:
        """A checkpoint that a round's terms name. Raises NotFound, Unavailable, Contradiction."""
        return await self._bytes.get(await self._find_checkpoint.get(sha256))

    async def object(self, sha256: str) -> bytes:
        """A payload or the losses of a judged submission. Raises NotFound, Unavailable, Contradiction."""
        return await self._bytes.get(await self._find_object.get(sha256))

    async def _read(self, ref: ObjectRef) -> bytes:
        async with self._reading:
            return await self._store.get(ref)

    async def _newest(self) -> int:
        newest = (await self._rounds.get(0)).round
        oldest = newest - self._depth
        self._checkpoints = {round_: ref for round_, ref in self._checkpoints.items() if round_ > oldest}
        self._objects = {round_: refs for round_, refs in self._objects.items() if round_ > oldest}
        return newest

    async def _seek_checkpoint(self, sha256: str) -> ObjectRef:
        newest = await self._newest()
        for round_ in range(newest, max(0, newest - self._depth), -1):
            if round_ not in self._checkpoints:
                view = await self._round(round_)
                if view is None:
                    break
                self._checkpoints[round_] = terms_of(view).checkpoint
            if self._checkpoints[round_].sha256 == sha256:
                return self._checkpoints[round_]
        raise NotFound("checkpoint_unknown", "no round's terms name this checkpoint")

    async def _seek_object(self, sha256: str) -> ObjectRef:
        newest = await self._newest()
        for round_ in range(newest, max(0, newest - self._depth), -1):
            found = self._objects.get(round_)
            if found is None:
                view = await self._round(round_)
                if view is None:
                    break
                found = await self._public(view)
            if sha256 in found:
                return found[sha256]
        raise NotFound("object_unknown", "no judged round has this object")

    async def _round(self, round_: int) -> RoundView | None:
        try:
            return await self._rounds.get(round_)
        except NotFound:
            return None

    async def _public(self, view: RoundView) -> dict[str, ObjectRef]:
        """A round's objects by hash: of each submission once it is judged. Kept once the round is done."""
        found: dict[str, ObjectRef] = {}
        if view.root is None or view.phase not in ("judge", "done"):
            return found
        for commitment in commitments_of(view):
            try:
                found |= _objects_of(await self._submissions.get((view.round, commitment)))
            except NotFound:
                continue
        if view.phase == "done":
            self._objects[view.round] = found
        return found


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """The same bytes, so that no more than a piece waits in a connection's buffer."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def commitments_of(view: RoundView) -> tuple[str, ...]:
    """A closed round's, in order."""
    return msgspec.json.decode(view.root.body, type=RoundRoot).commitments if view.root else ()


def receipt_of(view: SubmissionView) -> Receipt | None:
    """Why it earned what it did, once it is judged."""
    return msgspec.json.decode(view.receipt.body, type=Receipt) if view.receipt else None


def _objects_of(view: SubmissionView) -> dict[str, ObjectRef]:
    receipt = receipt_of(view)
    if receipt is None:
        return {}
    losses = receipt.losses
    found = {losses.sha256: losses} if losses is not None else {}
    if view.upload is not None:
        upload = msgspec.json.decode(view.upload.body, type=UploadReceipt)
        found[upload.payload_hash] = ObjectRef(uri="", sha256=upload.payload_hash, size=upload.size)
    return found
