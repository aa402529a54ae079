"""What a peer believes, pays and accepts: pure checks of the coordinator's words against each other and its own caps."""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from l402core.documents import Locked, Offer, Receipt, Terms, UploadReceipt, mask_indices
from l402core.errors import Conflict, PeerError, TooLarge, TooLate, Unauthorized
from l402core.l402 import Challenge
from l402core.schedule import difference
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import Signed, open_signed
from l402core.succession import heirs

PPM = 1_000_000
MAX_RUNGS = 32
INVOICE_MARGIN_S = 2


class SpendingCaps(msgspec.Struct, frozen=True, kw_only=True):
    """What the peer's owner allows."""

    round_msat: int
    total_msat: int


def read_terms(signed: Signed, *, settler: str, attestor: str, network: str) -> Terms:
    """The terms, signed by the settler we trust and naming the attestor we trust, or by heirs that those signed for.

    An empty `attestor` trusts the one that the terms name. Raises Unauthorized for another settler or attestor,
    Conflict for terms that make no sense.
    """
    said = _hand_overs(signed)
    signer = signed.signer if signed.signer in heirs(said, "settler", settler) else settler
    terms = open_signed(signed, Terms.tag, Terms, signer=signer)
    if terms.settler != signer or (attestor and terms.attestor not in heirs(said, "attestor", attestor)):
        raise Unauthorized("terms_keys", "the terms name another settler or attestor than the one we trust")
    times = (terms.opened_at_ms, terms.commit_until_ms, terms.lock_by_ms, terms.upload_until_ms, terms.judge_by_ms)
    rules = (
        ("network", terms.network == network),
        ("deadlines", list(times) == sorted(times)),
        ("ladder", 0 < len(terms.rungs) <= MAX_RUNGS and terms.unit_msat > 0 and min(terms.rungs) > 0),
        ("fee", terms.fee_msat > 0),
        ("cltv", 0 < terms.cltv_min <= terms.cltv_max),
        ("phi", 0 <= terms.phi_ppm < PPM and terms.quality_cap_ppm > 0),
    )
    for code, holds in rules:
        if not holds:
            raise Conflict(f"terms_{code}", f"the round's terms are not acceptable: {code}")
    return terms


def _hand_overs(signed: Signed) -> tuple[Signed, ...]:
    """What the terms bring to show whose heirs their keys are; each is believed as far as it is signed itself."""
    try:
        return msgspec.json.decode(signed.body, type=_Brings).hand_overs
    except msgspec.MsgspecError:
        return ()


class _Brings(msgspec.Struct):
    hand_overs: tuple[Signed, ...] = ()


def check_challenge(challenge: Challenge, terms: Terms, *, now_s: int) -> None:
    """The invoice asks what the signed terms say. That it pays for this macaroon was checked when it was read."""
    invoice = challenge.invoice
    if invoice.amount_msat != terms.fee_msat:
        raise Conflict("fee_amount", f"the invoice asks {invoice.amount_msat} msat, the terms say {terms.fee_msat}")
    if invoice.network != terms.network:
        raise Conflict("fee_network", f"the invoice is for {invoice.network}, the terms for {terms.network}")
    if invoice.timestamp + invoice.expiry < now_s + INVOICE_MARGIN_S:
        raise TooLate("fee_expired", "the fee invoice has expired, or is about to")


def check_spending(amount_msat: int, *, committed_msat: int, caps: SpendingCaps) -> None:
    """Raises TooLarge beyond a cap. `committed_msat` counts what was paid and what may have been."""
    if amount_msat > caps.round_msat:
        raise TooLarge("round_cap", f"a fee of {amount_msat} msat is above the cap of {caps.round_msat} per round")
    if committed_msat + amount_msat > caps.total_msat:
        raise TooLarge("total_cap", f"{committed_msat} msat are spent, {amount_msat} more exceed {caps.total_msat}")


def check_offer(signed: Signed, terms: Terms, *, commitment: str, peer: str, seal_to: str) -> Offer:
    """The attestor's offer for this submission, with the terms' amounts and deadlines. Raises Unauthorized, Conflict."""
    offer = open_signed(signed, Offer.tag, Offer, signer=terms.attestor)
    expected = (
        ("submission", (offer.commitment, offer.round, offer.peer), (commitment, terms.round, peer)),
        ("terms", offer.terms, terms.digest()),
        ("seal_to", offer.seal_to, seal_to),
        ("amounts", offer.amounts_msat, terms.rung_msat()),
        ("lock_by", offer.lock_by_ms, terms.lock_by_ms),
        ("upload_until", offer.upload_until_ms, terms.upload_until_ms),
        ("judge_by", offer.judge_by_ms, terms.judge_by_ms),
        ("reveal_by", offer.reveal_by_height, terms.reveal_by_height),
        ("cltv", (offer.cltv_min, offer.cltv_max), (terms.cltv_min, terms.cltv_max)),
        ("hashes", len(set(offer.reward_hashes)), len(terms.rungs)),
        ("count", len(offer.reward_hashes), len(terms.rungs)),
    )
    for code, found, wanted in expected:
        if found != wanted:
            raise Conflict(f"offer_{code}", f"the offer says {found}, expected {wanted}")
    return offer


def check_owed_offer(
    signed: Signed, terms: Terms, receipt: Receipt, *, first: Signed | None, known: Sequence[Offer], peer: str,
    seal_to: str,
) -> Offer:  # fmt: skip
    """The attestor's new offer of exactly what its receipt says we earned, on hashes of its own.

    Raises Unauthorized, Conflict.
    """
    offer = open_signed(signed, Offer.tag, Offer, signer=terms.attestor)
    amounts = tuple(terms.rung_msat()[index] for index in mask_indices(receipt.mask, len(terms.rungs)))
    others = [one for one in known if one.attempt != offer.attempt]
    if first is not None:
        others.append(msgspec.json.decode(first.body, type=Offer))
    used = {payment_hash for one in others for payment_hash in one.reward_hashes}
    expected = (
        ("submission", (offer.commitment, offer.round, offer.peer), (receipt.commitment, terms.round, peer)),
        ("terms", offer.terms, terms.digest()),
        ("seal_to", offer.seal_to, seal_to),
        ("attempt", offer.attempt > 1, True),
        ("amounts", offer.amounts_msat, amounts),
        ("cltv", (offer.cltv_min, offer.cltv_max), (terms.cltv_min, terms.cltv_max)),
        ("hashes", len(set(offer.reward_hashes) - used), len(amounts)),
        ("count", len(offer.reward_hashes), len(amounts)),
    )
    for code, found, wanted in expected:
        if found != wanted:
            raise Conflict(f"owed_offer_{code}", f"the new offer says {found}, expected {wanted}")
    return offer


def check_locked(signed: Signed, terms: Terms, offer: Offer, heights: Sequence[int]) -> Locked:
    """The settler's word that all of this offer's rungs are in flight. `heights` are those of our HTLCs.

    The attestor reveals nothing near the expiry that is signed here, so a lower one than ours would cost us the reward.
    Raises Unauthorized, Conflict.
    """
    locked = open_signed(signed, Locked.tag, Locked, signer=terms.settler)
    if (locked.commitment, locked.payment_hashes) != (offer.commitment, offer.reward_hashes):
        raise Conflict("locked_other", "the settler's word is about other rungs")
    if locked.expiry_height < min(heights):
        raise Conflict("locked_expiry", f"signed to expire at {locked.expiry_height}, and ours at {min(heights)}")
    return locked


def check_upload(signed: Signed, terms: Terms, *, commitment: str, payload_hash: str) -> UploadReceipt:
    """The settler's word that our payload arrived. Raises Unauthorized, Conflict."""
    receipt = open_signed(signed, UploadReceipt.tag, UploadReceipt, signer=terms.settler)
    if (receipt.commitment, receipt.payload_hash) != (commitment, payload_hash):
        raise Conflict("upload_other", "the upload receipt is about another payload")
    return receipt


def check_receipt(signed: Signed, terms: Terms, *, commitment: str, peer: str, payload_hash: str) -> Receipt:
    """The attestor's reasons, consistent with the terms and in themselves. Raises Unauthorized, Conflict.

    The measurement itself is anybody's to repeat; here are the identities and the way from the score to the amount.
    """
    receipt = open_signed(signed, Receipt.tag, Receipt, signer=terms.attestor)
    expected = (
        ("submission", (receipt.commitment, receipt.round, receipt.peer), (commitment, terms.round, peer)),
        ("checkpoint", receipt.checkpoint, terms.checkpoint.sha256),
        ("model", receipt.model_id, terms.model_id),
        ("payload", receipt.payload_hash or payload_hash, payload_hash),
        ("seed", _sha256_of_hex(receipt.seed), terms.seed_commitment),
    )
    for code, found, wanted in expected:
        if found != wanted:
            raise Conflict(f"receipt_{code}", f"the receipt says {found}, expected {wanted}")
    if wrong := difference(receipt, terms):
        raise Conflict(f"receipt_{wrong[0]}", wrong[1])
    return receipt


def matching_preimages(sealed: Sequence[str], key: UnsealingKey, offer: Offer) -> Mapping[int, Secret]:
    """The rung that each sealed preimage (hex) opens, by its hash: what matches is money, whatever the receipt says."""
    preimages = [opened for box in sealed if (opened := _unsealed(box, key)) is not None]
    index_of = {payment_hash: index for index, payment_hash in enumerate(offer.reward_hashes)}
    found = {index_of.get(hashlib.sha256(preimage.reveal()).hexdigest()): preimage for preimage in preimages}
    return {index: preimage for index, preimage in found.items() if index is not None}


def _unsealed(box: str, key: UnsealingKey) -> Secret | None:
    try:
        return Secret(key.unseal(bytes.fromhex(box)))
    except (PeerError, ValueError):
        return None


def _sha256_of_hex(text: str) -> str:
    try:
        return sha256(bytes.fromhex(text))
    except ValueError:
        return ""


def sha256(data: bytes) -> str:
    """Hex."""
    return hashlib.sha256(data).hexdigest()
