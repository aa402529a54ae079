"""What a peer trains and remembers: bound to its key and round, and forgotten where it was not accepted."""

from pathlib import Path

import msgspec
import pytest
import torch
from l402_peer_agent.adversaries.handing import HandOver, hand_over, taken_from
from l402_peer_agent.training import Taken, Trainer, binding, spec_of
from l402_peer_agent.work import Work
from l402core.documents import ObjectRef, Terms
from l402core.errors import PeerError, TooLate
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, sha256_of
from sparseloco.wire import unpack

from tests.unit.peer_agent.test_peer_policy import TERMS

SPEC = GPTShape().spec()
CHECKPOINT = checkpoint_bytes(init_parameters(1), SPEC, 0)
PEER, OTHER = "11" * 32, "22" * 32


def the_terms(round_: int = 7) -> Terms:
    """Terms of a round with two short inner steps from a fresh model."""
    return msgspec.structs.replace(
        TERMS,
        round=round_,
        model_id=SPEC.model_id.hex(),
        checkpoint=ObjectRef(uri="", sha256=sha256_of(CHECKPOINT).hex(), size=len(CHECKPOINT)),
        recipe=msgspec.structs.replace(TERMS.recipe, inner_steps=2, batch=1),
    )


def test_what_is_trained_is_a_payload_of_this_round_and_peer(tmp_path: Path) -> None:
    """Anyone may unpack it for exactly this round, checkpoint and key; the same state trains the same bytes."""
    terms = the_terms()
    trained = Trainer(tmp_path / "a", PEER).train(terms, CHECKPOINT)
    unpack(trained.packed, spec_of(terms), binding(terms, bytes.fromhex(PEER)))
    assert len(trained.losses) == 2
    assert Trainer(tmp_path / "b", PEER).train(terms, CHECKPOINT).packed == trained.packed


def test_what_was_not_accepted_is_not_sent_later(tmp_path: Path) -> None:
    """Error feedback survives an accepted round, and is zeroed by any other; AdamW's memory survives both."""
    states = {}
    for accepted in (True, False):
        trainer = Trainer(tmp_path / str(accepted), PEER)
        trainer.train(the_terms(), CHECKPOINT)
        trainer.conclude(7, accepted=accepted)
        trainer.conclude(7, accepted=not accepted)  # a round is concluded once
        states[accepted] = torch.load(tmp_path / str(accepted) / "state.pt", weights_only=True)
    assert states[True]["feedback"].abs().sum() > 0
    assert states[False]["feedback"].abs().sum() == 0
    assert states[True]["adam"] == states[False]["adam"]


def test_a_round_begun_again_trains_the_same(tmp_path: Path) -> None:
    """A restart in the middle of a round starts from the state before it, not from the cut-off one's."""
    trainer = Trainer(tmp_path, PEER)
    first = trainer.train(the_terms(), CHECKPOINT)
    assert Trainer(tmp_path, PEER).train(the_terms(), CHECKPOINT).packed == first.packed


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    """Work on something else would be paid nothing."""
    with pytest.raises(PeerError):
        Trainer(tmp_path, PEER).train(msgspec.structs.replace(the_terms(), model_id="ab" * 32), CHECKPOINT)


async def test_an_honest_peer_hands_over_once_its_place_is_taken(tmp_path: Path) -> None:
    """Its payload is read only for its own round, in the order asked for; and it uploads what it committed to."""
    file = tmp_path / "handed-over.json"
    work = Work(Trainer(tmp_path / "t", PEER), peer=PEER, hand_to=file)
    packed = await work.packed(the_terms(), CHECKPOINT)
    assert taken_from((file,), 7) == ()
    work.opened(the_terms(), packed)
    assert taken_from((file,), 6) == ()
    assert [(one.peer.hex(), one.packed) for one in taken_from((tmp_path / "none", file), 7)] == [(PEER, packed)]
    assert await work.sent(the_terms(), b"sealed") == b"sealed"


@pytest.mark.parametrize("content", [b"", b"no json", b'{"round": 7, "peer": "zz", "packed": "AAAA"}'])
def test_a_file_that_is_no_hand_over_is_refused(tmp_path: Path, content: bytes) -> None:
    """An accomplice is not brought down by rubbish."""
    file = tmp_path / "f.json"
    file.write_bytes(content)
    with pytest.raises(PeerError):
        taken_from((file,), 7)


async def test_a_cheat_may_keep_its_payload_back_or_send_another(tmp_path: Path) -> None:
    """Nothing at all, or other bytes than those committed to."""

    class Silent(Trainer):
        sends = "nothing"

    class Other(Trainer):
        sends = "other"

    with pytest.raises(TooLate):
        await Work(Silent(tmp_path, PEER), peer=PEER).sent(the_terms(), b"sealed")
    sent = await Work(Other(tmp_path, PEER), peer=PEER).sent(the_terms(), b"sealed")
    assert (len(sent), sent == b"sealed") == (6, False)


def test_a_hand_over_is_whole_or_not_there(tmp_path: Path) -> None:
    """What is written is what is read."""
    file = tmp_path / "handed.json"
    hand_over(file, HandOver(round=7, peer=OTHER, packed=b"x"))
    assert taken_from((file,), 7) == (Taken(bytes.fromhex(OTHER), b"x"),)
    assert [path.name for path in tmp_path.iterdir()] == ["handed.json"]
