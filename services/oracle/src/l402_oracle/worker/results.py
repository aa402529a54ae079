"""What passes between the worker's story and its bench: bytes and integers, no tensor."""

import msgspec
from l402core.documents import Conditions


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An unsealed payload and what it must be bound to."""

    packed: bytes
    content_key: str
    """Nobody else's before the judgement, and then on the receipt."""
    round: int
    checkpoint: str
    peer: str

    def __repr__(self) -> str:
        return f"Opened(round={self.round}, peer={self.peer})"


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """What screening found; an empty code is a pass."""

    code: str = ""
    detail: str = ""
    norms: tuple[float, ...] = ()
    sketch: bytes = b""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Mean drop from one checkpoint to another and mean ± 3·SE, nano-nats per token; `failure` is `code: sentence`."""

    drop_mean: int = 0
    drop_low: int = 0
    drop_high: int = 0
    sequences: int = 0
    losses: bytes = b""
    """JSON: shards, and per-sequence losses before and after."""
    hardware: str = ""
    failure: str = ""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Mean drop and mean ± 3·SE in nano-nats per token; `failure` is `code: sentence`."""

    drop_mean: int = 0
    drop_low: int = 0
    drop_high: int = 0
    sequences: int = 0
    tokens: int = 0
    losses: bytes = b""
    """JSON: shards, and per-sequence losses before and after; the same on assigned windows as own_before, own_after."""
    conditions: Conditions = Conditions()
    failure: str = ""
    own_mean: int = 0
    own_excess_milli: int = 0
    own_sequences: int = 0


class Worked(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle's own update: packed like a peer's, its norms per tensor, and the memory for its next round."""

    packed: bytes
    norms: tuple[float, ...]
    state: bytes


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint's bytes, with held-out loss before and after in nano-nats per token."""

    checkpoint: bytes
    held_out_before: int
    held_out_after: int
