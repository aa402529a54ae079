"""The one migration: streams, consumers and tables of all services. Services only check what it made."""

import asyncio
import logging
from collections.abc import Iterable
from importlib import import_module

from l402core import bus, schema
from l402core.delivering import Consumer

CONSUMING = (
    "l402_invoicer.app",
    "l402_settler.app",
    "l402_oracle.attestor.app",
    "l402_oracle.worker.app",
)
"""Modules with a `CONSUMERS` tuple."""
OWNERS = {"books": "l402_settler", "decisions": "l402_oracle"}
"""Which package's migrations make which database."""


def consumers() -> tuple[Consumer, ...]:
    """Every durable consumer of every service."""
    return tuple(_all())


def _all() -> Iterable[Consumer]:
    for name in CONSUMING:
        yield from import_module(name).CONSUMERS


async def migrate(nats_url: str, *, books_url: str, decisions_url: str, replicas: int = 1) -> int:
    """Bring bus and databases up to date; safe to run again. Returns the number of consumers. Raises Unavailable."""
    declared = consumers()
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # it prints a stack for what we say in one line
    await bus.migrate(nats_url, declared, replicas=replicas)
    for url, owner in ((books_url, OWNERS["books"]), (decisions_url, OWNERS["decisions"])):
        await asyncio.to_thread(schema.upgrade, url, owner)
    return len(declared)
