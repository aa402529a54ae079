"""What is computed again instead of stored: seeds, shards, preimages. Pure; it holds no key of its own."""

import hashlib
import hmac
from typing import Any

from l402core.documents import Offer, Terms
from l402core.pledges import Announcement
from l402core.secret import Secret
from l402core.signing import tagged_hash
from sparseloco.corpus import Corpus, hidden_shards, own_windows, shard_key
from sparseloco.defaults import CONTEXT, OWN_WINDOWS, SHARD_WINDOWS

SHARD_TOKENS = CONTEXT * SHARD_WINDOWS


def round_seed(seed_key: Secret, round_: int, checkpoint: str) -> bytes:
    """HMAC(seed key, round ‖ checkpoint), 32 bytes: fixed before any gradient exists, published once it is judged."""
    return hmac.digest(seed_key.reveal(), b"seed" + round_.to_bytes(8, "big") + bytes.fromhex(checkpoint), "sha256")


def seed_commitment(seed: bytes) -> str:
    """What binds the attestor to a round's seed, hex."""
    return hashlib.sha256(seed).hexdigest()


def drawn_shards(corpus: Corpus, seed: bytes, root: str, eval_tokens: int) -> tuple[int, ...]:
    """The hidden shards of a round, from H(round seed ‖ root): nobody knows them before the commitments are closed."""
    count = min(max(1, eval_tokens // SHARD_TOKENS), corpus.hidden_shard_count)
    return hidden_shards(corpus, tagged_hash("l402-train/shards/1", seed + bytes.fromhex(root)), count)


def own_question(terms: Terms, seed: str, peer: str) -> dict[str, Any]:
    """Which windows assigned to a peer its update is tried on, as fields of the request; `seed` was nobody's to know."""
    recipe, key = terms.recipe, bytes.fromhex(peer)
    return {
        "own_key": shard_key(bytes.fromhex(terms.digest()), key).hex(),
        "own_windows": own_windows(bytes.fromhex(seed), key, recipe.inner_steps * recipe.batch, OWN_WINDOWS),
        "own_batch": recipe.batch,
    }


def yardstick_name(round_: int, checkpoint: str) -> str:
    """The oracle's own update of a round, hex: it stands for a key and a commitment, and draws its training data."""
    return tagged_hash("l402-train/yardstick/1", round_.to_bytes(8, "big") + bytes.fromhex(checkpoint)).hex()


def yardstick_question(terms: Terms, seed: str, name: str) -> dict[str, Any]:
    """As `own_question`, for the oracle's own update, which is trained before there are terms to draw its data by."""
    recipe, key = terms.recipe, bytes.fromhex(name)
    windows = own_windows(bytes.fromhex(seed), key, recipe.inner_steps * recipe.batch, OWN_WINDOWS)
    return {"own_key": name, "own_windows": windows, "own_batch": recipe.batch}


def sponsor_shards(
    corpus: Corpus, seed: bytes, root: str, payment_hash_: str, *, pay: tuple[int, ...]
) -> tuple[int, ...]:
    """The hidden shards that a sponsor's tranche is judged on: drawn apart, and none that pay was measured on.

    As many as the pool has besides: by default 32 of its 43 measure pay, and 11 a tranche. None where it is used up.
    """
    drawn = tagged_hash("l402-train/sponsor-shards/1", seed + bytes.fromhex(root) + bytes.fromhex(payment_hash_))
    order = hidden_shards(corpus, drawn, corpus.hidden_shard_count)
    return tuple(shard for shard in order if shard not in pay)


def tranche_preimage(key: Secret, announced: Announcement, index: int) -> Secret:
    """HMAC-SHA256(K, "tranche" ‖ sha256(announcement's core) ‖ index as one byte), 32 bytes. Never stored, never logged."""
    return Secret(hmac.digest(key.reveal(), b"tranche" + announced.core() + bytes([index]), "sha256"))


def preimage(key: Secret, offer: Offer, index: int) -> Secret:
    """HMAC-SHA256(K, "reward" ‖ sha256(offer core) ‖ index as one byte), 32 bytes. Never stored, never logged."""
    core = hashlib.sha256(offer.core()).digest()
    return Secret(hmac.digest(key.reveal(), b"reward" + core + bytes([index]), "sha256"))


def payment_hash(preimage_: Secret) -> str:
    """The hash that a hold invoice is made on, hex."""
    return hashlib.sha256(preimage_.reveal()).hexdigest()
