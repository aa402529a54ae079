"""The text: splits that never share a byte, and draws that anyone can repeat."""

import pytest
import torch
from sparseloco.data import (
    BLOCK,
    draw,
    held_out_windows,
    hidden_shards,
    hidden_windows,
    load_corpus,
    split_corpus,
    train_batches,
    train_shard,
)


def test_the_splits_share_no_block() -> None:
    """A text whose every block is marked falls into three disjoint hands, 18 : 5 : 2, nothing lost."""
    text = b"".join(number.to_bytes(2, "big") * (BLOCK // 2) for number in range(100))
    corpus = split_corpus(text + b"rest")
    hands = [
        {hand[i : i + BLOCK] for i in range(0, len(hand), BLOCK)}
        for hand in (corpus.train, corpus.hidden, corpus.held_out)
    ]
    assert [len(hand) for hand in hands] == [72, 20, 8]
    assert len(set.union(*hands)) == 100


def test_pythons_topics_are_enough_to_train_and_judge() -> None:
    """About 336, 90 and 37 KB, and more hidden shards than one measurement takes."""
    corpus = load_corpus()
    assert len(corpus.train) > 250_000
    assert corpus.hidden_shard_count >= 32
    assert held_out_windows(corpus).shape[1] == 129


def test_a_shard_belongs_to_its_key() -> None:
    """The same key the same shard, another key another one, all from the training split."""
    corpus = load_corpus()
    mine = train_shard(corpus, b"mine")
    assert mine == train_shard(corpus, b"mine") != train_shard(corpus, b"yours")
    assert len(mine) == 28 * BLOCK
    assert all(mine[i : i + BLOCK] in corpus.train for i in range(0, len(mine), BLOCK))


def test_batches_repeat_for_the_same_round_and_differ_in_the_next() -> None:
    """H batches of (8, 129), each a run of the shard."""
    shard = train_shard(load_corpus(), b"mine")
    first, again, later = (list(train_batches(shard, b"mine", number, 2)) for number in (1, 1, 2))
    assert [tuple(batch.shape) for batch in first] == [(8, 129), (8, 129)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], later[0])
    assert bytes(first[0][0].tolist()) in shard


def test_hidden_shards_come_from_the_seed_alone_and_each_once() -> None:
    """Anyone with the seed draws the same shards."""
    corpus = load_corpus()
    drawn = hidden_shards(corpus, b"seed", 32)
    assert drawn == hidden_shards(corpus, b"seed", 32) != hidden_shards(corpus, b"other", 32)
    assert len(set(drawn)) == 32
    with pytest.raises(ValueError, match="pool"):
        hidden_shards(corpus, b"seed", corpus.hidden_shard_count + 1)


def test_hidden_shards_cover_different_windows() -> None:
    """No window is in two shards, and a shard outside the pool is an error."""
    corpus = load_corpus()
    windows = torch.cat([hidden_windows(corpus, shard) for shard in range(corpus.hidden_shard_count)])
    assert len({tuple(row) for row in windows[:, :-1].tolist()}) > 0.95 * len(windows)
    with pytest.raises(ValueError, match="outside"):
        hidden_windows(corpus, corpus.hidden_shard_count)


def test_a_draw_is_a_permutation_written_down_once() -> None:
    """A golden vector, so that another implementation can check itself."""
    assert sorted(draw(b"seed", 1000)) == list(range(1000))
    assert draw(b"seed", 8) == GOLDEN_DRAW


GOLDEN_DRAW = [0, 5, 4, 6, 7, 2, 3, 1]
