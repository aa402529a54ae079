"""A peer believes nothing that is not signed, pays nothing beyond its caps, and takes every preimage that is its own."""

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_peer_agent import policy
from l402_peer_agent.policy import SpendingCaps
from l402core import bolt11
from l402core.documents import LADDER, Locked, ObjectRef, Offer, Receipt, Recipe, Terms, UploadReceipt
from l402core.errors import CallerError, Conflict, L402Error, TooLarge, TooLate, Unauthorized
from l402core.l402 import Challenge
from l402core.l402.identifier import Identifier
from l402core.l402.macaroon import mint
from l402core.sealing import UnsealingKey, seal
from l402core.secret import Secret
from l402core.signing import SigningKey

SETTLER, ATTESTOR, PEER, STRANGER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
SEALING = UnsealingKey(b"\x05" * 32)
PREIMAGES = tuple(bytes([index]) * 32 for index in range(6))
HASHES = tuple(hashlib.sha256(preimage).hexdigest() for preimage in PREIMAGES)
HEIGHTS = (180,) * len(HASHES)
SEED = b"\x06" * 32
NOW_S = 1_800_000_000
PPM = 1_000_000


def some_terms(**changes: Any) -> Terms:
    """A round's terms, but for the changes."""
    start = NOW_S * 1_000
    terms = Terms(
        network="simnet", round=7, checkpoint=ObjectRef(uri="file:///c", sha256="c0" * 32, size=10), model_id="m",
        seed_commitment=hashlib.sha256(SEED).hexdigest(), opened_at_ms=start, commit_until_ms=start + 60_000,
        lock_by_ms=start + 70_000, upload_until_ms=start + 80_000, judge_by_ms=start + 90_000, reveal_by_height=424,
        fee_msat=500_000, unit_msat=100_000, places=8, budget_msat=50_400_000, phi_ppm=600_000, reference_previous=0,
        eval_tokens=65_536, cltv_min=60, cltv_max=200, invoice_expiry_min_s=600, payload_max_bytes=1 << 24,
        expected_peers=(), settler=SETTLER.public, attestor=ATTESTOR.public, attestor_url="http://127.0.0.1:1",
        reading_key="ab" * 32,
        recipe=Recipe(
            inner_steps=20, batch=8, sequence_length=128, learning_rate_ppm=2_000, feedback_decay_ppm=950_000,
            outer_rate_ppm=PPM, chunk_k=64,
        ),
    )  # fmt: skip
    return msgspec.structs.replace(terms, **changes)


TERMS = some_terms()
COMMITMENT = "cc" * 32
PAYLOAD_HASH = "dd" * 32


def read(terms: Terms, *, signer: SigningKey = SETTLER, settler: str = SETTLER.public, attestor: str = "") -> Terms:
    """The terms as a peer reads them."""
    return policy.read_terms(signer.sign(Terms.tag, terms), settler=settler, attestor=attestor, network="simnet")


def an_offer(**changes: Any) -> Offer:
    """The offer that the terms call for, but for the changes."""
    offer = Offer(
        commitment=COMMITMENT, round=7, seq=1, peer=PEER.public, seal_to=SEALING.public, terms=TERMS.digest(),
        key_id="k1", amounts_msat=TERMS.rung_msat(), attempt=1, lock_by_ms=TERMS.lock_by_ms,
        upload_until_ms=TERMS.upload_until_ms, judge_by_ms=TERMS.judge_by_ms, reveal_by_height=TERMS.reveal_by_height,
        cltv_min=TERMS.cltv_min, cltv_max=TERMS.cltv_max, reward_hashes=HASHES,
    )  # fmt: skip
    return msgspec.structs.replace(offer, **changes)


def check_offer(offer: Offer, signer: SigningKey = ATTESTOR) -> Offer:
    """The offer as a peer checks it."""
    return policy.check_offer(
        signer.sign(Offer.tag, offer), TERMS, commitment=COMMITMENT, peer=PEER.public, seal_to=SEALING.public
    )


def a_receipt(drop: int = 1_200_000, reference: int = 1_000_000, **changes: Any) -> Receipt:
    """An accepted gradient's receipt in which everything agrees, but for the changes."""
    floor = reference * 6 // 10
    quality = min(max((drop - floor) * PPM // (reference - floor), 0), 2 * PPM)
    units = quality * 63 // (2 * PPM)
    receipt = Receipt(
        commitment=COMMITMENT, round=7, peer=PEER.public, verdict="accepted", reasons=("It helps.",), checks=(),
        checkpoint="c0" * 32, payload_hash=PAYLOAD_HASH, content_key="", terms=TERMS.digest(), seed=SEED.hex(),
        root="", shards=(1,), eval_tokens=1, drop_mean=drop, drop_low=drop - 10, drop_high=drop + 10,
        reference=reference, floor=floor, quality_ppm=quality, units=units, mask=units, reward_msat=units * 100_000,
        model_id="m", losses=None, previous="",
    )  # fmt: skip
    return msgspec.structs.replace(receipt, **changes)


def check_receipt(receipt: Receipt, signer: SigningKey = ATTESTOR, terms: Terms = TERMS) -> Receipt:
    """The receipt as a peer checks it."""
    return policy.check_receipt(
        signer.sign(Receipt.tag, receipt), terms, commitment=COMMITMENT, peer=PEER.public, payload_hash=PAYLOAD_HASH
    )


def test_terms_are_read_when_the_settler_we_trust_signed_them() -> None:
    """With or without an attestor known before."""
    assert read(TERMS) == TERMS
    assert read(TERMS, attestor=ATTESTOR.public) == TERMS


@pytest.mark.parametrize(
    ("terms", "trusted", "code"),
    [
        (TERMS, {"signer": STRANGER}, "wrong_signer"),
        (TERMS, {"settler": STRANGER.public}, "wrong_signer"),
        (TERMS, {"attestor": STRANGER.public}, "terms_keys"),
        (some_terms(settler=STRANGER.public), {}, "terms_keys"),
        (some_terms(network="mainnet"), {}, "terms_network"),
        (some_terms(lock_by_ms=0), {}, "terms_deadlines"),
        (some_terms(rungs=()), {}, "terms_ladder"),
        (some_terms(unit_msat=0), {}, "terms_ladder"),
        (some_terms(fee_msat=0), {}, "terms_fee"),
        (some_terms(cltv_min=300), {}, "terms_cltv"),
        (some_terms(phi_ppm=PPM), {}, "terms_phi"),
    ],
)
def test_other_terms_are_refused(terms: Terms, trusted: dict[str, Any], code: str) -> None:
    """Another signer, another attestor, another network, or no sense in them."""
    with pytest.raises(CallerError) as refused:
        read(terms, **trusted)
    assert refused.value.code == code


def a_challenge(**changes: Any) -> Challenge:
    """The gateway's challenge for this round's fee, but for the changes in its invoice."""
    terms: dict[str, Any] = {
        "payment_hash": b"\x01" * 32, "payment_secret": b"\x02" * 32, "timestamp": NOW_S, "description": "fee",
        "amount_msat": TERMS.fee_msat, "expiry": 60, "network": "simnet",
    }  # fmt: skip
    text = bolt11.encode(b"\x09" * 32, **{**terms, **changes})
    macaroon = mint(Secret(b"\x03" * 32), Identifier(b"\x01" * 32, b"\x04" * 32).encode(), (), b"")
    return Challenge(macaroon, text, bolt11.decode(text))


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"amount_msat": 500_001}, Conflict, "fee_amount"),
        ({"amount_msat": None}, Conflict, "fee_amount"),
        ({"network": "mainnet"}, Conflict, "fee_network"),
        ({"expiry": 1}, TooLate, "fee_expired"),
    ],
)
def test_a_fee_unlike_the_terms_is_not_paid(changes: dict[str, Any], error: type[L402Error], code: str) -> None:
    """The invoice asks for exactly what the settler signed, on our network, in time."""
    policy.check_challenge(a_challenge(), TERMS, now_s=NOW_S)
    with pytest.raises(error) as refused:
        policy.check_challenge(a_challenge(**changes), TERMS, now_s=NOW_S)
    assert refused.value.code == code


@given(st.lists(st.integers(1, 1_000), max_size=30), st.integers(0, 1_000), st.integers(0, 5_000))
def test_no_order_of_fees_exceeds_the_caps(fees: list[int], per_round: int, total: int) -> None:
    """Whatever is asked, and however often, the sum of what was allowed stays within both caps."""
    caps, spent = SpendingCaps(round_msat=per_round, total_msat=total), 0
    for fee in fees:
        try:
            policy.check_spending(fee, committed_msat=spent, caps=caps)
        except TooLarge:
            continue
        assert fee <= per_round
        spent += fee
    assert spent <= total


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"commitment": "ee" * 32}, "offer_submission"),
        ({"round": 8}, "offer_submission"),
        ({"peer": STRANGER.public}, "offer_submission"),
        ({"terms": "ee" * 32}, "offer_terms"),
        ({"seal_to": "ee" * 32}, "offer_seal_to"),
        ({"amounts_msat": (1,) * 6}, "offer_amounts"),
        ({"lock_by_ms": 1}, "offer_lock_by"),
        ({"upload_until_ms": 1}, "offer_upload_until"),
        ({"judge_by_ms": 1}, "offer_judge_by"),
        ({"reveal_by_height": 1}, "offer_reveal_by"),
        ({"cltv_max": 2_000}, "offer_cltv"),
        ({"reward_hashes": HASHES[:5] + HASHES[:1]}, "offer_hashes"),
        ({"reward_hashes": (*HASHES, HASHES[0])}, "offer_count"),
    ],
)
def test_an_offer_unlike_the_terms_is_refused(changes: dict[str, Any], code: str) -> None:
    """No invoice is made on it."""
    assert check_offer(an_offer()) == an_offer()
    with pytest.raises(Conflict) as refused:
        check_offer(an_offer(**changes))
    assert refused.value.code == code


def test_an_offer_that_the_attestor_did_not_sign_is_refused() -> None:
    """Not even the settler may promise what the oracle must reveal."""
    with pytest.raises(Unauthorized):
        check_offer(an_offer(), signer=SETTLER)


def test_the_settlers_words_are_about_our_own_rungs_and_bytes() -> None:
    """Locked and upload receipts for something else, or by somebody else, are worth nothing."""
    locked = Locked(
        commitment=COMMITMENT, round=7, peer=PEER.public, payment_hashes=HASHES, expiry_height=180, locked_at_ms=1
    )
    assert policy.check_locked(SETTLER.sign(Locked.tag, locked), TERMS, an_offer(), HEIGHTS) == locked
    with pytest.raises(Unauthorized):
        policy.check_locked(ATTESTOR.sign(Locked.tag, locked), TERMS, an_offer(), HEIGHTS)
    with pytest.raises(Conflict):
        policy.check_locked(SETTLER.sign(Locked.tag, locked), TERMS, an_offer(reward_hashes=HASHES[::-1]), HEIGHTS)
    upload = UploadReceipt(
        commitment=COMMITMENT, round=7, peer=PEER.public, payload_hash=PAYLOAD_HASH, size=1, uploaded_at_ms=1
    )
    signed = SETTLER.sign(UploadReceipt.tag, upload)
    assert policy.check_upload(signed, TERMS, commitment=COMMITMENT, payload_hash=PAYLOAD_HASH) == upload
    with pytest.raises(Conflict):
        policy.check_upload(signed, TERMS, commitment=COMMITMENT, payload_hash="ee" * 32)


@given(st.integers(1, 10**10), st.integers(1, 10**10))
def test_a_receipt_that_follows_the_formula_is_believed(drop: int, reference: int) -> None:
    """Over the whole range of drops and references, from far below the floor to far above the cap."""
    receipt = a_receipt(max(drop, 11), max(reference, 1_000))
    assert check_receipt(receipt) == receipt


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peer": STRANGER.public}, "receipt_submission"),
        ({"terms": "ee" * 32}, "receipt_terms"),
        ({"checkpoint": "ee" * 32}, "receipt_checkpoint"),
        ({"model_id": "x"}, "receipt_model"),
        ({"payload_hash": "ee" * 32}, "receipt_payload"),
        ({"reward_msat": 1}, "receipt_reward"),
        ({"mask": 1}, "receipt_mask"),
        ({"mask": 47 + 64}, "receipt_mask_bits"),
        ({"seed": "ee" * 32}, "receipt_seed"),
        ({"seed": "no hex"}, "receipt_seed"),
        ({"verdict": "rejected"}, "receipt_verdict"),
        ({"drop_low": 0}, "receipt_accepted"),
        ({"floor": 1}, "receipt_floor"),
        ({"quality_ppm": 1_000_000}, "receipt_quality"),
        ({"drop_mean": 1_900_000}, "receipt_quality"),
        ({"units": 46, "mask": 46, "reward_msat": 4_600_000}, "receipt_units"),
    ],
)
def test_a_receipt_that_contradicts_itself_is_disputed(changes: dict[str, Any], code: str) -> None:
    """Each number that pays less or more than the terms give is found."""
    with pytest.raises(Conflict) as refused:
        check_receipt(a_receipt(**changes))
    assert refused.value.code == code


def test_a_lock_that_is_said_to_expire_too_soon_keeps_the_gradient_at_home() -> None:
    """The attestor reveals nothing near the expiry that the settler signs: lower than our own HTLCs' it is a trick."""
    for expiry, holds in ((180, True), (250, True), (179, False), (0, False)):
        locked = Locked(
            commitment=an_offer().commitment, round=TERMS.round, peer=an_offer().peer,
            payment_hashes=an_offer().reward_hashes, expiry_height=expiry, locked_at_ms=1,
        )  # fmt: skip
        signed = SETTLER.sign(Locked.tag, locked)
        if holds:
            assert policy.check_locked(signed, TERMS, an_offer(), HEIGHTS) == locked
        else:
            with pytest.raises(Conflict) as caught:
                policy.check_locked(signed, TERMS, an_offer(), HEIGHTS)
            assert caught.value.code == "locked_expiry"


def test_a_reference_that_leaps_is_disputed() -> None:
    """From one round to the next it stays within a quarter and two and a half times."""
    terms = some_terms(reference_previous=100_000)
    receipt = a_receipt(terms=terms.digest())
    with pytest.raises(Conflict) as refused:
        check_receipt(receipt, terms=terms)
    assert refused.value.code == "receipt_reference"


@given(st.sets(st.integers(0, 5)), st.lists(st.binary(max_size=100), max_size=3))
def test_every_preimage_of_ours_is_taken_and_nothing_else(revealed: set[int], junk: list[bytes]) -> None:
    """By its hash, in any order, among boxes of rubbish and preimages of other rungs."""
    boxes = [seal(PREIMAGES[index], SEALING.public).hex() for index in sorted(revealed, reverse=True)]
    boxes += [box.hex() for box in junk] + ["no hex", seal(b"\xff" * 32, SEALING.public).hex()]
    found = policy.matching_preimages(boxes, SEALING, an_offer())
    assert found == {index: Secret(PREIMAGES[index]) for index in revealed}


def test_a_ladder_has_as_many_rungs_as_its_terms() -> None:
    """The builders here speak of the real ladder."""
    assert TERMS.rungs == LADDER
