"""The text and what is drawn from it, as bytes and numbers: the half of `data` that whoever holds no tensor needs.

Blocks of 4,096 bytes are dealt in a fixed pattern, 18 of 25 to training, 5 to the hidden pool, 2 held out, so the
splits never share a byte and all look like the whole. Every draw is SHA-256 in counter mode: anyone can repeat it.
It refuses to know torch, and it never downloads anything.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

from sparseloco.defaults import CONTEXT, SHARD_WINDOWS, TRAIN_SHARD_BLOCKS

BLOCK = 4096
_PATTERN = "THTTTOTTHTTTTHTTTTHTTOTHT"
"""One letter per block, repeated: Training, Hidden, held Out."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """The three splits, as bytes that never overlap."""

    train: bytes
    hidden: bytes
    held_out: bytes
    sha256: bytes

    @property
    def hidden_shard_count(self) -> int:
        """Shards in the hidden pool."""
        return (len(self.hidden) - 1) // (CONTEXT * SHARD_WINDOWS)


@lru_cache(maxsize=1)
def load_corpus() -> Corpus:
    """CPython's `pydoc_data.topics`, keys sorted, as UTF-8. It differs between Python releases; compare `sha256`."""
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    return split_corpus("\n\n".join(topics[name] for name in sorted(topics)).encode())


def split_corpus(text: bytes) -> Corpus:
    """Deal the whole blocks of `text`; a shorter rest is left out."""
    hands = {letter: bytearray() for letter in "THO"}
    for number in range(len(text) // BLOCK):
        hands[_PATTERN[number % len(_PATTERN)]] += text[number * BLOCK : (number + 1) * BLOCK]
    return Corpus(bytes(hands["T"]), bytes(hands["H"]), bytes(hands["O"]), hashlib.sha256(text).digest())


def train_shard(corpus: Corpus, key: bytes, blocks: int = TRAIN_SHARD_BLOCKS) -> bytes:
    """A peer's own shard: `blocks` blocks of the training split, drawn by key = H(terms hash ‖ public key)."""
    total = len(corpus.train) // BLOCK
    chosen = sorted(draw(b"train\n" + key, total)[:blocks])
    return b"".join(corpus.train[number * BLOCK : (number + 1) * BLOCK] for number in chosen)


def shard_key(terms_hash: bytes, peer: bytes) -> bytes:
    """H(terms hash ‖ public key), 32 bytes: draws a peer's own part of the data, so that no two train on the same."""
    return hashlib.sha256(terms_hash + peer).digest()


def own_windows(seed: bytes, peer: bytes, windows: int, count: int) -> tuple[int, ...]:
    """Which of the `windows` that its terms assign to a peer are looked at: whole batches of at most `count`."""
    taken = min(windows, count) // SHARD_WINDOWS * SHARD_WINDOWS
    return tuple(sorted(draw(b"own\n" + seed + peer, windows)[:taken]))


def hidden_shards(corpus: Corpus, seed: bytes, count: int) -> tuple[int, ...]:
    """`count` shard ids drawn without repetition from the hidden pool. Raises ValueError where the pool is smaller."""
    if not 1 <= count <= corpus.hidden_shard_count:
        raise ValueError(f"{count} shards asked of a pool of {corpus.hidden_shard_count}")
    return tuple(draw(b"hidden\n" + seed, corpus.hidden_shard_count)[:count])


def draw(seed: bytes, count: int) -> list[int]:
    """A permutation of 0..count-1 by Fisher and Yates from SHA-256(seed ‖ counter); its modulo bias is below 2^-32."""
    order, stream = list(range(count)), numbers(seed)
    for last in range(count - 1, 0, -1):
        other = next(stream) % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def numbers(seed: bytes) -> Iterator[int]:
    """64-bit numbers; against ranges below 2^32 the bias of a remainder is below 2^-32."""
    for counter in range(1 << 32):
        digest = hashlib.sha256(seed + counter.to_bytes(4, "big")).digest()
        yield from (int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8))
