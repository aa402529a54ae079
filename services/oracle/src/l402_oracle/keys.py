"""The key files of both roles. It refuses files that others may read, and prints nothing of their contents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from l402core.keyfiles import KeyFileError, key_bytes, read_key_file, ring_bytes
from l402core.rings import SigningRing, UnsealingRing
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import SigningKey

from l402_oracle.derive import round_seed, seed_commitment


class _AttestorFile(msgspec.Struct, forbid_unknown_fields=True):
    signing_key: Secret
    seed_key: Secret
    preimage_keys: dict[str, Secret]
    answers_key: Secret
    former_signing_keys: tuple[Secret, ...] = ()
    former_seed_keys: tuple[Secret, ...] = ()
    former_answers_keys: tuple[Secret, ...] = ()


class _WorkerFile(msgspec.Struct, forbid_unknown_fields=True):
    reading_key: Secret
    answers_to: str
    former_reading_keys: tuple[Secret, ...] = ()


class AttestorKeys:
    """What the attestor alone holds: keys to sign, for seeds and for workers' answers, and preimage keys by id."""

    def __init__(
        self, signing: SigningKey, seed: Secret, preimages: dict[str, Secret], answers: UnsealingKey, *,
        former_signing: Sequence[SigningKey] = (), former_seeds: Sequence[Secret] = (),
        former_answers: Sequence[UnsealingKey] = (),
    ) -> None:  # fmt: skip
        self.signing = SigningRing.of(*former_signing, signing)
        self.seeds = (*former_seeds, seed)
        self.preimages = preimages
        self.answers = UnsealingRing.of(*former_answers, answers)

    def newest(self) -> str:
        """The last id of the file: the key for new offers."""
        return list(self.preimages)[-1]

    def seed_of(self, round_: int, checkpoint: str, committed: str) -> bytes:
        """The seed that the round was announced with, by whichever key made it; the newest key's where none did."""
        made = [round_seed(key, round_, checkpoint) for key in reversed(self.seeds)]
        return next((seed for seed in made if seed_commitment(seed) == committed), made[0])


def read_attestor_keys(path: Path) -> AttestorKeys:
    """Raises KeyFileError."""
    file = read_key_file(path, _AttestorFile)
    if not file.preimage_keys:
        raise KeyFileError(f"{path.name} has no preimage key")
    signing = ring_bytes(path, "signing_key", file.former_signing_keys, file.signing_key)
    seeds = ring_bytes(path, "seed_key", file.former_seed_keys, file.seed_key)
    answers = ring_bytes(path, "answers_key", file.former_answers_keys, file.answers_key)
    return AttestorKeys(
        SigningKey(signing[-1]),
        Secret(seeds[-1]),
        {name: Secret(key_bytes(path, f"preimage key {name}", value)) for name, value in file.preimage_keys.items()},
        UnsealingKey(answers[-1]),
        former_signing=[SigningKey(key) for key in signing[:-1]],
        former_seeds=[Secret(key) for key in seeds[:-1]],
        former_answers=[UnsealingKey(key) for key in answers[:-1]],
    )


@dataclass(frozen=True)
class WorkerKeys:
    """What a worker opens payloads with, oldest first, and to whom it seals what only the attestor may know."""

    reading: tuple[UnsealingKey, ...]
    answers_to: str
    """X25519 public key, hex."""


def read_worker_keys(path: Path) -> WorkerKeys:
    """Raises KeyFileError."""
    file = read_key_file(path, _WorkerFile)
    reading = ring_bytes(path, "reading_key", file.former_reading_keys, file.reading_key)
    return WorkerKeys(
        tuple(map(UnsealingKey, reading)), key_bytes(path, "answers_to", Secret(file.answers_to.encode())).hex()
    )
