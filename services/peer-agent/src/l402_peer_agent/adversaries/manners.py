"""Cheats who do not carry their submission through: they bind money and places."""

from l402_peer_agent.adversaries.work import Idle


class Late(Idle):
    """Uploads once the uploads are over."""

    sends = "late"


class NoUpload(Idle):
    """Commits, has a ladder locked, and uploads nothing."""

    sends = "nothing"


class Unlike(Idle):
    """Uploads another payload than the one that it committed to."""

    sends = "other"
