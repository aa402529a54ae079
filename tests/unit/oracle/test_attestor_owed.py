"""One reward, several offers, and the preimages of one of them at most: whoever asks, in whatever order, however often."""

import asyncio
import hashlib
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402_oracle.adapters import decisions as books
from l402_oracle.adapters.tables import decisions
from l402core.documents import Offer, mask_indices
from l402core.errors import Contradiction, Unavailable
from l402core.events import GradientScored, OfferMade
from l402core.outbox import Transaction

from tests.support.oracle import (
    JUDGE_BY_MS,
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    round_closed,
    sealing_key,
    sha,
)

DAY_MS = 86_400_000


async def decided(stage: Stage, *, height: int, expiry: int = 160) -> Offer:
    """Ann's gradient is accepted in time, and told at this height: until then its preimage key was not at hand.

    With an expiry of 160 and a margin of 24, from 136 on it is too late.
    """
    await stage.announce()
    await stage.hear(stage.round_opened())
    offer = await stage.offer("ann", 0)
    await stage.hear(commits_closed("ann"), locked(offer, expiry=expiry), stage.uploaded("ann"))
    stage.now_ms = UPLOAD_UNTIL_MS
    key = stage.parts.keys.preimages.pop("k1")
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.5))
    assert stage.ears.all(GradientScored) == []
    stage.parts.keys.preimages["k1"] = key
    stage.height.now = height
    await stage.tick()
    return offer


def asking(stage: Stage, attempt: int = 2, **other: Any) -> Any:
    """The settler asks for a new offer, with deadlines of its own."""
    height = stage.height.now or 0
    wanted = {"lock_by_ms": stage.now_ms + DAY_MS, "reveal_by_height": height + 100, **other}
    return stage.offer_make("ann", 0, attempt=attempt, **wanted)


def offer_of(stage: Stage, attempt: int) -> Offer:
    """The last offer of this number."""
    made = [msgspec.json.decode(event.offer.body, type=Offer) for event in stage.ears.all(OfferMade)]
    return next(offer for offer in reversed(made) if offer.attempt == attempt)


def opened(stage: Stage) -> set[str]:
    """The hash of every preimage that ever left, opened with the peer's key."""
    boxes = [box for event in stage.ears.all(GradientScored) for box in event.sealed_preimages]
    return {hashlib.sha256(sealing_key("ann").unseal(bytes.fromhex(box))).hexdigest() for box in boxes}


async def test_a_withheld_reward_is_revealed_through_a_new_offer_of_exactly_its_rungs(stage: Stage) -> None:
    """Too late for the first ladder: the same receipt, other hashes, the earned rungs alone, revealed once locked."""
    first = await decided(stage, height=150)
    told = stage.ears.last(GradientScored)
    assert (told.withheld, told.attempt, told.sealed_preimages) == (True, 1, ())
    await stage.hear(asking(stage))
    second = offer_of(stage, 2)
    earned = mask_indices(told.mask, 6)
    assert second.amounts_msat == tuple(first.amounts_msat[index] for index in earned)
    assert not set(second.reward_hashes) & set(first.reward_hashes)
    assert (second.lock_by_ms, second.reveal_by_height) == (stage.now_ms + DAY_MS, 250)
    assert opened(stage) == set()
    await stage.hear(locked(second, expiry=300))
    again = stage.ears.last(GradientScored)
    assert (again.withheld, again.attempt, again.receipt, again.mask) == (False, 2, told.receipt, told.mask)
    assert again.message_id != told.message_id
    assert opened(stage) == set(second.reward_hashes)


async def test_a_lock_that_is_told_again_has_the_reveal_told_again(stage: Stage) -> None:
    """The stream lost the word that the second offer is revealed, rounds ago: a settler that still waits for it gets it."""
    await decided(stage, height=150)
    await stage.hear(asking(stage))
    second = offer_of(stage, 2)
    await stage.hear(locked(second, expiry=300))
    assert opened(stage) == set(second.reward_hashes)
    stage.ears.heard = [event for event in stage.ears.heard if not isinstance(event, GradientScored)]
    await stage.hear(locked(second, expiry=300))
    again = stage.ears.last(GradientScored)
    assert (again.attempt, again.withheld) == (2, False)
    assert opened(stage) == set(second.reward_hashes)


async def test_a_coordinator_that_claims_undeliverable_gets_no_second_offer(stage: Stage) -> None:
    """Revealed: it is told again instead, and no second offer ever follows, however it is asked."""
    first = await decided(stage, height=110)
    assert not stage.ears.last(GradientScored).withheld
    stage.height.now = 150
    await stage.hear(asking(stage))
    assert [offer.attempt for offer in map(_offer, stage.ears.all(OfferMade))] == [1]
    with pytest.raises(Contradiction, match="offer_order"):
        await stage.hear(asking(stage, 3))
    assert opened(stage) <= set(first.reward_hashes)
    assert not stage.ears.last(GradientScored).withheld


async def test_what_can_still_be_delivered_is_not_offered_again(stage: Stage) -> None:
    """Decided but not told yet, and there is time: the request is a contradiction, and the first offer is revealed."""
    first = await decided(stage, height=110)
    await stage.database.transact(lambda tx: tx.execute(decisions.update().values(fate="", said=False)))
    with pytest.raises(Contradiction, match="offer_deliverable"):
        await stage.hear(asking(stage))
    await stage.tick()
    assert opened(stage) <= set(first.reward_hashes)
    assert opened(stage)


async def test_nothing_is_offered_again_before_a_decision_or_for_none(stage: Stage) -> None:
    """Undecided, rejected, or of a frozen round: there is nothing owed."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    offer = await stage.offer("ann", 0)
    with pytest.raises(Contradiction, match="offer_not_owed"):
        await stage.hear(asking(stage))
    await stage.hear(commits_closed("ann"), locked(offer), stage.uploaded("ann"))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed("ann"), stage.screened("ann"), measured("ann", 0.0001))
    assert stage.ears.last(GradientScored).verdict == "rejected"
    with pytest.raises(Contradiction, match="offer_not_owed"):
        await stage.hear(asking(stage))


async def test_withheld_once_is_withheld_for_good(stage: Stage) -> None:
    """A height that runs back, a restart, a reader at the URL: nothing brings the first offer's preimages out."""
    await decided(stage, height=150)
    stage.height.now = 101
    await stage.attestor.begin()
    await stage.tick()
    assert (await stage.attestor.delivery.decision(sha("ann"))).sealed_preimages == ()
    assert opened(stage) == set()
    await stage.hear(asking(stage))
    await stage.attestor.begin()
    await stage.tick()
    told = stage.ears.last(GradientScored)
    assert (told.withheld, told.attempt) == (True, 1)
    assert opened(stage) == set()


async def test_revealed_once_is_never_withheld(stage: Stage) -> None:
    """Told in time and asked for again inside the margin: no second offer can ever be made beside it."""
    await decided(stage, height=110)
    stage.height.now = 150
    await stage.attestor.begin()
    await stage.tick()
    assert not stage.ears.last(GradientScored).withheld
    assert (await stage.attestor.delivery.decision(sha("ann"))).withheld is False


async def test_a_reader_at_the_url_settles_it_for_good(stage: Stage) -> None:
    """Who reads first has the preimages: from then on they count as revealed, though nothing was told on the bus yet."""
    await decided(stage, height=110)
    await stage.database.transact(lambda tx: tx.execute(decisions.update().values(fate="", said=False)))
    stage.ears.heard = [event for event in stage.ears.heard if not isinstance(event, GradientScored)]
    assert (await stage.attestor.delivery.decision(sha("ann"))).sealed_preimages
    stage.height.now = 150
    await stage.hear(asking(stage))
    assert [offer.attempt for offer in map(_offer, stage.ears.all(OfferMade))] == [1]
    assert not stage.ears.last(GradientScored).withheld


async def test_an_offer_that_nobody_locked_is_followed_by_another(stage: Stage) -> None:
    """The second lapses, the third is locked: the lock of the second comes too late and opens nothing."""
    await decided(stage, height=150)
    await stage.hear(asking(stage))
    stage.now_ms += DAY_MS
    await stage.hear(asking(stage, 3))
    second, third = offer_of(stage, 2), offer_of(stage, 3)
    await stage.hear(locked(second, expiry=400))
    await stage.tick()
    assert opened(stage) == set()
    await stage.hear(locked(third, expiry=400))
    assert opened(stage) == set(third.reward_hashes)


async def test_a_new_offer_inside_the_margin_is_withheld_like_the_first(stage: Stage) -> None:
    """Locked too long ago: refused again, and owed still."""
    await decided(stage, height=150)
    await stage.hear(asking(stage))
    stage.height.now = 250
    await stage.hear(locked(offer_of(stage, 2), expiry=260))
    told = stage.ears.last(GradientScored)
    assert (told.withheld, told.attempt) == (True, 2)
    assert opened(stage) == set()
    await stage.hear(asking(stage, 3))
    await stage.hear(locked(offer_of(stage, 3), expiry=400))
    assert opened(stage) == set(offer_of(stage, 3).reward_hashes)


@pytest.mark.parametrize(
    "other", [{"lock_by_ms": 0}, {"lock_by_ms": 10**15}, {"reveal_by_height": 150}, {"reveal_by_height": 10**6}]
)
async def test_deadlines_that_serve_nobody_are_refused(stage: Stage, other: dict[str, int]) -> None:
    """In the past, or years away: the settler cannot make an offer that lapses at once, or holds for ever."""
    await decided(stage, height=150)
    with pytest.raises(Contradiction, match="offer_deadlines"):
        await stage.hear(asking(stage, **other))


async def test_without_a_height_no_new_offer_is_made(stage: Stage) -> None:
    """The request is tried again later."""
    await decided(stage, height=150)
    request = asking(stage)
    stage.height.now = None
    with pytest.raises(Unavailable):
        await stage.hear(request)
    stage.height.now = 151
    await stage.hear(request)
    assert offer_of(stage, 2).attempt == 2


async def test_the_new_offer_asked_twice_is_the_same_offer(stage: Stage) -> None:
    """With other deadlines, too: the first one signed stands."""
    await decided(stage, height=150)
    await stage.hear(asking(stage), asking(stage, lock_by_ms=stage.now_ms + 2 * DAY_MS))
    one, two = [event.offer for event in stage.ears.all(OfferMade)][-2:]
    assert one == two


@pytest.mark.parametrize("order", list(itertools.permutations(("ask", "read", "tell"))))
async def test_in_any_order_only_one_offers_preimages_ever_leave(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Asked, read and told at once, at the very block at which it becomes too late: one offer's at most."""
    stage = Stage(tmp_path)
    await decided(stage, height=135)
    await stage.database.transact(lambda tx: tx.execute(decisions.update().values(fate="", said=False)))
    stage.ears.heard = [event for event in stage.ears.heard if not isinstance(event, GradientScored)]
    read: list[GradientScored] = []

    async def step(name: str) -> None:
        try:
            if name == "ask":
                stage.height.now = 136
                await stage.hear(asking(stage))
                await stage.hear(locked(offer_of(stage, 2), expiry=400))
            elif name == "read":
                read.append(await stage.attestor.delivery.decision(sha("ann")))
            else:
                await stage.tick()
        except (Contradiction, StopIteration):
            pass

    for name in order:
        await step(name)
    stage.now_ms = JUDGE_BY_MS + 1
    await asyncio.gather(*(step(name) for name in order))
    boxes = [box for one in (*read, *stage.ears.all(GradientScored)) for box in one.sealed_preimages]
    hashes = {hashlib.sha256(sealing_key("ann").unseal(bytes.fromhex(box))).hexdigest() for box in boxes}
    owners = {offer.attempt for offer in map(_offer, stage.ears.all(OfferMade)) if set(offer.reward_hashes) & hashes}
    assert len(owners) == 1, owners
    stage.database.close()


def _offer(event: OfferMade) -> Offer:
    return msgspec.json.decode(event.offer.body, type=Offer)


async def test_the_fate_of_an_offer_is_written_once(stage: Stage) -> None:
    """The row itself refuses a second fate, an offer that skips a number, and one beside what was not withheld."""
    await decided(stage, height=110)
    name = sha("ann")

    def work(tx: Transaction) -> list[bool]:
        return [
            books.settle_fate(tx, name, 1, books.WITHHELD),
            books.settle_fate(tx, name, 2, books.REVEALED),
            books.next_attempt(tx, name, 2),
            books.settle_fate(tx, name, 1, books.REVEALED),
        ]

    assert await stage.database.transact(work) == [False, False, False, True]
    await stage.database.transact(lambda tx: tx.execute(decisions.update().values(fate="withheld")))
    skipped, next_one, again = await stage.database.transact(
        lambda tx: (books.next_attempt(tx, name, 3), books.next_attempt(tx, name, 2), books.next_attempt(tx, name, 3))
    )
    assert (skipped, next_one, again) == (False, True, False)
