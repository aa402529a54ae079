"""A round's events in every order and any number of times: the same decisions, and no secret in what is said."""

import asyncio
import random
import tempfile
from functools import cache
from pathlib import Path

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_oracle.derive import preimage
from l402core.documents import Offer, Receipt
from l402core.errors import Contradiction
from l402core.events import Event, GradientScored, OfferMake
from l402core.secret import Secret

from tests.support.oracle import (
    ATTESTOR,
    JUDGE_BY_MS,
    PREIMAGE_KEY,
    SEED_KEY,
    UPLOAD_UNTIL_MS,
    Stage,
    commits_closed,
    locked,
    measured,
    receipt_of,
    round_closed,
    sha,
)

NAMES = ("ann", "bob", "cy", "copy")


@cache
def the_offers() -> dict[str, Offer]:
    """The offers that any attestor with these keys makes."""

    async def make(folder: Path) -> dict[str, Offer]:
        stage = Stage(folder)
        await stage.announce()
        offers = {name: await stage.offer(name, seq) for seq, name in enumerate(NAMES)}
        stage.database.close()
        return offers

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(make(Path(folder)))


@cache
def decided_in_order() -> dict[str, tuple[int, Receipt]]:
    """What is decided when everything comes once and in order."""
    the_offers()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(decided(Path(folder), None, 1))


def a_round(stage: Stage, offers: dict[str, Offer]) -> list[Event]:
    """Everything that is said to the attestor in round 1: two honest peers, an idler and a copy."""
    said: list[Event] = [stage.round_opened(), commits_closed(*NAMES), round_closed(*NAMES)]
    for seq, name in enumerate(NAMES):
        said += [stage.offer_make(name, seq), locked(offers[name]), stage.uploaded(name)]
        said.append(stage.screened(name, like="ann" if name == "copy" else ""))
    return [*said, measured("ann", 0.5), measured("bob", 0.45), measured("cy", 0.0)]


async def decided(folder: Path, shuffle: random.Random | None, repeats: int) -> dict[str, tuple[int, Receipt]]:
    """What is decided when the events come so: mask and receipt by commitment."""
    offers = the_offers()
    stage = Stage(folder)
    await stage.announce()
    said = a_round(stage, offers)
    if shuffle is not None:
        said = said * repeats
        shuffle.shuffle(said)
    stage.now_ms = UPLOAD_UNTIL_MS
    waiting: list[Event] = []
    for event in said:
        try:
            await stage.hear(event)
        except Contradiction as refused:
            # A lock cannot come before the offer that it locks: there the settler would not have it yet.
            if refused.code != "locked_unknown":
                raise
            waiting.append(event)
    await stage.hear(*waiting)
    await stage.tick()
    scored = stage.ears.all(GradientScored)
    assert len(scored) == len(NAMES) == len({event.commitment for event in scored})
    stage.database.close()
    return {event.commitment: (event.mask, receipt_of(event)) for event in scored}


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_and_any_repetition_decides_the_same(shuffle: random.Random, repeats: int) -> None:
    """Redeliveries and races change no mask and no receipt."""
    with tempfile.TemporaryDirectory() as folder:
        straight = decided_in_order()
        assert asyncio.run(decided(Path(folder), shuffle, repeats)) == straight
        assert [straight[sha(name)][1].verdict for name in NAMES] == ["accepted", "accepted", "rejected", "rejected"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 18), unique=True), st.randoms(use_true_random=False))
def test_whatever_is_lost_nothing_unlocked_is_revealed(lost: list[int], shuffle: random.Random) -> None:
    """Any events may never come: at the end nothing is paid that was not offered, locked, uploaded and measured."""
    with tempfile.TemporaryDirectory() as folder:
        the_offers()
        asyncio.run(_with_losses(Path(folder), set(lost), shuffle))


async def _with_losses(folder: Path, lost: set[int], shuffle: random.Random) -> None:
    offers = the_offers()
    stage = Stage(folder)
    await stage.announce()
    came = [event for number, event in enumerate(a_round(stage, offers)) if number not in lost]
    shuffle.shuffle(came)
    came.sort(key=lambda event: not isinstance(event, OfferMake))
    stage.now_ms = UPLOAD_UNTIL_MS
    for event in came:
        try:
            await stage.hear(event)
        except Contradiction as refused:
            if refused.code not in {"locked_unknown", "round_frozen"}:
                raise
    try:
        await stage.tick(to_ms=JUDGE_BY_MS)
    except Contradiction as refused:
        if refused.code != "round_frozen":  # an offer that was never asked
            raise
    kinds = {(type(event).__name__, getattr(event, "commitment", "")) for event in came}
    for scored in stage.ears.all(GradientScored):
        needed = ("OfferMake", "EscrowLocked", "GradientUploaded", "GradientScreened", "GradientMeasured")
        if scored.mask or scored.sealed_preimages:
            assert all((kind, scored.commitment) in kinds for kind in needed)
    stage.database.close()


async def test_no_secret_is_said_logged_or_kept(tmp_path: Path) -> None:
    """Preimages, keys and seeds before their time are in no event, no log line and no byte of the database."""
    offers = await asyncio.to_thread(the_offers)
    stage = Stage(tmp_path)
    with structlog.testing.capture_logs() as lines:
        await stage.announce()
        early = stage.parts.seed(1, stage.terms().checkpoint.sha256)
        await stage.hear(*(stage.offer_make(name, seq) for seq, name in enumerate(NAMES)))
        assert early.hex().encode() not in stage.ears.bytes + stage.file.read_bytes()
        for event in a_round(stage, offers):
            await stage.hear(event)
        await stage.tick(to_ms=JUDGE_BY_MS)
    assert any(event.sealed_preimages for event in stage.ears.all(GradientScored))
    wal = stage.file.with_name(stage.file.name + "-wal").read_bytes()
    everything = stage.ears.bytes + stage.file.read_bytes() + wal + repr(lines).encode() + repr(stage.parts).encode()
    secrets = [preimage(Secret(PREIMAGE_KEY), offer, index).reveal() for offer in offers.values() for index in range(6)]
    for secret in [*secrets, PREIMAGE_KEY, SEED_KEY, bytes([2]) * 32]:
        assert secret.hex().encode() not in everything
        assert secret not in everything
    assert ATTESTOR.public.encode() in everything
    stage.database.close()
