"""Rings of the keys that documents name: who signs, who reads, who seals, and what seeds come from. It prints none.

A file holds the newest key and the former ones. Who pins a public half learns its heir from a hand-over that the former
key signs (`l402core.succession`); retiring a key says beside them that it is trusted no more.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from l402_oracle.copies import ROUNDS_BACK
from l402_oracle.derive import round_seed, seed_commitment
from l402core.documents import Terms
from l402core.pledges import SponsorshipTerms
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey
from l402core.succession import HandOver, Role, Succession, read_succession

from l402train.exits import Exit, Stop
from l402train.folder import Folder
from l402train.rotating import READ_AGAIN_MS, Ring, now_ms, rotations
from l402train.services import HAND_OVERS

_LIVE = """
    select distinct r.round, r.terms from rounds r where r.phase <> 'done'
    or exists (select 1 from submissions s where s.round = r.round and s.state <> 'ended')
    or exists (select 1 from tranches t where t.round = r.round and t.state not in ('settled', 'returned'))
"""
_COMPARED = "select terms from rounds order by round desc limit :count"
_NEWEST = "select terms from rounds order by round desc limit 1"
_PLEDGED = """
    select s.terms, s.announcement from sponsorships s where s.state = 'asked'
    or exists (select 1 from tranches t where t.sponsorship = s.sponsorship and t.state not in ('settled', 'returned'))
"""
_SIGNING: dict[Role, tuple[str, Callable[[Terms], str]]] = {
    "settler": ("signing", lambda terms: terms.settler), "attestor": ("signing", lambda terms: terms.attestor),
}  # fmt: skip


def signing_ring(role: Role, path: Path) -> Ring:
    """The settler's or the attestor's keys to sign with; a round is signed by those that its terms name."""
    what, named = _SIGNING[role]
    keys = _Keys(path, what, _public_signing)

    def add(_: Path) -> str:
        if not (values := keys.unsaid(path.parent / HAND_OVERS)):
            values = keys.add()
        former, made = map(_public_signing, values)
        _hand_over(path, role, former=former, following=made, voucher=values[0])
        return made

    def dependents(books: sa.Connection, id_: str) -> int:
        pledges = sum(id_ in (terms.signer, promise.signer if promise else "") for terms, promise in _pledged(books))
        return pledges + sum(named(terms) == id_ for terms in _live(books))

    return Ring(
        role, path, ids=lambda _: keys.ids(), add=add, remove=_retiring(keys), dependents=dependents,
        unheard=lambda books, id_: any(named(terms) == id_ for terms in _newest(books)),
    )  # fmt: skip


def reading_ring(path: Path, vouching: Path) -> Ring:
    """The workers' keys to read payloads with. It cannot sign: the attestor's newest key, in `vouching`, does."""
    keys = _Keys(path, "reading", _public_box)

    def add(_: Path) -> str:
        voucher = _Keys(vouching, "signing", _public_signing).values()[-1]
        former, made = map(_public_box, keys.unsaid(path.parent / HAND_OVERS) or keys.add())
        _hand_over(path, "reading", former=former, following=made, voucher=voucher)
        return made

    return Ring(
        "reading", path, ids=lambda _: keys.ids(), add=add, remove=_retiring(keys),
        dependents=lambda books, id_: sum(terms.reading_key == id_ for terms in _live(books)),
        unheard=lambda books, id_: any(terms.reading_key == id_ for terms in _newest(books)),
    )  # fmt: skip


def sealing_ring(path: Path) -> Ring:
    """The settler's keys that the oracle seals earned tranches to; each sponsorship's terms name theirs."""
    keys = _Keys(path, "sealing", _public_box)

    def dependents(books: sa.Connection, id_: str) -> int:
        pledged = (msgspec.json.decode(terms.body, type=SponsorshipTerms) for terms, _ in _pledged(books))
        return sum(one.seal_to == id_ for one in pledged)

    return Ring(
        "sealing", path, ids=lambda _: keys.ids(), add=lambda _: _public_box(keys.add()[1]),
        remove=lambda _, id_: keys.drop(id_), dependents=dependents,
    )  # fmt: skip


def seed_ring(path: Path) -> Ring:
    """The attestor's keys of seeds. A round's own is the one whose seed it was announced with."""
    keys = _Keys(path, "seed", _fingerprint)

    def made_it(id_: str, terms: Terms) -> bool:
        key = Secret(dict(zip(keys.ids(), keys.values(), strict=True))[id_])
        return seed_commitment(round_seed(key, terms.round, terms.checkpoint.sha256)) == terms.seed_commitment

    return Ring(
        "seed", path, ids=lambda _: keys.ids(), add=lambda _: _fingerprint(keys.add()[1]),
        remove=lambda _, id_: keys.drop(id_),
        dependents=lambda books, id_: sum(made_it(id_, terms) for terms in _live(books)),
        unheard=lambda books, id_: any(made_it(id_, terms) for terms in _newest(books)),
    )  # fmt: skip


def answers_ring(path: Path, workers: Path) -> Ring:
    """The attestor's keys that workers seal their answers to. Theirs is told in `workers`, a key file of theirs, if it is here.

    Screenings of a round may be sealed to whichever was theirs since it opened, and its sketches are read for some rounds more.
    """
    keys = _Keys(path, "answers", _public_box)

    def add(_: Path) -> str:
        made = _public_box(keys.add()[1])
        if workers.exists():
            told = {**json.loads(workers.read_bytes()), "answers_to": made}
            Folder.write_private(workers, json.dumps(told).encode() + b"\n")
        return made

    def dependents(books: sa.Connection, id_: str) -> int:
        until_ms = rotations(path).get(f"answers/{id_}", now_ms()) + READ_AGAIN_MS
        compared = map(_inside, books.execute(sa.text(_COMPARED), {"count": ROUNDS_BACK + 1}).scalars())
        opened = {terms.round: terms.opened_at_ms for terms in (*_live(books), *compared)}
        return sum(at_ms <= until_ms for at_ms in opened.values())

    return Ring(
        "answers", path, ids=lambda _: keys.ids(), add=add, remove=lambda _, id_: keys.drop(id_), dependents=dependents
    )


class _Keys:
    """One kind of key in a key file: the newest, and the former ones, oldest first."""

    def __init__(self, path: Path, what: str, public: Callable[[bytes], str]) -> None:
        self.path, self._newest, self._former, self._public = path, f"{what}_key", f"former_{what}_keys", public

    def ids(self) -> list[str]:
        """What each is called, the newest last. Raises Stop."""
        return [self._public(key) for key in self.values()]

    def values(self) -> list[bytes]:
        """The keys. Raises Stop."""
        file = self._file()
        return [bytes.fromhex(key) for key in (*file.get(self._former, ()), file[self._newest])]

    def add(self) -> tuple[bytes, bytes]:
        """The newest key becomes a former one: it, and the new one. The file is replaced whole."""
        file, made = self._file(), secrets.token_bytes(32)
        former = str(file[self._newest])
        self._write({**file, self._former: [*file.get(self._former, ()), former], self._newest: made.hex()})
        return bytes.fromhex(former), made

    def unsaid(self, hand_overs: Path) -> tuple[bytes, bytes] | None:
        """A rotation that was cut off between the two files: the last two keys, of which nobody was told."""
        values = self.values()
        told = {
            msgspec.json.decode(signed.body, type=HandOver).following for signed in read_succession(hand_overs).said
        }
        return (values[-2], values[-1]) if len(values) > 1 and self._public(values[-1]) not in told else None

    def drop(self, id_: str) -> None:
        """A former key is gone."""
        file = self._file()
        kept = [key for key in file.get(self._former, ()) if self._public(bytes.fromhex(key)) != id_]
        self._write({**file, self._former: kept})

    def _file(self) -> dict[str, Any]:
        try:
            file = dict(json.loads(self.path.read_bytes()))
        except (OSError, ValueError) as error:
            raise Stop(Exit.NOT_FOUND, f"{self.path} is not a key file") from error
        if self._newest not in file:
            raise Stop(Exit.NOT_FOUND, f"{self.path} holds no {self._newest}")
        return file

    def _write(self, file: dict[str, Any]) -> None:
        Folder.write_private(self.path, json.dumps(file).encode() + b"\n")


def _hand_over(beside: Path, role: Role, *, former: str, following: str, voucher: bytes) -> None:
    path = beside.parent / HAND_OVERS
    known = read_succession(path)
    made = HandOver(role=role, former=former, following=following, at_ms=now_ms())
    signed = SigningKey(voucher).sign(HandOver.tag, made)
    _write_succession(path, msgspec.structs.replace(known, said=(*known.said, signed)))


def _retiring(keys: _Keys) -> Callable[[Path, str], None]:
    """First nobody believes it any more, then it is gone."""

    def remove(_: Path, id_: str) -> None:
        path = keys.path.parent / HAND_OVERS
        known = read_succession(path)
        _write_succession(path, msgspec.structs.replace(known, retired=known.retired | {id_}))
        keys.drop(id_)

    return remove


def _write_succession(path: Path, known: Succession) -> None:
    Folder.write_private(path, msgspec.json.encode(known, order="sorted") + b"\n")
    path.chmod(0o644)


def _live(books: sa.Connection) -> Iterator[Terms]:
    """The terms of rounds in which something may still be signed, read or judged."""
    for row in books.execute(sa.text(_LIVE)):
        yield _inside(row.terms)


def _newest(books: sa.Connection) -> Iterator[Terms]:
    for text in books.execute(sa.text(_NEWEST)).scalars():
        yield _inside(text)


def _pledged(books: sa.Connection) -> Iterator[tuple[Signed, Signed | None]]:
    """The settler's terms and the oracle's promise of each sponsorship that is not over."""
    for row in books.execute(sa.text(_PLEDGED)):
        promise = msgspec.json.decode(row.announcement, type=Signed) if row.announcement else None
        yield msgspec.json.decode(row.terms, type=Signed), promise


def _inside(text: str) -> Terms:
    return msgspec.json.decode(msgspec.json.decode(text, type=Signed).body, type=Terms)


def _public_signing(key: bytes) -> str:
    return SigningKey(key).public


def _public_box(key: bytes) -> str:
    return UnsealingKey(key).public


def _fingerprint(key: bytes) -> str:
    """A name for a key that has no public half."""
    return hashlib.sha256(b"l402-train/seed-key" + key).hexdigest()[:16]
