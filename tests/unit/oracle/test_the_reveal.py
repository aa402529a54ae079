"""The reveal, clause by clause: when a preimage may leave the attestor, which ones, to whom, and how often."""

import asyncio
import hashlib

import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.adapters.tables import decisions, outbox
from l402_oracle.derive import preimage
from l402core.documents import Offer, mask_indices
from l402core.errors import PeerError
from l402core.events import GradientScored, OfferMade
from l402core.outbox import Transaction
from l402core.secret import Secret

from tests.support.oracle import (
    JUDGE_BY_MS,
    PREIMAGE_KEY,
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    round_closed,
    sealing_key,
    sha,
)


async def up_to_judging(stage: Stage, *names: str, lock: bool = True) -> dict[str, Offer]:
    """Everybody is screened; nobody is measured."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(names)}
    await stage.hear(commits_closed(*names))
    for name in names:
        await stage.hear(*((locked(offers[name]),) if lock else ()), stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed(*names), *(stage.screened(name) for name in names))
    return offers


def hashes(scored: GradientScored, name: str) -> set[str]:
    """The payment hashes that this peer can open now."""
    return {hashlib.sha256(sealing_key(name).unseal(bytes.fromhex(box))).hexdigest() for box in scored.sealed_preimages}


def earned(scored: GradientScored, offer: Offer) -> set[str]:
    """Those that the decision names."""
    return {offer.reward_hashes[index] for index in mask_indices(scored.mask, 6)}


@pytest.mark.parametrize("first", [0.5, 0.2])
async def test_two_workers_that_measure_differently_give_one_decision_and_never_the_union(
    stage: Stage, first: float
) -> None:
    """Both measurements arrive, in either order and again: the first one counts, and its rungs alone are revealed."""
    offers = await up_to_judging(stage, "ann", "bob")
    await stage.hear(measured("bob", 0.4), measured("ann", first))
    second = 0.7 - first
    await stage.hear(measured("ann", second), measured("ann", first), measured("ann", second))
    await stage.attestor.begin()
    await stage.tick()
    told = [event for event in stage.ears.all(GradientScored) if event.commitment == sha("ann")]
    assert len({event.receipt.body for event in told}) == 1
    assert len({event.mask for event in told}) == 1
    shown = set[str]().union(*(hashes(event, "ann") for event in told))
    shown |= hashes(await stage.attestor.delivery.decision(sha("ann")), "ann")
    assert shown == earned(told[0], offers["ann"])
    assert len(shown) < 6


async def test_measurements_that_race_give_one_decision(stage: Stage) -> None:
    """At the same moment, from several workers: one row, one receipt."""
    offers = await up_to_judging(stage, "ann")
    await asyncio.gather(*(stage.attestor.gradient_measured(measured("ann", 0.1 * n)) for n in range(1, 7)))
    await stage.publish()
    told = stage.ears.all(GradientScored)
    assert len({event.receipt.body for event in told}) == 1
    assert hashes(told[-1], "ann") == earned(told[-1], offers["ann"])
    count = await stage.database.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(decisions)))
    assert count == 1


async def test_no_preimage_leaves_before_lock_evidence(stage: Stage) -> None:
    """Measured, and never signed as locked: whatever comes later, nothing is revealed."""
    offers = await up_to_judging(stage, "ann", lock=False)
    await stage.hear(measured("ann", 0.5))
    assert (stage.ears.all(GradientScored)) == []
    await stage.tick(to_ms=JUDGE_BY_MS)
    await stage.hear(locked(offers["ann"]))
    await stage.tick()
    told = stage.ears.last(GradientScored)
    assert (told.mask, told.sealed_preimages) == (0, ())
    assert (await stage.attestor.delivery.decision(sha("ann"))).sealed_preimages == ()


async def test_no_preimage_leaves_before_the_recorded_decision(stage: Stage) -> None:
    """The decision's row stands in the database before any message with a preimage is even in the outbox."""
    await up_to_judging(stage, "ann")
    seen: list[tuple[int, int]] = []

    def counts(tx: Transaction) -> tuple[int, int]:
        told = sa.select(sa.func.count()).select_from(outbox).where(outbox.c.subject.like("gradient.scored%"))
        return tx.scalar(sa.select(sa.func.count()).select_from(decisions)), tx.scalar(told)

    original = stage.attestor.delivery._say_all

    def watched(tx: Transaction) -> list[tuple[str, str]]:
        seen.append(counts(tx))
        return original(tx)

    stage.attestor.delivery._say_all = watched  # type: ignore[method-assign]  # to look in between
    await stage.attestor.gradient_measured(measured("ann", 0.5))
    assert seen[0] == (1, 0)
    assert (await stage.database.read(counts))[1] == 1


async def test_only_the_peer_can_open_what_is_revealed(stage: Stage) -> None:
    """Sealed to ann: bob's key, and the settler that passes it on, see nothing."""
    await up_to_judging(stage, "ann", "bob")
    await stage.hear(measured("ann", 0.5), measured("bob", 0.5))
    ann = next(event for event in stage.ears.all(GradientScored) if event.commitment == sha("ann"))
    assert ann.sealed_preimages
    for box in ann.sealed_preimages:
        with pytest.raises(PeerError):
            sealing_key("bob").unseal(bytes.fromhex(box))


async def test_a_lost_message_is_said_again_the_same(stage: Stage) -> None:
    """Recomputed from the offer and the key: other boxes, the same preimages, and no table that could leak them."""
    offers = await up_to_judging(stage, "ann")
    await stage.hear(measured("ann", 0.5))
    first = stage.ears.last(GradientScored)
    stage.ears.heard = [event for event in stage.ears.heard if not isinstance(event, GradientScored)]
    await stage.attestor.begin()
    await stage.tick()
    again = stage.ears.last(GradientScored)
    assert hashes(again, "ann") == hashes(first, "ann") == earned(first, offers["ann"])
    assert again.sealed_preimages != first.sealed_preimages
    key = Secret(PREIMAGE_KEY)
    secrets = [preimage(key, offers["ann"], index).reveal() for index in range(6)]
    files = b"".join(path.read_bytes() for path in stage.file.parent.glob("*.sqlite3*"))
    for secret in secrets:
        assert secret not in files
        assert secret.hex().encode() not in files


@pytest.mark.parametrize(
    ("expiry", "height", "told"), [(140, 115, True), (140, 116, False), (1_000, 124, True), (1_000, 125, False)]
)
async def test_inside_the_cltv_margin_the_reveal_is_refused(stage: Stage, expiry: int, height: int, told: bool) -> None:
    """Decided in time and told a block earlier or later than the margin of 24 or the terms' last height allow: then it is
    owed, not revealed."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    offer = await stage.offer("ann", 0)
    await stage.hear(commits_closed("ann"), locked(offer, expiry=expiry), stage.uploaded("ann"))
    stage.now_ms = UPLOAD_UNTIL_MS
    key = stage.parts.keys.preimages.pop("k1")
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    stage.parts.keys.preimages["k1"], stage.height.now = key, height
    await stage.tick()
    scored = stage.ears.last(GradientScored)
    assert (bool(scored.sealed_preimages), scored.withheld) == (told, not told)


async def test_the_offer_names_no_preimage(stage: Stage) -> None:
    """What is announced before the lock is hashes alone."""
    await up_to_judging(stage, "ann")
    text = msgspec.json.encode(stage.ears.last(OfferMade)).decode()
    key = Secret(PREIMAGE_KEY)
    offer = msgspec.json.decode(stage.ears.last(OfferMade).offer.body, type=Offer)
    assert all(preimage(key, offer, index).reveal().hex() not in text for index in range(6))
