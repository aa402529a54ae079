"""Receiving a gradient: what is refused before a byte of it is read, how many at once, whether it is what was signed.

It keeps no payload and asks nobody.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator

import msgspec
from l402core.documents import Terms, UploadReceipt, commitment_of
from l402core.errors import Conflict, Exhausted, TooEarly, TooLarge, TooLate
from l402core.events import SubmissionView

from l402_gateway.problems import Meaningless
from l402_gateway.routes import Paid

UPLOADS_EACH = 2
"""At once: a connection that broke unseen, and the one that tries again."""


class Upload(msgspec.Struct, frozen=True):
    """What the headers of an upload claim. Hashes in hex."""

    payload_hash: str
    nonce: str
    length: int | None


class Places:
    """Room for so many uploads at once."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._receiving: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, commitment: str) -> Iterator[None]:
        """Room for one upload. One submission has few, or its slow uploads would keep all others out."""
        going = self._receiving.total()
        if going >= self._at_once:
            raise Exhausted("uploads_busy", f"{going} uploads are being received; send it again in a moment")
        if self._receiving[commitment] >= UPLOADS_EACH:
            raise Exhausted("upload_twice", "this submission is already being uploaded; send it again in a moment")
        self._receiving[commitment] += 1
        try:
            yield
        finally:
            self._receiving[commitment] -= 1
            self._receiving += Counter()  # drops those at zero


def may_upload(view: SubmissionView, terms: Terms, claimed: Upload, paid: Paid, *, now_ms: int) -> None:
    """Raises TooEarly, TooLate, TooLarge or Meaningless before a byte is read; the settler has the last word."""
    if view.phase == "commit":
        raise TooEarly("commits_open", "uploads begin once the round's commits are closed")
    if view.phase != "upload" or now_ms >= terms.upload_until_ms:
        raise TooLate("upload_closed", f"round {view.round} takes no more uploads")
    if view.state in ("opened", "offered", "locking"):
        raise TooEarly("not_locked", "the reward is not locked yet; keep the gradient until it is")
    if view.state != "locked":
        raise TooLate("upload_closed", f"this submission takes no upload any more: it is {view.state}")
    if claimed.length is not None and claimed.length > terms.payload_max_bytes:
        raise TooLarge(
            "payload_too_large", f"a payload of {claimed.length} bytes is above the limit of {terms.payload_max_bytes}"
        )
    expected = commitment_of(
        payload_hash=claimed.payload_hash, peer=view.peer, round_=view.round, checkpoint=terms.checkpoint.sha256,
        nonce=claimed.nonce,
    )  # fmt: skip
    if expected != paid.commitment:
        raise Meaningless("commitment_mismatch", "payload hash and nonce do not give the commitment of this submission")


def is_there(view: SubmissionView, payload_hash: str) -> bool:
    """Whether this very payload is there already. Raises Conflict for another one."""
    if view.upload is None:
        return False
    receipt = msgspec.json.decode(view.upload.body, type=UploadReceipt)
    if receipt.payload_hash != payload_hash:
        raise Conflict("other_payload", "another payload was uploaded for this submission")
    return True


async def as_claimed(chunks: AsyncIterable[bytes], claimed: str) -> AsyncIterator[bytes]:
    """The same chunks. Raises Meaningless at their end where they are not what was signed, so that nothing is kept."""
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != claimed:
        raise Meaningless("payload_hash_mismatch", "the body's sha256 is not the one that L402-Payload-Hash names")
