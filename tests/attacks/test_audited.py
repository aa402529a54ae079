"""A stranger repeats two rounds from public objects: every measurement, both yardsticks, old copies, the next checkpoint."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from l402_oracle.adapters.records import Records
from l402_oracle.worker.bench import TorchBench
from l402_peer_agent.training import Taken
from l402core.documents import Terms
from l402core.evidence import Evidence, JudgedRound
from l402train import auditing, verifying
from l402train.auditing import Audit, Wanted
from l402train.building_again import built_again
from l402train.neighbours import Neighbours
from l402train.yardstick_replaying import trained_again
from sparseloco.data import load_corpus
from sparseloco.model import GPTShape

from tests.attacks.court import Court, one_thread, warmed_up
from tests.attacks.runs import cast
from tests.attacks.runs import player as a_player
from tests.support.oracle import ATTESTOR, SETTLER

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(600)]
WANTED = Wanted(
    source="round-1.json", settler=SETTLER.public, attestor=ATTESTOR.public, objects="", whole_round=True, rerun=True,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Evidence], dict[str, bytes]]:
    """Two honest peers and one who sends a work of round 1 again in round 2; the public records and objects."""
    one_thread()
    return asyncio.run(_played(tmp_path_factory.mktemp("court")))


async def _played(folder: Path) -> tuple[dict[int, Evidence], dict[str, bytes]]:
    court = Court(folder / "oracle", warmed_up(0, 40), eval_tokens=32_768)
    players = [*(a_player(name, "honest", folder, 0) for name in ("ann", "bob")), *cast("replay", folder, 0)]
    try:
        await court.begin()
        for _ in range(2):
            await court.open()
            taken: list[Taken] = []
            for one in players:
                if await court.submit(one, taken):
                    taken.append(Taken(bytes.fromhex(one.key.public), court.entries[-1].packed))
            await court.close()
        await court.open()
        records = {number: await Records(court.stage.database).of_round(number) for number in (1, 2)}
        third = SETTLER.sign(Terms.tag, court.terms)  # its terms name what came out of round 2
        records[3] = msgspec.structs.replace(records[2], terms=third)
        return records, dict(court.stage.shelf.kept)
    finally:
        court.end()


def audited(
    rounds: dict[int, Evidence], objects: dict[str, bytes], number: int, monkeypatch: pytest.MonkeyPatch
) -> Audit:
    """As the command does it, with these records at hand."""
    monkeypatch.setattr(auditing, "rounds_of", lambda _wanted: rounds.get)
    return auditing.audit(rounds[number], WANTED, objects.get)


def said(audit: Audit, *, agrees: bool | None) -> list[str]:
    """The checks that ended so."""
    findings = [*audit.round, *(one for each in audit.receipts.values() for one in each)]
    return [one.check for one in findings if one.agrees is agrees]


def test_two_rounds_agree_in_everything_that_can_be_repeated(
    two_rounds: tuple[dict[int, Evidence], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that what was sent again in round 2 is a copy of round 1, and which checkpoints came out."""
    rounds, objects = two_rounds
    for number in (1, 2):
        audit = audited(rounds, objects, number, monkeypatch)
        assert said(audit, agrees=False) == []
        looked = said(audit, agrees=True)
        assert {"the yardstick trained again", "the next checkpoint again", "the round's copies again"} <= set(looked)
    assert {"the last round's reference", "the memory that the last yardstick left"} <= set(looked)
    page = msgspec.json.decode(rounds[2].judged.body, type=JudgedRound)
    assert [entry.verdict for entry in page.entries] == ["accepted", "accepted", "rejected"]
    copies = [one.detail for one in audit.round if one.check == "the round's copies again"]
    assert copies == ["1 found, in this round and up to 4 before it"]
    assert said(audit, agrees=None) == ["measured again"]  # the copy was never measured


def test_a_checkpoint_a_memory_or_a_reference_that_was_exchanged_is_noticed(
    two_rounds: tuple[dict[int, Evidence], dict[str, bytes]],
) -> None:
    """Each in papers that an oracle and a settler signed anew."""
    rounds, objects = two_rounds
    first, second = (opened(rounds[number]) for number in (1, 2))
    page, terms = first.judged, first.terms
    assert page.yardstick is not None
    other = msgspec.structs.replace(page.yardstick, next_state="00" * 32)
    bench = TorchBench(shape=GPTShape(), corpus=load_corpus(), chunk_k=64)
    try:
        less = msgspec.structs.replace(page, aggregated=page.aggregated[:1])
        built = asyncio.run(built_again(bench, msgspec.structs.replace(first, judged=less), second.terms, objects.get))
        assert built.agrees is False
        lie = msgspec.structs.replace(page, yardstick=other)
        trained = asyncio.run(trained_again(bench, terms, lie, objects.get, allowed=0))
        assert [one.agrees for one in trained] == [False, True]  # what it measures is still its own payload
    finally:
        bench.close()
    for name, value in {"reference": page.reference + 1, "yardstick": other}.items():
        signed = ATTESTOR.sign(JudgedRound.tag, msgspec.structs.replace(page, **{name: value}))
        beside = Neighbours(second, {1: msgspec.structs.replace(rounds[1], judged=signed)}.get)
        assert [one.agrees for one in beside.findings()].count(False) == 1
    assert [one.agrees for one in Neighbours(second, lambda _number: None).findings()] == [None]


def opened(evidence: Evidence) -> verifying.Opened:
    """Its documents, whose signatures hold."""
    found, _ = verifying.opened(evidence, settler=SETTLER.public, attestor=ATTESTOR.public)
    assert found is not None
    return found
