"""Waiting for the oracle's decision at either of its two doors. It reads what was decided, and judges none of it."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from l402core.documents import Terms
from l402core.errors import CallerError, NotFound, TooLate, TooMany, Unavailable, WorldError
from l402core.events import GradientScored, SubmissionView
from l402core.signing import Signed

ATTESTOR_EVERY = 8
"""After so many looks in vain at the settler's view, the attestor itself is asked."""
OVER = frozenset({"failed", "ended"})
"""The states of a submission from which nothing more comes."""
UNREAD, UNSCORED = "decision_unread", "unscored"
"""Codes of the two ways to have no decision: nobody answers, or there is none."""


class Doors(Protocol):
    """What is needed of the gateway: the settler's view, and the attestor's own URL."""

    async def submission(self, round_: int, commitment: str) -> SubmissionView: ...

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored: ...


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the oracle decided, from whichever door it came."""

    receipt: Signed
    sealed_preimages: tuple[str, ...]
    withheld: bool = False
    """The attestor itself says that it will never reveal these: the reward is owed, and comes another way."""


async def wait_for_decision(
    doors: Doors, terms: Terms, commitment: str, *, grace_ms: int, now_ms: Callable[[], int],
    pause: Callable[[], Awaitable[None]],
) -> Decision:  # fmt: skip
    """From the settler's view or, where that stays silent, from the attestor itself.

    Waits for `grace_ms` past the terms' `judge_by_ms`, or past now where that is over. Raises TooLate (UNSCORED) where
    the coordinator has no decision by then, Unavailable (UNREAD) where nobody answers.
    """
    until_ms = max(terms.judge_by_ms, now_ms()) + grace_ms
    looks, over, silent = 0, False, True
    earned: Signed | None = None
    while now_ms() < until_ms and not over:
        looks += 1
        with contextlib.suppress(WorldError, NotFound, TooMany):
            view = await doors.submission(terms.round, commitment)
            silent = False
            if view.receipt is not None and (view.sealed_preimages or not view.mask):
                return Decision(receipt=view.receipt, sealed_preimages=view.sealed_preimages)
            earned = view.receipt or earned
            over = view.phase == "done" and view.state in OVER
        if over or earned is not None or looks % ATTESTOR_EVERY == 0:
            with contextlib.suppress(WorldError, CallerError):
                scored = await doors.decision(terms.attestor_url, commitment)
                if scored.sealed_preimages or scored.withheld or not scored.mask:
                    return Decision(
                        receipt=scored.receipt, sealed_preimages=scored.sealed_preimages, withheld=scored.withheld
                    )
                earned = scored.receipt
        await pause()
    if earned is not None:  # the coordinator says that there is a reward, and nobody gives its preimages
        return Decision(receipt=earned, sealed_preimages=())
    if silent:
        raise Unavailable(UNREAD, "neither the coordinator nor the attestor answers")
    raise TooLate(UNSCORED, "no decision came by its deadline")
