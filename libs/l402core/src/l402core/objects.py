"""The object store behind claim checks: bytes by their sha256, in a folder or in S3. It refuses to return altered bytes."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterable
from pathlib import Path
from typing import IO, Protocol

import anyio.to_thread

from l402core.documents import ObjectRef
from l402core.errors import Contradiction, TooLarge, Unavailable


class ObjectStore(Protocol):
    """Where large bytes lie."""

    async def put(self, data: bytes) -> ObjectRef: ...

    async def put_stream(self, chunks: AsyncIterable[bytes], *, max_bytes: int) -> ObjectRef:
        """Store a stream. Raises TooLarge beyond `max_bytes`, with nothing kept."""
        ...

    async def get(self, ref: ObjectRef) -> bytes:
        """The bytes, checked against the reference. Raises Unavailable, Contradiction."""
        ...

    async def look(self, *, writing: bool) -> None:
        """Whether it takes bytes now, or for who only reads, gives them. Raises Unavailable where it does not."""
        ...


class FileStore:
    """Objects as files named by their sha256 below one folder; written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def put(self, data: bytes) -> ObjectRef:
        """Store bytes. Raises Unavailable when the disk does not take them."""

        return await self.put_stream(_one(data), max_bytes=len(data))

    async def put_stream(self, chunks: AsyncIterable[bytes], *, max_bytes: int) -> ObjectRef:
        """Store a stream of at most `max_bytes`. Raises TooLarge, Unavailable; then nothing is kept."""
        part = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            with part.open("wb") as file:
                sha256, size = await spool(chunks, file, max_bytes=max_bytes)
                file.flush()
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
            part.replace(self._folder / sha256)
        except OSError as error:
            raise Unavailable("disk", f"the object store does not take bytes: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
        return ObjectRef(uri=(self._folder / sha256).as_uri(), sha256=sha256, size=size)

    async def get(self, ref: ObjectRef) -> bytes:
        """The object's bytes. Raises Unavailable when missing, Contradiction when altered."""
        path = self._folder / bytes.fromhex(ref.sha256).hex()
        try:
            data = await anyio.to_thread.run_sync(path.read_bytes)
        except OSError as error:
            raise Unavailable(
                "object_missing", f"object {ref.sha256[:16]}… cannot be read: {error.strerror}"
            ) from error
        return unaltered(data, ref)

    async def look(self, *, writing: bool) -> None:
        """As it would be for an object: a byte that is put down and taken away, or a look into the folder."""
        try:
            await anyio.to_thread.run_sync(self._put_down if writing else self._look_into, abandon_on_cancel=True)
        except OSError as error:
            raise Unavailable("disk", f"the object store does not answer: {error.strerror}") from error

    def _put_down(self) -> None:
        part = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            part.write_bytes(b".")
        finally:
            part.unlink(missing_ok=True)

    def _look_into(self) -> None:
        with os.scandir(self._folder) as entries:
            next(entries, None)


async def _one(data: bytes) -> AsyncIterable[bytes]:
    yield data


async def spool(chunks: AsyncIterable[bytes], file: IO[bytes], *, max_bytes: int) -> tuple[str, int]:
    """Write a stream into a file and tell its sha256 and size. Raises TooLarge beyond `max_bytes`."""
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge("payload_too_large", f"more than {max_bytes} bytes")
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest(), size


def unaltered(data: bytes, ref: ObjectRef) -> bytes:
    """The bytes, if they are those of the reference. Raises Contradiction."""
    if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
        raise Contradiction("object_altered", f"object {ref.sha256[:16]}… is not the bytes that were stored")
    return data


def open_store(url: str) -> ObjectStore:
    """The store behind a URL. Raises ValueError for a scheme that is not served."""
    if url.startswith("s3://"):
        # only where it is used: a peer and a laptop need no S3 client
        from l402core.objects_s3 import S3Store  # noqa: PLC0415

        return S3Store(url)
    if not url.startswith("file://"):
        raise ValueError(f"{url!r}: only file:// and s3:// are served")
    return FileStore(Path(url.removeprefix("file://")))
