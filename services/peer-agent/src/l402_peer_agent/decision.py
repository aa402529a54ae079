"""Waiting for the oracle's decision at either of its two doors. It reads what was decided, and judges none of it."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from l402core.documents import Terms
from l402core.errors import CallerError, NotFound, TooEarly, TooLate, TooMany, Unavailable, WorldError
from l402core.events import GradientScored, SubmissionView
from l402core.signing import Signed

ATTESTOR_EVERY = 8
"""After so many looks in vain at the settler's view, the attestor itself is asked."""
OVER = frozenset({"failed", "ended"})
"""The states of a submission from which nothing more comes."""
UNREAD, UNSCORED = "decision_unread", "unscored"
"""Codes of the two ways to have no decision: the attestor does not answer, or it has made none."""


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
    the attestor says by then, or as soon as the coordinator has given it up, that nothing was decided and nothing will
    be; Unavailable (UNREAD) where it does not say so: the coordinator's word alone gives no ladder back, since what is
    decided and then cancelled is forfeited.
    """
    until_ms = max(terms.judge_by_ms, now_ms()) + grace_ms
    looks = 0
    earned: Signed | None = None
    while now_ms() < until_ms:
        looks, over = looks + 1, False
        with contextlib.suppress(WorldError, NotFound, TooMany):
            view = await doors.submission(terms.round, commitment)
            if view.receipt is not None and (view.sealed_preimages or not view.mask):
                return Decision(receipt=view.receipt, sealed_preimages=view.sealed_preimages)
            earned = view.receipt or earned
            over = view.phase == "done" and view.state in OVER
        if over:
            with contextlib.suppress(TooEarly):  # it still judges, whatever the coordinator says
                return await _last_word(doors, terms, commitment, earned)
        elif earned is not None or looks % ATTESTOR_EVERY == 0:
            with contextlib.suppress(WorldError, CallerError):
                scored = await doors.decision(terms.attestor_url, commitment)
                if _is_whole(scored):
                    return _decision(scored)
                earned = scored.receipt
        await pause()
    try:
        return await _last_word(doors, terms, commitment, earned)
    except TooEarly as undecided:
        raise Unavailable(UNREAD, f"the attestor has not decided, and still may: {undecided.detail}") from undecided


async def _last_word(doors: Doors, terms: Terms, commitment: str, earned: Signed | None) -> Decision:
    """What the attestor says at the end. A reward that somebody showed and nobody gives the preimages of is owed.

    Raises TooEarly where nothing is decided and still may be.
    """
    try:
        scored = await doors.decision(terms.attestor_url, commitment)
        if _is_whole(scored):
            return _decision(scored)
        earned = scored.receipt
    except NotFound as nothing:
        if earned is None:
            raise TooLate(UNSCORED, "no decision came by its deadline") from nothing
    except TooEarly:
        if earned is None:
            raise
    except (WorldError, CallerError) as error:
        if earned is None:
            raise Unavailable(UNREAD, f"the attestor does not say whether it decided: {error.detail}") from error
    return Decision(receipt=earned, sealed_preimages=())


def _is_whole(scored: GradientScored) -> bool:
    return bool(scored.sealed_preimages) or scored.withheld or not scored.mask


def _decision(scored: GradientScored) -> Decision:
    return Decision(receipt=scored.receipt, sealed_preimages=scored.sealed_preimages, withheld=scored.withheld)
