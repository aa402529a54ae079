"""Mutated payloads against the decoder: each is refused at a byte with a reason, or is the one encoding of what it says.

`make fuzz` runs a million cases; `--seconds` bounds it. A case is a function of the seed and its number, so that a
finding is repeated by `--first N --cases 1`. It knows the format only well enough to hit its fields often.
"""

import argparse
import random
import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from sparseloco import wire
from sparseloco.codec import compress
from sparseloco.device import unpack_on
from sparseloco.sparse import Quantiser, expand
from sparseloco.spec import ModelSpec

CASES = 1_000_000
DEVICE_EVERY, MEMORY_EVERY = 64, 512
"""Every so many cases the decoder of devices is asked too, and memory is watched."""
BASE_BYTES, BYTES_EACH = 40_000, 60
"""What a decoding may hold at its peak: something for itself, and this much for each byte of a true payload."""
LIMITS = wire.Limits(max_bytes=1 << 16, max_entries=1 << 14)
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
FLOATS = (0.0, -0.0, 1.0, -1.0, 16.0, 16.000002, 2.0**-40, 2.0**-41, 1e-45, 3e38, float("nan"), float("inf"))


SPECS = (
    ModelSpec("fuzz a", (("matrix", (64, 128)), ("vector", (70,)), ("odd", (3,)))),
    ModelSpec("fuzz b", (("one", (1,)),)),
    ModelSpec("fuzz c", (("tall", (50, 7)), ("wide", (7, 50)), ("long", (5000,)))),
)
NAMES = {name for spec in SPECS for name, _ in spec.tensors}


@dataclass(frozen=True)
class Seed:
    """A true payload, and what it is for."""

    spec: ModelSpec
    binding: wire.Binding
    data: bytes


@dataclass
class Tally:
    """What came of the cases."""

    cases: int = 0
    accepted: int = 0
    device: int = 0
    memory: int = 0
    largest_peak: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    places: set[tuple[str, int]] = field(default_factory=set)

    def __str__(self) -> str:
        """The figures, and the reasons by how often they came."""
        head = (
            f"{self.cases:,} cases: {self.cases - self.accepted:,} refused at {len(self.places):,} different places, "
            f"{self.accepted:,} well formed; {self.device:,} also on the device's decoder; memory watched in "
            f"{self.memory:,}, at most {self.largest_peak:,} bytes"
        )
        return "\n".join([head, *(f"{count:>12,}  {reason}" for reason, count in self.reasons.most_common())])


class Finding(Exception):
    """The decoder did what it must not."""


def main() -> None:
    """Run until the cases or the seconds are used up; a finding ends it, and the process fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seconds", type=float, default=0, help="0: until the cases are used up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    until = started + arguments.seconds if arguments.seconds else None
    tally = run(arguments.cases, arguments.seed, arguments.first, until)
    taken = time.monotonic() - started
    print(f"seed {arguments.seed}, {taken:.0f} s, {tally.cases / taken:,.0f} cases per second\n{tally}")


def run(cases: int, seed: int, first: int = 0, until: float | None = None) -> Tally:
    """`cases` cases from the one numbered `first`. Raises Finding."""
    seeds, tally = true_payloads(), Tally()
    for number in range(first, first + cases):
        if until is not None and number % 1024 == 0 and time.monotonic() > until:
            break
        rng = random.Random(f"{seed} {number}")
        origin = rng.choice(seeds)
        data = mutated(origin.data, rng, seeds)
        try:
            check(data, origin, number, tally)
        except Finding as finding:
            raise Finding(f"case {number} of seed {seed}: {finding}; {data.hex()}") from finding
        tally.cases += 1
    return tally


def check(data: bytes, origin: Seed, number: int, tally: Tally) -> None:
    """One case. Raises Finding."""
    watched = number % MEMORY_EVERY == 0
    if watched:
        tracemalloc.start()
    outcome = _outcome(data, origin)
    if watched:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        tally.memory += 1
        tally.largest_peak = max(tally.largest_peak, peak)
        if peak > BASE_BYTES + BYTES_EACH * len(origin.data):
            raise Finding(f"{peak} bytes were held for {len(data)} bytes")
    if isinstance(outcome, wire.PayloadError):
        _refused(outcome, data, tally)
    else:
        tally.accepted += 1
        if wire.pack(outcome.sparse, origin.spec, origin.binding) != data:
            raise Finding("accepted, but it is not the encoding of what it says")
    if number % DEVICE_EVERY == 0:
        tally.device += 1
        _same_on_device(data, origin, outcome)


def _outcome(data: bytes, origin: Seed) -> wire.Payload | wire.PayloadError:
    try:
        return wire.unpack(data, origin.spec, origin.binding, LIMITS)
    except wire.PayloadError as error:
        return error
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error


def _refused(error: wire.PayloadError, data: bytes, tally: Tally) -> None:
    if not 0 <= error.offset <= len(data) or not error.reason:
        raise Finding(f"refused at byte {error.offset} of {len(data)}: {error.reason!r}")
    kind = " ".join(word for word in error.reason.split() if word.isalpha() and word not in NAMES)
    tally.reasons[kind] += 1
    tally.places.add((kind, error.offset))


def _same_on_device(data: bytes, origin: Seed, outcome: wire.Payload | wire.PayloadError) -> None:
    try:
        update = unpack_on("cpu", data, origin.spec, origin.binding, LIMITS)
    except wire.PayloadError as error:
        if str(error) != str(outcome):
            raise Finding(f"the device says {error}, the host {outcome}") from error
        return
    if isinstance(outcome, wire.PayloadError):
        raise Finding("the device accepts what the host refuses")
    here = expand(outcome.sparse, origin.spec)
    if here.indices.tolist() != update.indices.tolist() or here.values.tobytes() != update.values.numpy().tobytes():
        raise Finding("the device reads another update than the host")


def mutated(data: bytes, rng: random.Random, seeds: list[Seed]) -> bytes:
    """One to four changes, most of them small, so that much of a payload stays true."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(MUTATIONS)(changed, rng, seeds)
    return bytes(changed)


def _flip(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    if data:
        data[_somewhere(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    if data:
        data[_somewhere(data, rng)] = rng.randrange(256)


def _somewhere(data: bytearray, rng: random.Random) -> int:
    """Mostly behind the header, whose every byte is checked first."""
    start = wire.HEADER.size if len(data) > wire.HEADER.size and rng.random() < 0.8 else 0
    return rng.randrange(start, len(data))


def _head(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    at = rng.choice((0, 4, 5, 6, 8, 12, 44, 76, 108, 110, 114))
    width = rng.choice((1, 2, 4))
    data[at : at + width] = (rng.choice(NUMBERS) & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _scale(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    at = wire.HEADER.size + 4 * rng.randrange(16)
    data[at : at + 4] = struct.pack("<f", rng.choice(FLOATS))


def _position(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    """Three bytes copied to where other three are: positions that repeat or descend."""
    if len(data) > wire.HEADER.size + 6:
        source, target = (rng.randrange(wire.HEADER.size, len(data) - 3) for _ in range(2))
        data[target : target + 3] = data[source : source + 3]


def _cut(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _grow(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    data += rng.randbytes(rng.choice((1, 2, 3, 64, 1024)))


def _drop(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    if data:
        at = rng.randrange(len(data))
        del data[at : at + rng.randrange(1, 9)]


def _splice(data: bytearray, rng: random.Random, seeds: list[Seed]) -> None:
    other = rng.choice(seeds).data
    at = rng.randrange(min(len(data), len(other)) + 1)
    data[at:] = other[at:]


def _noise(data: bytearray, rng: random.Random, _: list[Seed]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:] = rng.randbytes(len(data) - at)


MUTATIONS: tuple[Callable[[bytearray, random.Random, list[Seed]], None], ...] = (
    _flip, _flip, _byte, _byte, _head, _scale, _position, _cut, _grow, _drop, _splice, _noise,
)  # fmt: skip


def true_payloads() -> list[Seed]:
    """Three models, both quantisers, three k: odd counts, short chunks, one chunk, many."""
    return [
        _a_payload(spec, quantiser, k, number)
        for number, spec in enumerate(SPECS)
        for quantiser in Quantiser
        for k in (1, 5, 64)
    ]


def _a_payload(spec: ModelSpec, quantiser: Quantiser, k: int, number: int) -> Seed:
    binding = wire.Binding(7 + number, bytes([number]) * 32, b"p" * 32, k)
    delta = torch.randn(spec.numel, generator=torch.Generator().manual_seed(number))
    sparse, _ = compress(delta, torch.zeros(spec.numel), spec, k=k, quantiser=quantiser)
    return Seed(spec, binding, wire.pack(sparse, spec, binding))


if __name__ == "__main__":
    main()
