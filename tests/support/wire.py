"""Reads all that crossed the bus of a network that was overheard (`Plan.overheard`), as nats-server's log tells it.

Work that is acknowledged, and questions with their answers, are in no stream and on no disk otherwise.
"""

from l402train.folder import Folder


def is_kept(folder: Folder) -> bool:
    """Whether what the bus and the cache were told is on the disk."""
    return b"MSG_PAYLOAD" in said(folder) and any(folder.redis.rglob("*.aof"))


def said(folder: Folder) -> bytes:
    """All of it."""
    return folder.log("nats").read_bytes()


def said_before(folder: Folder, subject: str) -> bytes:
    """All that was said until anybody first said this. It was said."""
    before, found, _ = said(folder).partition(b"PUB " + subject.encode())
    assert found, f"nobody said {subject}"
    return before


def heard(folder: Folder, *subjects: str) -> bool:
    """Whether messages of all these subjects were overheard, each with what it carried."""
    text = said(folder)
    return b"MSG_PAYLOAD" in text and all(b"MSG " + subject.encode() in text for subject in subjects)
