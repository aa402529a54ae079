"""The rule of the reveal at its limits: the lock it needs, the blocks it needs, and the last height."""

import pytest
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402core.documents import Locked, Offer

OFFER = Offer(
    commitment="c", round=1, seq=1, peer="p", seal_to="s", terms="t", key_id="k", amounts_msat=(1,), attempt=1,
    lock_by_ms=1, upload_until_ms=1, judge_by_ms=1, reveal_by_height=124, cltv_min=1, cltv_max=1, reward_hashes=("h",),
)  # fmt: skip


def locked(expiry: int, *hashes: str) -> Locked:
    """The settler's word."""
    return Locked(commitment="c", round=1, peer="p", payment_hashes=hashes, expiry_height=expiry, locked_at_ms=1)


@pytest.mark.parametrize(
    ("word", "height", "verdict"),
    [
        (None, 100, Reveal.NEVER),
        (locked(500, "other"), 100, Reveal.NEVER),
        (locked(500, "h"), None, Reveal.WAIT),
        (None, None, Reveal.NEVER),
        (locked(500, "h"), 124, Reveal.NOW),
        (locked(500, "h"), 125, Reveal.NEVER),
        (locked(140, "h"), 115, Reveal.NOW),
        (locked(140, "h"), 116, Reveal.NEVER),
        (locked(140, "h"), 117, Reveal.NEVER),
    ],
)
def test_now_later_or_never(word: Locked | None, height: int | None, verdict: Reveal) -> None:
    """With a margin of 24 blocks."""
    assert may_reveal(OFFER, word, height, 24) is verdict
