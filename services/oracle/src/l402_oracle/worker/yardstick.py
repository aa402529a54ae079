"""The oracle's own update of a round: honest work by the recipe, on data that its name draws. It knows no peer and no pay.

It trains as a peer does (AdamW's memory and the error feedback go on from round to round), on the CPU and in float32, so
that whoever has the checkpoint and the state before gets the same bytes on the same hardware class.
"""

import numpy as np
import torch
from l402core.documents import Recipe
from sparseloco.codec import compress
from sparseloco.corpus import Corpus, train_shard
from sparseloco.data import train_batches
from sparseloco.model import GPTShape
from sparseloco.sparse import expand
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import Binding, pack
from torch import Tensor

from l402_oracle.derive import yardstick_name
from l402_oracle.worker.results import Worked

PPM = 1_000_000
_STEPS_BYTES = 8


def worked(
    theta: Tensor,  # (numel,), float32
    state: bytes,
    corpus: Corpus,
    shape: GPTShape,
    *,
    recipe: Recipe,
    round_: int,
    checkpoint: str,
) -> Worked:
    """One round's work from `theta`; a state of another model, or none, begins anew, as a peer's does."""
    spec = shape.spec()
    key = bytes.fromhex(yardstick_name(round_, checkpoint))
    adam, feedback = read_state(state, spec.numel)
    batches = train_batches(train_shard(corpus, key), key, round_, recipe.inner_steps, recipe.batch)
    done = inner_steps(theta, batches, adam, lr=recipe.learning_rate_ppm / PPM, shape=shape)
    beta = recipe.feedback_decay_ppm / PPM
    sparse, left = compress(done.delta, feedback, spec, k=recipe.chunk_k, beta=beta, into=feedback)
    binding = Binding(round=round_, checkpoint=bytes.fromhex(checkpoint), peer=key, k=recipe.chunk_k)
    return Worked(packed=pack(sparse, spec, binding), norms=expand(sparse, spec).norms(), state=write_state(adam, left))


def write_state(adam: AdamState, feedback: Tensor) -> bytes:
    """Steps as 8 bytes, then three vectors of float32, all little-endian: the same state is the same bytes."""
    vectors = [tensor.numpy().astype("<f4").tobytes() for tensor in (adam.first, adam.second, feedback)]
    return adam.steps.to_bytes(_STEPS_BYTES, "little") + b"".join(vectors)


def read_state(data: bytes, numel: int) -> tuple[AdamState, Tensor]:
    """AdamW's memory and the error feedback, (numel,); fresh where the bytes are not those of such a model."""
    if len(data) != _STEPS_BYTES + 3 * 4 * numel:
        return AdamState.fresh(numel), torch.zeros(numel)
    steps = int.from_bytes(data[:_STEPS_BYTES], "little")
    values = np.frombuffer(data, dtype="<f4", offset=_STEPS_BYTES).astype(np.float32).reshape(3, numel)
    first, second, feedback = (torch.from_numpy(row.copy()) for row in values)
    return AdamState(first, second, steps), feedback
