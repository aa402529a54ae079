"""Checkpoints and public objects by their hash: only what a round names, and only once it is judged."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from l402_gateway.library import Library, pieces
from l402_gateway.reads import Shared
from l402core.documents import ObjectRef, Receipt, RoundRoot, Terms, UploadReceipt
from l402core.errors import NotFound
from l402core.events import RoundView, SubmissionView
from l402core.objects import FileStore

from tests.support.gateway import ATTESTOR, PEER, SETTLER, Coordinator, terms

COMMITMENT = "ab" * 32


class Books:
    """Three rounds, the last of them open; one submission in the second."""

    def __init__(self, checkpoint: ObjectRef, payload: ObjectRef, losses: ObjectRef) -> None:
        self.checkpoint, self.payload, self.losses = checkpoint, payload, losses
        self.phase, self.judged = "judge", False
        self.asked = 0

    async def round(self, number: int) -> RoundView:
        self.asked += 1
        if number > 3:
            raise NotFound("round_unknown", "none")
        round_ = number or 3
        root = RoundRoot(round=round_, commitments=(COMMITMENT,) if round_ == 2 else ())
        phase = "commit" if round_ == 3 else self.phase
        return RoundView(
            round=round_, phase=phase, terms=SETTLER.sign(Terms.tag, terms(round_, checkpoint=self.checkpoint)),
            root=None if round_ == 3 else SETTLER.sign(RoundRoot.tag, root), opened=0, uploaded=0, scored=0,
            places_left=0, available=True, unavailable_reason="",
        )  # fmt: skip

    async def submission(self, key: tuple[int, str]) -> SubmissionView:
        coordinator = Coordinator(terms=terms(2), offer=False, opened={COMMITMENT: (PEER.public, "", "")})
        upload = UploadReceipt(
            commitment=COMMITMENT, round=2, peer=PEER.public, payload_hash=self.payload.sha256,
            size=self.payload.size, uploaded_at_ms=1,
        )  # fmt: skip
        receipt = Receipt(
            commitment=COMMITMENT, round=2, peer=PEER.public, verdict="accepted", reasons=(), checks=(),
            checkpoint="", payload_hash=self.payload.sha256, content_key="", terms="", seed="", root="", shards=(),
            eval_tokens=1, drop_mean=1, drop_low=1, drop_high=1, reference=1, floor=1, quality_ppm=1, units=1, mask=1,
            reward_msat=1, model_id="", losses=self.losses, previous="",
        )  # fmt: skip
        return msgspec.structs.replace(
            coordinator.view(COMMITMENT),
            upload=SETTLER.sign(UploadReceipt.tag, upload),
            receipt=ATTESTOR.sign(Receipt.tag, receipt) if self.judged else None,
        )


async def test_what_is_public_is_found_once_it_is_public(tmp_path: Path) -> None:
    """A checkpoint at once, a payload and its losses once judged, anything else never."""
    store = FileStore(tmp_path)
    stored = [await store.put(data) for data in (b"weights", b"sealed", b"losses", b"private")]
    books = Books(*stored[:3])
    clock = [0.0]
    rounds: Shared[int, RoundView] = Shared(books.round, ttl_s=1, clock=lambda: clock[0])
    submissions: Shared[tuple[int, str], SubmissionView] = Shared(books.submission, ttl_s=1, clock=lambda: clock[0])
    library = Library(rounds, submissions, store, depth=2, clock=lambda: clock[0])
    assert await library.checkpoint(stored[0].sha256) == b"weights"
    for ref in stored:
        with pytest.raises(NotFound):
            await library.object(ref.sha256)
    books.judged, books.phase = True, "done"
    clock[0] = 2.0
    assert await library.object(stored[1].sha256) == b"sealed"
    assert await library.object(stored[2].sha256) == b"losses"
    for unknown in (stored[0].sha256, stored[3].sha256):
        with pytest.raises(NotFound):
            await library.object(unknown)
    before, clock[0] = books.asked, 4.0
    assert await library.object(stored[1].sha256) == b"sealed"
    assert books.asked - before <= 2, "a round that is done is read once"


async def test_many_slow_readers_share_the_bytes(tmp_path: Path) -> None:
    """A thousand downloads of one checkpoint hold it in memory once, and each sends it in small pieces."""
    store = FileStore(tmp_path)
    checkpoint = await store.put(bytes(200_000))
    books = Books(checkpoint, checkpoint, checkpoint)
    clock = lambda: 0.0  # noqa: E731 - it stands still
    library = Library(
        Shared(books.round, ttl_s=1, clock=clock), Shared(books.submission, ttl_s=1, clock=clock), store, depth=8,
        clock=clock,
    )  # fmt: skip
    copies = await asyncio.gather(*(library.checkpoint(checkpoint.sha256) for _ in range(1_000)))
    assert len({id(copy) for copy in copies}) == 1
    sent = [piece async for piece in pieces(copies[0])]
    assert b"".join(sent) == bytes(200_000)
    assert max(map(len, sent)) <= 65_536
