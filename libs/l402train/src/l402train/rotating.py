"""Keys are made new, and old ones retired: which there are, what still depends on one, and when it may go. It prints none.

A rotation only adds: what is in flight goes on under the old key. A retirement asks the books what is open under it,
and refuses while anything is, unless the operator repeats the key's name to force it.
"""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.documents import Offer
from l402core.l402 import keys as root_keys
from l402core.pledges import Announcement
from l402core.signing import Signed

from l402train.books import opened
from l402train.exits import Exit, Stop
from l402train.folder import Folder

CHALLENGE_LIFE_MS = 3_600_000
"""The longest that an unpaid challenge may live; whoever pays one later pays an invoice that has expired."""
READ_AGAIN_MS = 10_000
"""By then every service has looked at its files again, and what it was about to begin under the former key is in the books."""
ROTATIONS = "rotations.json"
"""Beside the key files, without a secret: when which key was replaced."""


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a ring."""

    ring: str
    id: str
    active: bool
    """New challenges or offers use it."""
    open: int
    """Rounds, submissions, credits and tranches that depend on it."""
    replaced_at_ms: int | None
    unheard: bool = False
    """No round has opened under a newer key yet."""


class Ring:
    """One ring of keys on disk, and the question what depends on one of them."""

    def __init__(
        self, name: str, path: Path, *, ids: Callable[[Path], list[str]], add: Callable[[Path], str],
        remove: Callable[[Path, str], None], dependents: Callable[[sa.Connection, str], int],
        unheard: Callable[[sa.Connection, str], bool] = lambda _books, _id: False,
    ) -> None:  # fmt: skip
        self.name, self.path = name, path
        self._ids, self._add, self._remove, self._dependents = ids, add, remove, dependents
        self._unheard = unheard
        """Whether what begins next may still name this key: no round has opened under a newer one."""

    def states(self, books: Path | str) -> list[KeyState]:
        """Every key, the active one last. Raises Stop."""
        ids, replaced = self._ids(self.path), rotations(self.path)
        with opened(books) as connection:
            return [
                KeyState(
                    ring=self.name, id=id_, active=id_ == ids[-1], open=self._dependents(connection, id_),
                    replaced_at_ms=replaced.get(f"{self.name}/{id_}"), unheard=self._unheard(connection, id_),
                )
                for id_ in ids
            ]  # fmt: skip

    def rotate(self, *, now_ms: int) -> str:
        """A new active key; its id. The former ones go on. Raises Stop."""
        former = self._ids(self.path)[-1]
        made = self._add(self.path)
        noted = {**rotations(self.path), f"{self.name}/{former}": now_ms}
        Folder.write_private(self.path.parent / ROTATIONS, json.dumps(noted, indent=2).encode() + b"\n")
        return made

    def retire(self, id_: str, books: Path | str, *, forced: str, now_ms: int) -> None:
        """Drop an old key for good. Raises Stop while anything depends on it, unless `forced` repeats its id."""
        known = {one.id: one for one in self.states(books)}
        if id_ not in known:
            raise Stop(Exit.NOT_FOUND, f"{self.name} has no key {id_}; it has {', '.join(known)}")
        if known[id_].active:
            raise Stop(Exit.USAGE, f"{id_} is the active key of {self.name}: rotate first")
        if forced and forced != id_:
            raise Stop(Exit.USAGE, f"--force repeats the name of the key, {id_}")
        if (why := _still_needed(known[id_], now_ms)) and not forced:
            raise Stop(Exit.UNTRUE, f"{id_} cannot go yet: {why}; --force {id_} drops it all the same")
        self._remove(self.path, id_)


def rotations(beside: Path) -> dict[str, int]:
    """`ring/id` → when that key was replaced, of the key files in this one's folder."""
    path = beside.parent / ROTATIONS
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def gateway_ring(path: Path) -> Ring:
    """The gateway's root keys: challenges are minted under the active one and verified under all."""

    def remove(file: Path, id_: str) -> None:
        root_keys.save(root_keys.load(file).revoke_key(bytes.fromhex(id_)), file)

    return Ring("gateway", path, ids=_root_ids, add=_add_root, remove=remove, dependents=_open_under_root)


def preimage_ring(path: Path) -> Ring:
    """The attestor's preimage keys: offers and tranches name theirs, new ones are made under the last of the file."""
    return Ring(
        "preimages", path, ids=lambda file: list(_attestor(file)["preimage_keys"]), add=_add_preimage,
        remove=_remove_preimage, dependents=_open_under_preimage,
    )  # fmt: skip


def _still_needed(key: KeyState, now_ms: int) -> str:
    if key.open:
        return f"{key.open} rounds, submissions, credits or tranches depend on it"
    if key.unheard:
        return "no round has opened under a newer key yet"
    if key.replaced_at_ms is None:
        return "when it was replaced is not known"
    if now_ms - key.replaced_at_ms < READ_AGAIN_MS:
        return "it was replaced a moment ago, and something may begin under it"
    if key.ring == "gateway" and (left_ms := key.replaced_at_ms + CHALLENGE_LIFE_MS - now_ms) > 0:
        return f"challenges under it may still be paid for {left_ms // 1_000} s"
    return ""


def _root_ids(path: Path) -> list[str]:
    ring = root_keys.load(path)
    return [one.hex() for one in ring.keys if one != ring.active] + [ring.active.hex()]


def _add_root(path: Path) -> str:
    ring = root_keys.load(path).rotate(secrets.token_bytes)
    root_keys.save(ring, path)
    return ring.active.hex()


def _open_under_root(books: sa.Connection, id_: str) -> int:
    """Tokens of submissions that have not ended, and of credits that wait to be used."""
    query = """
        select (select count(*) from submissions where state <> 'ended' and token_id like :id)
             + (select count(*) from credits where spent_on is null and token_id like :id)
    """
    return int(books.execute(sa.text(query), {"id": f"{id_}%"}).scalar_one())


def _attestor(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise Stop(Exit.NOT_FOUND, f"{path} is not a key file of the attestor") from error


def _add_preimage(path: Path) -> str:
    file = _attestor(path)
    numbers = [int(id_[1:]) for id_ in file["preimage_keys"] if id_[:1] == "k" and id_[1:].isdecimal()]
    made = f"k{max(numbers, default=0) + 1}"
    file["preimage_keys"][made] = secrets.token_bytes(32).hex()
    Folder.write_private(path, json.dumps(file).encode() + b"\n")
    return made


def _remove_preimage(path: Path, id_: str) -> None:
    file = _attestor(path)
    del file["preimage_keys"][id_]
    Folder.write_private(path, json.dumps(file).encode() + b"\n")


def _open_under_preimage(books: sa.Connection, id_: str) -> int:
    """Offers of submissions that have not ended, and tranches that may still be judged."""
    offers = books.execute(sa.text("select offer from submissions where state <> 'ended' and offer is not null"))
    named = [_body(text, Offer).key_id for text in offers.scalars()]
    query = """
        select s.announcement from sponsorships s join tranches t on t.sponsorship = s.sponsorship
        where s.announcement is not null and t.state not in ('settled', 'returned')
    """
    named += [_body(text, Announcement).key_id for text in books.execute(sa.text(query)).scalars()]
    return named.count(id_)


def _body(text: str, kind: Any) -> Any:
    return msgspec.json.decode(msgspec.json.decode(text, type=Signed).body, type=kind)


def now_ms() -> int:
    """The time."""
    return time.time_ns() // 1_000_000
