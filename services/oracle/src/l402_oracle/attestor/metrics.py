"""The attestor's own numbers for Prometheus: how good the model is, what was decided and why, and whether all fit in time."""

from typing import Final

from l402core.events import OracleView
from prometheus_client import Counter, Gauge

LOSS: Final = Gauge("l402_held_out_loss_nats", "Held-out loss of the newest checkpoint, nats per token.")
CHECKPOINT: Final = Gauge("l402_checkpoint_round", "The round whose base the newest checkpoint is.")
JUDGEMENTS: Final = Counter(
    "l402_judgements", 'Decisions; the reason is the first check that failed, or "none".', ["verdict", "reason"]
)
PLAN_NEEDED: Final = Gauge("l402_plan_needed_seconds", "What measuring a full round on the whole sample takes.")
PLAN_WINDOW: Final = Gauge("l402_plan_window_seconds", "How long there is for it.")
PLAN_PEERS: Final = Gauge("l402_plan_peers", "Peers of a full round.")
PLAN_FITTING: Final = Gauge(
    "l402_plan_peers_fitting", "Peers that are measured in time on the whole sample; 0 while no pace is known."
)

HELD_BACK: Final = Gauge(
    "l402_peers_held_back", "Peers that get no offer, because workers did not survive a payload of theirs."
)


def tell(view: OracleView, *, held_back: int) -> None:
    """As the attestor sees the whole now."""
    HELD_BACK.set(held_back)
    if view.checkpoints:
        LOSS.set(view.checkpoints[-1].held_out / 1e9)
        CHECKPOINT.set(view.checkpoints[-1].round)
    if view.plan is not None:
        PLAN_NEEDED.set(view.plan.needed_ms / 1_000)
        PLAN_WINDOW.set(view.plan.window_ms / 1_000)
        PLAN_PEERS.set(view.plan.peers)
        PLAN_FITTING.set(view.plan.peers_fitting)
