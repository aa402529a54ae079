"""A peer follows its coordinator's and its oracle's keys from hand to hand, and no thief of a former one."""

from pathlib import Path

import msgspec
import pytest
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.pins import Pins
from l402_peer_agent.policy import read_terms
from l402core.documents import Terms
from l402core.errors import Unauthorized
from l402core.signing import Signed, SigningKey
from l402core.succession import HandOver, Role

from tests.support.coordinators import some_terms

OLD, NEW, ORACLE, NEW_ORACLE, THIEF = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3, 4, 9))


def hand_over(role: Role, by: SigningKey, following: SigningKey) -> Signed:
    """One key's word on the next."""
    made = HandOver(role=role, former=by.public, following=following.public, at_ms=1)
    return by.sign(HandOver.tag, made)


SAID = (hand_over("settler", OLD, NEW), hand_over("attestor", ORACLE, NEW_ORACLE))


def terms(by: SigningKey, oracle: SigningKey, *said: Signed, round_: int = 1) -> Signed:
    """A round's terms, signed."""
    changed = {"round": round_, "settler": by.public, "attestor": oracle.public, "hand_overs": said}
    return by.sign(Terms.tag, msgspec.structs.replace(some_terms(round_, seconds=60.0), **changed))


class Reader:
    """A peer that was told both first keys, and reads terms as its agent does."""

    def __init__(self, path: Path, *, told: bool = True) -> None:
        self.pins = Pins(Journal(path / "journal.sqlite3"))
        self.told = (OLD.public, ORACLE.public) if told else ("", "")

    def read(self, signed: Signed, round_: int) -> str:
        """'' where it believes them, else why not."""
        settler = self.pins.key("settler", self.told[0], round_) or signed.signer
        attestor = self.pins.key("attestor", self.told[1], round_)
        try:
            found = read_terms(signed, settler=settler, attestor=attestor, network="simnet")
        except Unauthorized as refused:
            return refused.code
        self.pins.seen("settler", settler, found.settler, round_)
        self.pins.seen("attestor", attestor, found.attestor, round_)
        return ""


@pytest.mark.parametrize("told", [True, False], ids=["keys from its owner", "keys seen first"])
def test_a_peer_follows_a_hand_over(tmp_path: Path, told: bool) -> None:
    """The new keys' terms bring the old ones' word; later terms need not."""
    peer = Reader(tmp_path, told=told)
    assert peer.read(terms(OLD, ORACLE), 1) == ""
    assert peer.read(terms(NEW, NEW_ORACLE, round_=2), 2) == "wrong_signer"
    assert peer.read(terms(NEW, NEW_ORACLE, *SAID, round_=2), 2) == ""
    assert peer.read(terms(NEW, NEW_ORACLE, round_=3), 3) == ""


def test_a_stolen_former_key_makes_no_new_terms(tmp_path: Path) -> None:
    """Neither in its own name, nor for an heir of the thief's choice; a round that was begun under it is played on."""
    peer = Reader(tmp_path)
    for round_, signed in ((1, terms(OLD, ORACLE)), (2, terms(NEW, NEW_ORACLE, *SAID, round_=2))):
        assert peer.read(signed, round_) == ""
    assert peer.read(terms(OLD, ORACLE, round_=3), 3) == "wrong_signer"
    assert peer.read(terms(NEW, ORACLE, round_=3), 3) == "terms_keys"
    stolen = hand_over("settler", OLD, THIEF)
    assert peer.read(terms(THIEF, NEW_ORACLE, stolen, round_=3), 3) == "wrong_signer"
    assert peer.read(terms(OLD, ORACLE), 1) == ""


def test_the_oracle_and_the_coordinator_hand_over_for_themselves(tmp_path: Path) -> None:
    """Who has the settler's key cannot name another oracle, whatever it signs."""
    forged = msgspec.structs.replace(hand_over("attestor", ORACLE, THIEF), signer=OLD.public)
    said = (
        forged,
        OLD.sign(HandOver.tag, HandOver(role="attestor", former=ORACLE.public, following=THIEF.public, at_ms=1)),
    )
    assert Reader(tmp_path).read(terms(OLD, THIEF, *said), 1) == "terms_keys"
