"""The stand-ins for work: a peer's payload that names its own quality, and a bench that reads it. No tensor anywhere.

The previous round's reference is fixed, so that one drop alone can earn any number of units from 0 to 63.
"""

import hashlib
from functools import lru_cache

import msgspec
import numpy as np
from l402_oracle.similarity import Sketch
from l402_oracle.worker.results import Built, Compared, Measurement, Opened, Screening, Worked
from l402core.documents import Conditions, Terms
from l402core.errors import PeerError
from l402core.events import GradientMeasure, RoundAggregate, YardstickMake

from tests.simulation.world import World

MODEL = "aa" * 32
REFERENCE = 100_000_000
"""Nano-nats: what round 1's terms call the last round's reference."""
PHI_PPM = 600_000


class Payload(msgspec.Struct, frozen=True):
    """What a peer made."""

    peer: str
    round: int
    units: int


def drop_for(units: int) -> int:
    """The loss drop that earns a lone peer so many units, in nano-nats; the reference is held within 0.25 to 2.5."""
    if units == 0:
        return -1_000_000
    quality = (units + 0.5) * 2 / 63
    if units < 31:
        return int(REFERENCE * 0.25 * (0.6 + 0.4 * quality))
    if units == 31:
        return REFERENCE
    return int(REFERENCE * 2.5 * (0.6 + 0.4 * quality))


class ScriptedWork:
    """`l402_peer_agent.app.Work`: makes a payload of a given quality. None is garbage."""

    def __init__(self, world: World, peer: str, units: int | None) -> None:
        self._world, self._peer, self._units = world, peer, units
        self.accepted: dict[int, bool] = {}

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        """It takes a second."""
        await self._world.pause(1.0)
        if self._units is None:
            return b"no payload"
        return msgspec.json.encode(Payload(self._peer, terms.round, self._units))

    def opened(self, terms: Terms, packed: bytes) -> None:
        """Nothing to hand on."""

    async def sent(self, terms: Terms, sealed: bytes) -> bytes:
        """As it is."""
        return sealed

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Remembered for the checks at the end."""
        self.accepted[round_] = accepted


class ScriptedBench:
    """`l402_oracle.worker.app.Bench`. It measures a little differently each time: workers do."""

    model_id = MODEL

    def __init__(self, world: World) -> None:
        self._world = world

    async def screen(self, opened: Opened) -> Screening:
        """Raises PeerError for garbage."""
        await self._world.pause(0.2)
        payload = _read(opened)
        return Screening(norms=(1.0, 1.0), sketch=_sketch(f"{payload.peer} {payload.round}"))

    async def measure(self, opened: Opened, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        """The drop that its units ask for."""
        await self._world.pause(0.5)
        payload = _read(opened)
        drop = drop_for(payload.units)
        return Measurement(
            drop_mean=drop, drop_low=drop - 500_000, drop_high=drop + 500_000, sequences=64, tokens=65_536,
            losses=msgspec.json.encode([payload.peer, payload.round]), conditions=Conditions(hardware="scripted"),
        )  # fmt: skip

    async def compare(self, parent: bytes, child: bytes, shards: tuple[int, ...]) -> Compared:
        """Another checkpoint is a better one."""
        await self._world.pause(0.5)
        drop = 50_000_000 if parent != child else 0
        return Compared(drop_mean=drop, drop_low=drop - 500_000, drop_high=drop + 500_000, sequences=64, losses=b"[]")

    async def first(self, init_seed: int, number: int) -> Built:
        """Some bytes."""
        await self._world.pause()
        return Built(checkpoint=f"checkpoint {number} of {init_seed}".encode(), held_out_before=9, held_out_after=9)

    async def work(self, checkpoint: bytes, state: bytes, request: YardstickMake) -> Worked:
        """Raises ValueError: what its peers earn is scripted beside one another."""
        raise ValueError("no yardstick is trained here")

    async def step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        """Other bytes."""
        await self._world.pause(0.5)
        made = hashlib.sha256(checkpoint + b"".join(opened.packed for opened in payloads)).hexdigest()
        return Built(checkpoint=made.encode(), held_out_before=9, held_out_after=8)


def _read(opened: Opened) -> Payload:
    try:
        return msgspec.json.decode(opened.packed, type=Payload)
    except msgspec.MsgspecError as error:
        raise PeerError("malformed", "It is no payload") from error


@lru_cache(maxsize=64)
def _sketch(name: str) -> bytes:
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    keys = np.sort(rng.choice(4096, 64, replace=False))
    return Sketch(1, keys.astype(np.uint32), rng.normal(size=64).astype(np.float16)).to_bytes()
