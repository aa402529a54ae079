"""The page of one judged submission, for people: why this amount, its place in the round as a picture, what earns more.

It shows what the receipt says and judges nothing; it needs no script.
"""

from collections.abc import Callable
from html import escape

from l402core.documents import Receipt, Terms
from l402core.explanation import Explanation, Place, nats
from l402core.money import show_sat

from l402_gateway.page import document

WIDTH, LEFT, ROW = 640, 130, 22
Scale = Callable[[int], float]
"""A drop to its place on the picture."""
SHOWN = 100
"""Bars at most; the best, and always one's own."""


def of_submission(receipt: Receipt, terms: Terms, told: Explanation, attestor_url: str) -> str:
    """The whole page."""
    checks = "".join(
        f"<tr><th>{escape(check.code)}</th><td>{'passed' if check.passed else '<strong>failed</strong>'}: "
        f"{escape(check.detail)}</td></tr>"
        for check in told.checks
    )
    amount = f"{show_sat(receipt.reward_msat)} of at most {show_sat(terms.ladder_msat())}"
    link = f"{attestor_url}/v1/receipts/{receipt.commitment}"
    return document(
        f"<h2>Round {receipt.round}, submission <code>{escape(receipt.commitment[:16])}…</code></h2>"
        f"<p><strong>{escape(receipt.verdict)}: {escape(amount)}</strong></p><p>{escape(told.why)}</p>"
        f"<h3>Beside the others of the round</h3>{picture(told)}"
        f"<h3>What would have earned more</h3><p>{escape(told.more)}</p>"
        f"<h3>Checks</h3><table>{checks}</table>"
        f"<p>Measured on {receipt.eval_tokens:,} tokens of {len(receipt.shards)} hidden shards drawn after the commitments "
        f"closed. Judge it again: <code>l402-train verify-receipt {escape(link)}</code></p>"
    )


def picture(told: Explanation) -> str:
    """Drops as bars with their intervals, and where pay begins, is one half, and ends; an SVG."""
    places = _shown(told.places)
    if not places:
        return "<p>Nobody was measured in this round.</p>"
    lowest = min(0, *(place.low for place in places))
    highest = max(told.whole, told.floor, 1, *(place.high for place in places))

    def x(drop: int) -> float:
        return round(LEFT + (drop - lowest) / (highest - lowest) * (WIDTH - LEFT - 10), 1)

    height = ROW * len(places) + 40
    bars = "".join(_bar(place, row, x) for row, place in enumerate(places))
    marks = "".join(
        _mark(x(drop), name, height)
        for drop, name in (
            (0, "0"),
            (told.floor, "pay begins"),
            (told.reference, "reference"),
            (told.whole, "whole ladder"),
        )
        if told.reference or not drop
    )
    label = f"Loss drops of {len(places)} submissions, best first"
    return f"<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{label}' font-size='11'>{bars}{marks}</svg>"


def _shown(places: tuple[Place, ...]) -> tuple[Place, ...]:
    return places[:SHOWN] + tuple(place for place in places[SHOWN:] if place.mine)


def _bar(place: Place, row: int, x: Scale) -> str:
    top, zero, end = row * ROW + 4, x(0), x(place.drop)
    left, width = min(zero, end), max(abs(end - zero), 1)
    colour = "#0b6e99" if place.mine else "#8c959f"
    name = "yours" if place.mine else f"{place.peer[:8]}…"
    middle = top + ROW // 2 - 4
    title = f"{nats(place.drop)} ({nats(place.low)} to {nats(place.high)}), {place.units} units, {place.verdict}"
    return (
        f"<g><title>{escape(title)}</title><text x='0' y='{top + 12}' fill='currentColor'>{escape(name)}, "
        f"{place.units} units</text><rect x='{left}' y='{top}' width='{width}' height='{ROW - 8}' fill='{colour}'/>"
        f"<line x1='{x(place.low)}' x2='{x(place.high)}' y1='{middle}' y2='{middle}' stroke='currentColor'/></g>"
    )


def _mark(at: float, name: str, height: int) -> str:
    return (
        f"<line x1='{at}' x2='{at}' y1='0' y2='{height - 30}' stroke='#bc4c00' stroke-dasharray='3'/>"
        f"<text x='{at}' y='{height - (16 if name in ('reference', '0') else 4)}' text-anchor='middle' "
        f"fill='currentColor'>{escape(name)}</text>"
    )
