"""Collecting what is owed: a reward that was decided too late for its ladder comes through a new offer, at leisure.

It goes by what both doors say and by the journal alone, so that a restart begins where it was. It trains nothing, pays
nothing, and believes no sum that the attestor did not sign.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import structlog
from l402core.documents import Accepted, Offer, Receipt, Terms, mask_indices
from l402core.errors import CallerError, L402Error, WorldError
from l402core.events import GradientScored, SubmissionView
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey

from l402_peer_agent import ladder, policy
from l402_peer_agent.journal import Attempt, Payment, Token

log = structlog.get_logger()
ACCEPT_S = 30.0
"""How long one look waits for the rungs to arrive."""


class Coordinator(Protocol):
    """What is needed of the gateway and of the attestor's own URL."""

    async def submission(self, round_: int, commitment: str) -> SubmissionView: ...

    async def locks(
        self, round_: int, commitment: str, token: Token, preimage: Secret, bolt11s: list[str]
    ) -> SubmissionView: ...

    async def accepted(
        self, round_: int, commitment: str, token: Token, preimage: Secret, accepted: Signed
    ) -> SubmissionView: ...

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored: ...


class Memory(Protocol):
    """The journal, as far as debts are concerned."""

    def save(self, attempt: Attempt) -> None: ...

    def owing(self) -> list[Attempt]: ...

    def paid(self, round_: int) -> None: ...

    def payment(self, payment_hash: str) -> Payment | None: ...


class Debts:
    """Everything that the coordinator owes this peer."""

    def __init__(
        self, gateway: Coordinator, node: ladder.Node, memory: Memory, *, identity: SigningKey, sealing: UnsealingKey,
        name: str, on_paid: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self._gateway, self._node, self._memory = gateway, node, memory
        self._identity, self._sealing, self._name, self._on_paid = identity, sealing, name, on_paid

    async def watch(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await pause()

    async def finish(self, pause: Callable[[], Awaitable[None]], *, in_time: Callable[[], bool]) -> None:
        """Look until nothing is owed any more, or no longer `in_time`."""
        while self._memory.owing() and in_time():
            await self.look()
            await pause()

    async def look(self) -> None:
        """One step for each debt; what fails is looked at again."""
        for attempt in self._memory.owing():
            try:
                await self._step(attempt, msgspec.json.decode(attempt.terms.body, type=Terms))
            except L402Error as error:
                log.info("owed.waits", round=attempt.round, code=error.code, detail=error.detail)

    async def _step(self, attempt: Attempt, terms: Terms) -> None:
        assert attempt.receipt is not None
        receipt = msgspec.json.decode(attempt.receipt.body, type=Receipt)
        view = await self._gateway.submission(attempt.round, attempt.commitment)
        sealed, withheld = await self._doors(view, terms)
        if await self._settled(attempt, sealed, receipt):
            return
        if view.state == "reoffered" and view.offer is not None:
            await self._hand_in(attempt, terms, receipt, view.offer)
        elif view.state == "relocking" and attempt.offers:
            await self._accept(attempt, msgspec.json.decode(attempt.offers[-1].body, type=Offer))
        elif view.state == "owed":
            await self._cancel(attempt, view, withheld=withheld)
        elif view.state == "ended":
            log.error("owed.lost", round=attempt.round, amount_msat=receipt.reward_msat)
            self._memory.paid(attempt.round)

    async def _doors(self, view: SubmissionView, terms: Terms) -> tuple[tuple[str, ...], bool]:
        """What either door has sealed for us, and whether the attestor itself says that it withholds its last offer."""
        with contextlib.suppress(WorldError, CallerError):
            scored = await self._gateway.decision(terms.attestor_url, view.commitment)
            return (*view.sealed_preimages, *scored.sealed_preimages), scored.withheld
        return view.sealed_preimages, False

    async def _settled(self, attempt: Attempt, sealed: Sequence[str], receipt: Receipt) -> bool:
        """Whether the reward is collected now, from whichever offer's preimages we were given."""
        signed = (*attempt.offers, *((attempt.offer,) if attempt.offer else ()))
        for offer in (msgspec.json.decode(one.body, type=Offer) for one in signed):
            preimages = policy.matching_preimages(sealed, self._sealing, offer)
            if preimages and (msat := await ladder.settle(self._node, offer, preimages)):
                log.info("owed.collected", round=attempt.round, offer=offer.attempt, amount_msat=msat)
                if msat != receipt.reward_msat:
                    log.error("reward.short", commitment=offer.commitment, due=receipt.reward_msat, settled=msat)
                self._on_paid(attempt.round, msat)
                self._memory.paid(attempt.round)
                return True
        return False

    async def _hand_in(self, attempt: Attempt, terms: Terms, receipt: Receipt, signed: Signed) -> None:
        """Invoices for the new offer, which is on disk before a hash of it is ours."""
        offer = policy.check_owed_offer(
            signed, terms, receipt, known=[msgspec.json.decode(one.body, type=Offer) for one in attempt.offers],
            first=attempt.offer, peer=self._identity.public, seal_to=self._sealing.public,
        )  # fmt: skip
        if signed not in attempt.offers:
            attempt = msgspec.structs.replace(attempt, offers=(*attempt.offers, signed))
            self._memory.save(attempt)
        bolt11s = await ladder.make(self._node, offer, terms, name=self._name)
        token, preimage = self._credential(attempt)
        await self._gateway.locks(attempt.round, attempt.commitment, token, preimage, bolt11s)
        log.info("owed.handed_in", round=attempt.round, offer=offer.attempt, amount_msat=sum(offer.amounts_msat))
        await self._accept(attempt, offer)

    async def _accept(self, attempt: Attempt, offer: Offer) -> None:
        heights = await ladder.all_accepted(self._node, offer, seconds=ACCEPT_S)
        claim = Accepted(
            commitment=offer.commitment, round=offer.round, peer=self._identity.public,
            payment_hashes=offer.reward_hashes, expiry_heights=heights,
        )  # fmt: skip
        token, preimage = self._credential(attempt)
        signed = self._identity.sign(Accepted.tag, claim)
        await self._gateway.accepted(attempt.round, attempt.commitment, token, preimage, signed)

    async def _cancel(self, attempt: Attempt, view: SubmissionView, *, withheld: bool) -> None:
        """The coordinator has its money back sooner, and the next offer comes sooner: on the attestor's word alone."""
        signed = (*attempt.offers, *((attempt.offer,) if attempt.offer else ())) if withheld else ()
        for offer in (msgspec.json.decode(one.body, type=Offer) for one in signed):
            if set(offer.reward_hashes) & set(view.cancel):
                await ladder.cancel(self._node, offer, keep=())

    def _credential(self, attempt: Attempt) -> tuple[Token, Secret]:
        assert attempt.token is not None
        payment = self._memory.payment(attempt.token.payment_hash)
        assert payment is not None
        assert payment.preimage is not None
        return attempt.token, payment.preimage


def kept_rungs(receipt: Receipt, offer: Offer) -> tuple[int, ...]:
    """The rungs that a decision earns: kept while their preimages may come."""
    return mask_indices(receipt.mask, len(offer.amounts_msat))
