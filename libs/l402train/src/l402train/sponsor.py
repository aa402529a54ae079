"""`l402-train sponsor`: pledge money for rounds that make a model better, pay each tranche from one's own node, and see.

It believes nobody: an invoice is paid only on a hash that the oracle announced for this very pledge, and what the
coordinator says became of it is compared with what our own node says.
"""

import asyncio
import contextlib
import http.client
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec
from l402core import bolt11
from l402core.errors import L402Error, Unavailable
from l402core.events import SponsorshipView, TrancheView
from l402core.lnd.grpc import LndEndpoint, connect
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.money import show_sat
from l402core.peerauth import sign_request
from l402core.pledges import Announcement, Pledge, TrancheReceipt, is_earned
from l402core.signing import Signed, SigningKey, open_signed

from l402train import services
from l402train.exits import Exit, Stop, stop_for
from l402train.folder import Folder

PATH = "/v1/sponsorships"
POLL_S = 0.5
SILENCE_S = 60.0
"""So long a coordinator may not answer before we give up watching; what is locked goes its way without us."""
AGREE_S = 30.0
"""How long our node may take to see the end that the coordinator tells."""
CLTV_MAX = 2_016
ENDED = ("settled", "returned")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said."""

    url: str
    node: LndEndpoint
    directory: Path
    key_file: Path
    network: str
    amount_msat: int
    tranches: int
    margin: int
    attestor: str
    """The oracle's key, pinned; '' believes the first announcement's."""
    fee_limit_msat: int


class Payer(Protocol):
    """Our own node."""

    async def pay(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int, max_parts: int = 1
    ) -> PaymentView: ...

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...


async def sponsor(order: Order, *, as_json: bool) -> Exit:
    """Pledge (or go on with the pledge in the folder), pay what is announced, tell what became of it. Raises Stop."""
    key = SigningKey(_identity(order.key_file))
    pledge = _pledge(order, key)
    node = connect(order.node)
    try:
        story = Story(order, key, pledge, node, as_json=as_json)
        return await story.tell()
    finally:
        await node.close()


class Story:
    """One sponsorship from its pledge to its end. Started again, it goes on where it was."""

    def __init__(self, order: Order, key: SigningKey, pledge: Signed, node: Payer, *, as_json: bool) -> None:
        self._order, self._key, self._signed, self._node, self._as_json = order, key, pledge, node, as_json
        self._pledge = msgspec.json.decode(pledge.body, type=Pledge)
        self._told: dict[int, str] = {}
        self._refused: set[int] = set()

    async def tell(self) -> Exit:
        """Until every tranche has ended. Raises Stop."""
        view = await asyncio.to_thread(self._open)
        self._say(event="pledged", sponsorship=view.sponsorship, tranches=self._pledge.tranches,
                  amount_msat=self._pledge.amount_msat, margin=self._pledge.margin)  # fmt: skip
        heard_at = time.monotonic()
        while view.state != "ended":
            await self._pay_what_is_due(view)
            self._tell_changes(view)
            await asyncio.sleep(POLL_S)
            try:
                view = await asyncio.to_thread(self._read, view.sponsorship)
                heard_at = time.monotonic()
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() - heard_at > SILENCE_S:
                    raise Stop(Exit.NOT_FOUND, f"the gateway at {self._order.url} does not answer any more") from error
        self._tell_changes(view)
        untrue = await self._untrue(view)
        earned = [one for one in view.tranches if one.state == "settled"]
        self._say(event="ended", settled=len(earned), returned=len(view.tranches) - len(earned),
                  paid_msat=sum(one.amount_msat for one in earned), untrue=untrue)  # fmt: skip
        return Exit.UNTRUE if untrue else Exit.FINE

    # --- paying -------------------------------------------------------------------------------------------------------

    async def _pay_what_is_due(self, view: SponsorshipView) -> None:
        for one in view.tranches:
            if one.state != "minted" or not one.bolt11 or one.tranche in self._refused:
                continue
            refusal = why_not(one, view, self._signed, self._order)
            if refusal:
                self._refused.add(one.tranche)
                self._say(event="refused", tranche=one.tranche, reason=refusal)
                continue
            with contextlib.suppress(Unavailable):  # our node is silent: asked again at the next look
                await self._pay(one)

    async def _pay(self, one: TrancheView) -> None:
        """Once: whatever our node knows of the hash already is not paid again."""
        if await self._node.lookup_payment(bytes.fromhex(one.payment_hash)) is not None:
            return
        try:
            sent = await self._node.pay(
                one.bolt11, timeout_s=20, fee_limit_msat=self._order.fee_limit_msat, cltv_limit=CLTV_MAX
            )
        except Unavailable:
            raise
        except L402Error as error:
            self._refused.add(one.tranche)
            self._say(event="refused", tranche=one.tranche, reason=error.detail)
            return
        self._say(event="sent", tranche=one.tranche, status=str(sent.status), failure=sent.failure)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _tell_changes(self, view: SponsorshipView) -> None:
        for one in view.tranches:
            if self._told.get(one.tranche) != one.state and one.state in ("locked", "funding", *ENDED):
                self._told[one.tranche] = one.state
                self._say(event=one.state, tranche=one.tranche, round=one.round, amount_msat=one.amount_msat,
                          reason=one.reason)  # fmt: skip

    async def _untrue(self, view: SponsorshipView) -> list[str]:
        """Where the coordinator's story and our own node's differ, after giving the node time to see the end."""
        ends_at = time.monotonic() + AGREE_S
        while True:
            payments = {
                one.payment_hash: await self._node.lookup_payment(bytes.fromhex(one.payment_hash))
                for one in view.tranches
            }
            found = contradictions(view, payments, self._order.attestor)
            waiting = any(
                one and one.status in (PaymentStatus.IN_FLIGHT, PaymentStatus.UNKNOWN) for one in payments.values()
            )
            if not waiting or time.monotonic() > ends_at:
                return found
            await asyncio.sleep(POLL_S)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _open(self) -> SponsorshipView:
        body = msgspec.json.encode(self._signed)
        headers = sign_request(
            self._key, method="POST", path=PATH, body_sha256=services.sha256(body), now_ms=time.time_ns() // 1_000_000
        )
        try:
            status, answer = services.post(self._order.url + PATH, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise Stop(Exit.NOT_FOUND, f"no gateway answers at {self._order.url}") from error
        return _view(status, answer)

    def _read(self, sponsorship: str) -> SponsorshipView:
        return _view(*services.get(f"{self._order.url}{PATH}/{sponsorship}"))

    def _say(self, **told: Any) -> None:
        line = json.dumps(told) if self._as_json else in_words(told)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def why_not(one: TrancheView, view: SponsorshipView, pledge: Signed, order: Order) -> str:
    """Why this invoice is not paid; '' where it is what was pledged, on a hash that the oracle announced for it."""
    mine = msgspec.json.decode(pledge.body, type=Pledge)
    if view.announcement is None:
        return "no oracle has announced hashes"
    try:
        signer = order.attestor or view.announcement.signer
        said = open_signed(view.announcement, Announcement.tag, Announcement, signer=signer)
        invoice = bolt11.decode(one.bolt11)
    except L402Error as error:
        return error.detail
    if (said.pledge, said.amount_msat, said.tranches, said.margin) != (
        pledge.digest(), mine.amount_msat, mine.tranches, mine.margin,
    ):  # fmt: skip
        return "the oracle's announcement is not for this pledge"
    if one.tranche >= len(said.hashes) or invoice.payment_hash.hex() != said.hashes[one.tranche]:
        return "the invoice is not on the hash that the oracle announced for this tranche"
    if (invoice.amount_msat, invoice.network) != (mine.amount_msat, mine.network):
        return f"the invoice asks for {invoice.amount_msat} msat on {invoice.network}"
    if invoice.min_final_cltv > CLTV_MAX:
        return f"the invoice would lock the money for {invoice.min_final_cltv} blocks"
    return ""


def contradictions(view: SponsorshipView, payments: dict[str, PaymentView | None], attestor: str) -> list[str]:
    """What cannot be true of both the coordinator's books and our own node, one sentence each."""
    found: list[str] = []
    for one in view.tranches:
        payment = payments[one.payment_hash]
        paid = payment is not None and payment.status is PaymentStatus.SETTLED
        if paid != (one.state == "settled"):
            seen = str(payment.status) if payment else "never paid"
            found.append(f"tranche {one.tranche} is {one.state} in the coordinator's books, and our node says {seen}")
        if paid and not _earned(one, attestor or (view.announcement.signer if view.announcement else "")):
            found.append(f"tranche {one.tranche} was taken without the oracle's word that it was earned")
    return found


def _earned(one: TrancheView, attestor: str) -> bool:
    if one.receipt is None:
        return False
    try:
        receipt = open_signed(one.receipt, TrancheReceipt.tag, TrancheReceipt, signer=attestor)
    except L402Error:
        return False
    mine = (receipt.payment_hash, receipt.amount_msat) == (one.payment_hash, one.amount_msat)
    return mine and receipt.earned and is_earned(receipt.drop_low, receipt.margin)


def in_words(told: dict[str, Any]) -> str:
    """One line for people."""
    match told["event"]:
        case "pledged":
            gain = f"that makes the model better by {told['margin'] / 1e9:.4f} nats per token"
            each = f"{show_sat(told['amount_msat'])} for each of {told['tranches']} rounds {gain}"
            return f"pledged {each}; sponsorship {told['sponsorship'][:16]}…"
        case "sent":
            return f"tranche {told['tranche']}: paid by our node, {told['status']} {told['failure']}".rstrip()
        case "locked":
            return f"tranche {told['tranche']}: {show_sat(told['amount_msat'])} wait at the coordinator's node"
        case "funding":
            return f"tranche {told['tranche']}: funds round {told['round']}"
        case "settled":
            return f"tranche {told['tranche']}: settled, {show_sat(told['amount_msat'])} paid. {told['reason']}"
        case "returned":
            return f"tranche {told['tranche']}: returned. {told['reason']}"
        case "refused":
            return f"tranche {told['tranche']}: not paid: {told['reason']}"
        case _:
            over = f"{told['settled']} settled ({show_sat(told['paid_msat'])}), {told['returned']} returned"
            return "\n".join([f"over: {over}", *(f"NOT AS IT SHOULD BE: {one}" for one in told["untrue"])])


def _pledge(order: Order, key: SigningKey) -> Signed:
    """The pledge in the folder, or a new one, remembered before anybody hears of it."""
    file = order.directory / "pledge.json"
    try:
        order.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file.exists():
            return msgspec.json.decode(file.read_bytes(), type=Signed)
    except OSError as error:
        raise stop_for(error, file) from error
    except msgspec.MsgspecError as error:
        raise Stop(Exit.FOLDER, f"{file} is not a pledge") from error
    pledge = Pledge(
        network=order.network, sponsor=key.public, amount_msat=order.amount_msat, tranches=order.tranches,
        margin=order.margin, nonce=secrets.token_hex(32),
    )  # fmt: skip
    signed = key.sign(Pledge.tag, pledge)
    Folder.write_private(file, msgspec.json.encode(signed) + b"\n")
    return signed


def _identity(file: Path) -> bytes:
    """The sponsor's BIP340 key, made on first use."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Folder.write_private(file, msgspec.json.encode({"identity": secrets.token_hex(32)}) + b"\n")
    try:
        return bytes.fromhex(json.loads(file.read_bytes())["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Stop(Exit.FOLDER, f"{file} is not a key file") from error


def _view(status: int, answer: bytes) -> SponsorshipView:
    if status in (200, 201):
        return msgspec.json.decode(answer, type=SponsorshipView)
    try:
        detail = json.loads(answer)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"it answers {status}"
    if status >= 500:
        raise http.client.HTTPException(detail)
    raise Stop(Exit.USAGE, f"the coordinator does not take the pledge: {detail}")
