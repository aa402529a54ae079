"""Keys that documents name are rotated in the middle of a round, and what began under the old ones ends under them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_oracle.derive import seed_commitment
from l402_oracle.keys import read_attestor_keys, read_worker_keys
from l402_settler.keys import rings
from l402core.documents import Locked, ObjectRef, Offer, Terms, UploadReceipt
from l402core.errors import PeerError, Unauthorized
from l402core.events import CheckpointPublished, EscrowLock, ReadSubmission
from l402core.lnd.port import PaymentStatus
from l402core.rings import UnsealingRing
from l402core.sealing import UnsealingKey, seal
from l402core.signing import open_signed
from l402core.succession import Successions, heirs, read_succession
from l402train import rotating, rotating_named
from l402train.exits import Stop
from l402train.rotating import READ_AGAIN_MS

from tests.support.settler import ATTESTOR, PEER, SETTLER, Stage, sha


class Office:
    """The key files of a settler's stage, which reads them as its process does."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self._write("settler", {"signing_key": "01" * 32, "sealing_key": "0c" * 32})
        self._write(
            "attestor",
            {
                "signing_key": "02" * 32, "seed_key": "0d" * 32, "answers_key": "0e" * 32,
                "preimage_keys": {"k1": "03" * 32},
            },
        )  # fmt: skip
        self._write("worker", {"reading_key": "0b" * 32, "answers_to": UnsealingKey(b"\x0e" * 32).public})
        stage.office.config = stage.config.model_copy(update={"reading_public": UnsealingKey(b"\x0b" * 32).public})
        self.read_again()

    def path(self, name: str) -> Path:
        """A key file."""
        return self.folder / f"{name}.json"

    def _write(self, name: str, content: object) -> None:
        self.path(name).write_text(json.dumps(content))
        self.path(name).chmod(0o600)

    def read_again(self) -> None:
        """A second has passed: the settler has looked at its files."""
        self.stage.office.keys, _ = rings(self.path("settler"))
        self.stage.office.successions = Successions(self.folder / "handovers.json")

    async def publish(self, number: int) -> Terms:
        """The oracle announces a round, bound to a seed of its newest key; the round opens."""
        checkpoint = ObjectRef(uri="file:///c", sha256=sha(f"checkpoint{number}"), size=1)
        keys = read_attestor_keys(self.path("attestor"))
        await self.stage.settler.on_checkpoint(
            CheckpointPublished(
                id="c", occurred_at_ms=0, round=number, checkpoint=checkpoint, parent="", model_id="aa" * 32,
                seed_commitment=seed_commitment(keys.seed_of(number, checkpoint.sha256, "")), reference_previous=0,
                held_out_before=0, held_out_after=0, accepted=(),
            )
        )  # fmt: skip
        return self.stage.terms(number)

    def close_round(self, *, phase: str) -> None:
        """Its clock has run out; nobody played."""
        with self.stage.database.engine.begin() as connection:
            connection.execute(sa.text("update rounds set phase = :phase"), {"phase": phase})

    def ring(self, name: str) -> rotating.Ring:
        """A ring, as the command opens it."""
        match name:
            case "settler" | "attestor":
                return rotating_named.signing_ring(name, self.path(name))
            case "reading":
                return rotating_named.reading_ring(self.path("worker"), self.path("attestor"))
            case "sealing":
                return rotating_named.sealing_ring(self.path("settler"))
            case "answers":
                return rotating_named.answers_ring(self.path("attestor"), self.path("worker"))
            case _:
                return rotating_named.seed_ring(self.path("attestor"))

    def rotate(self, *names: str) -> tuple[str, ...]:
        """The new keys' names."""
        made = tuple(self.ring(name).rotate(now_ms=1) for name in names)
        self.read_again()
        return made

    def active(self, name: str) -> str:
        """What new rounds begin with."""
        return self.ring(name).states(self.stage.config.database_url)[-1].id

    def unsealing(self, name: str) -> UnsealingRing:
        """As the settler or a worker has it."""
        if name == "sealing":
            return rings(self.path("settler"))[1]
        return UnsealingRing(lambda: read_worker_keys(self.path("worker")).reading)

    def answers_refusal(self, key: str) -> str:
        """The same, long after it was replaced."""
        try:
            self.ring("answers").retire(key, self.stage.config.database_url, forced="", now_ms=self.stage.now_ms)
        except Stop as stop:
            return stop.sentence
        return ""

    def refusal(self, name: str, key: str) -> str:
        """Why a key cannot be retired; '' where it was."""
        try:
            self.ring(name).retire(key, self.stage.config.database_url, forced="", now_ms=1 + READ_AGAIN_MS)
        except Stop as stop:
            return stop.sentence
        return ""


@pytest.fixture
async def office(make_stage: Any, tmp_path: Path) -> Office:
    """Round 1 is open under the first keys."""
    keys = tmp_path / "keys"
    keys.mkdir()
    made = Office(make_stage(), keys)
    await made.publish(1)
    return made


async def test_a_round_ends_under_the_keys_that_it_began_with(office: Office) -> None:
    """Its locks and receipts are signed by the key that its terms name, and its oracle's former key is believed."""
    stage = office.stage
    await stage.desk.open(stage.opening("a"))
    office.rotate("settler", "attestor")
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
    await stage.desk.register_accepted(stage.accepted("a"))
    await stage.turn(commit=True)
    view = await stage.desk.register_upload(stage.upload("a"))
    assert view.locked is not None
    assert view.upload is not None
    assert open_signed(view.locked, Locked.tag, Locked, signer=SETTLER.public).commitment == sha("a")
    assert open_signed(view.upload, UploadReceipt.tag, UploadReceipt, signer=SETTLER.public).commitment == sha("a")
    await stage.settler.on_scored(stage.decision("a", 63))
    assert (await stage.ledger())[f"peer:{PEER.public}"] == stage.terms().ladder_msat()


async def test_the_next_round_names_the_new_keys_and_how_they_follow(office: Office) -> None:
    """Whoever has pinned the first ones finds their signatures in the terms; nothing was started again."""
    made = office.rotate("settler", "attestor", "reading")
    terms = await office.publish(2)
    assert (terms.settler, terms.attestor, terms.reading_key) == made
    assert heirs(terms.hand_overs, "settler", SETTLER.public)[-1] == terms.settler
    assert heirs(terms.hand_overs, "attestor", ATTESTOR.public)[-1] == terms.attestor


@pytest.mark.parametrize("name", ["settler", "attestor", "reading", "seed"])
async def test_a_key_stays_while_a_round_depends_on_it(office: Office, name: str) -> None:
    """Open rounds, submissions that have not ended, and the round that could still begin with it."""
    stage, former = office.stage, office.active(name)
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    office.rotate(name)
    assert "1 rounds" in office.refusal(name, former)
    office.close_round(phase="judge")
    await office.publish(2)
    assert "depend on it" in office.refusal(name, former)  # a submission of round 1 has not ended
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    assert office.refusal(name, former) == ""
    assert office.active(name) != former
    assert [one.id for one in office.ring(name).states(stage.config.database_url)] == [office.active(name)]


@pytest.mark.parametrize("name", ["settler", "attestor", "reading", "seed"])
async def test_a_key_stays_until_a_round_has_opened_without_it(office: Office, name: str) -> None:
    """The last round is over, and the next may have been announced with the former key."""
    former = office.active(name)
    office.close_round(phase="done")
    office.rotate(name)
    assert "no round has opened under a newer key" in office.refusal(name, former)
    await office.publish(2)
    assert office.refusal(name, former) == ""


async def test_a_key_for_answers_stays_as_long_as_sketches_under_it_are_compared(office: Office) -> None:
    """Workers seal to the new one at once; what they said under the former one opens until four later rounds are over."""
    former, told = office.active("answers"), read_worker_keys(office.path("worker")).answers_to
    said = [seal(b"before", told)]
    made = office.ring("answers").rotate(now_ms=office.stage.now_ms)
    assert read_worker_keys(office.path("worker")).answers_to == made != told == former
    said.append(seal(b"after", made))
    keys = read_attestor_keys(office.path("attestor"))
    assert [keys.answers.unseal(one) for one in said] == [b"before", b"after"]
    office.stage.now_ms += READ_AGAIN_MS + 1
    for number in range(2, 7):
        office.close_round(phase="done")
        assert "depend on it" in office.answers_refusal(former)
        await office.publish(number)
    assert office.answers_refusal(former) == ""
    with pytest.raises(PeerError):
        read_attestor_keys(office.path("attestor")).answers.unseal(said[0])


async def test_a_retired_oracle_key_is_believed_no_more(office: Office) -> None:
    """Whoever has stolen it decides nothing: its offers and decisions are refused, the new key's are taken."""
    stage = office.stage
    office.rotate("attestor")
    office.close_round(phase="judge")
    await office.publish(2)
    await stage.desk.open(stage.opening("b", round_=2))
    assert office.refusal("attestor", ATTESTOR.public) == ""
    office.read_again()
    stolen = stage.offer("b", 2)
    with pytest.raises(Unauthorized, match="nor its heir"):
        await stage.settler.on_offer(stolen)
    offered = msgspec.json.decode(stolen.offer.body, type=Offer)
    fresh = read_attestor_keys(office.path("attestor")).signing.newest.sign(Offer.tag, offered)
    await stage.settler.on_offer(msgspec.structs.replace(stolen, offer=fresh))
    assert stage.said(EscrowLock) == []
    assert (await stage.desk.read_submission(ReadSubmission(round=2, commitment=sha("b")))).state == "offered"


async def test_what_was_sealed_before_is_opened_with_the_former_key(office: Office) -> None:
    """An earned tranche's preimage, a payload: whichever key of the ring fits."""
    for name in ("sealing", "reading"):
        before = seal(b"secret", office.unsealing(name).public)
        office.rotate(name)
        ring = office.unsealing(name)
        assert ring.unseal(before) == ring.unseal(seal(b"secret", ring.public)) == b"secret"
    former = office.ring("sealing").states(office.stage.config.database_url)[0].id
    assert office.refusal("sealing", former) == ""  # nobody has pledged
    with pytest.raises(PeerError):
        office.unsealing("sealing").unseal(seal(b"secret", former))


async def test_a_rotation_that_was_cut_off_is_finished_by_the_next(office: Office) -> None:
    """The new key was in its file and no hand-over was written: it is the same key that is then made known."""
    ring, hand_overs = office.ring("settler"), office.folder / "handovers.json"
    made = ring.rotate(now_ms=1)
    hand_overs.unlink()
    assert ring.rotate(now_ms=2) == made
    assert heirs(read_succession(hand_overs).said, "settler", SETTLER.public) == (SETTLER.public, made)


async def test_no_secret_is_printed_or_made_public(office: Office) -> None:
    """Neither in what `list` tells, nor in the file of hand-overs."""
    names = ("settler", "attestor", "reading", "sealing", "seed")
    office.rotate(*names)
    told = "".join(repr(office.ring(name).states(office.stage.config.database_url)) for name in names)
    told += (office.folder / "handovers.json").read_text() + (office.folder / rotating.ROTATIONS).read_text()
    for name in ("settler", "attestor", "worker"):
        file = json.loads(office.path(name).read_text())
        secrets = [file.pop("preimage_keys", {}).get("k1", "03" * 32)]
        for value in file.values():
            secrets += [value] if isinstance(value, str) else value
        assert not [secret for secret in secrets if secret in told]


async def test_a_key_stays_for_the_moment_in_which_services_read_their_files_again(office: Office) -> None:
    """Nothing depends on it yet, and a pledge that is taken in this very moment may still name it."""
    former = office.active("sealing")
    office.rotate("sealing")
    with pytest.raises(Stop, match="a moment ago"):
        office.ring("sealing").retire(former, office.stage.config.database_url, forced="", now_ms=READ_AGAIN_MS)
    assert office.refusal("sealing", former) == ""
