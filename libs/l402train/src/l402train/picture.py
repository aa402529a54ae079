"""The picture of a run: held-out loss by round, and what each peer has earned after its fees. It opens no window."""

from io import BytesIO
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from l402train.report import RoundReport
from l402train.screen import by_peer

INK, PAPER, GRID = "#1b1f24", "#ffffff", "#d9dee3"
LOSS = "#0b6e99"
HONEST = ("#1a7f37", "#57ab5a", "#8ddb8c", "#2da44e", "#0f5323")
CHEATS = ("#cf222e", "#bc4c00", "#8250df", "#953800", "#6639ba")


def draw(rounds: tuple[RoundReport, ...]) -> bytes:
    """A PNG of 1,600 by 700 pixels."""
    figure = Figure(figsize=(10, 4.4), dpi=160, facecolor=PAPER, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_loss(left, rounds)
    _draw_net(right, rounds)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _draw_loss(axes: Axes, rounds: tuple[RoundReport, ...]) -> None:
    points = [(round_.round - 1, round_.loss_before) for round_ in rounds[:1]]
    points += [(round_.round, round_.loss_after) for round_ in rounds]
    known = [(number, loss) for number, loss in points if loss is not None]
    axes.plot([n for n, _ in known], [loss for _, loss in known], color=LOSS, marker="o", linewidth=2)
    for number, loss in known[:1] + known[-1:]:
        axes.annotate(f"{loss:.2f}", (number, loss), textcoords="offset points", xytext=(5, 7), color=INK)
    axes.margins(x=0.1, y=0.12)
    axes.set_title("Held-out loss: the model gets better", loc="left", color=INK, pad=12)
    axes.set_xlabel("rounds trained")
    axes.set_ylabel("nats per byte")


def _draw_net(axes: Axes, rounds: tuple[RoundReport, ...]) -> None:
    numbers = [0, *(round_.round for round_ in rounds)]
    shades = {"honest": iter(HONEST * 20), "cheat": iter(CHEATS * 20)}
    widths = iter([5.0, 3.2, 1.4] * 22)  # cheats lose the same, one line upon the other: each stays visible
    for (peer, kind), mine in by_peer(rounds).items():
        ids = {one.submission_id for one in mine}
        total = [0.0, *accumulate(_net_sat(round_, ids) for round_ in rounds)]
        honest = kind in ("honest", "guest")
        color, width = next(shades["honest" if honest else "cheat"]), 2.0 if honest else next(widths)
        axes.plot(
            numbers, total, color=color, marker="." if honest else "", linewidth=width, label=f"{peer[:12]} ({kind})"
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_title("Rewards less fees: who made it better earns", loc="left", color=INK, pad=12)
    axes.set_xlabel("round")
    axes.set_ylabel("satoshi")
    if rounds:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _net_sat(round_: RoundReport, ids: set[str]) -> float:
    mine = [one for one in round_.submissions if one.submission_id in ids]
    return sum(one.reward_msat - one.fee_msat for one in mine) / 1000
