"""What secrets a run had, computed again from its keys and records, and where they were written and must not be.

It knows where each kind lies by design: keys and nodes in their own folders, a peer's in that peer's folder.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa
from l402_oracle import derive
from l402_peer_agent.adapters.journal import decoded
from l402_peer_agent.journal import Attempt, Payment
from l402core.documents import Offer
from l402core.pledges import Announcement
from l402core.secret import Secret
from l402core.signing import Signed
from l402train.books import opened
from lndsim.journal import Journal
from lndsim.network import Network

from tests.support.secrets_scan import at_home, key_values, scan, signature
from tests.support.watching import rows

Secrets = dict[str, bytes]


def leaks(folder: Path, *, beside: Path | None = None, strangers: tuple[Path, ...] = (), books: str = "") -> list[str]:
    """`NAME in FILE` for every secret of this run that lies where it must not.

    `beside` is a folder around the network's, which is searched whole: what commands printed, reports, `strangers`, who are
    peers' folders elsewhere. `books` is the URL of the settler's database where it is no file of the network's folder.
    """
    place = beside or folder
    ours = key_values(folder / "keys") | reward_preimages(folder, books) | tranche_preimages(folder, books)
    ours |= node_keys(folder)
    theirs = node_preimages(folder)
    payers = (folder / "peers", folder / "sponsor", *strangers)
    homes: dict[str, tuple[Path, ...]] = dict.fromkeys(theirs, payers)
    for journal in (*folder.glob("peers/**/journal.sqlite3"), *(one / "journal.sqlite3" for one in strangers)):
        mine = bought(journal)
        theirs |= mine
        homes.update(dict.fromkeys(mine, (journal.parent,)))
    for stranger in strangers:
        mine = {f"{stranger.name}/{name}": value for name, value in key_values(stranger).items()}
        theirs |= mine
        homes.update(dict.fromkeys(mine, (stranger,)))

    def may(name: str, inside: Path) -> bool:
        return at_home(inside) or any((place / inside).is_relative_to(home) for home in homes.get(name, ()))

    return scan(place, ours | theirs, may=may)


def networks_in(place: Path) -> list[Path]:
    """The folders of networks below a place, also of those that were stopped while they started."""
    return sorted(keys.parent.parent for keys in place.rglob("keys/attestor.json"))


def reward_preimages(folder: Path, books_url: str = "") -> Secrets:
    """Revealed or not: those of every offer that was ever made."""
    books, keys, found = books_url or _books(folder), _preimage_keys(folder), Secrets()
    for (text,) in (
        *_rows(books, "select offer from submissions where offer is not null"),
        *_rows(books, "select offer from past_offers"),
    ):
        offer = msgspec.json.decode(msgspec.json.decode(str(text), type=Signed).body, type=Offer)
        for index, hash_ in enumerate(offer.reward_hashes):
            secret = derive.preimage(keys[offer.key_id], msgspec.structs.replace(offer, reward_hashes=()), index)
            assert derive.payment_hash(secret) == hash_
            found[f"preimage {offer.commitment[:8]}.{offer.attempt}.{index}"] = secret.reveal()
    return found


def tranche_preimages(folder: Path, books_url: str = "") -> Secrets:
    """Settled or returned: those of every announced tranche."""
    books, keys, found = books_url or _books(folder), _preimage_keys(folder), Secrets()
    for (text,) in _rows(books, "select announcement from sponsorships where announcement is not null"):
        made = msgspec.json.decode(msgspec.json.decode(str(text), type=Signed).body, type=Announcement)
        core = msgspec.structs.replace(made, hashes=())
        for index, hash_ in enumerate(made.hashes):
            secret = derive.tranche_preimage(keys[made.key_id], core, index)
            assert derive.payment_hash(secret) == hash_
            found[f"tranche {made.sponsorship[:8]}.{index}"] = secret.reveal()
    return found


def bought(journal: Path) -> Secrets:
    """What a peer's fees bought: their preimages and its L402 macaroons."""
    found = Secrets()
    for (body,) in _rows(journal, "select body from payments"):
        payment = decoded(_bytes(body), Payment)
        if payment.preimage is not None:
            found[f"fee {payment.payment_hash[:8]}"] = payment.preimage.reveal()
    for (body,) in _rows(journal, "select body from attempts"):
        attempt = decoded(_bytes(body), Attempt)
        if attempt.token is not None:
            found[f"macaroon {attempt.commitment[:8]}"] = signature(attempt.token.macaroon.reveal())
    return found


def node_preimages(folder: Path) -> Secrets:
    """What the simulated nodes know of every invoice; real lnds keep theirs to themselves."""
    path = folder / "lnd" / "network.journal"
    if not path.exists():
        return {}
    journal = Journal(path)
    try:
        network = Network.restore(journal, lambda: 0)
        return {
            f"{name}/{hash_.hex()[:8]}": invoice.preimage
            for name, node in (network.nodes.items() if network else ())
            for hash_, invoice in node.invoices.items()
            if invoice.preimage is not None
        }
    finally:
        journal.close()


def node_keys(folder: Path) -> Secrets:
    """What opens the nodes: every macaroon that they made, and btcd's password."""
    found = {
        f"{path.stem} of {path.parent.relative_to(folder / 'lnd')}": signature(path.read_bytes())
        for path in folder.glob("lnd/**/*.macaroon")
        if path.stat().st_size
    }
    btcd = folder / "lnd" / "btcd.json"
    return {**found, "btcd": bytes.fromhex(json.loads(btcd.read_text())["password"])} if btcd.exists() else found


def _preimage_keys(folder: Path) -> dict[str, Secret]:
    keys: dict[str, str] = json.loads((folder / "keys" / "attestor.json").read_text())["preimage_keys"]
    return {name: Secret(bytes.fromhex(key)) for name, key in keys.items()}


def _books(folder: Path) -> Path:
    return folder / "settler" / "books.sqlite3"


def _rows(database: Path | str, query: str) -> Iterator[tuple[object, ...]]:
    """None where a file, or its tables, were never made: the run was stopped before."""
    if isinstance(database, str):
        with opened(database) as connection:
            yield from (tuple(row) for row in connection.execute(sa.text(query)))
    elif database.exists():
        with contextlib.suppress(sqlite3.OperationalError):
            yield from rows(database, query)


def _bytes(body: object) -> bytes:
    assert isinstance(body, bytes)
    return body
