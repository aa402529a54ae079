"""What the settler tells of a round, as the gateway reads it. It checks no signature: the answer is our own."""

import msgspec
from l402core.documents import Terms
from l402core.events import RoundView


def terms_of(view: RoundView) -> Terms:
    """The round's terms. The settler's answer is ours, so its signature is for others to check."""
    return msgspec.json.decode(view.terms.body, type=Terms)
