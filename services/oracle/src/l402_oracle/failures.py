"""In which words workers tell the attestor that a payload could not be worked on through no fault of it. It judges nothing."""

from typing import Final

UNREADABLE: Final = "unreadable"
"""Something of ours failed: the store, the bus, the code."""
ISOLATED: Final = "isolated"
"""It ended one worker after the other, whosever fault that is."""
OURS: Final = (UNREADABLE, ISOLATED)
"""Who meets one of these is unscored, not rejected."""
