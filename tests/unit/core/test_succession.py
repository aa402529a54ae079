"""One pinned key vouches for all that follow it, and for nothing that it did not sign."""

from pathlib import Path

import msgspec
import pytest
from l402core.errors import Unauthorized
from l402core.signing import Signed, SigningKey
from l402core.succession import HandOver, Role, Succession, Successions, heirs, read_succession
from l402core.watched import Watched

FIRST, SECOND, THIRD, THIEF = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3, 9))


def hand_over(
    by: SigningKey, following: SigningKey, *, former: SigningKey | None = None, role: Role = "settler"
) -> Signed:
    """From one key to another, signed by `by`."""
    made = HandOver(role=role, former=(former or by).public, following=following.public, at_ms=1)
    return by.sign(HandOver.tag, made)


CHAIN = (hand_over(FIRST, SECOND), hand_over(SECOND, THIRD))


def test_heirs_follow_in_order_however_they_are_told() -> None:
    """From any key that is pinned, to the newest."""
    assert heirs(CHAIN[::-1], "settler", FIRST.public) == (FIRST.public, SECOND.public, THIRD.public)
    assert heirs(CHAIN, "settler", SECOND.public) == (SECOND.public, THIRD.public)
    assert heirs(CHAIN, "attestor", FIRST.public) == (FIRST.public,)


@pytest.mark.parametrize(
    "said",
    [
        hand_over(THIEF, THIEF, former=FIRST),
        msgspec.structs.replace(CHAIN[0], signature=CHAIN[1].signature),
        msgspec.structs.replace(CHAIN[0], body=CHAIN[0].body.replace(SECOND.public, THIEF.public)),
        msgspec.structs.replace(CHAIN[0], body="nothing"),
    ],
    ids=["by another key", "another signature", "another heir", "no document"],
)
def test_nobody_makes_himself_an_heir(said: Signed) -> None:
    """What the former key did not sign is passed over."""
    assert heirs((said,), "settler", FIRST.public) == (FIRST.public,)


def test_of_two_hand_overs_by_one_key_the_first_counts() -> None:
    """Who steals a key that has handed over is no heir; and nobody hands over in a circle."""
    assert heirs((*CHAIN, hand_over(FIRST, THIEF)), "settler", FIRST.public)[-1] == THIRD.public
    assert heirs((*CHAIN, hand_over(THIRD, FIRST)), "settler", FIRST.public)[-1] == THIRD.public


def test_a_reading_key_is_vouched_for_by_whoever_signs_for_it() -> None:
    """It cannot sign itself: without a voucher's key there is no heir."""
    said = (hand_over(SECOND, THIRD, former=FIRST, role="reading"),)
    assert heirs(said, "reading", FIRST.public, [SECOND.public])[-1] == THIRD.public
    assert heirs(said, "reading", FIRST.public, [THIEF.public])[-1] == FIRST.public


def test_a_file_of_hand_overs_is_believed_as_it_is_now(tmp_path: Path) -> None:
    """A new heir is known at the first document that it signs; a retired key is refused from then on."""
    path = tmp_path / "handovers.json"
    known = Successions(path).trusted("settler", FIRST.public)
    assert known.check(FIRST.public) == known.newest == FIRST.public
    with pytest.raises(Unauthorized):
        known.check(SECOND.public)
    path.write_bytes(msgspec.json.encode(Succession(said=CHAIN[:1])))
    assert known.check(SECOND.public) == SECOND.public
    assert known.newest == SECOND.public
    assert known.check(FIRST.public) == FIRST.public
    path.write_bytes(msgspec.json.encode(Succession(said=CHAIN[:1], retired=frozenset({FIRST.public}))))
    later = Successions(path).trusted("settler", FIRST.public)
    with pytest.raises(Unauthorized, match="nor its heir"):
        later.check(FIRST.public)
    assert later.check(SECOND.public) == SECOND.public


def test_a_retired_key_is_refused_by_who_runs_already(tmp_path: Path) -> None:
    """Without a restart, once the file was looked at again."""
    path = tmp_path / "handovers.json"
    path.write_bytes(msgspec.json.encode(Succession(said=CHAIN[:1])))
    now = 0.0
    file = Watched(path, read_succession, clock=lambda: now)
    assert FIRST.public in file.now().keys("settler", FIRST.public)
    path.write_bytes(msgspec.json.encode(Succession(said=CHAIN[:1], retired=frozenset({FIRST.public}))))
    assert FIRST.public in file.now().keys("settler", FIRST.public)
    now = 1.0
    assert file.now().keys("settler", FIRST.public) == (SECOND.public,)


def test_half_a_file_changes_nothing(tmp_path: Path) -> None:
    """What was known goes on until there is something to read."""
    path = tmp_path / "handovers.json"
    path.write_bytes(msgspec.json.encode(Succession(said=CHAIN[:1])))
    file = Watched(path, read_succession, every_s=0.0)
    path.write_bytes(b'{"said": [')
    assert file.now().said == CHAIN[:1]
    path.write_bytes(msgspec.json.encode(Succession(said=CHAIN)))
    assert file.now().said == CHAIN
