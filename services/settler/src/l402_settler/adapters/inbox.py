"""Which messages were taken, in the transaction that acted on them: none is taken twice. It refuses to know what they say."""

import hashlib

import msgspec
from l402core.events import Event
from l402core.outbox import Transaction

from l402_settler.adapters import statements as q
from l402_settler.adapters.journal import DAY_MS

INBOX_MS = 8 * DAY_MS
"""Longer than any stream keeps a message."""


def is_first(tx: Transaction, consumer: str, event: Event, *, now_ms: int) -> bool:
    """Whether this consumer has not taken this message yet; from the commit on it has.

    A message is what it says: one that says another thing under the same id is another message, and the state decides.
    """
    return tx.execute(q.TAKE, {"b_consumer": consumer, "b_message": message_key(event), "b_at_ms": now_ms}) == 1


def forget_taken(tx: Transaction, *, now_ms: int) -> None:
    """Messages that no stream can tell again."""
    tx.execute(q.FORGET, {"b_before_ms": now_ms - INBOX_MS})


def message_key(event: Event) -> str:
    """Which message this is: its id, and what it says."""
    said = msgspec.json.encode(msgspec.structs.replace(event, id="", occurred_at_ms=0))
    return f"{event.message_id}:{hashlib.sha256(said).hexdigest()[:16]}"
