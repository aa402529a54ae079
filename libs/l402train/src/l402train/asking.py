"""Questions to the services over a network's bus, for commands that look. It answers none."""

from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import nats
from l402core.events import Question
from l402core.jetstream import inbox
from l402core.rights import OPERATOR
from nats.errors import Error as NatsError

from l402train.exits import Exit, Stop
from l402train.watch import quiet

A = TypeVar("A", bound=msgspec.Struct)
TIMEOUT_S = 30.0


async def ask(nats_url: str, question: Question, answer: type[A]) -> A:
    """The answer. Raises Stop when nobody answers, or it is refused."""
    who = question.answered_by
    try:
        client = await nats.connect(
            nats_url, inbox_prefix=inbox(OPERATOR), connect_timeout=5, max_reconnect_attempts=1, error_cb=quiet
        )
    except (NatsError, OSError) as error:
        where = urlsplit(nats_url).netloc.rpartition("@")[2]  # without the name and password in it
        raise Stop(Exit.NOT_FOUND, f"no bus answers at {where}: is the network running?") from error
    try:
        told = await client.request(question.name, msgspec.json.encode(question), timeout=TIMEOUT_S)
    except (NatsError, TimeoutError) as error:
        raise Stop(Exit.NOT_FOUND, f"the {who} does not answer") from error
    finally:
        await client.close()
    body = msgspec.json.decode(told.data)
    if refusal := body.get("error"):
        code = {"Contradiction": Exit.UNTRUE, "Malformed": Exit.USAGE}.get(refusal["kind"], Exit.NOT_FOUND)
        verb = "cannot tell now" if refusal["kind"] in ("Unavailable", "Exhausted") else "refuses"
        raise Stop(code, f"the {who} {verb}: {refusal['detail']}")
    return msgspec.convert(body["ok"], answer)
