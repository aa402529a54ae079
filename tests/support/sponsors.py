"""Sponsors around a settler's stage: pledges, the oracle's words, and a node whose hold invoices a test moves."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from l402_settler.sponsorships import Sponsors
from l402core.errors import Conflict, NotFound, Unavailable
from l402core.events import (
    ReadSponsorship,
    SponsorshipAnnounce,
    SponsorshipAnnounced,
    SponsorshipJudged,
    SponsorshipMinted,
    SponsorshipOpen,
    SponsorshipView,
    TrancheView,
)
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.pledges import Announcement, Pledge, SponsorshipTerms, TrancheReceipt
from l402core.sealing import UnsealingKey, seal
from l402core.secret import Secret
from l402core.signing import SigningKey

from tests.support.settler import ATTESTOR, Stage, sha

SPONSOR = SigningKey(bytes([21]) * 32)
AMOUNT = 20_000_000
MARGIN = 20_000_000


def preimage(name: str, index: int) -> bytes:
    """What only the oracle has."""
    return hashlib.sha256(f"tranche {name} {index}".encode()).digest()


def payment_hash(name: str, index: int) -> str:
    """Of that preimage."""
    return hashlib.sha256(preimage(name, index)).hexdigest()


class HoldingNode:
    """Our node, as far as its own hold invoices go: LND's states and answers. `cut` makes it silent."""

    def __init__(self) -> None:
        self.invoices: dict[str, InvoiceView] = {}
        self.calls: list[str] = []
        self.cut = False
        self.reply_lost = False
        """The next effect happens, and its answer is lost."""

    def mint(self, hash_: str, *, amount_msat: int = AMOUNT) -> None:
        """The invoicer's invoice."""
        self.invoices[hash_] = InvoiceView(
            payment_hash=bytes.fromhex(hash_), bolt11="lnsb…", amount_msat=amount_msat, paid_msat=0,
            state=InvoiceState.OPEN, expiry_s=60, cltv_expiry=144, created_at=0,
        )  # fmt: skip

    def pay(self, hash_: str, *, expiry_height: int = 250, paid_msat: int | None = None) -> None:
        """The sponsor's HTLC arrives. Refused like by LND unless the invoice is open."""
        known = self.invoices[hash_]
        if known.state is not InvoiceState.OPEN:
            raise Conflict("payee_refused", "incorrect payment details")
        self._set(
            hash_, InvoiceState.ACCEPTED, paid_msat=known.amount_msat if paid_msat is None else paid_msat,
            htlc_expiry_heights=(expiry_height,),
        )  # fmt: skip

    def _set(self, hash_: str, state: InvoiceState, **other: Any) -> None:
        self.invoices[hash_] = msgspec.structs.replace(self.invoices[hash_], state=state, **other)

    def _answers(self, call: str) -> None:
        self.calls.append(call)
        if self.cut:
            raise Unavailable("lnd_silent", "no answer")

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None:
        """As the port."""
        self._answers("lookup")
        return self.invoices.get(payment_hash.hex())

    async def settle_invoice(self, preimage: Secret) -> None:
        """As the port."""
        self._answers("settle")
        hash_ = hashlib.sha256(preimage.reveal()).hexdigest()
        state = self.invoices[hash_].state
        if state in (InvoiceState.OPEN, InvoiceState.CANCELED):
            raise Conflict("invoice_state", f"it is {state}")
        self._set(hash_, InvoiceState.SETTLED)
        self._lose_reply()

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """As the port."""
        self._answers("cancel")
        known = self.invoices.get(payment_hash.hex())
        if known is None:
            raise NotFound("invoice_unknown", "unable to locate invoice")
        if known.state is InvoiceState.SETTLED:
            raise Conflict("invoice_state", "invoice already settled")
        self._set(payment_hash.hex(), InvoiceState.CANCELED)
        self._lose_reply()

    def _lose_reply(self) -> None:
        if self.reply_lost:
            self.reply_lost = False
            raise Unavailable("lnd_silent", "no answer")

    async def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]:
        """As the port: the current state, then nothing more in these stories."""
        self._answers("watch")
        if payment_hash.hex() in self.invoices:
            yield self.invoices[payment_hash.hex()]


class Patron:
    """A sponsor beside a settler's stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.node = HoldingNode()
        self.key = UnsealingKey(bytes([22]) * 32)
        self.desk = self.a_desk()

    def a_desk(self) -> Sponsors:
        """The sponsors' desk as a process that has just started has it."""
        return Sponsors(self.stage.office, self.node, self.key)

    def pledge(self, name: str = "p", *, key: SigningKey = SPONSOR, **other: Any) -> SponsorshipOpen:
        """A signed pledge, as the gateway passes it on."""
        values: dict[str, Any] = {
            "network": self.stage.config.lnd_network, "sponsor": key.public, "amount_msat": AMOUNT, "tranches": 2,
            "margin": MARGIN, "nonce": sha(name), **other,
        }  # fmt: skip
        return SponsorshipOpen(sponsor=key.public, pledge=key.sign(Pledge.tag, Pledge(**values)))

    async def open(self, name: str = "p", *, key: SigningKey = SPONSOR, **other: Any) -> SponsorshipView:
        """A pledge is taken."""
        return await self.desk.open(self.pledge(name, key=key, **other))

    def announced(self, id_: str, name: str = "p", *, by: SigningKey = ATTESTOR, **other: Any) -> SponsorshipAnnounced:
        """The oracle's hashes for what the settler asked."""
        asked = next(one for one in self.stage.said(SponsorshipAnnounce) if one.sponsorship == id_)
        terms = msgspec.json.decode(asked.terms.body, type=SponsorshipTerms)
        values: dict[str, Any] = {
            **msgspec.structs.asdict(terms), "key_id": "k1",
            "hashes": tuple(payment_hash(name, index) for index in range(terms.tranches)), **other,
        }  # fmt: skip
        signed = by.sign(Announcement.tag, Announcement(**values))
        return SponsorshipAnnounced(id="a", occurred_at_ms=0, sponsorship=id_, announcement=signed)

    async def minted(self, id_: str, index: int = 0, name: str = "p") -> None:
        """The invoicer's invoice is there."""
        self.node.mint(payment_hash(name, index))
        await self.desk.on_minted(
            SponsorshipMinted(
                id="m", occurred_at_ms=0, sponsorship=id_, tranche=index, payment_hash=payment_hash(name, index),
                bolt11="lnsb…",
            )
        )  # fmt: skip

    async def locked(self, name: str = "p", *, key: SigningKey = SPONSOR, **other: Any) -> str:
        """The story up to the sponsor's money waiting at our node; returns the sponsorship's id."""
        id_ = (await self.open(name, key=key, **other)).sponsorship
        await self.desk.on_announced(self.announced(id_, name))
        await self.minted(id_, name=name)
        self.node.pay(payment_hash(name, 0))
        await self.desk.tending.tend()
        return id_

    def judged(
        self, id_: str, index: int = 0, name: str = "p", *, earned: bool = True, round_: int = 1,
        by: SigningKey = ATTESTOR, sealed: bytes | None = None, **other: Any,
    ) -> SponsorshipJudged:  # fmt: skip
        """The oracle's one decision."""
        hash_ = payment_hash(name, index)
        values: dict[str, Any] = {
            "sponsorship": id_, "tranche": index, "payment_hash": hash_, "amount_msat": AMOUNT, "round": round_,
            "terms": "", "parent": "", "checkpoint": "", "root": "", "shards": (1,), "sequences": 16, "drop_mean": 0,
            "drop_low": MARGIN if earned else 0, "drop_high": 0, "margin": MARGIN, "earned": earned,
            "reason": "better" if earned else "no better", "hardware": "", "losses": None, **other,
        }  # fmt: skip
        receipt = by.sign(TrancheReceipt.tag, TrancheReceipt(**values))
        secret = preimage(name, index) if sealed is None else sealed
        return SponsorshipJudged(
            id="j", occurred_at_ms=0, sponsorship=id_, tranche=index, round=round_, payment_hash=hash_, earned=earned,
            receipt=receipt, sealed_preimage=seal(secret, self.key.public).hex() if earned else "",
        )  # fmt: skip

    async def view(self, id_: str) -> SponsorshipView:
        """As anybody may see it."""
        return await self.desk.read(ReadSponsorship(sponsorship=id_))

    async def tranche(self, id_: str, index: int = 0) -> TrancheView:
        """One of its tranches."""
        return (await self.view(id_)).tranches[index]


def patron(folder: Path, **overrides: Any) -> Patron:
    """A stage with a sponsor."""
    return Patron(Stage(folder, **overrides))
