"""What a peer can put into its own documents to hurt others at the attestor, and what an empty bus may cost."""

import asyncio
import threading

import msgspec
import pytest
from l402_oracle.attestor.wiring import round_sight
from l402core.documents import Offer
from l402core.errors import NotFound
from l402core.events import GradientScored, OfferMade
from l402core.outbox import Transaction

from tests.support.oracle import (
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    round_closed,
    sha,
)

UNSEALABLE = ["zz", "", "00" * 31, "00" * 32, "01" + "00" * 31, "é" * 64]
"""Not hex, too short, and points of low order, to which libsodium seals nothing."""


def offer_of(stage: Stage, name: str) -> Offer:
    """The offer that was made to this peer."""
    made = next(event for event in stage.ears.all(OfferMade) if event.commitment == sha(name))
    return msgspec.json.decode(made.offer.body, type=Offer)


@pytest.mark.parametrize("seal_to", UNSEALABLE)
async def test_a_peer_that_nothing_can_be_sealed_to_costs_nobody_else_a_preimage(stage: Stage, seal_to: str) -> None:
    """It is decided and told like any other, without preimages; bob has his, and the timer goes on."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    await stage.hear(msgspec.structs.replace(stage.offer_make("ann", 0), seal_to=seal_to), stage.offer_make("bob", 1))
    await stage.hear(commits_closed("ann", "bob"))
    for name in ("ann", "bob"):
        await stage.hear(locked(offer_of(stage, name)), stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed("ann", "bob"), stage.screened("ann"), stage.screened("bob"))
    await stage.hear(measured("ann", 0.5), measured("bob", 0.5))
    await stage.tick()
    told = {event.commitment: event for event in stage.ears.all(GradientScored)}
    assert told[sha("ann")].mask > 0
    assert told[sha("ann")].sealed_preimages == ()
    assert len(told[sha("bob")].sealed_preimages) == told[sha("bob")].mask.bit_count()
    assert (await stage.attestor.delivery.decision(sha("ann"))).sealed_preimages == ()


async def test_a_decision_that_the_bus_lost_is_told_again_after_a_restart(stage: Stage) -> None:
    """Told and then lost with the stream: a settler that never heard it would book the fee as owed and not the reward."""
    await stage.announce()
    await stage.hear(stage.round_opened(), stage.offer_make("ann", 0), commits_closed("ann"))
    await stage.hear(locked(offer_of(stage, "ann")), stage.uploaded("ann"))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    stage.ears.heard = [event for event in stage.ears.heard if not isinstance(event, GradientScored)]
    await stage.attestor.begin()
    await stage.tick()
    assert [event.commitment for event in stage.ears.all(GradientScored)] == [sha("ann")]


async def test_readers_at_the_url_wait_for_no_writer(stage: Stage) -> None:
    """Strangers may read as much as they like: the one writer decides on, and they are answered beside it."""
    await stage.announce()
    busy, go_on = threading.Event(), threading.Event()

    def writing(tx: Transaction) -> None:
        busy.set()
        go_on.wait(10)

    writer = asyncio.create_task(stage.database.transact(writing))
    await asyncio.to_thread(busy.wait)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(NotFound):
                await stage.attestor.delivery.decision(sha("ann"))
            assert await round_sight(stage.database)(1) is not None
    finally:
        go_on.set()
        await writer
