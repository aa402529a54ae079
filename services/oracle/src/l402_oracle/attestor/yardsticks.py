"""What the yardstick is asked for: train it when a round's terms are there, measure and apply it with the others. Pure but
for one look at what the last one left.
"""

from l402core.documents import Terms
from l402core.events import (
    AggregateItem,
    GradientMeasure,
    GradientMeasured,
    RoundAssessed,
    YardstickMade,
    YardstickMake,
)
from l402core.outbox import Transaction

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.parts import Parts
from l402_oracle.derive import yardstick_question


def yardstick_request(parts: Parts, tx: Transaction, terms: Terms) -> YardstickMake:
    """Train it by the terms' recipe, from where the last one stopped."""
    return YardstickMake(
        id=parts.new_id(), occurred_at_ms=parts.now_ms(), round=terms.round, checkpoint=terms.checkpoint,
        model_id=terms.model_id, recipe=terms.recipe, state=books.yardstick_before(tx, terms.round),
    )  # fmt: skip


def yardstick_measure(
    parts: Parts, terms: Terms, assessed: RoundAssessed, made: YardstickMade | None
) -> GradientMeasure | None:
    """Measure it on the others' shards, clipped as they are; None where the round has none."""
    if not assessed.yardstick or made is None or made.payload is None:
        return None
    return GradientMeasure(
        id=parts.new_id(), occurred_at_ms=parts.now_ms(), round=terms.round, commitment=made.yardstick,
        peer=made.yardstick, checkpoint=terms.checkpoint, model_id=terms.model_id, payload=made.payload,
        clip_norms=assessed.clip_norms, shards=assessed.shards, eval_tokens=terms.eval_tokens,
        outer_rate_ppm=terms.recipe.outer_rate_ppm,
        **yardstick_question(terms, assessed.seed, made.yardstick),
    )  # fmt: skip


def own_item(
    made: YardstickMade | None, assessed: RoundAssessed, measured: GradientMeasured | None
) -> tuple[AggregateItem, ...]:
    """It is applied like any other update that improves: a peer whose work never counted would have more to add each round."""
    if not assessed.yardstick or made is None or made.payload is None or measured is None or measured.drop_low <= 0:
        return ()
    return (AggregateItem(commitment=made.yardstick, peer=made.yardstick, payload=made.payload),)
