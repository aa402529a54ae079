"""What must hold after every step and when all is quiet. It reads the books, the decisions and the nodes, and changes none."""

from typing import Any


class Invariants:
    """Placeholder."""

    def __init__(self, *_: Any) -> None: ...

    def step(self) -> str:
        return ""

    def unrest(self) -> str:
        return ""

    def quiet(self) -> str:
        return ""
