"""Everybody but the oracle and one peer is the attacker's: it gains no preimage, forges nothing, reads nothing, is convicted.

The attacker holds the settler's key, hears every word on the bus and reads the oracle's URL; the keys of the attestor,
of the workers and of the peer are not its own.
"""

import hashlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from l402_oracle.adapters.records import Records
from l402_oracle.derive import preimage
from l402core.conviction import Papers, convictions
from l402core.documents import Offer, Receipt, RoundRoot, Terms, UploadReceipt, mask_indices
from l402core.errors import L402Error, PeerError
from l402core.events import Event, GradientScored, GradientScreened, OfferMade
from l402core.evidence import JudgedRound
from l402core.sealing import UnsealingKey, open_payload, seal_payload, unseal_payload
from l402core.secret import Secret
from l402core.signing import SigningKey, open_signed

from tests.support.oracle import (
    ATTESTOR,
    OPENED_MS,
    PREIMAGE_KEY,
    SETTLER,
    STRANGER,
    UPLOAD_UNTIL_MS,
    Stage,
    a_sketch,
    commits_closed,
    locked,
    measured,
    round_closed,
    sealing_key,
    sha,
    the_root,
)
from tests.support.secrets_scan import Needles

NAMES = ("ann", "bob", "cy")


async def a_lying_coordinator(stage: Stage) -> dict[str, Offer]:
    """Before, between and after what must be said, everything that the settler's key lets the attacker say."""
    await stage.announce()
    await _try(stage, stage.round_opened(unit_msat=1, rungs=(1,)), stage.round_opened(seed_commitment="00" * 32))
    await stage.hear(stage.round_opened())
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(NAMES)}
    await _try(stage, stage.offer_make("ann", 0, attempt=2, lock_by_ms=OPENED_MS + 9, reveal_by_height=200))
    await _try(stage, msgspec.structs.replace(stage.offer_make("ann", 0), peer=STRANGER.public))
    await stage.hear(commits_closed(*NAMES))
    await _try(stage, locked(offers["ann"], payment_hashes=("00" * 32,) * 6), locked(offers["ann"], by=STRANGER))
    for name in ("ann", "bob"):  # cy's reward is never locked
        await stage.hear(locked(offers[name]), stage.uploaded(name), stage.screened(name))
    await stage.hear(stage.uploaded("cy"), stage.screened("cy"))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed(*NAMES))
    await stage.hear(measured("ann", 0.5), measured("bob", -0.5))
    await stage.tick(to_ms=stage.terms().judge_by_ms)
    await _try(stage, stage.offer_make("bob", 1, attempt=2, lock_by_ms=stage.now_ms + 9, reveal_by_height=200))
    await _try(stage, measured("bob", 2.0), stage.round_opened(fee_msat=1), locked(offers["cy"]))
    await stage.tick()
    return offers


async def _try(stage: Stage, *lies: Any) -> None:
    for lie in lies:
        with suppress(L402Error):
            await stage.hear(lie)


async def test_no_preimage_leaves_outside_a_decision(stage: Stage) -> None:
    """Of three ladders, exactly ann's earned rungs can be opened, by ann alone; nothing is in the clear."""
    offers = await a_lying_coordinator(stage)
    told = {event.commitment: event for event in stage.ears.all(GradientScored)}
    assert {name: told[sha(name)].mask > 0 for name in NAMES} == {"ann": True, "bob": False, "cy": False}
    heard = stage.ears.bytes
    for name in NAMES:
        decision = await stage.attestor.delivery.decision(sha(name))
        heard += msgspec.json.encode(decision)
        opened = [sealing_key(name).unseal(bytes.fromhex(box)) for box in decision.sealed_preimages]
        hashes = [offers[name].reward_hashes[index] for index in mask_indices(decision.mask, 6)]
        assert [hashlib.sha256(one).hexdigest() for one in opened] == hashes
        for box in decision.sealed_preimages:
            with pytest.raises(PeerError):
                sealing_key("attacker").unseal(bytes.fromhex(box))
    for name in NAMES:
        for index in range(6):
            secret = preimage(Secret(PREIMAGE_KEY), offers[name], index).reveal()
            assert secret.hex().encode() not in heard
            assert secret not in heard


async def test_no_receipt_can_be_forged(stage: Stage) -> None:
    """Only what the attestor signed opens under its key; the settler's own signature is another's."""
    await a_lying_coordinator(stage)
    evidence = await Records(stage.database).of_round(1)
    for signed in evidence.receipts:
        receipt = open_signed(signed, Receipt.tag, Receipt, signer=ATTESTOR.public)
        better = msgspec.structs.replace(receipt, units=63, mask=63, reward_msat=6_300_000, verdict="accepted")
        for forged in (
            SETTLER.sign(Receipt.tag, better),
            msgspec.structs.replace(SETTLER.sign(Receipt.tag, better), signer=ATTESTOR.public),
            msgspec.structs.replace(signed, body=SETTLER.sign(Receipt.tag, better).body),
        ):
            with pytest.raises(L402Error):
                open_signed(forged, Receipt.tag, Receipt, signer=ATTESTOR.public)


def test_no_payload_can_be_read_before_it_is_judged() -> None:
    """Sealed to the workers' key; afterwards the receipt's content key opens it for everybody."""
    reading, content = UnsealingKey(bytes([6]) * 32), bytes([7]) * 32
    sealed = seal_payload(b"a gradient", reading.public, content)
    for key in (bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32):
        with pytest.raises(PeerError):
            unseal_payload(sealed, UnsealingKey(key))
    assert b"a gradient" not in sealed
    assert open_payload(sealed, content) == b"a gradient"


async def test_neither_bus_nor_store_opens_a_payload_that_is_not_decided(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers say of it is for the attestor alone: no key and no sketch before the decision, and cy's never."""
    overheard, hear = list[Event](), stage.hear

    async def overhear(*said: Event) -> None:
        overheard.extend(said)
        await hear(*said)

    monkeypatch.setattr(stage, "hear", overhear)
    await a_lying_coordinator(stage)
    keys = {name: bytes.fromhex(sha(f"content {name}")) for name in NAMES}
    sketches = {f"sketch of {name}": a_sketch(name)[12:76] for name in NAMES}
    decided = next(n for n, event in enumerate(stage.ears.heard) if isinstance(event, GradientScored))
    before = b"".join(map(msgspec.json.encode, (*overheard, *stage.ears.heard[:decided])))
    store = b"".join(stage.shelf.kept.values())
    assert any(isinstance(event, GradientScreened) for event in overheard)
    assert Needles(keys | sketches).found_in(before + store) == set()
    public = msgspec.json.encode(await Records(stage.database).of_round(1)) + stage.ears.bytes
    assert Needles(keys).found_in(public) == {"ann", "bob"}


async def test_the_peer_ends_up_with_papers_that_convict(stage: Stage) -> None:
    """Each lie that the coordinator must sign to hurt ann is proved by two papers; honest papers prove nothing."""
    offers = await a_lying_coordinator(stage)
    honest = await _papers(stage, offers["ann"])
    assert _codes(honest) == ()
    lies: dict[str, dict[str, Any]] = {
        "terms_twice": {"terms": (*honest.terms, SETTLER.sign(Terms.tag, stage.terms(unit_msat=1)))},
        "root_twice": {"roots": (*honest.roots, SETTLER.sign(RoundRoot.tag, the_root("bob", "ann", "cy")))},
        "left_out": {"roots": (SETTLER.sign(RoundRoot.tag, the_root("bob", "cy")),)},
        "locked_twice": {"locked": (*honest.locked, locked(offers["ann"], expiry=999).locked)},
        "kept_from_judgement": {"judged": await _without(stage, "ann")},
    }
    for code, changed in lies.items():
        found = convictions(
            msgspec.structs.replace(honest, **changed), settler=SETTLER.public, attestor=ATTESTOR.public
        )
        assert {one.code for one in found} == {code}
        for one in found:  # the papers alone are enough, and a stranger's signature convicts nobody
            assert len(one.papers) >= 2
    forged = tuple(_by(STRANGER, document) for document in (stage.terms(), stage.terms(unit_msat=1)))
    assert _codes(msgspec.structs.replace(honest, terms=forged)) == ()


async def _papers(stage: Stage, offer: Offer) -> Papers:
    upload = UploadReceipt(
        commitment=offer.commitment, round=1, peer=offer.peer, payload_hash=sha("payload"), size=1,
        uploaded_at_ms=UPLOAD_UNTIL_MS - 1,
    )  # fmt: skip
    made = next(event for event in stage.ears.all(OfferMade) if event.commitment == offer.commitment)
    return Papers(
        terms=(stage.round_opened().terms,), roots=(commits_closed(*NAMES).root,), locked=(locked(offer).locked,),
        upload=SETTLER.sign(UploadReceipt.tag, upload), offer=made.offer,
        judged=(await Records(stage.database).of_round(1)).judged,
    )  # fmt: skip


async def _without(stage: Stage, name: str) -> Any:
    """The page that the oracle signs where the closing names everybody's upload but one."""
    page = msgspec.json.decode((await Records(stage.database).of_round(1)).judged.body)
    page["entries"] = [entry for entry in page["entries"] if entry["commitment"] != sha(name)]
    return ATTESTOR.sign(JudgedRound.tag, msgspec.convert(page, JudgedRound))


def _by(key: SigningKey, terms: Terms) -> Any:
    return key.sign(Terms.tag, terms)


def _codes(papers: Papers) -> tuple[str, ...]:
    found = convictions(papers, settler=SETTLER.public, attestor=ATTESTOR.public)
    return tuple(one.code for one in found)
