"""Whether the oracle's own update of a round is what the round's page says of it, from published objects. No tensor."""

import hashlib
from collections.abc import Callable, Iterator

import msgspec
from l402_oracle import scoring
from l402core.errors import PeerError
from l402core.evidence import JudgedRound, Yardstick
from l402core.sealing import open_payload
from sparseloco.defaults import SHARD_WINDOWS

from l402train.verifying import NANO, Finding, Losses

Get = Callable[[str], bytes | None]


def yardstick_findings(judged: JudgedRound, get: Get) -> Iterator[Finding]:
    """Its payload, the memory it began with, and its statistics from the published losses."""
    own = judged.yardstick
    if own is None:
        return
    yield _payload(own, get)
    yield memory_of(own, get)[1]
    if own.losses is None:
        unmeasured = (own.drop_mean, own.drop_low, own.drop_high, own.own_sequences) == (0, 0, 0, 0)
        yield Finding(check="the yardstick's losses", agrees=unmeasured or False, detail="it names none")
        return
    data = get(own.losses.sha256)
    if data is None:
        yield Finding(check="the yardstick's losses", agrees=None, detail="the published losses are not at hand")
        return
    if len(data) != own.losses.size:
        yield Finding(check="the yardstick's losses", agrees=False, detail=f"{len(data)} bytes, not {own.losses.size}")
    try:
        yield from _statistics(own, msgspec.json.decode(data, type=Losses), judged.shards)
    except (msgspec.MsgspecError, ValueError) as error:
        yield Finding(check="the yardstick's losses", agrees=False, detail=f"not a list of losses: {error}")


def memory_of(own: Yardstick, get: Get) -> tuple[bytes | None, Finding]:
    """What it began with, where it is at hand and is what the page says."""
    check = "the yardstick's memory"
    if not own.state:
        return b"", Finding(check=check, agrees=(own.state_object, own.state_key) == ("", ""), detail="it began anew")
    sealed = get(own.state_object)
    if sealed is None:
        return None, Finding(check=check, agrees=None, detail="the sealed memory is not at hand")
    try:
        state = open_payload(sealed, bytes.fromhex(own.state_key))
    except (PeerError, ValueError) as error:
        return None, Finding(check=check, agrees=False, detail=str(error))
    named = (hashlib.sha256(sealed).hexdigest(), hashlib.sha256(state).hexdigest())
    if named != (own.state_object, own.state):
        return None, Finding(check=check, agrees=False, detail="other bytes than the page names")
    return state, Finding(check=check, agrees=True)


def _payload(own: Yardstick, get: Get) -> Finding:
    sealed = get(own.payload_hash)
    if sealed is None:
        return Finding(check="the yardstick's payload", agrees=None, detail="the sealed payload is not at hand")
    if hashlib.sha256(sealed).hexdigest() != own.payload_hash:
        return Finding(check="the yardstick's payload", agrees=False, detail="other bytes than the page names")
    try:
        open_payload(sealed, bytes.fromhex(own.content_key))
    except (PeerError, ValueError) as error:
        return Finding(check="the yardstick's payload", agrees=False, detail=str(error))
    return Finding(check="the yardstick's payload", agrees=True)


def _statistics(own: Yardstick, losses: Losses, shards: tuple[int, ...]) -> Iterator[Finding]:
    hidden = scoring.interval(losses.drops)
    whole = losses.shards == shards[: len(losses.shards)] and hidden.n == len(losses.shards) * SHARD_WINDOWS
    yield Finding(check="the yardstick's shards", agrees=whole)
    said = (own.drop_mean, own.drop_low, own.drop_high)
    seen = tuple(round(value * NANO) for value in (hidden.mean, hidden.lo, hidden.hi))
    yield Finding(check="the yardstick's drop", agrees=said == seen, detail=f"it says {said}, its losses {seen}")
    if not losses.own_before:
        yield Finding(check="the yardstick's own data", agrees=own.own_sequences == 0)
        return
    mine, theirs = losses.own_drops, losses.drops
    told = (own.own_mean, own.own_excess_milli, own.own_sequences)
    found = (round(scoring.interval(mine).mean * NANO), scoring.excess_milli(mine, theirs), len(mine))
    yield Finding(check="the yardstick's own data", agrees=told == found, detail=f"it says {told}, its losses {found}")
