"""A key that is rotated opens what it opened before; one that is retired is refused while anything open depends on it."""

import json
import os
from pathlib import Path

import pytest
from l402_oracle.keys import read_attestor_keys
from l402core.events import ClaimCredit
from l402core.l402 import keys as root_keys
from l402core.lnd.port import PaymentStatus
from l402core.secret import Secret
from l402train import rotating
from l402train.exits import Exit, Stop

from tests.support.settler import PEER, Stage, sha

HOUR_MS = 3_600_000
OLD, TOKEN = sha("token a")[:8], bytes.fromhex(sha("token a"))


@pytest.fixture
def gateway(tmp_path: Path) -> rotating.Ring:
    """A ring whose one key minted the stage's token `a`."""
    ring = root_keys.RootKeys(keys={bytes.fromhex(OLD): Secret(os.urandom(32))}, active=bytes.fromhex(OLD))
    root_keys.save(ring, tmp_path / "gateway.json")
    return rotating.gateway_ring(tmp_path / "gateway.json")


@pytest.fixture
def preimages(tmp_path: Path) -> rotating.Ring:
    """The attestor's file with one key, which the stage's offers name."""
    path = tmp_path / "attestor.json"
    keys = {
        "signing_key": "01" * 32,
        "seed_key": "02" * 32,
        "answers_key": "04" * 32,
        "preimage_keys": {"k1": "03" * 32},
    }
    path.write_text(json.dumps(keys))
    path.chmod(0o600)
    return rotating.preimage_ring(path)


def refusal(ring: rotating.Ring, key: str, stage: Stage, *, forced: str = "", now_ms: int = 10 * HOUR_MS) -> str:
    """Why a key cannot be retired; '' where it was."""
    try:
        ring.retire(key, stage.config.database_url, forced=forced, now_ms=now_ms)
    except Stop as stop:
        return stop.sentence
    return ""


async def test_a_root_key_goes_when_nothing_open_was_paid_for_under_it(stage: Stage, gateway: rotating.Ring) -> None:
    """Rotated: the token still verifies. Its submission open, its credit unspent, a challenge unpaid: it stays."""
    await stage.fee("a")
    await stage.desk.open(stage.opening("a"))
    made = gateway.rotate(now_ms=9 * HOUR_MS + 1)
    ring = root_keys.load(gateway.path)
    assert ring.active.hex() == made != OLD
    assert ring.for_token(TOKEN)
    assert "depend on it" in refusal(gateway, OLD, stage)
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")
    claim = ClaimCredit(payment_hash=sha("fee a"), peer=PEER.public, token_id=sha("token a")[:8] + "00" * 28)
    await stage.desk.claim_credit(claim)
    assert "1 rounds, submissions, credits" in refusal(gateway, OLD, stage)
    await stage.desk.claim_credit(
        ClaimCredit(payment_hash=sha("fee a"), peer=PEER.public, token_id=made + "00" * 28, replaces=claim.token_id)
    )
    assert "may still be paid" in refusal(gateway, OLD, stage)
    assert refusal(gateway, OLD, stage, now_ms=10 * HOUR_MS + 1) == ""
    assert root_keys.load(gateway.path).revoked_keys == {bytes.fromhex(OLD)}


async def test_a_preimage_key_goes_when_no_open_offer_names_it(stage: Stage, preimages: rotating.Ring) -> None:
    """New offers use the new key; the old one reveals what was offered under it until the last rung has ended."""
    await stage.uploaded()
    assert preimages.rotate(now_ms=0) == "k2"
    keys = read_attestor_keys(preimages.path)
    assert (keys.newest(), set(keys.preimages)) == ("k2", {"k1", "k2"})
    assert "depend on it" in refusal(preimages, "k1", stage)
    await stage.settler.on_scored(stage.decision("a", 0, verdict="rejected"))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    assert refusal(preimages, "k1", stage) == ""
    assert set(read_attestor_keys(preimages.path).preimages) == {"k2"}


async def test_only_by_its_name_is_a_key_forced_out(stage: Stage, preimages: rotating.Ring) -> None:
    """Neither the active one, nor one that is not there, nor by another's name."""
    await stage.uploaded()
    preimages.rotate(now_ms=0)
    for key, forced, word in (("k2", "k2", "active"), ("k9", "k9", "no key"), ("k1", "k2", "repeats")):
        assert word in refusal(preimages, key, stage, forced=forced)
    assert refusal(preimages, "k1", stage, forced="k1") == ""


async def test_what_is_listed_holds_no_secret(stage: Stage, preimages: rotating.Ring) -> None:
    """Ids, which is active, and what depends on each."""
    await stage.uploaded()
    preimages.rotate(now_ms=7)
    first, second = preimages.states(stage.config.database_url)
    assert (first.id, first.active, first.open, first.replaced_at_ms) == ("k1", False, 1, 7)
    assert (second.id, second.active, second.open) == ("k2", True, 0)
    assert "03" * 32 not in repr((first, second)) + (preimages.path.parent / rotating.ROTATIONS).read_text()


async def test_a_key_whose_replacement_nobody_noted_stays(stage: Stage, preimages: rotating.Ring) -> None:
    """The file was edited by hand: the tool does not guess."""
    preimages.rotate(now_ms=0)
    (preimages.path.parent / rotating.ROTATIONS).unlink()
    with pytest.raises(Stop) as stop:
        preimages.retire("k1", stage.config.database_url, forced="", now_ms=HOUR_MS)
    assert stop.value.code is Exit.UNTRUE
