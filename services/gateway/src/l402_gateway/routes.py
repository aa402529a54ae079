"""The paid path as data: which round, commitment and step a path names. It refuses a path in disguise."""

import re

import msgspec
from l402core.errors import Malformed, NotFound

_PAID = re.compile(
    r"/v1/rounds/(?P<round>[^/]*)/submissions/(?P<commitment>[^/]*)(?P<step>|/locks|/accepted|/gradient)",
    re.ASCII,
)
_ROUND = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)

STEPS: dict[str, str] = {"": "POST", "/locks": "POST", "/accepted": "POST", "/gradient": "PUT"}
"""Each step's one method."""


class Paid(msgspec.Struct, frozen=True):
    """One step of one submission."""

    round: int
    commitment: str
    step: str
    path: str

    @property
    def method(self) -> str:
        """The one method that this step takes."""
        return STEPS[self.step]

    @property
    def title(self) -> str:
        """For people and spans."""
        return self.step.removeprefix("/") or "submission"


def is_paid(path: str) -> bool:
    """Whether the path is below a submission, well written or not."""
    return _PAID.fullmatch(path) is not None


def read(path: str) -> Paid:
    """The paid route. Raises NotFound for another path, Malformed for a round or commitment that cannot be one."""
    match = _PAID.fullmatch(path)
    if match is None:
        raise NotFound("route_unknown", "nothing is served under this path")
    return Paid(read_round(match["round"]), read_hash(match["commitment"], "commitment"), match["step"], path)


def read_round(text: str) -> int:
    """A round's number. Raises Malformed."""
    if not _ROUND.fullmatch(text):
        raise Malformed("bad_round", "a round is a whole number from 1, in decimal digits")
    return int(text)


def read_hash(text: str, what: str) -> str:
    """A hash in lower-case hex. Raises Malformed."""
    if not _HASH.fullmatch(text):
        raise Malformed(f"bad_{what}", f"the {what.replace('_', ' ')} is 64 lower-case hex digits")
    return text
