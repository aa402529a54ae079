"""The names of the attacks, for whoever must not import torch. What each does is said where it is a class."""

from typing import Final, Literal, get_args

Adversary = Literal[
    # work of one's own, misused
    "sign-flip", "noise", "zero", "huge", "scaled-up", "few-steps", "half-work", "hidden-pool", "stale-base", "other-model",
    # work of others
    "accomplice", "noised-copy", "drowned-copy", "scaled-copy", "flipped-copy", "permuted-copy", "mixture", "patchwork",
    "replay", "old-replay",
    # bytes that are none of this round's
    "not-finite", "twice-indexed", "truncated", "oversize", "other-round", "stale-header", "other-header",
    "unpacked-copy",
    # a submission that is not carried through
    "late", "no-upload", "unlike",
    # one owner with many identities
    "pool-copies", "pool-noised", "pool-slices", "pool-quick", "pool-disjoint", "pool-harm",
]  # fmt: skip
Kind = Literal["honest", Adversary]
HONEST: Final = "honest"
ADVERSARIES: tuple[Adversary, ...] = get_args(Adversary)
HOLD_WORK = frozenset({"scaled-up", "half-work", "hidden-pool", "stale-base", "few-steps", "pool-copies", "pool-noised",
                       "pool-slices", "pool-quick", "pool-disjoint"})  # fmt: skip
"""Attacks with some work of their own in them, which is paid for what it is worth; of a pool, at least its owner's."""
