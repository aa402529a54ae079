"""Who follows whom: a key hands over to the next by its signature, so that one pinned key vouches for all that follow.

It knows no holder's secret. The file of hand-overs is public; what it says is believed only as far as it is signed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from l402core.errors import L402Error, Unauthorized
from l402core.keyfiles import KeyFileError
from l402core.signing import Signed, open_signed
from l402core.watched import Watched

Role = Literal["settler", "attestor", "reading"]
HAND_OVERS = "Public file of signed hand-overs to newer keys, read again when it is replaced; none: nobody hands over."
"""What each service says of that knob."""
SAID_MAX = 64
"""Hand-overs that one document or file may carry."""


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """From one key to the next, signed by the former; a reading key, which cannot sign, by the oracle's signing key."""

    tag: ClassVar[str] = "l402-train/hand-over/1"

    role: Role
    former: str
    following: str
    at_ms: int


class Succession(msgspec.Struct, frozen=True, kw_only=True):
    """The public file beside the key files: every hand-over, oldest first, and the keys that are trusted no more."""

    said: tuple[Signed, ...] = ()
    retired: frozenset[str] = frozenset()

    def keys(self, role: Role, pinned: str, signers: Iterable[str] = ()) -> tuple[str, ...]:
        """Those that are trusted, oldest first: the pinned one and its heirs, without the retired."""
        return tuple(key for key in heirs(self.said, role, pinned, signers) if key not in self.retired)


class Trusted:
    """One pinned key of a party, and its heirs by the file as it is now. Without a file there are none."""

    def __init__(
        self, role: Role, pinned: str, told: Callable[[], Succession], again: Callable[[], Succession]
    ) -> None:
        self.role: Role = role
        self._pinned, self._told, self._again = pinned, told, again

    @classmethod
    def alone(cls, role: Role, pinned: str) -> "Trusted":
        """The pinned key for ever."""
        return cls(role, pinned, Succession, Succession)

    @property
    def newest(self) -> str:
        """The key of what begins now; the pinned one where all were retired, so that it is refused by name."""
        return (self._told().keys(self.role, self._pinned) or (self._pinned,))[-1]

    def check(self, signer: str) -> str:
        """The signer, where we trust it. Raises Unauthorized."""
        if signer in self._told().keys(self.role, self._pinned) or signer in self._again().keys(
            self.role, self._pinned
        ):
            return signer
        raise Unauthorized(
            "wrong_signer", f"signed by {signer[:16]}…, which is not the {self.role}'s key, nor its heir"
        )


def heirs(said: Iterable[Signed], role: Role, pinned: str, signers: Iterable[str] = ()) -> tuple[str, ...]:
    """The pinned key and those it leads to, oldest first. Of two hand-overs by one key the first counts.

    `signers`: who may vouch where a key cannot sign for itself. What is not signed so is passed over.
    """
    following: dict[str, str] = {}
    vouching = frozenset(signers)
    for signed in list(said)[:SAID_MAX]:
        made = _opened(signed, role, vouching)
        if made is not None:
            following.setdefault(made.former, made.following)
    chain = [pinned]
    while (heir := following.get(chain[-1])) is not None and heir not in chain:
        chain.append(heir)
    return tuple(chain)


def _opened(signed: Signed, role: Role, vouching: frozenset[str]) -> HandOver | None:
    try:
        made = open_signed(signed, HandOver.tag, HandOver, signer=signed.signer)
    except L402Error:
        return None
    if made.role != role or signed.signer not in (vouching or {made.former}):
        return None
    return made


def read_succession(path: Path) -> Succession:
    """The file; nothing was handed over where there is none. Raises KeyFileError for one that is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Succession)
    except FileNotFoundError:
        return Succession()
    except msgspec.MsgspecError:
        raise KeyFileError(f"{path.name} is no file of hand-overs") from None


class Successions:
    """The file as it is now, for all whose keys are pinned. Without a path nothing is ever handed over."""

    def __init__(self, path: Path | None) -> None:
        file = Watched(path, read_succession) if path else None
        self.now: Callable[[], Succession] = file.now if file else Succession
        """What it says."""
        self.again: Callable[[], Succession] = file.look if file else Succession
        """What it says at this very moment."""

    def trusted(self, role: Role, pinned: str) -> Trusted:
        """A party by its pinned key."""
        return Trusted(role, pinned, self.now, self.again)
