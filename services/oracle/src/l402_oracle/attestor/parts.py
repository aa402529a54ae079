"""What the attestor needs of the world, and its rules, in one frozen bundle. It acts on none of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from l402core.documents import ObjectRef
from l402core.errors import PeerError, Unavailable
from l402core.outbox import Database
from l402core.secret import Secret
from l402core.succession import Trusted
from sparseloco.corpus import Corpus

from l402_oracle.keys import AttestorKeys


class Objects(Protocol):
    """The object store, to read sketches."""

    async def get(self, ref: ObjectRef) -> bytes:
        """The bytes. Raises Unavailable, Contradiction."""
        ...


class Heights(Protocol):
    """A source of block heights that depends on nobody else's word."""

    def recent(self) -> int | None:
        """The height, or None when none was seen lately."""
        ...


@dataclass(frozen=True)
class Parts:
    """Keys, database, store, heights, corpus, clock and ids."""

    database: Database
    objects: Objects
    heights: Heights
    keyring: Callable[[], AttestorKeys]
    """As the key file is now."""
    corpus: Corpus
    settler: Trusted
    chosen_key_id: str
    """The preimage key of new offers; '' for the newest of the file."""
    init_seed: int
    expiry_margin_blocks: int
    aggregate_places: int
    """Accepted updates that enter the aggregate at most."""
    yardstick: bool
    """Whether coming rounds have an update of our own, beside which the others are judged."""
    now_ms: Callable[[], int]
    new_id: Callable[[], str]

    @property
    def keys(self) -> AttestorKeys:
        """Those of now."""
        return self.keyring()

    @property
    def key_id(self) -> str:
        """The preimage key of new offers."""
        return self.chosen_key_id or self.keys.newest()

    def seed(self, number: int, checkpoint: str, committed: str = "") -> bytes:
        """The seed that the round was announced with, computed again; a new round's, where nothing is committed yet."""
        return self.keys.seed_of(number, checkpoint, committed)

    def opened(self, box: bytes) -> bytes:
        """What a worker sealed to us. Raises Unavailable for no key of ours: an operator may bring one back."""
        try:
            return self.keys.answers.unseal(box)
        except PeerError as error:
            raise Unavailable(
                "unknown_key", "a worker's answer is sealed to a key that is not in the key file"
            ) from error

    def content_key(self, sealed: str) -> str:
        """A payload's, hex, as a worker told it; '' where it told none. Raises Unavailable."""
        try:
            return self.opened(bytes.fromhex(sealed)).hex() if sealed else ""
        except ValueError as error:
            raise Unavailable("sealed_key", "a worker's answer is not hex") from error

    def preimage_key(self, key_id: str) -> Secret:
        """Raises Unavailable for a key id that is not in the file: an operator may bring it back."""
        key = self.keys.preimages.get(key_id)
        if key is None:
            raise Unavailable("unknown_key", f"preimage key {key_id!r} is not in the key file")
        return key
