"""Errors as RFC 9457 problems: the only place that knows status codes. It refuses to show what was not meant for callers.

Unauthorized has two: a credential's is 402 (a new challenge may come with it), a peer signature's (`peer_…`) is 401.
"""

from collections.abc import Mapping

import msgspec
from l402core import errors
from l402core.errors import L402Error
from l402core.signing import Signed

TYPE_PREFIX = "https://l402-train.dev/problems/"
MEDIA_TYPE = "application/problem+json"
PEER_CODES = "peer_"


class Meaningless(errors.Malformed):
    """The JSON is right, and its meaning is not."""


class BodyTooSlow(errors.Malformed):
    """The body did not arrive in time."""


class WrongMethod(errors.Malformed):
    """The path is known, and not with this method."""


class Limited(errors.TooMany):
    """Beyond a rate limit that ends."""

    def __init__(self, code: str, detail: str, *, retry_after_s: int) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s


STATUSES: tuple[tuple[type[L402Error], int, str], ...] = (
    (Meaningless, 422, "Right in form, wrong in meaning"),
    (BodyTooSlow, 408, "The body came too slowly"),
    (WrongMethod, 405, "Not with this method"),
    (errors.Malformed, 400, "Not in the expected form"),
    (errors.Unauthorized, 402, "Payment required"),
    (errors.NotFound, 404, "Not found"),
    (errors.Conflict, 409, "It contradicts an earlier request"),
    (errors.TooEarly, 425, "Too early"),
    (errors.TooLate, 410, "Too late"),
    (errors.TooLarge, 413, "Too large"),
    (errors.TooMany, 429, "Too many requests"),
    (errors.PeerError, 422, "The gradient is bad"),
    (errors.Unavailable, 503, "A part does not answer"),
    (errors.Exhausted, 503, "Nothing left now"),
    (errors.Contradiction, 500, "A contradiction was found"),
)
"""First match wins."""

RETRY_AFTER_S: tuple[tuple[type[L402Error], int], ...] = (
    (errors.TooEarly, 1), (errors.TooMany, 1), (errors.Unavailable, 1), (errors.Exhausted, 5),
)  # fmt: skip


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusal. The last six belong to a challenge."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    fault: str
    terms: str = ""
    """sha256 of the signed terms' body."""
    signed_terms: Signed | None = None
    fee_msat: int = 0
    payment_hash: str = ""
    round: int = 0
    commitment: str = ""


def is_credentials(error: L402Error) -> bool:
    """Whether it is about the credential, so that a new challenge may help."""
    return isinstance(error, errors.Unauthorized) and not error.code.startswith(PEER_CODES)


def problem_of(error: L402Error, *, credential_status: int = 402) -> Problem:
    """The problem behind an error of the tree."""
    status, title = next(
        ((status, title) for kind, status, title in STATUSES if isinstance(error, kind)), (500, "Something went wrong")
    )
    if isinstance(error, errors.Unauthorized):
        status, title = (credential_status, title) if is_credentials(error) else (401, "Not signed by the peer")
    return Problem(
        type=TYPE_PREFIX + error.code,
        title=title,
        status=status,
        detail=error.detail,
        code=error.code,
        fault=error.fault,
    )


def unexpected() -> Problem:
    """What a caller is told of a defect of ours: nothing but that it is ours."""
    return Problem(
        type=TYPE_PREFIX + "internal",
        title="Something went wrong here",
        status=500,
        detail="the request failed through no fault of yours; it was written to the log under this trace",
        code="internal",
        fault="world",
    )


def headers_of(error: L402Error, status: int) -> Mapping[str, str]:
    """`Retry-After` where trying again makes sense, `WWW-Authenticate` where the status asks for one."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Limited):
        headers["Retry-After"] = str(error.retry_after_s)
    else:
        for kind, seconds in RETRY_AFTER_S:
            if isinstance(error, kind):
                headers["Retry-After"] = str(seconds)
    if status == 401:
        headers["WWW-Authenticate"] = 'L402-Peer realm="l402-train"'
    return headers
