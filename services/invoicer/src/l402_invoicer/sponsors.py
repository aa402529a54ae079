"""Mints sponsors' hold invoices: one per tranche, on the hash that the oracle signed. It settles and cancels none."""

from collections.abc import Callable
from typing import Protocol

import structlog
from l402core.errors import Conflict, L402Error, TooLarge, Unauthorized, Unavailable
from l402core.events import Event, SponsorshipMint, SponsorshipMinted
from l402core.lnd.port import InvoiceView
from l402core.pledges import Announcement
from l402core.signing import open_signed
from l402core.succession import Successions, Trusted

from l402_invoicer.config import Config

log = structlog.get_logger()


class Node(Protocol):
    """What is needed of LND."""

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None: ...

    async def add_hold_invoice(
        self, payment_hash: bytes, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int
    ) -> InvoiceView: ...


class Publisher(Protocol):
    """The bus, as far as facts are concerned."""

    async def publish(self, event: Event, *, parent: str = "") -> None: ...


class SponsorMint:
    """The handler. `now_ms` is the clock."""

    def __init__(
        self, config: Config, node: Node, bus: Publisher, *, now_ms: Callable[[], int],
        successions: Successions | None = None,
    ) -> None:  # fmt: skip
        self._config, self._node, self._bus, self._now_ms = config, node, bus, now_ms
        self._attestor = (successions or Successions(None)).trusted("attestor", config.attestor)

    async def mint_tranche(self, work: SponsorshipMint) -> None:
        """The hold invoice on the tranche's hash; one that exists already with the same terms is that one.

        Raises Unavailable: try again later; any other error is a dead letter, and the settler gives the tranche up
        at its deadline. After that deadline none is begun; one that is there already is told again.
        """
        announced = check_mint(work, self._config, self._attestor)
        payment_hash = announced.hashes[work.tranche]
        try:
            made = await self._node.lookup_invoice(bytes.fromhex(payment_hash))
            if made is None and self._now_ms() >= work.not_after_ms:
                log.warning("tranche.too_late", sponsorship=work.sponsorship, tranche=work.tranche)
                return
            made = await self._node.add_hold_invoice(
                bytes.fromhex(payment_hash),
                amount_msat=announced.amount_msat,
                memo=f"{self._config.sponsor_memo_prefix} {work.sponsorship[:16]} {work.tranche}",
                expiry_s=work.expiry_s,
                cltv_expiry=work.cltv_expiry,
            )
        except Unauthorized as refused:
            raise Unavailable(refused.code, refused.detail) from refused
        fact = SponsorshipMinted(
            id=f"minted-{payment_hash}",
            occurred_at_ms=self._now_ms(),
            sponsorship=work.sponsorship,
            tranche=work.tranche,
            payment_hash=payment_hash,
            bolt11=made.bolt11,
        )
        await self._bus.publish(fact)
        log.info("tranche.minted", sponsorship=work.sponsorship, tranche=work.tranche, payment_hash=payment_hash)


def check_mint(work: SponsorshipMint, config: Config, attestor: Trusted) -> Announcement:
    """The oracle's signed promise, if it allows this invoice. Raises Unauthorized, Conflict, TooLarge."""
    if not config.attestor:
        raise Unauthorized("no_attestor", "no attestor is configured, so no tranche is minted")
    signer = attestor.check(work.announcement.signer)
    announced = open_signed(work.announcement, Announcement.tag, Announcement, signer=signer)
    refusal = _refusal(work, announced, config)
    if refusal is not None:
        raise refusal
    return announced


def _refusal(work: SponsorshipMint, announced: Announcement, config: Config) -> L402Error | None:
    if announced.sponsorship != work.sponsorship or not 0 <= work.tranche < len(announced.hashes):
        return Conflict("mint_other", "the oracle's promise is for another sponsorship or has no such tranche")
    if not 0 < announced.amount_msat <= config.sponsor_max_msat:
        return TooLarge("mint_amount", f"a tranche is outside 1..{config.sponsor_max_msat} msat")
    if not 0 < work.expiry_s <= config.sponsor_expiry_max_s:
        return TooLarge("mint_expiry", f"an expiry is outside 1..{config.sponsor_expiry_max_s} s")
    if not 0 < work.cltv_expiry <= config.sponsor_cltv_max:
        return TooLarge("mint_cltv", f"a final CLTV is outside 1..{config.sponsor_cltv_max} blocks")
    return None
