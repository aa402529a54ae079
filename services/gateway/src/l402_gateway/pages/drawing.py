"""Where lines and bars of a picture lie. Pure geometry: it knows no money and no round, and draws nothing."""

from collections.abc import Sequence

import msgspec


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A picture's box, in its own units, and the margins inside it."""

    width: int
    height: int
    left: int = 6
    right: int = 6
    top: int = 8
    bottom: int = 8

    def x(self, share: float) -> float:
        """From 0 (left) to 1 (right)."""
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def y(self, share: float) -> float:
        """From 0 (bottom) to 1 (top)."""
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A line through points, and its first and last one."""

    points: tuple[tuple[float, float], ...]
    grid: tuple[tuple[float, str], ...]
    """Heights to draw a line at, each with its label."""

    @property
    def path(self) -> str:
        """For a `polyline`."""
        return " ".join(f"{x},{y}" for x, y in self.points)

    @property
    def area(self) -> str:
        """For a `polygon` from the line down to the floor."""
        floor = max((y for _, y in self.points), default=0.0)
        return f"{self.points[0][0]},{floor} {self.path} {self.points[-1][0]},{floor}" if self.points else ""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """What goes up and what goes down from the zero line at one place."""

    x: float
    width: float
    up: tuple[tuple[float, float], ...]
    """(top, height) of each part, the lowest first."""
    down: tuple[float, float]


def curve(values: Sequence[int], frame: Frame, *, label: str = "{:.2f}", scale: float = 1.0, lines: int = 3) -> Curve:
    """Through all of them at equal distances."""
    low, high = min(values, default=0), max(values, default=0)
    span = (high - low) or 1
    last = max(1, len(values) - 1)
    points = tuple((frame.x(index / last), frame.y((value - low) / span)) for index, value in enumerate(values))
    shares = [index / (lines - 1) for index in range(lines)] if high > low else [0.0]
    grid = tuple((frame.y(share), label.format((low + share * span) * scale)) for share in shares)
    return Curve(points=points, grid=grid)


def columns(
    rows: Sequence[tuple[Sequence[int], int]], frame: Frame, *, widest: float = 34.0
) -> tuple[tuple[Column, ...], float]:
    """(ups, down) of each place as columns on one scale, and where the zero line lies."""
    above = max((sum(ups) for ups, _ in rows), default=0)
    below = max((down for _, down in rows), default=0)
    span = (above + below) or 1
    zero = frame.y(below / span)
    room = (frame.width - frame.left - frame.right) / max(1, len(rows))
    width = min(widest, room * 0.7)

    def height(value: int) -> float:
        return round(value / span * (frame.height - frame.top - frame.bottom), 1)

    made = []
    for index, (ups, down) in enumerate(rows):
        parts, top = [], zero
        for value in ups:
            top = round(top - height(value), 1)
            parts.append((top, height(value)))
        x = round(frame.left + room * (index + 0.5) - width / 2, 1)
        made.append(Column(x=x, width=round(width, 1), up=tuple(parts), down=(zero, height(down))))
    return tuple(made), zero


def share(part: int, whole: int, width: int) -> float:
    """How much of a bar of this width is filled."""
    return round(width * min(1.0, max(0.0, part / whole)), 1) if whole > 0 else 0.0
