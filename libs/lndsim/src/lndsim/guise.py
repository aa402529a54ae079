"""What a node says of itself where a test wants it unfit: on another chain, old, behind, locked. It moves no money."""

from typing import Final

import msgspec

from lndsim import payreq

VERSION: Final = "0.21.0-beta commit=v0.21.0-beta"


class Guise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All is well, where nothing else is said. It is for this process only, as a planned fault is."""

    version: str = VERSION
    network: str = payreq.NETWORK
    synced: bool = True
    locked: bool = False
    """Its wallet: it answers nothing but in which state it is, as lnd does until it is unlocked."""
