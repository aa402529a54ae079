"""How long a round waits for its sponsor: only for those whom the operator expects, and never for ever."""

from pathlib import Path
from typing import Any

import pytest
from l402_settler.sponsorships import wait_for_sponsor
from l402core.signing import SigningKey

from tests.support.sponsors import SPONSOR, Patron, patron, payment_hash

STRANGER = SigningKey(bytes([31]) * 32)


def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch, **config: Any) -> tuple[Patron, list[float]]:
    """A settler whose waiting turns the stage's clock; what it waited is in the list, in seconds."""
    settings = {"expected_sponsors": (SPONSOR.public,), "sponsor_wait_s": 15, "rounds": 3, **config}
    at = patron(folder, **settings)
    waited: list[float] = []

    async def wait(_name: str, timeout_s: float) -> None:
        waited.append(timeout_s)
        at.stage.now_ms += round(timeout_s * 1000)

    monkeypatch.setattr(at.stage.office, "wait_for_change", wait)
    return at, waited


async def test_an_expected_sponsor_who_does_not_come_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the round opens without: the treasury pays."""
    at, waited = waiting(tmp_path, monkeypatch)
    assert (await at.stage.open_round()).tranche is None
    assert sum(waited) == pytest.approx(15)


@pytest.mark.parametrize("step", ["pledged", "announced", "minted"])
async def test_one_who_has_pledged_and_not_paid_is_waited_for_no_longer_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """However far its first tranche has come."""
    at, waited = waiting(tmp_path, monkeypatch)
    id_ = (await at.open()).sponsorship
    if step != "pledged":
        await at.desk.on_announced(at.announced(id_))
    if step == "minted":
        await at.minted(id_)
    assert (await at.stage.open_round()).tranche is None
    assert sum(waited) == pytest.approx(15)


async def test_a_stranger_is_not_waited_for_and_may_pay_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pledge holds nothing up; what it has locked funds the round."""
    at, waited = waiting(tmp_path, monkeypatch, expected_sponsors=())
    await at.open("s", key=STRANGER)
    assert (await at.stage.open_round()).tranche is None
    at.stage.now_ms += 1
    await at.locked()
    assert (await at.stage.open_round(2)).tranche is not None
    assert waited == []


async def test_a_locked_tranche_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes while the round waits."""
    at, waited = waiting(tmp_path, monkeypatch)
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)

    async def pays(_name: str, timeout_s: float) -> None:
        waited.append(timeout_s)
        at.node.pay(payment_hash("p", 0))
        await at.desk.tending.tend()

    monkeypatch.setattr(at.stage.office, "wait_for_change", pays)
    assert (await at.stage.open_round()).tranche is not None
    assert len(waited) == 1


async def test_a_sponsor_whose_sponsorship_is_over_is_waited_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may pledge again whenever it likes."""
    at, waited = waiting(tmp_path, monkeypatch)
    id_ = await at.locked(tranches=1)
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_))
    await at.desk.tending.tend()
    assert (await at.view(id_)).state == "ended"
    assert (await at.stage.open_round(2)).tranche is None
    assert waited == []


async def test_no_one_is_waited_for_once_the_last_round_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint after the last round opens none."""
    at, waited = waiting(tmp_path, monkeypatch)
    await wait_for_sponsor(at.stage.office, 4)
    assert waited == []
