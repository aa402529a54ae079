"""What each caveat means, and that a repeated one only narrows. It refuses to know macaroons and servers.

A caveat is `key=value`, split at the first `=`, ASCII, no spaces. All must hold; an unknown one refuses the token.

| key | value | holds when | a repeated one must be |
|---|---|---|---|
| `methods` | `GET,POST` | the request's method is listed | a subset |
| `path` | `/a/b`, or `/a/*` | the path is that one; or `/a`, or strictly below `/a/` | the same, or below |
| `round` | number | the request is for that round | equal |
| `commitment` | 64 lower-case hex digits | the request is for that commitment | equal |
| `peer` | 64 (x-only) or 66 lower-case hex digits | the request is signed by that peer | equal |
| `valid_until` | unix seconds | now < value | equal or earlier |
| `services` | `name:tier,name:tier` | the request's service is named | a subset, no tier higher |
| `capabilities` | `a,b` | the request's capability is listed | a subset |
| `<svc>_capabilities` | `a,b` | as above, where the request is for `svc` | a subset |
| `<svc>_valid_until` | unix seconds | as above, where the request is for `svc` | equal or earlier |

The last two only for a `svc` that an earlier `services` caveat names. A request that says nothing of a caveat's subject
(no round, no peer, no capability) does not satisfy it. A path with a dot segment, an empty segment or percent-encoding
satisfies no `path` caveat.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple

import msgspec

from l402core.errors import Malformed, Unauthorized
from l402core.l402 import paths

PREIMAGE_KEY = "preimage"
"""The key under which gRPC clients carry the preimage; `verify` takes it out before the others are checked."""

MAX_LISTED = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_METHOD = re.compile(r"[A-Z]{1,16}", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY = re.compile(r"(?:0[23])?[0-9a-f]{64}", re.ASCII)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a credential is presented for. `path` without its query; commitment and peer in lower-case hex."""

    method: str
    path: str
    now_unix: int
    round: int | None = None
    commitment: str | None = None
    peer: str | None = None
    service: str | None = None
    capability: str | None = None


class _Kind(NamedTuple):
    """One line of the table: how the value is read (ValueError), what narrows it, when it holds, and what refuses."""

    read: Callable[[str], Any]
    narrows: Callable[[Any, Any], bool]  # (earlier, later)
    holds: Callable[[Any, Request], bool]
    code: str


def check(caveats: Iterable[bytes], request: Request, required: Set[str] = frozenset()) -> None:
    """Raise Unauthorized unless every caveat is known, narrows and holds, and every `required` key is there.

    Codes: caveat_unknown, caveat_malformed, caveat_widens, caveat_missing, caveat_expired, and caveat_method, _path,
    _round, _commitment, _peer, _service, _capability for the one that does not hold.
    """
    narrowing = Narrowing()
    for caveat in caveats:
        narrowing.add(caveat)
    missing = sorted(required - narrowing.keys())
    if missing:
        raise Unauthorized("caveat_missing", f"the token must carry a caveat {missing[0]!r} to be good for this")
    narrowing.hold(request)


class Narrowing:
    """The caveats so far, each key at its narrowest."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._kinds: dict[str, _Kind] = {}
        self._named: set[str] = set()

    def keys(self) -> Set[str]:
        return self._values.keys()

    def add(self, caveat: bytes) -> None:
        """Take one more. Raises Unauthorized: caveat_unknown, caveat_malformed, caveat_widens."""
        key, value = _split(caveat)
        kind = self._kind(key)
        try:
            read = kind.read(value)
        except ValueError as error:
            raise Unauthorized("caveat_malformed", f"the value of caveat {key!r} is not {error}") from None
        if key in self._values and not kind.narrows(self._values[key], read):
            raise Unauthorized("caveat_widens", f"a second caveat {key!r} allows what the first one does not")
        self._values[key], self._kinds[key] = read, kind
        if key == "services":
            # A service that a later caveat drops has been named all the same: its other caveats stay known.
            self._named.update(read)

    def hold(self, request: Request) -> None:
        """Raises Unauthorized with the kind's code for the first that does not hold."""
        for key, kind in self._kinds.items():
            if not kind.holds(self._values[key], request):
                raise Unauthorized(kind.code, f"the token is not good for this request: caveat {key!r}")

    def _kind(self, key: str) -> _Kind:
        if key in _KINDS:
            return _KINDS[key]
        for subject, kind in _SCOPED.items():
            service = key.removesuffix(f"_{subject}")
            if service != key and service in self._named:
                return _scoped(kind, service)
        raise Unauthorized("caveat_unknown", f"the token has a caveat {key[:64]!r}, which we do not know")


def services(tiers: Mapping[str, int]) -> bytes:
    """The caveat for these services. Raises Malformed for a name that could be read as more than one."""
    for name in tiers:
        if not _NAME.fullmatch(name):
            raise Malformed("bad_service", "a service has 1 to 64 letters, digits, '_', '.' or '-' in its name")
    return ("services=" + ",".join(f"{name}:{tier}" for name, tier in tiers.items())).encode()


def _split(caveat: bytes) -> tuple[str, str]:
    try:
        key, separator, value = caveat.decode("ascii").partition("=")
    except UnicodeDecodeError:
        raise Unauthorized("caveat_malformed", "a caveat is not ASCII") from None
    if not separator:
        raise Unauthorized("caveat_malformed", "a caveat is not of the form key=value")
    return key, value


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(what)
        return value

    return read


def _number(value: str) -> int:
    return int(_matching(_NUMBER, "a whole number without leading zeros")(value))


def _list_of(pattern: re.Pattern[str]) -> Callable[[str], frozenset[str]]:
    def read(value: str) -> frozenset[str]:
        items = value.split(",")
        if len(items) > MAX_LISTED or len(set(items)) < len(items) or not all(map(pattern.fullmatch, items)):
            raise ValueError(f"a list of at most {MAX_LISTED} different names, with single commas")
        return frozenset(items)

    return read


def _tiers(value: str) -> dict[str, int]:
    pairs = [item.partition(":") for item in value.split(",")]
    tiers = {name: int(tier) for name, _, tier in pairs if _NAME.fullmatch(name) and _NUMBER.fullmatch(tier)}
    if len(tiers) < len(pairs) or len(pairs) > MAX_LISTED:
        raise ValueError(f"a list of at most {MAX_LISTED} different name:tier pairs")
    return tiers


def _same(earlier: object, later: object) -> bool:
    return earlier == later


def _subset(earlier: frozenset[str], later: frozenset[str]) -> bool:
    return later <= earlier


def _not_later(earlier: int, later: int) -> bool:
    return later <= earlier


def _not_higher(earlier: dict[str, int], later: dict[str, int]) -> bool:
    return all(name in earlier and tier <= earlier[name] for name, tier in later.items())


def _path_holds(pattern: str, request: Request) -> bool:
    return paths.is_clean(request.path) and paths.covers(pattern, request.path)


def _scoped(kind: _Kind, service: str) -> _Kind:
    """The same kind, but for requests to that service only."""
    return kind._replace(holds=lambda value, request: request.service != service or kind.holds(value, request))


_CAPABILITIES = _Kind(_list_of(_NAME), _subset, lambda names, r: r.capability in names, "caveat_capability")
_VALID_UNTIL = _Kind(_number, _not_later, lambda until, r: r.now_unix < until, "caveat_expired")
_HEX_HASH = _matching(_HASH, "64 lower-case hex digits")
_HEX_KEY = _matching(_KEY, "a public key in lower-case hex")

_KINDS = {
    "methods": _Kind(_list_of(_METHOD), _subset, lambda names, r: r.method in names, "caveat_method"),
    "path": _Kind(paths.read_pattern, paths.narrows, _path_holds, "caveat_path"),
    "round": _Kind(_number, _same, lambda number, r: r.round == number, "caveat_round"),
    "commitment": _Kind(_HEX_HASH, _same, lambda value, r: r.commitment == value, "caveat_commitment"),
    "peer": _Kind(_HEX_KEY, _same, lambda value, r: r.peer == value, "caveat_peer"),
    "valid_until": _VALID_UNTIL,
    "services": _Kind(_tiers, _not_higher, lambda tiers, r: r.service in tiers, "caveat_service"),
    "capabilities": _CAPABILITIES,
}
_SCOPED = {"capabilities": _CAPABILITIES, "valid_until": _VALID_UNTIL}
