"""What each process is told: places for everybody who runs here, and the caller's own choices first."""

from pathlib import Path

import pytest
from l402core.rights import USERS
from l402train import services
from l402train.folder import Folder
from l402train.keys import Public
from l402train.services import Wiring


def wiring(peers: int) -> Wiring:
    """A network of that many peers."""
    node = {"host": "127.0.0.1:1", "tls_cert": "tls.cert"}
    return Wiring(
        network="simnet", nats_urls=dict.fromkeys(USERS, "nats://127.0.0.1:1"), redis_url="redis://127.0.0.1:1/0",
        attestor_port=1, gateway_port=2,
        nodes={"coordinator": node, "observer": node}, public=Public(settler="a", attestor="b", reading="c", peers=()),
        rounds=1, expected=tuple(f"{number:064x}" for number in range(peers)), seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(("peers", "places"), [(1, "8"), (8, "8"), (9, "9"), (64, "64")])
def test_every_peer_that_runs_here_has_a_place(tmp_path: Path, peers: int, places: str) -> None:
    """Else a round would wait its whole time for one that found none."""
    told = services.environment("settler", "settler", Folder(tmp_path), wiring(peers))
    assert told["L402_SETTLER_PLACES"] == places


def test_the_callers_choices_win_over_ours_and_never_over_the_wiring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy may be tried out; a network may not be cut in two."""
    monkeypatch.setenv("L402_SETTLER_PLACES", "3")
    monkeypatch.setenv("L402_SETTLER_NATS_URL", "nats://elsewhere:1")
    told = services.environment("settler", "settler", Folder(tmp_path), wiring(9))
    assert (told["L402_SETTLER_PLACES"], told["L402_SETTLER_NATS_URL"]) == ("3", "nats://127.0.0.1:1")
