"""The attestor's histories: a round from offer to reveal, what ends it early, and what never happens."""

import asyncio
import hashlib
from pathlib import Path

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.adapters import decisions as books
from l402_oracle.adapters.http import attestor_app
from l402_oracle.adapters.records import Records
from l402_oracle.adapters.tables import decisions, outbox
from l402_oracle.attestor.wiring import round_sight
from l402_oracle.derive import drawn_shards, preimage, seed_commitment
from l402core import telemetry
from l402core.documents import Offer, Receipt, mask_indices
from l402core.errors import Contradiction, NotFound, TooEarly, Unauthorized
from l402core.events import (
    CheckpointPublished,
    GradientMeasure,
    GradientMeasured,
    GradientScored,
    GradientScreened,
    OfferMade,
    RoundAggregate,
    RoundAssessed,
    SayAgain,
)
from l402core.outbox import Transaction
from l402core.secret import Secret
from l402core.signing import open_signed
from sqlalchemy.exc import IntegrityError

from tests.support.oracle import (
    ATTESTOR,
    JUDGE_BY_MS,
    PREIMAGE_KEY,
    STRANGER,
    UPLOAD_UNTIL_MS,
    Stage,
    aggregated,
    commits_closed,
    locked,
    measured,
    receipt_of,
    round_closed,
    sealing_key,
    sha,
)


async def bring(stage: Stage, *names: str, lock: bool = True, expiry: int = 160) -> dict[str, Offer]:
    """Each has its offer, its lock and its upload; the round is closed."""
    await stage.hear(stage.round_opened())
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(names)}
    await stage.hear(commits_closed(*names))
    for name in names:
        if lock:
            await stage.hear(locked(offers[name], expiry=expiry))
        await stage.hear(stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed(*names))
    return offers


async def judged(stage: Stage, **drops: float) -> dict[str, GradientScored]:
    """Screened and measured with these drops; what was decided, by name."""
    await stage.hear(*(stage.screened(name) for name in drops))
    await stage.hear(*(measured(name, drop) for name, drop in drops.items()))
    by_commitment = {event.commitment: event for event in stage.ears.all(GradientScored)}
    return {name: by_commitment[sha(name)] for name in drops if sha(name) in by_commitment}


def revealed(scored: GradientScored, offer: Offer, name: str) -> list[int]:
    """Indices of the rungs whose preimages the peer can open; each is checked against its hash."""
    opened = [sealing_key(name).unseal(bytes.fromhex(box)) for box in scored.sealed_preimages]
    hashes = [hashlib.sha256(value).hexdigest() for value in opened]
    return [offer.reward_hashes.index(digest) for digest in hashes]


async def test_the_first_start_asks_for_the_first_checkpoint(stage: Stage) -> None:
    """Nothing is there: round 0 is aggregated from the seed alone, and round 1 is announced bound to its seed."""
    await stage.attestor.begin()
    await stage.publish()
    request = stage.ears.last(RoundAggregate)
    assert (request.round, request.checkpoint, request.init_seed, request.items) == (0, None, 7, ())
    await stage.hear(aggregated(0))
    published = stage.ears.last(CheckpointPublished)
    assert (published.round, published.parent, published.accepted) == (1, "", ())
    assert published.seed_commitment == seed_commitment(stage.parts.seed(1, published.checkpoint.sha256))


async def test_a_round_from_offer_to_the_next_checkpoint(stage: Stage) -> None:
    """Two honest peers and one that does nothing: paid by what they lowered, sealed to them, chained, aggregated."""
    await stage.announce()
    offers = await bring(stage, "ann", "bob", "cy")
    scored = await judged(stage, ann=0.5, bob=0.4, cy=0.0005)
    assert [scored[name].verdict for name in offers] == ["accepted", "accepted", "rejected"]
    assert scored["ann"].mask > scored["bob"].mask > scored["cy"].mask == 0
    for name, event in scored.items():
        receipt = open_signed(event.receipt, Receipt.tag, Receipt, signer=ATTESTOR.public)
        assert revealed(event, offers[name], name) == list(mask_indices(event.mask, 6))
        assert (
            event.reward_msat
            == receipt.units * 100_000
            == sum(offers[name].amounts_msat[i] for i in mask_indices(event.mask, 6))
        )
    assert "no improvement" in scored["cy"].reasons[0].lower()
    chain = [receipt_of(scored[name]).previous for name in offers]
    assert chain == ["", scored["ann"].receipt.digest(), scored["bob"].receipt.digest()]
    request = stage.ears.last(RoundAggregate)
    assert [item.commitment for item in request.items] == [sha("ann"), sha("bob")]
    await stage.hear(aggregated(1))
    published = stage.ears.last(CheckpointPublished)
    assert (published.round, published.accepted) == (2, (sha("ann"), sha("bob")))
    assert published.reference_previous == receipt_of(scored["ann"]).reference > 0


async def test_the_seed_is_bound_before_and_shown_after(stage: Stage) -> None:
    """Anyone can check the seed against its commitment, and draw the shards again from it and the root."""
    await stage.announce()
    await bring(stage, "ann")
    assert stage.ears.all(RoundAssessed) == []
    await judged(stage, ann=0.5)
    assessed = stage.ears.last(RoundAssessed)
    seed = bytes.fromhex(assessed.seed)
    assert hashlib.sha256(seed).hexdigest() == stage.terms().seed_commitment
    assert drawn_shards(stage.parts.corpus, seed, assessed.root, 65_536) == assessed.shards


async def test_an_offer_asked_twice_is_the_same_offer(stage: Stage) -> None:
    """Redelivery answers again; another number or another key under the same name is a contradiction."""
    await stage.announce()
    first, again = [await stage.offer("ann", 0) for _ in range(2)]
    assert first == again
    assert len({event.offer.signature for event in stage.ears.all(OfferMade)}) == 1
    with pytest.raises(Contradiction, match="offer_differs"):
        await stage.hear(stage.offer_make("ann", 1))


async def test_preimages_are_computed_again_from_the_offer_alone(stage: Stage) -> None:
    """The signed offer without its hashes and the key are enough."""
    await stage.announce()
    offer = await stage.offer("ann", 0)
    again = [preimage(Secret(PREIMAGE_KEY), offer, index).reveal() for index in range(6)]
    assert tuple(hashlib.sha256(value).hexdigest() for value in again) == offer.reward_hashes


async def test_other_terms_are_no_terms(stage: Stage) -> None:
    """A stranger's signature, another base, a second version: each is refused, and no offer is made."""
    await stage.announce()
    forged = msgspec.structs.replace(stage.round_opened(), terms=STRANGER.sign("x", stage.terms()))
    with pytest.raises(Unauthorized):
        await stage.hear(forged)
    with pytest.raises(Contradiction, match="terms_base"):
        await stage.hear(stage.round_opened(seed_commitment="00" * 32))
    with pytest.raises(Contradiction, match="terms_pay"):
        await stage.hear(stage.round_opened(phi_ppm=1_000_000))
    await stage.hear(stage.round_opened())
    with pytest.raises(Contradiction, match="terms_twice"):
        await stage.hear(stage.round_opened(unit_msat=1))
    assert stage.ears.all(OfferMade) == []


async def test_what_is_not_locked_is_never_measured_nor_revealed(stage: Stage) -> None:
    """Uploaded and screened without the settler's signed word: unscored once the judging ends, since it was uploaded."""
    await stage.announce()
    await bring(stage, "ann", lock=False)
    await stage.hear(stage.screened("ann"), measured("ann", 0.5))
    assert stage.ears.all(GradientScored) == []
    await stage.tick(to_ms=JUDGE_BY_MS)
    scored = stage.ears.last(GradientScored)
    assert (scored.verdict, scored.mask, scored.sealed_preimages) == ("unscored", 0, ())
    assert stage.ears.all(GradientMeasure) == []


async def test_a_forged_lock_is_no_lock(stage: Stage) -> None:
    """Another signer, other hashes or another submission's ladder: none of them counts."""
    await stage.announce()
    ann, bob = await stage.offer("ann", 0), await stage.offer("bob", 1)
    with pytest.raises(Unauthorized):
        await stage.hear(locked(ann, by=STRANGER))
    with pytest.raises(Contradiction, match="locked_unknown"):
        await stage.hear(locked(ann, payment_hashes=bob.reward_hashes))
    with pytest.raises(Contradiction, match="locked_other"):
        await stage.hear(msgspec.structs.replace(locked(ann), commitment=bob.commitment))
    known = await stage.database.transact(lambda tx: books.read_submission(tx, sha("ann")))
    assert known is not None
    assert known.locked is None


@pytest.mark.parametrize(("height", "expiry"), [(124, 1_000), (111, 136)])
async def test_the_last_safe_block_is_still_safe(stage: Stage, height: int, expiry: int) -> None:
    """One block before each limit the preimages leave."""
    await stage.announce()
    offers = await bring(stage, "ann", expiry=expiry)
    stage.height.now = height
    scored = (await judged(stage, ann=0.5))["ann"]
    assert revealed(scored, offers["ann"], "ann") == list(mask_indices(scored.mask, 6))


async def test_an_unknown_key_id_reveals_nothing_and_stops_nobody_else(tmp_path: Path) -> None:
    """A retired preimage key: that submission waits for an operator."""
    stage = Stage(tmp_path)
    await stage.announce()
    await bring(stage, "ann")
    stage.parts.keys.preimages.clear()
    assert await judged(stage, ann=0.5) == {}
    stage.parts.keys.preimages["k1"] = Secret(PREIMAGE_KEY)
    await stage.tick()
    assert stage.ears.last(GradientScored).sealed_preimages != ()
    stage.database.close()


async def test_a_root_that_leaves_somebody_out_freezes_the_round(stage: Stage) -> None:
    """An offer was made for bob: a root without him is a contradiction, and nothing is decided, ever."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    for seq, name in enumerate(("ann", "bob")):
        offer = await stage.offer(name, seq)
        await stage.hear(locked(offer), stage.uploaded(name), stage.screened(name))
    with pytest.raises(Contradiction, match="leaves out"):
        await stage.hear(round_closed("ann"))
    await stage.tick(to_ms=JUDGE_BY_MS + 1)
    assert stage.ears.all(RoundAssessed) == []
    assert stage.ears.all(GradientScored) == []


@pytest.mark.parametrize("order", [("bob", "ann"), ("ann", "ann", "bob")])
async def test_a_root_in_another_order_freezes_the_round(stage: Stage, order: tuple[str, ...]) -> None:
    """The order is that of the sequence numbers in the offers, each once."""
    await stage.announce()
    await stage.offer("ann", 0)
    await stage.offer("bob", 1)
    with pytest.raises(Contradiction, match="frozen"):
        await stage.hear(round_closed(*order))


async def test_a_root_unlike_that_of_the_commits_freezes_the_round(stage: Stage) -> None:
    """Nobody is added after uploads began."""
    await stage.announce()
    await stage.offer("ann", 0)
    await stage.offer("bob", 1)
    await stage.hear(commits_closed("ann", "bob"))
    with pytest.raises(Contradiction, match="not the one"):
        await stage.hear(round_closed("bob", "ann"))
    with pytest.raises(Contradiction):
        await stage.hear(stage.offer_make("eve", 2))


async def test_an_offer_on_its_way_is_waited_for(stage: Stage) -> None:
    """The root names bob before his offer was asked: judged when it was, frozen when it never is."""
    await stage.announce()
    ann = await stage.offer("ann", 0)
    await stage.hear(locked(ann), stage.uploaded("ann"), stage.screened("ann"))
    await stage.hear(round_closed("ann", "bob", uploaded=("ann",)))
    assert stage.ears.all(RoundAssessed) == []
    await stage.offer("bob", 1)
    await stage.tick()
    assert stage.ears.last(RoundAssessed).measured == (sha("ann"),)


async def test_a_copy_pays_the_first_commitment(stage: Stage) -> None:
    """The later of two alike is refused in words that name the earlier, and is not measured."""
    await stage.announce()
    await bring(stage, "ann", "bob")
    await stage.hear(stage.screened("bob", like="ann"), stage.screened("ann"))
    assert [job.commitment for job in stage.ears.all(GradientMeasure)] == [sha("ann")]
    await stage.hear(measured("ann", 0.5))
    bob = next(event for event in stage.ears.all(GradientScored) if event.commitment == sha("bob"))
    assert bob.verdict == "rejected"
    assert bob.reasons[0].startswith(f"It copies an earlier submission ({sha('ann')[:16]}…)")


async def test_last_rounds_work_is_not_paid_again(stage: Stage) -> None:
    """A copy of another peer's published gradient of the round before is a copy."""
    await stage.announce()
    await bring(stage, "ann")
    await judged(stage, ann=0.5)
    await stage.hear(aggregated(1))
    await stage.hear(stage.round_opened(2))
    offer = await stage.offer("thief", 0, 2)
    await stage.hear(locked(offer), stage.uploaded("thief", 2), round_closed("thief", round_=2))
    await stage.hear(stage.screened("thief", 2, like="ann"))
    assert "copies an earlier submission" in stage.ears.last(GradientScored).reasons[0]


async def test_a_bad_payload_is_refused_in_the_screeners_words(stage: Stage) -> None:
    """What did not open earns nothing and is told why; what broke on our side is unscored instead."""
    await stage.announce()
    await bring(stage, "ann", "bob")
    await stage.hear(stage.screened("ann", code="unsealable", detail="Not a sealed box for this reading key."))
    await stage.hear(stage.screened("bob", code="unreadable", detail="RuntimeError"))
    stage.now_ms = JUDGE_BY_MS
    await stage.tick()
    first, second = stage.ears.all(GradientScored)
    assert (first.verdict, second.verdict) == ("rejected", "unscored")
    assert first.reasons == ("Not a sealed box for this reading key.",)
    assert [(check.code, check.passed) for check in receipt_of(first).checks] == [
        ("locked", True),
        ("unsealable", False),
    ]


async def test_a_payload_that_breaks_the_worker_is_not_paid(stage: Stage) -> None:
    """A model that breaks is the peer's fault; a worker that breaks is ours."""
    await stage.announce()
    await bring(stage, "ann", "bob", "cy")
    await stage.hear(*(stage.screened(name) for name in ("ann", "bob", "cy")))
    await stage.hear(
        measured("ann", 0.5),
        measured("bob", 9.0, failure="not_finite: It breaks the model."),
        measured("cy", 9.0, failure="unreadable: RuntimeError"),
    )
    assert [event.verdict for event in stage.ears.all(GradientScored)] == ["accepted", "rejected", "unscored"]
    assert receipt_of(stage.ears.all(GradientScored)[0]).reference == 500_000_000


async def test_what_is_unmeasured_at_the_end_is_unscored(stage: Stage) -> None:
    """Ann was measured in time, bob was not: she is paid, his fee comes back, and a late answer changes nothing."""
    await stage.announce()
    await bring(stage, "ann", "bob")
    await stage.hear(stage.screened("ann"), stage.screened("bob"), measured("ann", 0.5))
    assert stage.ears.all(GradientScored) == []
    await stage.tick(to_ms=JUDGE_BY_MS)
    await stage.hear(measured("bob", 0.9))
    ann, bob = stage.ears.all(GradientScored)
    assert (ann.verdict, bob.verdict, bob.mask) == ("accepted", "unscored", 0)
    assert "not measured before the judging ended" in bob.reasons[0]


async def test_one_slow_payload_does_not_cost_the_others_their_measurement(stage: Stage) -> None:
    """Half of the judging time is waited for all; then what is ready is measured."""
    await stage.announce()
    await bring(stage, "ann", "bob")
    await stage.hear(stage.screened("ann"))
    assert stage.ears.all(GradientMeasure) == []
    await stage.tick(to_ms=(UPLOAD_UNTIL_MS + JUDGE_BY_MS) // 2)
    assert [job.commitment for job in stage.ears.all(GradientMeasure)] == [sha("ann")]


async def test_an_empty_round_leaves_the_checkpoint_unchanged(stage: Stage) -> None:
    """Nobody came: the next round begins from the same checkpoint, with a seed of its own."""
    await stage.announce()
    await stage.hear(stage.round_opened(), round_closed())
    first, second = stage.ears.all(CheckpointPublished)
    assert (second.round, second.checkpoint, second.parent) == (2, first.checkpoint, first.checkpoint.sha256)
    assert second.held_out_before == second.held_out_after == first.held_out_after
    assert second.seed_commitment != first.seed_commitment


async def test_a_decision_is_never_made_twice(stage: Stage) -> None:
    """The table itself refuses a second row for a commitment, and redelivery says nothing anew."""
    await stage.announce()
    await bring(stage, "ann")
    scored = (await judged(stage, ann=0.5))["ann"]
    await stage.hear(measured("ann", 9.0), round_closed("ann"), stage.screened("ann"))
    await stage.tick(to_ms=JUDGE_BY_MS * 2)
    assert stage.ears.all(GradientScored) == [scored]
    bare = msgspec.structs.replace(scored, sealed_preimages=())
    with pytest.raises(IntegrityError):
        await stage.database.transact(lambda tx: books.add_decision(tx, bare, place=7, traceparent=""))
    count = await stage.database.transact(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(decisions)))
    assert count == 1


async def test_an_aggregation_that_became_a_dead_letter_is_asked_again_by_order(stage: Stage) -> None:
    """Under another id, for the bus takes the first for the same message a while longer; a decided round waits no more."""
    await stage.attestor.begin()
    await stage.publish()
    assert (await stage.attestor.say_again(SayAgain())).said == ("round.aggregate.v1.0",)
    with stage.database.engine.connect() as connection:
        (message,) = connection.execute(sa.select(outbox.c.message_id)).scalars()
    assert message == f"round.aggregate.v1.0:0:again{stage.now_ms}"
    await stage.attestor.round_aggregated(aggregated(0))
    assert "round.aggregate.v1.0" not in (await stage.attestor.say_again(SayAgain())).said


async def test_a_restart_says_again_what_was_left_open(tmp_path: Path) -> None:
    """A new process on the same table asks again for what is missing, and ends the round as the old one would."""
    before = Stage(tmp_path)
    await before.announce()
    offers = await bring(before, "ann", "bob")
    await before.hear(before.screened("ann"), before.screened("bob"), measured("ann", 0.5))
    before.database.close()
    after = Stage(tmp_path)
    after.shelf, after.now_ms = before.shelf, before.now_ms
    await after.attestor.begin()
    await after.publish()
    assert [job.commitment for job in after.ears.all(GradientMeasure)] == [sha("bob")]
    await after.tick()
    await after.hear(measured("bob", 0.4))
    scored = after.ears.all(GradientScored)
    assert [revealed(event, offers[name], name) for event, name in zip(scored, offers, strict=True)] == [
        list(mask_indices(event.mask, 6)) for event in scored
    ]
    await after.attestor.begin()
    await after.publish()
    assert [request.round for request in after.ears.all(RoundAggregate)] == [1, 1]
    after.database.close()


async def test_a_round_closed_twice_differently_is_a_contradiction(stage: Stage) -> None:
    """The first closing stands; another one freezes."""
    await stage.announce()
    await stage.offer("ann", 0)
    await stage.hear(stage.round_opened(), round_closed("ann"))
    with pytest.raises(Contradiction, match="twice"):
        await stage.hear(round_closed("ann", uploaded=()))


async def test_nothing_is_told_of_what_is_not_decided(stage: Stage) -> None:
    """The URL says: not yet; and of what was never offered: never."""
    await stage.announce()
    await stage.offer("ann", 0)
    with pytest.raises(TooEarly):
        await stage.attestor.delivery.decision(sha("ann"))
    with pytest.raises(NotFound):
        await stage.attestor.delivery.decision(sha("bob"))


async def test_each_submission_keeps_its_own_trace(stage: Stage) -> None:
    """What is decided for a whole round is told, submission by submission, in the trace that its upload came in."""
    await stage.announce()
    traces = {name: f"00-{sha(name)[:32]}-{sha(name)[:16]}-01" for name in ("ann", "bob")}
    await stage.hear(stage.round_opened())
    for seq, name in enumerate(traces):
        with telemetry.span("post", parent=traces[name]):
            offer = await stage.offer(name, seq)
            await stage.hear(locked(offer), stage.uploaded(name))
    await stage.hear(round_closed(*traces))
    await judged(stage, ann=0.5, bob=0.4)
    for name, trace in traces.items():
        for subject in (
            f"offer.made.v1.{sha(name)}",
            f"gradient.measure.v1.{sha(name)}",
            f"gradient.scored.v1.{sha(name)}",
        ):
            assert stage.ears.parents[subject].split("-")[1] == trace.split("-")[1]


async def test_the_url_tells_decisions_receipts_and_rounds(stage: Stage) -> None:
    """Reads only; what is not known is a problem document."""
    await stage.announce()
    await bring(stage, "ann")
    scored = (await judged(stage, ann=0.5))["ann"]

    async def ready() -> dict[str, bool]:
        return {"database": True}

    app = attestor_app(stage.attestor.delivery.decision, round_sight(stage.database), Records(stage.database), ready)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://oracle") as client:
        told = msgspec.json.decode((await client.get(f"/v1/decisions/{sha('ann')}")).content, type=GradientScored)
        receipt = await client.get(f"/v1/receipts/{sha('ann')}")
        one, none = await client.get("/v1/rounds/1"), await client.get("/v1/rounds/9")
        odd = await client.get("/v1/decisions/xyz")
    assert (told.receipt, len(told.sealed_preimages)) == (scored.receipt, len(scored.sealed_preimages))
    assert receipt.json()["signature"] == scored.receipt.signature
    assert (one.json()["state"], one.json()["assessed"]["measured"]) == ("decided", [sha("ann")])
    assert (none.status_code, none.json()["fault"], odd.status_code) == (404, "caller", 422)


async def keep(stage: Stage, kind: str, *said: GradientScreened | GradientMeasured) -> None:
    """Write events down as heard, without anybody acting on them yet."""

    def write(tx: Transaction) -> None:
        for event in said:
            books.hear(tx, kind, event, "")

    await stage.database.transact(write)


async def test_handlers_that_race_take_each_step_once(stage: Stage) -> None:
    """Many hands reach the same closed round at once: one assessment, one decision each, one aggregation."""
    await stage.announce()
    offers = await bring(stage, "ann", "bob")
    await keep(stage, "screened", *(stage.screened(name) for name in offers))
    await asyncio.gather(*(stage.attestor.judging.advance(1) for _ in range(5)))
    await keep(stage, "measured", *(measured(name, 0.5) for name in offers))
    await asyncio.gather(*(stage.attestor.judging.advance(1) for _ in range(5)))
    await stage.publish()
    assert len(stage.ears.all(RoundAssessed)) == 1
    assert len(stage.ears.all(GradientMeasure)) == len(stage.ears.all(GradientScored)) == 2
    assert [request.round for request in stage.ears.all(RoundAggregate)] == [0, 1]


async def test_an_attestor_that_was_away_for_a_whole_round_goes_on_with_the_next(stage: Stage) -> None:
    """Its queues come back in any order: the closing before the offer that was asked while it was away."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    stage.now_ms = JUDGE_BY_MS + 20_000
    await stage.hear(commits_closed("ann"), round_closed("ann", uploaded=()), stage.offer_make("ann", 1))
    await stage.tick(to_ms=stage.now_ms + 20_000)
    assert [event.round for event in stage.ears.all(CheckpointPublished)] == [1, 2]


async def test_what_was_locked_and_uploaded_is_judged_by_an_attestor_that_comes_back_late(stage: Stage) -> None:
    """The closing is served first, then all that it missed: the gradient earns what it would have earned."""
    await stage.announce()
    offer = await stage.offer("ann", 1)
    stage.now_ms = JUDGE_BY_MS + 1_000
    await stage.hear(commits_closed("ann"), round_closed("ann"))
    await stage.tick()
    await stage.hear(stage.uploaded("ann"), stage.screened("ann"), locked(offer), measured("ann", 0.5))
    await stage.tick()
    scored = stage.ears.last(GradientScored)
    assert (scored.verdict, scored.mask > 0) == ("accepted", True)


async def test_an_upload_for_which_no_offer_was_asked_freezes_the_round(stage: Stage) -> None:
    """Only we make the hashes that an upload waits for: a settler that names another one lies."""
    await stage.announce()
    await stage.hear(stage.round_opened(), commits_closed("ann"), round_closed("ann"))
    with pytest.raises(Contradiction, match="no offer was ever asked"):
        await stage.tick(to_ms=JUDGE_BY_MS)
