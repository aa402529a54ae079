"""The numbers that the demo network trains and pays with, in one place; it refuses to know who uses them.

A source is named where a number was published; the others come from `benchmarks/demo_rounds.py` and
`benchmarks/convergence.py`, which print the tables that justify them.
"""

# --- the codec (SparseLoCo, https://arxiv.org/abs/2508.15706) -------------------------------------------------------
TOP_K = 64
"""Entries kept of each chunk of 4,096: 1.56 %, 146.3 times smaller than fp32 (Covenant-72B, arXiv 2603.08163)."""

FEEDBACK_DECAY = 0.8
"""β: how much of what was not sent is remembered for the next round. As published, 0.95, it grows stale."""

OUTER_LR = 1.3
"""alpha: the outer step, for the mean over the peers that sent an index; 1 as published. Both: `docs/benchmarks.md`."""

# --- the inner steps ------------------------------------------------------------------------------------------------
INNER_STEPS = 20
"""H: AdamW steps per peer and round; 30 ended no lower after 6 rounds and made honest updates more alike."""

INNER_LR = 2e-3
"""Peak learning rate of the inner AdamW."""

INNER_WARMUP_STEPS = 20
"""Steps of linear warm-up at the start of a peer's life: without it one honest peer in three overshot in round one."""

INNER_BATCH = 8
"""Sequences per inner step."""

ADAM_BETAS = (0.9, 0.95)
"""The paper's AdamW moments."""

WEIGHT_DECAY = 0.1
"""Decoupled weight decay, the paper's."""

GRADIENT_CLIP = 1.0
"""Largest global L2 norm of one inner gradient, the paper's."""

# --- the small model and its text -----------------------------------------------------------------------------------
CONTEXT = 128
"""Tokens (bytes) that the model sees at once."""

SHARD_WINDOWS = 16
"""Windows of CONTEXT tokens in one hidden shard: one canonical forward batch."""

TRAIN_SHARD_BLOCKS = 28
"""Blocks of the training text in one peer's own shard: a third of it."""

# --- measuring and paying -------------------------------------------------------------------------------------------
SCORE_SHARDS = 32
"""Hidden shards per measurement: 32 * 16 * 128 = 65,536 tokens."""

SCORE_MIN_SHARDS = 8
"""Shards before a measurement may stop early: 16,384 tokens."""

SCORE_RELATIVE_ERROR = 0.025
"""SE/mean at which a clear improvement is known well enough to stop."""

OWN_WINDOWS = 160
"""Windows of a peer's assigned data that its update is tried on as well: all that the recipe deals. Fewer tell less."""

PHI_PPM = 600_000
"""φ: the share of the reference below which an update earns nothing, in parts per million."""
