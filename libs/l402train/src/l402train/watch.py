"""Follows the facts on a network's bus from the first one on, without a durable consumer of its own."""

import contextlib
from collections.abc import AsyncIterator, Callable

import nats
from l402core.events import FACTS
from l402core.jetstream import inbox
from l402core.rights import OPERATOR
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from l402train.exits import Exit, Stop

OnFact = Callable[[str, bytes, str], object]
"""Called with subject, body and traceparent."""


@contextlib.asynccontextmanager
async def watching(url: str, on_fact: OnFact) -> AsyncIterator[None]:
    """Inside the block every fact, past and new, reaches `on_fact` in order. Raises Stop when the bus is not there."""

    async def on_message(message: Msg) -> None:
        on_fact(message.subject, message.data, (message.headers or {}).get("traceparent", ""))

    try:
        client = await nats.connect(
            url, inbox_prefix=inbox(OPERATOR), connect_timeout=5, max_reconnect_attempts=3, error_cb=quiet
        )
        await client.jetstream().subscribe(">", stream=FACTS, ordered_consumer=True, cb=on_message)
    except (NatsError, OSError) as error:
        raise Stop(Exit.PART_FAILED, f"the bus at {url} does not answer: {error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(NatsError, OSError):
            await client.close()


async def quiet(_: Exception) -> None:
    """A lost connection ends the run through the bus's own process, not through nats-py's log."""
