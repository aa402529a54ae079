"""The errors tree, by fault. It knows whose fault a failure is, and refuses to know HTTP status codes.

L402Error
├── CallerError            the caller sent something wrong; sending it again will not help
│   ├── Malformed          not in the grammar: bytes, JSON, header, bolt11, payload
│   ├── Unauthorized       no proof, a bad proof, or a proof for something else
│   ├── Conflict           it contradicts what the same caller already did
│   ├── NotFound           nothing of that name
│   ├── TooEarly           right, but its phase has not begun
│   ├── TooLate            right, but its phase has ended
│   ├── TooLarge           beyond a stated limit
│   └── TooMany            faster or more often than a stated limit
├── PeerError              the gradient is bad: paid nothing, with a reason
├── WorldError             nobody's fault here: try later
│   ├── Unavailable        a part (bus, Redis, LND, disk, database) does not answer
│   └── Exhausted          no place, budget, slot or liquidity is left
└── Contradiction          two facts that cannot both be true: freeze, and wake someone
"""


class L402Error(Exception):
    """Root of the tree. `code` is stable and machine-readable, `detail` is one sentence for a person."""

    fault = "unknown"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class CallerError(L402Error):
    """The caller's fault."""

    fault = "caller"


class Malformed(CallerError):
    """Not in the grammar that was expected."""


class Unauthorized(CallerError):
    """No proof of payment or identity, a bad one, or one for something else."""


class Conflict(CallerError):
    """It contradicts what this caller did before."""


class NotFound(CallerError):
    """Nothing of that name is known."""


class TooEarly(CallerError):
    """The phase for this has not begun."""


class TooLate(CallerError):
    """The phase for this has ended."""


class TooLarge(CallerError):
    """Beyond a stated size limit."""


class TooMany(CallerError):
    """Beyond a stated rate limit."""


class PeerError(L402Error):
    """The gradient itself is bad; it earns nothing and is told why."""

    fault = "peer"


class WorldError(L402Error):
    """Nobody's fault here; the same call may succeed later."""

    fault = "world"


class Unavailable(WorldError):
    """A part of the system does not answer."""


class Exhausted(WorldError):
    """No place, budget, HTLC slot or liquidity is left."""


class Contradiction(L402Error):
    """Two facts that cannot both be true. Never repaired silently."""

    fault = "contradiction"


BY_NAME: dict[str, type[L402Error]] = {
    cls.__name__: cls
    for cls in (
        Malformed, Unauthorized, Conflict, NotFound, TooEarly, TooLate, TooLarge, TooMany,
        PeerError, Unavailable, Exhausted, Contradiction,
    )
}  # fmt: skip
"""How an error crosses the bus: by its class name, so that the other side raises the same one."""
