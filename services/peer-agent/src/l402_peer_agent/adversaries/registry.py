"""Which class is which attack."""

from typing import Final

from l402_peer_agent.adversaries import copies, manners, misshapen, pools, work
from l402_peer_agent.training import Trainer

KINDS: Final[dict[str, type[Trainer]]] = {
    "honest": Trainer,
    "sign-flip": work.SignFlip,
    "noise": work.Noise,
    "zero": work.Zero,
    "huge": work.Huge,
    "scaled-up": work.ScaledUp,
    "few-steps": work.FewSteps,
    "half-work": work.HalfWork,
    "hidden-pool": work.HiddenPool,
    "stale-base": work.StaleBase,
    "other-model": work.OtherModel,
    "accomplice": copies.Copy,
    "noised-copy": copies.NoisedCopy,
    "drowned-copy": copies.DrownedCopy,
    "scaled-copy": copies.ScaledCopy,
    "flipped-copy": copies.FlippedCopy,
    "permuted-copy": copies.PermutedCopy,
    "mixture": copies.Mixture,
    "patchwork": copies.Patchwork,
    "replay": copies.Replay,
    "old-replay": copies.OldReplay,
    "not-finite": misshapen.NotFinite,
    "twice-indexed": misshapen.TwiceIndexed,
    "truncated": misshapen.Truncated,
    "oversize": misshapen.Oversize,
    "other-round": misshapen.OtherRound,
    "stale-header": misshapen.StaleHeader,
    "other-header": misshapen.OtherHeader,
    "unpacked-copy": misshapen.UnpackedCopy,
    "late": manners.Late,
    "no-upload": manners.NoUpload,
    "unlike": manners.Unlike,
    "pool-copies": pools.Copies,
    "pool-noised": pools.Noised,
    "pool-slices": pools.Slices,
    "pool-quick": pools.Quick,
    "pool-disjoint": pools.Disjoint,
    "pool-harm": pools.Harm,
}
