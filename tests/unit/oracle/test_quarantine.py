"""A payload that workers did not survive: its fee comes back, its peer waits for some rounds, and nobody waits for it."""

from functools import partial

import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import tables
from l402_oracle.adapters.records import Records
from l402_oracle.attestor import quarantine, wiring
from l402_oracle.failures import ISOLATED, UNREADABLE
from l402_oracle.worker.app import DEATHS_MS, GIVEN_UP
from l402core.documents import Offer
from l402core.errors import CallerError, Contradiction, Unavailable
from l402core.events import (
    Event,
    GradientMeasured,
    GradientScored,
    GradientScreened,
    GradientUploaded,
    OfferMade,
    Pardon,
    Pardoned,
    RoundAssessed,
)
from l402core.outbox import Transaction
from prometheus_client import REGISTRY

from tests.support.oracle import (
    UPLOAD_UNTIL_MS,
    Stage,
    a_ref,
    aggregated,
    commits_closed,
    locked,
    measured,
    round_closed,
    sha,
)
from tests.unit.oracle.test_worker import Bench, a_job

DIED = f"{ISOLATED}: {GIVEN_UP}"


async def asks(stage: Stage, peer: str, number: int, seq: int = 0) -> Offer | None:
    """A peer asks for an offer in this round; None where it gets none."""
    name = f"{peer} {number}"
    await stage.hear(msgspec.structs.replace(stage.offer_make(name, seq, number), peer=sha(f"peer {peer}")))
    made = [event.offer for event in stage.ears.all(OfferMade) if event.commitment == sha(name)]
    return msgspec.json.decode(made[-1].body, type=Offer) if made else None


async def a_round(stage: Stage, number: int, *, poison: str = "") -> dict[str, GradientScored]:
    """Ann and bob ask; who has an offer is through. `poison`'s payload ends its workers. What was decided, by peer."""
    await stage.hear(stage.round_opened(number))
    offers = {peer: await asks(stage, peer, number, seq) for seq, peer in enumerate(("ann", "bob"))}
    names = [f"{peer} {number}" for peer in offers]
    await stage.hear(commits_closed(*names, round_=number))
    through = {f"{peer} {number}": offer for peer, offer in offers.items() if offer}
    for name, offer in through.items():
        await stage.hear(locked(offer), stage.uploaded(name, number), stage.screened(name, number))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(round_closed(*names, uploaded=tuple(through), round_=number))
    assert stage.ears.last(RoundAssessed).round == number  # at once: nobody waits for an offer that is not made
    for name in through:
        died = name.startswith(poison or "nobody")
        await stage.hear(measured(name, 0.0 if died else 0.5, number, failure=DIED if died else ""))
    await stage.hear(aggregated(number))
    told = {event.commitment: event for event in stage.ears.all(GradientScored)}
    return {peer: told[sha(f"{peer} {number}")] for peer in offers if sha(f"{peer} {number}") in told}


async def test_a_peer_whose_payload_ends_workers_gets_no_offer_for_some_rounds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unscored, so that its fee comes back; held back then, while others are judged and paid as ever; and heard again."""
    monkeypatch.setattr(quarantine, "ROUNDS", 1)
    await stage.announce()
    first = await a_round(stage, 1, poison="ann")
    assert {peer: one.verdict for peer, one in first.items()} == {"ann": "unscored", "bob": "accepted"}
    second = await a_round(stage, 2)
    assert {peer: one.verdict for peer, one in second.items()} == {"bob": "accepted"}
    third = await a_round(stage, 3)
    assert {peer: one.verdict for peer, one in third.items()} == {"ann": "accepted", "bob": "accepted"}


async def test_the_operator_is_told_while_a_peer_is_held_back_and_may_let_it_in(stage: Stage) -> None:
    """A number for Prometheus that is read from the books, and a row that forgives what came before it."""
    records = Records(stage.database)

    async def told() -> float:
        await wiring.tell_once(records)
        return REGISTRY.get_sample_value("l402_peers_held_back") or 0.0

    await stage.announce()
    assert await told() == 0
    await a_round(stage, 1, poison="ann")
    assert await told() == 1
    told_pardon = await stage.attestor.pardon(Pardon(peer=sha("peer ann")[:8], by="olga", reason="our decoder's fault"))
    assert told_pardon == Pardoned(peer=sha("peer ann"), round=1, commitment=sha("ann 1"))
    assert await told() == 0
    second = await a_round(stage, 2, poison="ann")
    assert {peer: one.verdict for peer, one in second.items()} == {"ann": "unscored", "bob": "accepted"}
    assert await told() == 1  # what it did after is not forgiven
    assert set(await a_round(stage, 3)) == {"bob"}


async def test_a_pardon_is_refused_where_it_is_not_clear_whose(stage: Stage) -> None:
    """Nobody who is held back, two who could be meant, no reason, a word that is no key; nothing is forgiven by any of them."""
    peers = ("ab" * 4 + "1" * 56, "ab" * 4 + "2" * 56)
    for number, peer in enumerate(peers, 1):
        values = {"commitment": sha(f"gradient {number}"), "peer": peer, "round": number}
        await stage.database.transact(
            partial(Transaction.execute, statement=sa.insert(tables.isolations), values=values)
        )

    async def refusal(peer: str, reason: str = "ours") -> str:
        with pytest.raises(CallerError) as refused:
            await stage.attestor.pardon(Pardon(peer=peer, by="olga", reason=reason))
        return refused.value.code

    assert [await refusal(peer) for peer in ("cd" * 4, "ab" * 4, "ab" * 3, "not a key")] == [
        "peer", "ambiguous", "peer", "peer",
    ]  # fmt: skip
    assert await refusal(peers[0], reason="  ") == "order"
    await stage.attestor.pardon(Pardon(peer="ab" * 4 + "1", by="olga", reason="ours"))
    assert await refusal(peers[0]) == "peer"  # once is enough
    await stage.database.transact(partial(books.add_round, number=35, state="announced"))
    assert await refusal(peers[1]) == "peer"  # it gets offers again by itself
    (row,) = await stage.database.read(lambda tx: tx.rows(sa.select(tables.pardons)))
    assert (row.peer, row.round, row.by, row.reason) == (peers[0], 1, "olga", "ours")


async def test_who_was_held_back_long_ago_is_not_counted(stage: Stage) -> None:
    """The number is of those who get no offer now, in the newest round."""
    for number, peer in ((5, "ann"), (6, "bob"), (7, "bob")):
        values = {"commitment": sha(f"{peer} {number}"), "peer": sha(f"peer {peer}"), "round": number}
        await stage.database.transact(
            partial(Transaction.execute, statement=sa.insert(tables.isolations), values=values)
        )
    for newest, held in ((37, 2), (38, 1), (39, 1), (40, 0)):
        await stage.database.transact(partial(books.add_round, number=newest, state="announced"))
        assert await Records(stage.database).held_back() == held


async def test_an_isolation_that_is_heard_after_the_decision_counts_as_well(stage: Stage) -> None:
    """In short rounds the deaths take longer than the judging; a word that is told twice is one."""
    await stage.announce()
    assert (await a_round(stage, 1))["ann"].verdict == "accepted"
    late = msgspec.structs.replace(
        stage.screened("ann 1"), passed=False, code=ISOLATED, detail=GIVEN_UP, sketch=None, sealed_key=""
    )
    await stage.hear(late, late)
    assert set(await a_round(stage, 2)) == {"bob"}


async def test_an_upload_without_an_offer_is_still_a_contradiction(stage: Stage) -> None:
    """The coordinator cannot bring a held-back peer's payload before the workers after all."""
    await stage.announce()
    await a_round(stage, 1, poison="ann")
    await stage.hear(stage.round_opened(2))
    assert await asks(stage, "ann", 2) is None
    await stage.hear(commits_closed("ann 2", round_=2), round_closed("ann 2", round_=2))
    with pytest.raises(Contradiction, match="for which no offer"):
        await stage.tick(to_ms=stage.terms(2).judge_by_ms)


async def test_a_failure_of_ours_that_ended_no_worker_holds_nobody_back(stage: Stage) -> None:
    """An unreadable store is no death."""
    await stage.announce()
    await stage.hear(stage.round_opened())
    assert await asks(stage, "ann", 1) is not None
    await stage.hear(measured("ann 1", 0.0, failure=f"{UNREADABLE}: {GIVEN_UP}"))
    stage.now_ms += 1
    assert await asks(stage, "ann", 1) is not None


class Late(Bench):
    """A worker to which a job comes after so many tries in vain."""

    async def isolated(self, event: Event, *, after_ms: int) -> str:
        """What it answers, so long after the job was said: the code."""
        self.worker._now_ms = lambda: after_ms
        if isinstance(event, GradientUploaded):
            await self.worker.isolate_upload(event)
        else:
            await self.worker.isolate_measure(event)  # type: ignore[arg-type]  # there are two kinds of job
        said = self.said.events[-1]
        assert isinstance(said, GradientScreened | GradientMeasured)
        return said.code if isinstance(said, GradientScreened) else said.failure.partition(":")[0]


async def test_only_what_can_have_been_so_many_deaths_is_taken_for_them() -> None:
    """Five missed workers take fifty seconds; a store that is away now was away then; what is too large was never opened."""
    bench = Late()
    kept = bench.shelf.keep(b"a payload")
    upload = GradientUploaded(
        id="s", occurred_at_ms=0, round=1, commitment=sha("c"), peer=sha("p"), checkpoint=sha("b"),
        model_id=bench.torch.model_id, payload=kept,
    )  # fmt: skip
    measure = a_job(bench.torch.model_id, kept, a_ref("base"), ())
    for job in (upload, measure):
        assert await bench.isolated(job, after_ms=DEATHS_MS) == ISOLATED
        assert await bench.isolated(job, after_ms=DEATHS_MS - 1) == "unreadable"
        large = msgspec.structs.replace(job, payload=msgspec.structs.replace(kept, size=1 << 40))
        assert await bench.isolated(large, after_ms=DEATHS_MS) == "unreadable"
        with pytest.raises(Unavailable):
            await bench.isolated(msgspec.structs.replace(job, payload=a_ref("gone")), after_ms=DEATHS_MS)
    bench.torch.close()
