"""A result of `convergence.py` as a picture and a table: mean and spread of the held-out loss. It trains nothing."""

import json
from itertools import cycle
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Curves = dict[str, dict[str, list[float]]]
REFERENCE = "dense averaging"
COLOURS = ("#1b1f24", "#8c959f", "#0b6e99", "#8250df", "#1a7f37", "#bc4c00", "#cf222e")


def plot(result: Path) -> None:
    """Writes .svg, .png and .md beside `result`, and prints the tables."""
    found = json.loads(result.read_text())
    figure = Figure(figsize=(9, 5.2), dpi=140, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for (name, seeds), colour in zip(found["reported"].items(), cycle(COLOURS), strict=False):
        rows = list(zip(*seeds.values(), strict=True))
        centre, rounds = [mean(row) for row in rows], range(len(rows))
        axes.plot(rounds, centre, color=colour, linewidth=2, label=f"{name}: {centre[-1]:.3f}")
        axes.fill_between(rounds, [min(row) for row in rows], [max(row) for row in rows], color=colour, alpha=0.15)
    about = found["about"]
    axes.set_title(
        f"{about['peers']} peers, {about['inner_steps']} steps of {about['batch']} windows of {about['context']} bytes "
        f"a round, {about['parameters']:,} parameters; mean, lowest and highest seed", fontsize=9,
    )  # fmt: skip
    axes.set(xlabel="round", ylabel="held-out loss, nats per byte", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#d9dee3", linewidth=0.7, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(result.with_suffix(".png"), metadata={"Software": None})
    figure.savefig(result.with_suffix(".svg"), metadata={"Date": None})
    text = _table("reported", found["reported"]) + "\n" + _table("tuning", found["tuning"], by_loss=True)
    result.with_suffix(".md").write_text(text)
    print(text)


def _table(title: str, curves: Curves, *, by_loss: bool = False) -> str:
    if not curves:
        return ""
    lasts = {name: [curve[-1] for curve in seeds.values()] for name, seeds in curves.items()}
    order = sorted(lasts, key=lambda name: mean(lasts[name])) if by_loss else list(lasts)
    lines = [f"## {title}", "", "| | loss at the end | spread (sd) | share of dense averaging's reduction | seeds |"]
    lines.append("|---|---|---|---|---|")
    for name in order:
        spread = f"{stdev(lasts[name]):.3f}" if len(lasts[name]) > 1 else ""
        share = _share(curves[name], curves.get(REFERENCE))
        lines.append(f"| {name} | {mean(lasts[name]):.3f} | {spread} | {share} | {len(lasts[name])} |")
    return "\n".join(lines) + "\n"


def _share(curves: dict[str, list[float]], reference: dict[str, list[float]] | None) -> str:
    """By seed, on the same start and tokens: mean, lowest and highest."""
    if reference is None:
        return ""
    shares = [(curve[0] - curve[-1]) / (reference[seed][0] - reference[seed][-1]) for seed, curve in curves.items()]
    return f"{mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
