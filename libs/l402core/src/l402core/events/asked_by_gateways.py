"""What a gateway says of itself to the settler: that peers can come. It carries no peer's request."""

import msgspec

from l402core.events.base import Question

AWAKE_EVERY_MS = 2_000
"""How often a gateway says so, and a settler writes down that it was there itself."""


class GatewayAwake(Question, frozen=True, kw_only=True):
    """A gateway serves, and reaches the settler. Said every few seconds; silence of all of them is an outage of ours."""

    name = "gateway.awake.v1"
    answered_by = "settler"


class GatewayHeard(msgspec.Struct, frozen=True, kw_only=True):
    """The settler took note."""

    at_ms: int
