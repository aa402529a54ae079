"""Whether preimages may leave now. Pure; without a lock or a height it says no."""

from enum import StrEnum

from l402core.documents import Locked, Offer


class Reveal(StrEnum):
    """What to do about an earned reward."""

    NOW = "now"
    WAIT = "wait"
    """The height is unknown: an answer may come."""
    NEVER = "never"
    """Too near an expiry, or past the round's last height: the reward is owed, these preimages stay."""


def may_reveal(offer: Offer, locked: Locked | None, height: int | None, margin_blocks: int) -> Reveal:
    """Reveal only against HTLCs that have `margin_blocks` and more to live, and not after `reveal_by_height`."""
    if locked is None or locked.payment_hashes != offer.reward_hashes:
        return Reveal.NEVER
    if height is None:
        return Reveal.WAIT
    if height >= locked.expiry_height - margin_blocks or height > offer.reveal_by_height:
        return Reveal.NEVER
    return Reveal.NOW
