"""Rings of one service's keys: the newest is for what begins, the former ones for what began under them. No file here."""

from collections.abc import Callable, Sequence

from l402core.errors import PeerError, Unavailable
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey


class SigningRing:
    """BIP340 keys, oldest first, as `source` tells them each time. What belongs to a round is signed as its terms say."""

    def __init__(self, source: Callable[[], Sequence[SigningKey]]) -> None:
        self._source = source

    @classmethod
    def of(cls, *keys: SigningKey) -> "SigningRing":
        """These, for ever."""
        return cls(lambda: keys)

    @property
    def newest(self) -> SigningKey:
        """For what begins now."""
        return self._source()[-1]

    @property
    def only(self) -> bool:
        """Whether there is one key, so that nobody has to ask which."""
        return len(self._source()) == 1

    def named(self, public: str) -> SigningKey:
        """The key that a document names. Raises Unavailable for one that is not here: an operator may bring it back."""
        for key in self._source():
            if key.public == public:
                return key
        raise Unavailable("unknown_key", f"the signing key {public[:16]}… is not in the key file")

    def holds(self, public: str) -> bool:
        """Whether it is one of ours."""
        return any(key.public == public for key in self._source())


class UnsealingRing:
    """X25519 keys, oldest first. A sealed box does not say whose it is: the newest is tried first."""

    def __init__(self, source: Callable[[], Sequence[UnsealingKey]]) -> None:
        self._source = source

    @classmethod
    def of(cls, *keys: UnsealingKey) -> "UnsealingRing":
        """These, for ever."""
        return cls(lambda: keys)

    @property
    def public(self) -> str:
        """What is to be sealed to us from now on."""
        return self._source()[-1].public

    def unseal(self, data: bytes) -> bytes:
        """Open a sealed box with whichever key fits. Raises PeerError when it was sealed to none of them."""
        for key in reversed(self._source()):
            try:
                return key.unseal(data)
            except PeerError:
                continue
        raise PeerError("unsealable", "not a sealed box for any key of ours")
