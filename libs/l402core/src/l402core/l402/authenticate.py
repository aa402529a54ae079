"""The grammar of WWW-Authenticate (RFC 9110, 11.6.1), read as leniently as clients must. It knows no scheme."""

import re

from l402core.errors import Malformed

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_NAME})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.ASCII)
_SCHEME = re.compile(rf"({_NAME})(?=[ \t,]|$)", re.ASCII)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))", re.ASCII)
_SEPARATOR = re.compile(r"[ \t,]*", re.ASCII)
_ESCAPED = re.compile(r"\\(.)")


def parse_challenges(value: str) -> list[tuple[str, dict[str, str]]]:
    """Each (scheme, parameters) in order, names in lower case. Raises Malformed at what is neither."""
    challenges: list[tuple[str, dict[str, str]]] = []
    at = _skip(value, 0)
    while at < len(value):
        if challenges and not challenges[-1][1] and (blob := _TOKEN68.match(value, at)) and value[at - 1] in " \t":
            at = blob.end()  # what follows the scheme is one blob, such as Negotiate's
        elif parameter := _PARAMETER.match(value, at):
            if not challenges:
                raise Malformed("bad_challenge", "the challenge has a parameter before any scheme")
            _add(challenges[-1][1], parameter)
            at = parameter.end()
        elif scheme := _SCHEME.match(value, at):
            challenges.append((scheme[1], {}))
            at = scheme.end()
        else:
            raise Malformed("bad_challenge", f"the challenge is neither a scheme nor a parameter at offset {at}")
        at = _skip(value, at)
    return challenges


def _add(params: dict[str, str], parameter: re.Match[str]) -> None:
    name = parameter[1].lower()
    value = parameter[3] if parameter[2] is None else _ESCAPED.sub(r"\1", parameter[2])
    if params.setdefault(name, value) != value:
        raise Malformed("bad_challenge", f"the challenge has two values for {name!r}")


def _skip(value: str, at: int) -> int:
    separator = _SEPARATOR.match(value, at)
    return separator.end() if separator else at
