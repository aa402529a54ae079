"""A model's shape: ordered tensor names and sizes, and their identity. It refuses to know any value or framework."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from math import prod


@dataclass(frozen=True)
class ModelSpec:
    """Tensors in the order in which they lie in one flat float32 vector.

    `name` states what the shapes cannot (heads, context, tying), so that two models of equal shapes differ in identity.
    Raises ValueError where a tensor is not 1-D or 2-D, a side is below 1, or a name repeats.
    """

    name: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.tensors]
        if not names or len(set(names)) != len(names):
            raise ValueError("a model has at least one tensor, and no name twice")
        for name, shape in self.tensors:
            if len(shape) not in (1, 2) or min(shape) < 1:
                raise ValueError(f"tensor {name} has shape {shape}; the codec knows 1-D and 2-D tensors only")

    @cached_property
    def model_id(self) -> bytes:
        """SHA-256 of the canonical JSON of name and shapes, 32 bytes."""
        text = json.dumps([self.name, self.tensors], separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(b"sparseloco/model/1\n" + text.encode()).digest()

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Elements per tensor."""
        return tuple(prod(shape) for _, shape in self.tensors)

    @cached_property
    def numel(self) -> int:
        """Elements in the flat vector."""
        return sum(self.sizes)
