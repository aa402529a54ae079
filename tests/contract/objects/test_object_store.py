"""A folder and a bucket are the same store: whole or not at all, bounded, and never a byte other than what was put."""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import obstore
import pytest
from l402core.errors import Contradiction, TooLarge, Unavailable
from l402core.objects import ObjectStore, open_store
from moto.server import ThreadedMotoServer
from obstore.store import S3Store as Bucket


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server of its own on a free port of the loopback address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Place(NamedTuple):
    """A store, and what only its owner can do behind its back."""

    store: ObjectStore
    names: Callable[[], set[str]]
    overwrite: Callable[[str, bytes], object]
    remove: Callable[[str], object]


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind in turn, empty."""
    if request.param == "file":
        return Place(
            open_store(tmp_path.as_uri()),
            lambda: set(os.listdir(tmp_path)),  # noqa: PTH208 - names, hidden ones too
            lambda name, data: (tmp_path / name).write_bytes(data),
            lambda name: (tmp_path / name).unlink(),
        )
    url = request.getfixturevalue("bucket")
    bucket = Bucket.from_url(url, client_options={"allow_http": True})
    return Place(
        open_store(url + "/"),
        lambda: {meta["path"] for page in obstore.list(bucket) for meta in page},
        lambda name, data: obstore.put(bucket, name, data),
        lambda name: obstore.delete(bucket, name),
    )


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of a new bucket, and the variables by which S3's clients find it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    name = f"bucket-{secrets.token_hex(8)}"
    httpx.put(f"{endpoint}/{name}").raise_for_status()
    return f"s3://{name}/here"


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    """`count` chunks of `size` bytes."""
    for index in range(count):
        yield bytes([index % 256]) * size


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_what_was_put_is_what_comes_back(place: Place, size: int) -> None:
    """Twice put is once kept, under its sha256."""
    data = os.urandom(size)
    ref = await place.store.put(data)
    assert await place.store.put(data) == ref
    assert await place.store.get(ref) == data
    assert place.names() == {ref.sha256}
    assert ref.uri.endswith("/" + ref.sha256)


async def test_a_long_stream_is_kept_whole(place: Place) -> None:
    """Longer than what waits in memory, and than one part of an upload in parts."""
    ref = await place.store.put_stream(chunks(20, 1_000_000), max_bytes=20_000_000)
    assert ref.size == 20_000_000
    assert await place.store.get(ref) == b"".join([chunk async for chunk in chunks(20, 1_000_000)])


async def test_a_stream_beyond_its_limit_leaves_nothing(place: Place) -> None:
    """Not even a part."""
    with pytest.raises(TooLarge):
        await place.store.put_stream(chunks(10, 100), max_bytes=999)
    assert place.names() == set()


async def test_a_stream_that_breaks_off_leaves_nothing(place: Place) -> None:
    """The sender's error is passed on as it is."""

    async def breaks() -> AsyncIterator[bytes]:
        yield b"begun"
        raise EOFError("the sender went away")

    with pytest.raises(EOFError):
        await place.store.put_stream(breaks(), max_bytes=1_000)
    assert place.names() == set()


@pytest.mark.parametrize("altered", [b"hellO", b"hello!", b""])
async def test_altered_bytes_are_a_contradiction(place: Place, altered: bytes) -> None:
    """Of the same length, longer or shorter."""
    ref = await place.store.put(b"hello")
    place.overwrite(ref.sha256, altered)
    with pytest.raises(Contradiction):
        await place.store.get(ref)


async def test_a_missing_object_is_unavailable(place: Place) -> None:
    """It may be on its way; it is not the peer's fault."""
    ref = await place.store.put(b"hello")
    place.remove(ref.sha256)
    with pytest.raises(Unavailable) as missing:
        await place.store.get(ref)
    assert missing.value.code == "object_missing"


async def test_a_reference_never_leads_out_of_the_store(place: Place) -> None:
    """A key is 64 hex digits or nothing."""
    ref = await place.store.put(b"hello")
    with pytest.raises(ValueError, match="non-hexadecimal"):
        await place.store.get(msgspec.structs.replace(ref, sha256="../" + ref.sha256[3:]))


@pytest.mark.usefixtures("bucket")
async def test_a_bucket_that_is_not_there_takes_nothing() -> None:
    """Unavailable: to be tried again, when somebody has made it."""
    with pytest.raises(Unavailable, match="does not take"):
        await open_store("s3://elsewhere/here").put(b"hello")


@pytest.mark.parametrize("url", ["s3://", "s3:///", "http://somewhere", "objects"])
def test_a_store_that_is_not_served_is_refused(url: str) -> None:
    """At the start, with what was expected."""
    with pytest.raises(ValueError, match="s3://"):
        open_store(url)


async def of_the_bucket(method: str, endpoint: str, url: str) -> None:
    """Make or delete it."""
    async with httpx.AsyncClient() as client:
        (await client.request(method, f"{endpoint}/{url.split('/')[2]}")).raise_for_status()


# --- readiness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writing", [True, False])
async def test_a_look_finds_it_there_and_leaves_no_object(place: Place, writing: bool) -> None:
    """Before anything was put, and again; what it leaves in a bucket has no object's name."""
    for _ in range(2):
        await place.store.look(writing=writing)
    assert place.names() <= {"ready"}


@pytest.mark.parametrize("writing", [True, False])
async def test_a_folder_that_is_gone_does_not_answer_until_it_is_back(tmp_path: Path, writing: bool) -> None:
    """Moved away, or a file in its place; nobody makes a new one."""
    folder, away = tmp_path / "objects", tmp_path / "away"
    store = open_store(folder.as_uri())
    folder.rename(away)
    with pytest.raises(Unavailable):
        await store.look(writing=writing)
    assert not folder.exists()
    folder.write_text("no folder")
    with pytest.raises(Unavailable):
        await store.look(writing=writing)
    folder.unlink()
    away.rename(folder)
    await store.look(writing=writing)


@pytest.mark.parametrize("writing", [True, False])
async def test_a_bucket_that_is_gone_does_not_answer_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, bucket: str, writing: bool
) -> None:
    """Its server is stopped, and another answers at the same port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    await of_the_bucket("PUT", f"http://{host}:{port}", bucket)
    store = open_store(bucket)
    await store.look(writing=writing)
    server.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        await store.look(writing=writing)
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    again.start()
    await store.look(writing=writing)
    again.stop()


async def test_a_bucket_that_was_deleted_takes_nothing(bucket: str, endpoint: str) -> None:
    """Its server answers, and refuses."""
    store = open_store(bucket)
    await of_the_bucket("DELETE", endpoint, bucket)
    with pytest.raises(Unavailable):
        await store.look(writing=True)
