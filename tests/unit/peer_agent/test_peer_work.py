"""What a peer trains, remembers and copies: bound to its key and round, and forgotten where it was not accepted."""

from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from l402_peer_agent.adversaries import ALTER, HandOver, hand_over, noise, sign_flip, take_over
from l402_peer_agent.training import Trainer, binding, spec_of
from l402core.documents import ObjectRef, Terms
from l402core.errors import PeerError
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, sha256_of
from sparseloco.sparse import expand
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
    trained = Trainer(tmp_path / "a", PEER, ALTER["honest"]).train(terms, CHECKPOINT)
    unpack(trained.packed, spec_of(terms), binding(terms, bytes.fromhex(PEER)))
    assert len(trained.losses) == 2
    assert Trainer(tmp_path / "b", PEER, ALTER["honest"]).train(terms, CHECKPOINT).packed == trained.packed


def test_what_was_not_accepted_is_not_sent_later(tmp_path: Path) -> None:
    """Error feedback survives an accepted round, and is zeroed by any other; AdamW's memory survives both."""
    states = {}
    for accepted in (True, False):
        trainer = Trainer(tmp_path / str(accepted), PEER, ALTER["honest"])
        trainer.train(the_terms(), CHECKPOINT)
        trainer.conclude(7, accepted=accepted)
        trainer.conclude(7, accepted=not accepted)  # a round is concluded once
        states[accepted] = torch.load(tmp_path / str(accepted) / "state.pt", weights_only=True)
    assert states[True]["feedback"].abs().sum() > 0
    assert states[False]["feedback"].abs().sum() == 0
    assert states[True]["adam"] == states[False]["adam"]


def test_a_round_begun_again_trains_the_same(tmp_path: Path) -> None:
    """A restart in the middle of a round starts from the state before it, not from the cut-off one's."""
    trainer = Trainer(tmp_path, PEER, ALTER["honest"])
    first = trainer.train(the_terms(), CHECKPOINT)
    assert Trainer(tmp_path, PEER, ALTER["honest"]).train(the_terms(), CHECKPOINT).packed == first.packed


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    """Work on something else would be paid nothing."""
    with pytest.raises(PeerError):
        Trainer(tmp_path, PEER, ALTER["honest"]).train(
            msgspec.structs.replace(the_terms(), model_id="ab" * 32), CHECKPOINT
        )


@given(st.binary(min_size=8, max_size=40), st.integers(1, 500))
def test_noise_has_the_norm_of_honest_work_and_is_not_it(seed: bytes, size: int) -> None:
    """The same seed draws the same noise."""
    delta = torch.linspace(-1, 1, size) + 0.01
    drawn = noise(delta, seed)
    assert torch.allclose(drawn.norm(), delta.norm(), rtol=1e-4)
    assert torch.equal(drawn, noise(delta, seed))
    assert torch.equal(sign_flip(delta, seed) + delta, torch.zeros(size))


def test_an_accomplice_sends_another_peers_update_under_its_own_key(tmp_path: Path) -> None:
    """Same indices and values, another name in the header; nothing before the hand-over, nothing of another round."""
    terms, file = the_terms(), tmp_path / "handed-over.json"
    packed = Trainer(tmp_path / "t", PEER, ALTER["honest"]).train(terms, CHECKPOINT).packed
    assert take_over(file, terms, bytes.fromhex(OTHER)) is None
    hand_over(file, HandOver(round=6, peer=PEER, packed=packed))
    assert take_over(file, terms, bytes.fromhex(OTHER)) is None
    hand_over(file, HandOver(round=7, peer=PEER, packed=packed))
    copied = take_over(file, terms, bytes.fromhex(OTHER))
    assert copied is not None
    theirs = expand(unpack(packed, SPEC, binding(terms, bytes.fromhex(PEER))).sparse, SPEC)
    ours = expand(unpack(copied, SPEC, binding(terms, bytes.fromhex(OTHER))).sparse, SPEC)
    assert (theirs.indices == ours.indices).all()
    assert (theirs.values == ours.values).all()


@pytest.mark.parametrize("content", [b"", b"no json", b'{"round": 7, "peer": "zz", "packed": "AAAA"}'])
def test_a_file_that_is_no_hand_over_is_refused(tmp_path: Path, content: bytes) -> None:
    """An accomplice is not brought down by rubbish."""
    file = tmp_path / "f.json"
    file.write_bytes(content)
    with pytest.raises(PeerError):
        take_over(file, the_terms(), bytes.fromhex(OTHER))
