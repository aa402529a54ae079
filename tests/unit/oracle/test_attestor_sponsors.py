"""The attestor and sponsors: hashes announced, each funded round's checkpoint judged once, and what never happens."""

import hashlib
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.adapters.sponsor_tables import tranches
from l402_oracle.attestor.sponsoring import TRIES_MAX
from l402_oracle.derive import sponsor_shards, tranche_preimage
from l402core.documents import TrancheTerms
from l402core.errors import Contradiction, Unauthorized
from l402core.events import (
    CheckpointMeasure,
    CheckpointMeasured,
    CheckpointPublished,
    EndRound,
    RoundAssessed,
    SponsorshipAnnounce,
    SponsorshipAnnounced,
    SponsorshipJudged,
    SponsorshipLocked,
)
from l402core.pledges import Announcement, Pledge, SponsorshipTerms, TrancheLocked, TrancheReceipt
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import SigningKey, open_signed

from tests.support.oracle import (
    ATTESTOR,
    NANO,
    PREIMAGE_KEY,
    SETTLER,
    STRANGER,
    UPLOAD_UNTIL_MS,
    Stage,
    aggregated,
    commits_closed,
    locked,
    measured,
    round_closed,
    sha,
)

SPONSOR = SigningKey(bytes([21]) * 32)
BOX = UnsealingKey(bytes([22]) * 32)
AMOUNT, MARGIN = 20_000_000, NANO // 50


def ask(*, by: SigningKey = SETTLER, pledged_by: SigningKey = SPONSOR, **other: Any) -> SponsorshipAnnounce:
    """The settler's request for hashes; `other` is what its terms say unlike the pledge."""
    pledge = Pledge(
        network="simnet", sponsor=SPONSOR.public, amount_msat=AMOUNT, tranches=2, margin=MARGIN, nonce=sha("n")
    )
    signed = pledged_by.sign(Pledge.tag, pledge)
    values: dict[str, Any] = {
        "sponsorship": pledge.sponsorship(), "pledge": signed.digest(), "sponsor": SPONSOR.public,
        "amount_msat": AMOUNT, "tranches": 2, "margin": MARGIN, "seal_to": BOX.public, **other,
    }  # fmt: skip
    terms = by.sign(SponsorshipTerms.tag, SponsorshipTerms(**values))
    return SponsorshipAnnounce(id="s", occurred_at_ms=0, sponsorship=pledge.sponsorship(), terms=terms, pledge=signed)


async def announce(stage: Stage) -> Announcement:
    """The hashes."""
    await stage.hear(ask())
    signed = stage.ears.last(SponsorshipAnnounced).announcement
    return open_signed(signed, Announcement.tag, Announcement, signer=ATTESTOR.public)


def names(announced: Announcement, index: int = 0, **other: Any) -> TrancheTerms:
    """How a round's terms name a tranche."""
    values: dict[str, Any] = {
        "sponsorship": announced.sponsorship, "tranche": index, "payment_hash": announced.hashes[index],
        "amount_msat": AMOUNT, "margin": MARGIN, **other,
    }  # fmt: skip
    return TrancheTerms(**values)


def waits(announced: Announcement, index: int = 0, *, by: SigningKey = SETTLER, **other: Any) -> SponsorshipLocked:
    """The settler's signed word that the money waits."""
    values: dict[str, Any] = {
        "sponsorship": announced.sponsorship, "tranche": index, "payment_hash": announced.hashes[index],
        "amount_msat": AMOUNT, "expiry_height": 250, "locked_at_ms": 0, **other,
    }  # fmt: skip
    signed = by.sign(TrancheLocked.tag, TrancheLocked(**values))
    return SponsorshipLocked(
        id="s", occurred_at_ms=0, sponsorship=announced.sponsorship, tranche=index, locked=signed
    )  # fmt: skip


async def a_round(stage: Stage, tranche: TrancheTerms, *, empty: bool = False) -> None:
    """Round 1 under terms that name the tranche, up to its next checkpoint."""
    await stage.announce()
    stage.sponsored = tranche
    await stage.hear(stage.round_opened())
    names_ = () if empty else ("ann",)
    offers = {name: await stage.offer(name, seq) for seq, name in enumerate(names_)}
    await stage.hear(commits_closed(*names_))
    for name in names_:
        await stage.hear(locked(offers[name]), stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed(*names_))
    if not empty:
        await stage.hear(stage.screened("ann"), measured("ann", 0.5), aggregated(1))
    await stage.tick()
    await stage.attestor.sponsoring.advance()
    await stage.publish()


def seen(stage: Stage, low: float, **other: Any) -> CheckpointMeasured:
    """The worker's answer to what was asked: a drop of at least `low` nats per token."""
    asked = stage.ears.last(CheckpointMeasure)
    values: dict[str, Any] = {
        "id": "w", "occurred_at_ms": 0, "round": asked.round, "parent": asked.parent.sha256,
        "checkpoint": asked.checkpoint.sha256, "shards": asked.shards, "drop_mean": round((low + 0.01) * NANO),
        "drop_low": round(low * NANO), "drop_high": round((low + 0.02) * NANO), "sequences": 176, "losses": None,
        "hardware": "cpu", "failure": "", **other,
    }  # fmt: skip
    return CheckpointMeasured(**values)


def verdict(stage: Stage) -> TrancheReceipt:
    """What the attestor signed, once."""
    (said,) = stage.ears.all(SponsorshipJudged)
    receipt = open_signed(said.receipt, TrancheReceipt.tag, TrancheReceipt, signer=ATTESTOR.public)
    assert (receipt.earned, receipt.payment_hash) == (said.earned, said.payment_hash)
    return receipt


async def test_progress_beyond_the_margin_earns_the_tranche(stage: Stage) -> None:
    """One decision, signed, with the preimage of this very tranche sealed to the settler."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    assert stage.ears.all(SponsorshipJudged) == []
    await stage.hear(seen(stage, 0.02))
    receipt = verdict(stage)
    assert (receipt.earned, receipt.drop_low, receipt.margin) == (True, MARGIN, MARGIN)
    opened = BOX.unseal(bytes.fromhex(stage.ears.last(SponsorshipJudged).sealed_preimage))
    assert hashlib.sha256(opened).hexdigest() == announced.hashes[0]
    assert Secret(opened) == tranche_preimage(Secret(PREIMAGE_KEY), announced, 0)
    assert opened not in stage.ears.bytes
    assert opened.hex().encode() not in stage.ears.bytes


@pytest.mark.parametrize(
    ("low", "other"),
    [
        (0.0199, {}),
        (-0.1, {}),
        (0.5, {"failure": "unreadable: MemoryError", "revision": TRIES_MAX - 1}),
        (0.5, {"checkpoint": sha("another")}),
    ],
    ids=["below the margin", "worse", "not measured", "another checkpoint"],
)
async def test_anything_else_earns_nothing_and_says_why(stage: Stage, low: float, other: dict[str, Any]) -> None:
    """No preimage leaves, sealed or not."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    await stage.hear(seen(stage, low, **other))
    assert not verdict(stage).earned
    assert verdict(stage).reason
    assert stage.ears.last(SponsorshipJudged).sealed_preimage == ""


async def test_a_measurement_that_failed_on_our_side_is_tried_again(stage: Stage) -> None:
    """The treasury loses no tranche to one bad moment: asked anew under another id, and the old failure counts once."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    failed = seen(stage, 0.0, failure="unreadable: MemoryError")
    for _ in range(2):
        await stage.hear(failed)
    first, again = stage.ears.all(CheckpointMeasure)
    assert (first.revision, again.revision) == (0, 1)
    assert first.shards == again.shards
    assert stage.ears.all(SponsorshipJudged) == []
    await stage.hear(seen(stage, 0.02, revision=1))
    assert verdict(stage).earned


async def test_a_checkpoint_that_can_never_be_measured_is_given_up(stage: Stage) -> None:
    """A handful of tries, then nothing is earned, and the receipt says why."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    for revision in range(TRIES_MAX):
        await stage.hear(seen(stage, 0.0, failure="unreadable: MemoryError", revision=revision))
    assert len(stage.ears.all(CheckpointMeasure)) == TRIES_MAX
    assert not verdict(stage).earned
    assert "MemoryError" in verdict(stage).reason


async def test_a_pledge_leaves_one_row_however_many_tranches_it_names(stage: Stage) -> None:
    """Pledging costs nothing: a tranche has its row once money waits for it."""
    announced = await announce(stage)
    assert await count_tranches(stage) == 0
    await stage.hear(waits(announced))
    assert await count_tranches(stage) == 1


async def count_tranches(stage: Stage) -> int:
    """Rows in the attestor's table."""
    query = sa.select(sa.func.count()).select_from(tranches)
    return int(await stage.database.read(lambda tx: tx.scalar(query)))


async def test_an_empty_round_earns_nothing_and_needs_no_worker(stage: Stage) -> None:
    """The checkpoint stayed as it was."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced), empty=True)
    assert stage.ears.all(CheckpointMeasure) == []
    receipt = verdict(stage)
    assert (receipt.earned, receipt.parent) == (False, receipt.checkpoint)


async def test_two_measurements_give_one_decision(stage: Stage) -> None:
    """The first one heard is decided by; what comes later, better or worse, changes nothing."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    await stage.hear(seen(stage, 0.01), seen(stage, 0.9))
    await stage.tick()
    assert not verdict(stage).earned


async def test_a_second_question_gets_the_same_hashes_and_another_none(stage: Stage) -> None:
    """The promise is made once; other terms for the same pledge are a contradiction."""
    first = await announce(stage)
    assert await announce(stage) == first
    with pytest.raises(Contradiction):
        await stage.hear(ask(seal_to=UnsealingKey(bytes([23]) * 32).public))


@pytest.mark.parametrize("other", [{"amount_msat": 1}, {"margin": 1}, {"tranches": 3}, {"sponsorship": sha("x")}])
async def test_nobody_but_the_sponsor_sets_price_and_margin(stage: Stage, other: dict[str, Any]) -> None:
    """The settler's terms must be what the sponsor pledged."""
    with pytest.raises(Contradiction):
        await stage.hear(ask(**other))


async def test_what_is_not_signed_by_the_settler_or_the_sponsor_is_refused(stage: Stage) -> None:
    """Neither terms, nor a pledge, nor the word of a lock."""
    with pytest.raises(Unauthorized):
        await stage.hear(ask(by=STRANGER))
    with pytest.raises(Unauthorized):
        await stage.hear(ask(pledged_by=STRANGER))
    announced = await announce(stage)
    with pytest.raises(Unauthorized):
        await stage.hear(waits(announced, by=STRANGER))


@pytest.mark.parametrize("other", [{"amount_msat": 1}, {"tranche": 1}, {"payment_hash": sha("x")}])
async def test_a_lock_of_something_else_is_a_contradiction(stage: Stage, other: dict[str, Any]) -> None:
    """It names hash, tranche and amount as they were announced."""
    announced = await announce(stage)
    with pytest.raises(Contradiction):
        await stage.hear(waits(announced, **other))


async def test_without_the_word_of_a_lock_nothing_is_revealed(stage: Stage) -> None:
    """Decided, but told only once the settler has signed that the money waits."""
    announced = await announce(stage)
    await a_round(stage, names(announced))
    await stage.hear(seen(stage, 0.5))
    assert stage.ears.all(SponsorshipJudged) == []
    await stage.hear(waits(announced))
    assert verdict(stage).earned


async def test_without_a_height_nothing_is_revealed_and_near_the_expiry_never(stage: Stage) -> None:
    """An unknown height waits; inside the margin the decision is told without its preimage."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    stage.height.now = None
    await stage.hear(seen(stage, 0.5))
    assert stage.ears.all(SponsorshipJudged) == []
    stage.height.now = 250 - stage.parts.expiry_margin_blocks
    await stage.attestor.sponsoring.advance()
    await stage.publish()
    assert verdict(stage).earned
    assert stage.ears.last(SponsorshipJudged).sealed_preimage == ""


@pytest.mark.parametrize(
    "other",
    [{"amount_msat": 1}, {"margin": 1}, {"payment_hash": sha("x")}, {"sponsorship": sha("y")}, {"tranche": 2}],
)
async def test_terms_that_name_another_tranche_are_a_contradiction(stage: Stage, other: dict[str, Any]) -> None:
    """A round is judged by what was announced, or not at all."""
    announced = await announce(stage)
    await stage.announce()
    stage.sponsored = names(announced, **other)
    with pytest.raises(Contradiction):
        await stage.hear(stage.round_opened())


async def test_a_tranche_funds_one_round(stage: Stage) -> None:
    """The next round's terms may not name it again."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    assert stage.ears.last(CheckpointPublished).round == 2
    with pytest.raises(Contradiction, match="another round"):
        await stage.hear(stage.round_opened(2))


async def test_a_restart_asks_and_tells_again(stage: Stage) -> None:
    """Before the measurement the question, after the decision the answer: the same decision.

    The bus may know the question still, where its answer was lost with its stream: it is another message.
    """
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    for _ in range(2):  # a restart says it in the same words, and another making of the stream in its own
        await stage.attestor.begin("2")
        await stage.attestor.sponsoring.advance()
        await stage.publish()
    ids = [known for known in stage.ears.ids if known.startswith(f"{CheckpointMeasure.name}.")]
    assert (len(set(ids)), len(ids)) == (2, 3)
    first, second, third = stage.ears.all(CheckpointMeasure)
    assert (first.shards, first.message_id) == (second.shards, second.message_id) == (third.shards, third.message_id)
    await stage.hear(seen(stage, 0.5))
    await stage.attestor.begin()
    await stage.attestor.sponsoring.advance()
    await stage.publish()
    once, again = stage.ears.all(SponsorshipJudged)
    assert once.receipt == again.receipt


async def test_the_tranche_is_judged_on_shards_of_its_own(stage: Stage) -> None:
    """None that pay was measured on, drawn from the round's seed and root, so that anybody can draw them again."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await a_round(stage, names(announced))
    assessed, asked = stage.ears.last(RoundAssessed), stage.ears.last(CheckpointMeasure)
    assert asked.shards
    assert not set(asked.shards) & set(assessed.shards)
    assert len(asked.shards) + len(assessed.shards) == stage.parts.corpus.hidden_shard_count
    drawn = sponsor_shards(
        stage.parts.corpus, bytes.fromhex(assessed.seed), assessed.root, announced.hashes[0], pay=assessed.shards
    )
    assert drawn == asked.shards


def test_a_pool_that_pay_uses_up_leaves_no_shards(stage: Stage) -> None:
    """Then nothing is earned, rather than judged on what peers were paid for."""
    count = stage.parts.corpus.hidden_shard_count
    assert sponsor_shards(stage.parts.corpus, bytes(32), sha("r"), sha("h"), pay=tuple(range(count))) == ()


def test_each_tranche_has_a_preimage_of_its_own() -> None:
    """Another number, amount, margin, sponsorship or receiver is another preimage."""
    made = Announcement(
        sponsorship=sha("s"), pledge=sha("p"), sponsor=SPONSOR.public, amount_msat=1, tranches=2, margin=1,
        seal_to=BOX.public, key_id="k1", hashes=(),
    )  # fmt: skip
    others = [
        msgspec.structs.replace(made, **{name: value})
        for name, value in (
            ("amount_msat", 2),
            ("margin", 2),
            ("sponsorship", sha("t")),
            ("seal_to", "ab" * 32),
            ("key_id", "k2"),
        )
    ]
    key = Secret(PREIMAGE_KEY)
    all_ = [tranche_preimage(key, one, 0) for one in (made, *others)] + [tranche_preimage(key, made, 1)]
    assert len({one.reveal() for one in all_}) == len(all_)
    assert tranche_preimage(key, msgspec.structs.replace(made, hashes=(sha("h"),)), 0) == all_[0]


async def test_a_round_that_was_frozen_and_ended_earns_nothing(stage: Stage) -> None:
    """Its tranche is judged on the spot, so that the sponsor's money goes back and does not wait for its expiry."""
    announced = await announce(stage)
    await stage.hear(waits(announced))
    await stage.announce()
    stage.sponsored = names(announced)
    await stage.hear(stage.round_opened())
    await stage.hear(commits_closed("ann"))
    with pytest.raises(Contradiction):
        await stage.hear(round_closed("bob"))
    assert stage.ears.all(SponsorshipJudged) == []
    await stage.attestor.end_round(EndRound(round=1, by="olga", reason="two roots"))
    await stage.publish()
    judged = stage.ears.last(SponsorshipJudged)
    receipt = open_signed(judged.receipt, TrancheReceipt.tag, TrancheReceipt, signer=ATTESTOR.public)
    assert (judged.earned, judged.sealed_preimage, receipt.parent) == (False, "", receipt.checkpoint)
    assert "left the checkpoint as it was" in receipt.reason
