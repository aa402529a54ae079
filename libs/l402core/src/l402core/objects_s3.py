"""Objects in an S3 bucket, one key per sha256. It believes neither the bucket nor the network: what comes back is hashed.

Endpoint, region and credentials come from the variables every S3 client reads (AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or from the instance's role. obstore rather than boto: async, typed, one wheel
without dependencies, with multipart uploads and credential refresh.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterable
from datetime import timedelta
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from l402core.documents import ObjectRef
from l402core.errors import Contradiction, Unavailable
from l402core.objects import spool, unaltered

_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
"""A stream that is longer waits on disk until its sha256, and so its key, is known."""
_CALL_TIMEOUT: Final = timedelta(seconds=120)
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_RETRIES: Final = 3
_RETRY_TIMEOUT: Final = timedelta(seconds=30)
_LOOK_TIMEOUT: Final = timedelta(seconds=5)
_LOOK_KEY: Final = "ready"
"""No sha256: what is put there to see whether the bucket takes bytes."""
_REFUSALS: Final = (BaseError, OSError)
"""obstore says some of them with the builtin of the same meaning: FileNotFoundError, PermissionError."""


class S3Store:
    """Objects as keys below one prefix of a bucket; S3 makes each visible whole or not at all."""

    def __init__(self, url: str) -> None:
        """`url` is s3://bucket/prefix. Raises ValueError for one without a bucket."""
        if not url.removeprefix("s3://").strip("/"):
            raise ValueError(f"{url!r}: expected s3://bucket or s3://bucket/prefix")
        self._url = url.rstrip("/")
        self._bucket = self._client(_CALL_TIMEOUT, _RETRIES)
        self._looking = self._client(_LOOK_TIMEOUT, 0)

    def _client(self, timeout: timedelta, retries: int) -> Bucket:
        return Bucket.from_url(
            self._url,
            client_options={
                "timeout": timeout,
                "connect_timeout": _CONNECT_TIMEOUT,
                # whoever names an endpoint without TLS means it
                "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
            },
            retry_config={"max_retries": retries, "retry_timeout": _RETRY_TIMEOUT},
        )

    async def put(self, data: bytes) -> ObjectRef:
        """Store bytes. Raises Unavailable when the bucket does not take them."""
        return await self.put_stream(_one(data), max_bytes=len(data))

    async def put_stream(self, chunks: AsyncIterable[bytes], *, max_bytes: int) -> ObjectRef:
        """Store a stream of at most `max_bytes`. Raises TooLarge, Unavailable; then nothing is kept."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
            try:
                sha256, size = await spool(chunks, file, max_bytes=max_bytes)
            except OSError as error:
                raise Unavailable(
                    "disk", f"an upload cannot wait for its hash on this disk: {error.strerror}"
                ) from error
            file.seek(0)
            try:
                await obstore.put_async(self._bucket, sha256, file)
            except _REFUSALS as error:
                raise Unavailable("objects_unavailable", f"the bucket does not take bytes: {_said(error)}") from error
        return ObjectRef(uri=f"{self._url}/{sha256}", sha256=sha256, size=size)

    async def get(self, ref: ObjectRef) -> bytes:
        """The object's bytes. Raises Unavailable when missing, Contradiction when altered."""
        try:
            found = await obstore.get_async(self._bucket, bytes.fromhex(ref.sha256).hex())
            if found.meta["size"] != ref.size:  # before it is read: nothing larger than was promised enters memory
                raise Contradiction("object_altered", f"object {ref.sha256[:16]}… has not the size that was stored")
            return unaltered(bytes(await found.bytes_async()), ref)
        except FileNotFoundError as error:
            raise Unavailable("object_missing", f"object {ref.sha256[:16]}… is not in the bucket") from error
        except _REFUSALS as error:
            raise Unavailable("objects_unavailable", f"the bucket does not answer: {_said(error)}") from error

    async def look(self, *, writing: bool) -> None:
        """One small request, not tried again. Raises Unavailable."""
        try:
            if writing:
                await obstore.put_async(self._looking, _LOOK_KEY, b".")
                return
            with contextlib.suppress(FileNotFoundError):  # nobody has written yet: it answers all the same
                await obstore.head_async(self._looking, _LOOK_KEY)
        except _REFUSALS as error:
            raise Unavailable("objects_unavailable", f"the bucket does not answer: {_said(error)}") from error


async def _one(data: bytes) -> AsyncIterable[bytes]:
    yield data


def _said(error: Exception) -> str:
    """Its first line: the rest is a dump of the client's state."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
