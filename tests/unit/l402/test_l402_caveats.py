"""What caveats allow: each one's meaning, that repeats only narrow, and that nothing unknown passes."""

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.errors import Malformed, Unauthorized
from l402core.l402 import caveats, paths
from l402core.l402.caveats import Request, check

COMMITMENT, PEER = "c0" * 32, "02" + "ab" * 32


def a_request(**said: object) -> Request:
    """A PUT of one gradient in round 3 at second 1,000, but for what is said."""
    usual: dict[str, Any] = {
        "method": "PUT",
        "path": "/v1/rounds/3/submissions/c/gradient",
        "now_unix": 1_000,
        "round": 3,
    }
    usual |= {"commitment": COMMITMENT, "peer": PEER, "service": "train", "capability": "submit"}
    return Request(**{**usual, **said})


def refusal(listed: list[str], request: Request | None = None, **options: frozenset[str]) -> str:
    """The code with which these caveats refuse, or 'fine'."""
    try:
        check([caveat.encode() for caveat in listed], request or a_request(), **options)
    except Unauthorized as error:
        return error.code
    return "fine"


@pytest.mark.parametrize(
    "listed",
    [
        [],
        ["methods=PUT"],
        ["methods=GET,PUT", "methods=PUT", "methods=PUT"],
        ["path=/v1/rounds/3/submissions/c/gradient"],
        [
            "path=/*",
            "path=/v1/rounds/*",
            "path=/v1/rounds/3/submissions/c/*",
            "path=/v1/rounds/3/submissions/c/gradient/*",
            "path=/v1/rounds/3/submissions/c/gradient",
        ],
        ["round=3", "round=3"],
        [f"commitment={COMMITMENT}"],
        [f"peer={PEER}"],
        ["valid_until=2000", "valid_until=1001"],
        ["services=train:0,eval:1", "services=eval:0,train:0", "services=train:0"],
        ["capabilities=submit,read", "capabilities=submit"],
        ["services=train:0", "train_capabilities=submit", "train_valid_until=1001"],
        ["services=train:0,eval:0", "eval_capabilities=nothing", "eval_valid_until=1"],
        ["services=train:0,eval:0", "services=train:0", "eval_capabilities=nothing"],
        ["services=a_capabilities:0,train:0", "a_capabilities_capabilities=x"],
    ],
)
def test_these_caveats_are_satisfied(listed: list[str]) -> None:
    """Meaning by meaning, including repeats that narrow or repeat."""
    assert refusal(listed) == "fine"


@pytest.mark.parametrize(
    ("listed", "code"),
    [
        (["methods=GET"], "caveat_method"),
        (["path=/v1/rounds/4/*"], "caveat_path"),
        (["path=/v1/rounds/3/submissions/c"], "caveat_path"),
        (["path=/v1/rounds/3/submissions/c/gradient/x/*"], "caveat_path"),
        (["round=4"], "caveat_round"),
        ([f"commitment={'c1' * 32}"], "caveat_commitment"),
        ([f"peer={'03' + 'ab' * 32}"], "caveat_peer"),
        (["valid_until=1000"], "caveat_expired"),
        (["valid_until=999"], "caveat_expired"),
        (["services=eval:0"], "caveat_service"),
        (["capabilities=read"], "caveat_capability"),
        (["services=train:0", "train_capabilities=read"], "caveat_capability"),
        (["services=train:0", "train_valid_until=1000"], "caveat_expired"),
    ],
)
def test_a_caveat_that_does_not_hold_refuses_with_its_own_code(listed: list[str], code: str) -> None:
    """The boundary cases too: valid_until is exclusive, a prefix does not cover itself."""
    assert refusal(listed) == code


@pytest.mark.parametrize(
    "listed",
    [
        ["methods=PUT", "methods=PUT,GET"],
        ["methods=PUT", "methods=GET", "methods=PUT"],
        ["path=/v1/rounds/3/*", "path=/v1/rounds/*"],
        ["path=/v1/rounds/3/*", "path=/v1/rounds/33/x"],
        ["path=/v1/a", "path=/v1/a/*"],
        ["path=/v1/a", "path=/v1/b"],
        ["round=3", "round=4"],
        [f"commitment={COMMITMENT}", f"commitment={'c1' * 32}"],
        [f"peer={PEER}", f"peer={'03' + 'ab' * 32}"],
        ["valid_until=1001", "valid_until=1002"],
        ["services=train:0", "services=train:1"],
        ["services=train:0", "services=train:0,premium:0"],
        ["capabilities=submit", "capabilities=submit,admin"],
        ["services=train:0", "train_capabilities=submit", "train_capabilities=admin"],
        ["services=train:0", "train_valid_until=1001", "train_valid_until=2000"],
    ],
)
def test_a_holder_cannot_widen(listed: list[str]) -> None:
    """Elsewhere the last of repeated caveats wins; here it must allow no more than the ones before."""
    assert refusal(listed) == "caveat_widens"


@pytest.mark.parametrize(
    "caveat",
    [
        *("unknown=1", "valid_untill=9999", "Methods=PUT", " methods=PUT", "=x", "train_capabilities=x"),
        *("train_valid_until=9999", "_capabilities=x", "_valid_until=9999", "services_=x:0"),
        *("preimage=" + "11" * 32,),
    ],
)
def test_an_unknown_caveat_refuses(caveat: str) -> None:
    """Elsewhere unknown caveats are silently accepted. A service's caveats are unknown until `services` names it."""
    assert refusal([caveat]) == "caveat_unknown"
    assert refusal([caveat, "services=train:0"]) == "caveat_unknown"


@pytest.mark.parametrize(
    "caveat",
    [
        *("methods", "methods=", "methods=put", "methods=GET,", "methods=GET,,PUT", "methods=GET, PUT"),
        *("methods=GET,GET", "round=", "round=03", "round=+3", "round=3.0", "round=٣", "round=1_0"),
        *("round=" + "9" * 20, "valid_until=-1", "commitment=" + "C0" * 32, "commitment=c0"),
        *("peer=04" + "ab" * 32, "peer=" + "ab" * 31, "services=train", "services=train:", "services=:0"),
        *("services=train:00", "services=a:0,a:1", "services=a:0:1", "services=x:0,premium", "capabilities="),
        *("capabilities=a b", "capabilities=" + ",".join(map(str, range(65))), "path=", "path=x", "path=*"),
        *("path=/a*", "path=/*/b", "path=/a/../b", "path=/a/./b", "path=//", "path=/a//b", "path=/a%2fb"),
        *("path=/a?b", "path=/a#b", "path=/a\\b", "path=/a\n", "path=/..", "path=/../*"),
        *("path=/" + "a" * 512, "path=/é", "päth=/a", "methods=PUT\n"),
    ],
)
def test_a_malformed_value_refuses(caveat: str) -> None:
    """A value that could be read in two ways is not read at all."""
    assert refusal([caveat]) == "caveat_malformed"


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (["round=3"], {"round": None}),
        ([f"commitment={COMMITMENT}"], {"commitment": None}),
        ([f"peer={PEER}"], {"peer": None}),
        (["services=train:0"], {"service": None}),
        (["capabilities=submit"], {"capability": None}),
        (["services=train:0", "train_capabilities=submit"], {"capability": None}),
    ],
)
def test_a_request_that_does_not_say_satisfies_nothing(listed: list[str], said: dict[str, None]) -> None:
    """A caveat on something the request leaves open refuses it."""
    assert refusal(listed, a_request(**said)).startswith("caveat_")


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/rounds/3/../4/x", "/v1/rounds/3/./x", "/v1/rounds/3//x", "/v1/rounds/3/%2e%2e/4"),
        *("/v1/rounds/3/x?y", "/v1/rounds/3/*", "/v1/rounds/3/x\n", "/v1/rounds/3/\\x", "/v1/rounds/3/"),
        *("/v1/rounds", "v1/rounds/3/x", "/v1/rounds/33/x", ""),
    ],
)
def test_a_path_in_disguise_satisfies_no_path_caveat(path: str) -> None:
    """What a router might resolve to elsewhere is refused, before anybody asks where."""
    assert refusal(["path=/v1/rounds/3/*"], a_request(path=path)) == "caveat_path"


def test_required_caveats_must_be_there() -> None:
    """A credit opens nothing before its holder has bound it to a round and a commitment."""
    needed = frozenset({"round", "commitment"})
    assert refusal(["round=3"], required=needed) == "caveat_missing"
    assert refusal([f"commitment={COMMITMENT}"], required=needed) == "caveat_missing"
    assert refusal(["round=3", f"commitment={COMMITMENT}"], required=needed) == "fine"
    assert refusal(["round=4", f"commitment={COMMITMENT}"], required=needed) == "caveat_round"


@pytest.mark.parametrize("name", ["x:0,premium", "x:0,premium:0", "a,b", "a=b", "", "-a", "a b", "a\n", "é", "a" * 65])
def test_a_service_name_from_a_request_cannot_become_two(name: str) -> None:
    """Elsewhere `GET /x:0,premium` mints a token for `premium`."""
    with pytest.raises(Malformed, match="service"):
        caveats.services({name: 0})


def test_services_are_written_as_they_are_read() -> None:
    """The writer's caveat satisfies the reader."""
    assert caveats.services({"train": 0, "eval": 2}) == b"services=train:0,eval:2"
    assert refusal(["services=train:0,eval:2"]) == "fine"


SEGMENTS = st.lists(st.from_regex(re.compile(r"[a-z.]{1,3}", re.ASCII), fullmatch=True), max_size=4)
PATHS = SEGMENTS.map(lambda segments: "/" + "/".join(segments)).filter(paths.is_clean)
PATTERNS = PATHS | PATHS.map(lambda path: path.rstrip("/") + "/*")


@given(earlier=PATTERNS, later=PATTERNS, path=PATHS)
def test_a_narrower_pattern_covers_nothing_more(earlier: str, later: str, path: str) -> None:
    """Whatever a later pattern allows, the earlier one it narrows allows too."""
    if paths.narrows(earlier, later) and paths.covers(later, path):
        assert paths.covers(earlier, path)


LISTED = st.lists(
    st.sampled_from(
        [
            *("methods=PUT", "methods=GET,PUT", "round=3", "round=4", "valid_until=1001", "valid_until=2000"),
            *("path=/*", "path=/v1/*", "services=train:0", "services=train:1,eval:0", "train_valid_until=1500"),
            *("capabilities=submit", "train_capabilities=submit", "bad", "unknown=1"),
        ]
    ),
    max_size=6,
)


@given(listed=LISTED, more=LISTED)
def test_more_caveats_never_allow_more(listed: list[str], more: list[str]) -> None:
    """Attenuation's law: what a token refuses, no longer token of it allows."""
    if refusal(listed) != "fine":
        assert refusal(listed + more) != "fine"


@given(raw=st.lists(st.binary(max_size=40), max_size=4))
def test_no_bytes_do_anything_but_pass_or_refuse(raw: list[bytes]) -> None:
    """Whatever a holder appends, the only error is Unauthorized."""
    with contextlib.suppress(Unauthorized):
        check(raw, a_request())
