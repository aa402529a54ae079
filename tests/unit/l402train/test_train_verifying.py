"""A receipt is believed for what it can show: every change of it is noticed, whoever signs it."""

import asyncio
from typing import Any

import msgspec
import pytest
from l402core.documents import Receipt
from l402core.evidence import Evidence, JudgedRound
from l402core.signing import Signed
from l402train import auditing, verifying
from l402train.auditing import Audit, Wanted
from l402train.exits import Exit, Stop
from l402train.screen import console

from tests.support.evidence import NAMES, a_judged_round, leaves, signed_anew, tampered
from tests.support.oracle import ATTESTOR, SETTLER, STRANGER

ROUND, OBJECTS = asyncio.run(a_judged_round())
ACCEPTED, COPY, TRAINED_ELSEWHERE = 0, 2, 5
BODIES: list[dict[str, Any]] = [msgspec.json.decode(signed.body) for signed in ROUND.receipts]
ELSEWHERE = {"judge", "conditions"}
"""Fields that no public document repeats: what they say shows when the payload is measured again."""
HELD_BY_PEER = {"commitment", "peer", "payload_hash", "content_key"}
"""Fields that the peer's own offer, statement and upload receipt contradict, or the payload itself."""


def looked_at(evidence: Evidence, *, whole_round: bool = True, **changes: Any) -> Audit:
    """Everything that can be looked at without a tensor."""
    wanted = Wanted(
        source="", settler=SETTLER.public, attestor=ATTESTOR.public, objects="", whole_round=whole_round, rerun=False,
        device="cpu",
    )  # fmt: skip
    return auditing.audit(evidence, msgspec.structs.replace(wanted, **changes), OBJECTS.get)


def differing(audit: Audit) -> list[str]:
    """The checks that failed."""
    findings = [*audit.round, *(one for each in audit.receipts.values() for one in each)]
    return [one.check for one in findings if one.agrees is False]


def unseen(audit: Audit) -> list[str]:
    """The checks that could not be made."""
    return [
        one.check for each in audit.receipts.values() for one in each if one.agrees is None and "losses" in one.check
    ]


def with_body(signed: Signed, body: Any) -> Signed:
    """Changed after it was signed."""
    return msgspec.structs.replace(signed, body=msgspec.json.encode(body, order="sorted").decode())


def test_an_honest_round_agrees() -> None:
    """All of it, and each receipt alone; what is not at hand is said to be, and is no difference."""
    audit = looked_at(ROUND)
    assert (audit.agrees, differing(audit), len(audit.receipts)) == (True, [], len(NAMES))
    verdicts = [body["verdict"] for body in BODIES]
    assert verdicts == ["accepted", "accepted", "rejected", "rejected", "rejected", "rejected"]
    for signed in ROUND.receipts:
        alone = msgspec.structs.replace(ROUND, receipts=(signed,))
        assert looked_at(alone, whole_round=False).agrees
        assert not looked_at(alone).agrees  # a round's audit wants every receipt


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(Receipt)])
@pytest.mark.parametrize("place", [ACCEPTED, COPY])
def test_a_receipt_changed_in_any_place_is_noticed(place: int, name: str) -> None:
    """Each field, and each value inside it, of a paid and of an unpaid one: the signature covers it."""
    for path in leaves(BODIES[place][name], (name,)):
        receipts = list(ROUND.receipts)
        receipts[place] = with_body(receipts[place], tampered(BODIES[place], path))
        audit = looked_at(msgspec.structs.replace(ROUND, receipts=tuple(receipts)))
        assert (audit.agrees, differing(audit)) == (False, [f"signature of receipt {place + 1}"]), path


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(Receipt)])
def test_an_oracle_that_signs_two_receipts_contradicts_its_round(name: str) -> None:
    """Signed anew by the oracle itself: the round's page, signed before, does not name it."""
    for path in leaves(BODIES[ACCEPTED][name], (name,)):
        receipts = list(ROUND.receipts)
        receipts[ACCEPTED] = _signed(tampered(BODIES[ACCEPTED], path))
        audit = looked_at(msgspec.structs.replace(ROUND, receipts=tuple(receipts)))
        assert "its place in the round" in differing(audit), path


def _signed(body: Any) -> Signed:
    text = msgspec.json.encode(body, order="sorted")
    return Signed(body=text.decode(), signer=ATTESTOR.public, signature=ATTESTOR.sign_bytes(Receipt.tag, text))


@pytest.mark.parametrize("name", sorted({f.name for f in msgspec.structs.fields(Receipt)} - ELSEWHERE - HELD_BY_PEER))
@pytest.mark.parametrize("place", [ACCEPTED, TRAINED_ELSEWHERE])
def test_an_oracle_that_signs_everything_anew_contradicts_the_rules(place: int, name: str) -> None:
    """One place of a receipt, with a new chain and a new page: terms, formula, shards or losses give it away."""
    missed = []
    for path in leaves(BODIES[place][name], (name,)):
        try:
            body = msgspec.convert(tampered(BODIES[place], path), Receipt)
        except msgspec.ValidationError:
            continue  # no receipt at all
        audit = looked_at(signed_anew(ROUND, place, body))
        if audit.agrees and not unseen(audit):  # losses that nobody has are said to be missing
            missed.append(path)
    words = [path for path in missed if path[0] == "checks" or path[-1] == "uri"]
    assert [path for path in missed if path not in words] == []


def test_pages_and_terms_changed_in_any_place_are_noticed() -> None:
    """The round's page, and the terms."""
    for name in ("judged", "terms"):
        signed: Signed = getattr(ROUND, name)
        body = msgspec.json.decode(signed.body)
        for path in leaves(body):
            changed = {name: with_body(signed, tampered(body, path))}
            assert not looked_at(msgspec.structs.replace(ROUND, **changed)).agrees, path


def test_a_page_that_leaves_out_or_exchanges_receipts_is_noticed() -> None:
    """Also where the oracle signs the page again: order, root and reference must be those of the receipts."""
    page = msgspec.json.decode(ROUND.judged.body, type=JudgedRound)
    pages = (
        msgspec.structs.replace(page, entries=page.entries[:-1]),
        msgspec.structs.replace(page, entries=page.entries[::-1]),
        msgspec.structs.replace(page, reference=page.reference + 1),
        msgspec.structs.replace(page, shards=page.shards[::-1]),
        msgspec.structs.replace(page, receipts_root="00" * 32),
    )
    for other in pages:
        evidence = msgspec.structs.replace(ROUND, judged=ATTESTOR.sign(JudgedRound.tag, other))
        assert differing(looked_at(evidence))
    swapped = (ROUND.receipts[1], ROUND.receipts[0], *ROUND.receipts[2:])
    assert "every receipt of the round" in differing(looked_at(msgspec.structs.replace(ROUND, receipts=swapped)))


def test_a_yardstick_changed_in_any_place_is_noticed() -> None:
    """Also where the oracle signs its page again: name, payload, norms, losses and reference belong together."""
    page = msgspec.json.decode(ROUND.judged.body)
    missed = []
    for path in leaves(page["yardstick"], ("yardstick",)):
        try:
            other = msgspec.convert(tampered(page, path), JudgedRound)
        except msgspec.ValidationError:
            continue
        evidence = msgspec.structs.replace(ROUND, judged=ATTESTOR.sign(JudgedRound.tag, other))
        audit = looked_at(evidence)
        if audit.agrees and all(one.agrees for one in audit.round if "yardstick's" in one.check):
            missed.append(path[1:])
    assert missed == [("losses", "uri"), ("next_state",)]  # memory shows when it is trained again


def test_a_round_without_the_yardstick_that_its_terms_promise_says_so() -> None:
    """It may have come too late; what clipped and paid is then computed another way, and differs here."""
    page = msgspec.json.decode(ROUND.judged.body, type=JudgedRound)
    other = msgspec.structs.replace(page, yardstick=None)
    audit = looked_at(msgspec.structs.replace(ROUND, judged=ATTESTOR.sign(JudgedRound.tag, other)))
    assert "the yardstick" in {one.check for one in audit.round if one.agrees is None}
    assert "the round's reference" in differing(audit)


def test_another_key_is_not_the_oracles() -> None:
    """A pinned key is the only one that counts, and a stranger's signature is none."""
    assert not looked_at(ROUND, attestor=STRANGER.public).agrees
    assert not looked_at(ROUND, settler=STRANGER.public).agrees
    receipt = msgspec.json.decode(ROUND.receipts[0].body, type=Receipt)
    forged = (STRANGER.sign(Receipt.tag, receipt), *ROUND.receipts[1:])
    assert not looked_at(msgspec.structs.replace(ROUND, receipts=forged)).agrees


def test_losses_that_are_not_those_of_the_receipt_are_noticed() -> None:
    """The mean and both ends are computed again from the published losses."""
    receipt = msgspec.json.decode(ROUND.receipts[ACCEPTED].body, type=Receipt)
    assert receipt.losses is not None
    other = msgspec.json.decode(ROUND.receipts[1].body, type=Receipt)
    assert other.losses is not None
    found = verifying.losses_findings(receipt, lambda _: OBJECTS[other.losses.sha256] if other.losses else None)
    assert any(one.agrees is False for one in found)


def test_the_command_says_it_with_its_exit_code(tmp_path: Any) -> None:
    """FINE on what the demo keeps, UNTRUE on one changed byte, NOT_FOUND where nothing is."""
    file = tmp_path / "round-1.json"
    whole = msgspec.json.encode(ROUND)
    wanted = Wanted(
        source=str(file), settler="", attestor="", objects="", whole_round=True, rerun=False, device="cpu"
    )  # fmt: skip
    file.write_bytes(whole)
    assert auditing.verify_receipt(console(), wanted, as_json=True) == Exit.FINE
    file.write_bytes(whole.replace(b'reward_msat\\":', b'reward_msat\\":1', 1))
    assert auditing.verify_receipt(console(), wanted, as_json=False) == Exit.UNTRUE
    file.write_bytes(b"{}")
    with pytest.raises(Stop) as stop:
        auditing.verify_receipt(console(), wanted, as_json=False)
    assert stop.value.code == Exit.UNTRUE
    file.unlink()
    with pytest.raises(Stop) as stop:
        auditing.verify_receipt(console(), wanted, as_json=False)
    assert stop.value.code == Exit.NOT_FOUND
