"""What a macaroon of LND's opens, read from itself: a service that needs less than it opens does not start with it."""

from pathlib import Path

import pytest
from l402core.errors import Malformed, Unavailable
from l402core.l402 import macaroon
from l402core.lnd.permissions import SETTLER
from l402core.lnd.scope import read_scope, refuse_excess
from l402core.secret import Secret
from lndsim.macaroon import ADMIN, Bakery

GET_INFO = "/lnrpc.Lightning/GetInfo"
URIS = [("uri", uri) for uri in SETTLER]


def a_macaroon(folder: Path, permissions: list[tuple[str, str]]) -> Path:
    """As a node bakes one, in a file."""
    path = folder / "service.macaroon"
    path.write_bytes(Bakery(bytes(32)).mint(permissions, nonce=bytes(16)))
    return path


def refuse(path: Path, *tolerated: str) -> None:
    """As the settler does before it starts."""
    refuse_excess(path, SETTLER, tolerated=tolerated, service="settler")


def test_a_macaroon_for_exactly_the_services_calls_is_taken(tmp_path: Path) -> None:
    """So is one for fewer: the node will say what is missing."""
    refuse(a_macaroon(tmp_path, URIS))
    refuse(a_macaroon(tmp_path, URIS[:1]))


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (("uri", "/routerrpc.Router/SendPaymentV2"), "/routerrpc.Router/SendPaymentV2"),
        (("offchain", "write"), "offchain:write"),
        (("info", "read"), "info:read"),
    ],
)
def test_one_call_more_is_too_much_and_is_named(tmp_path: Path, more: tuple[str, str], name: str) -> None:
    """A family of calls is more than the calls in it that we make, even where it only reads. The cure is named too."""
    path = a_macaroon(tmp_path, [*URIS, more])
    with pytest.raises(
        Malformed, match=f"more than this service needs: {name}[.] Bake one with .l402-train bake settl"
    ):
        refuse(path)
    refuse(path, name)
    with pytest.raises(Malformed, match="L402_SETTLER_LND_MACAROON_EXCESS"):
        refuse(path, "/routerrpc.Router/SendPayment", "info", "*")


def test_the_admins_macaroon_is_refused_with_everything_it_can(tmp_path: Path) -> None:
    """Each of its families is named, and tolerating some of them is not tolerating all."""
    path = a_macaroon(tmp_path, list(ADMIN))
    everything = [f"{entity}:{action}" for entity, action in ADMIN]
    with pytest.raises(Malformed) as refused:
        refuse(path, *everything[:3])
    assert all(f" {name}" in refused.value.detail for name in everything[3:])
    refuse(path, *everything)


def test_a_caveat_is_told_and_excuses_nothing(tmp_path: Path) -> None:
    """A caveat narrows; how far, only the node that reads it can say."""
    made = macaroon.decode(a_macaroon(tmp_path, [("info", "read")]).read_bytes())
    narrowed = macaroon.append(made, b"time-before 2020-01-01T00:00:00Z").encode()
    scope = read_scope(narrowed)
    assert (scope.opens, scope.caveats) == (("info:read",), ("time-before 2020-01-01T00:00:00Z",))
    assert scope.excess([GET_INFO]) == ("info:read",)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no macaroon",
        macaroon.mint(Secret(b"k" * 32), b"\x00" * 66, [], b"l402-train").encode(),
        macaroon.mint(Secret(b"k" * 32), b"\x03\xff\xff", [], b"lnd").encode(),
    ],
    ids=["empty", "text", "an L402 credential", "a broken list"],
)
def test_what_does_not_say_what_it_opens_is_refused(tmp_path: Path, raw: bytes) -> None:
    """Not to know is not to allow."""
    path = tmp_path / "some.macaroon"
    path.write_bytes(raw)
    with pytest.raises(Malformed) as refused:
        refuse(path, GET_INFO)
    assert refused.value.code == "bad_macaroon"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Nobody starts without one."""
    with pytest.raises(Unavailable, match=r"nowhere\.macaroon"):
        refuse(tmp_path / "nowhere.macaroon")
