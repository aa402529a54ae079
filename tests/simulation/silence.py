"""What of the services is quieter while histories are told: logs, spans, and loops that look around when nothing happens.

It changes no decision: an alarm is heard all the same, and belongs to the history.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from unittest import mock

import structlog
from l402_settler import app as settler_app
from l402_settler import tending as settler_tending
from l402_settler import watch as settler_watch
from l402core import telemetry
from opentelemetry.trace import INVALID_SPAN, Span

from tests.simulation.world import World

telling: list[World] = []
"""The world of the history that is being told."""


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Inside the block histories can be told: logs are silent, and idle loops look around less often."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_note_alarm],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    with (
        mock.patch.object(settler_app, "TICK_S", 2.0),
        mock.patch.object(settler_watch, "SIGHT_EVERY_S", 10.0),
        mock.patch.object(settler_tending, "TEND_EVERY_S", 5.0),
        mock.patch.object(telemetry, "span", _no_span),
        mock.patch.object(telemetry, "traceparent", str),
        mock.patch.object(sys, "unraisablehook", _unheard),
    ):
        try:
            yield
        finally:
            structlog.configure(**before)


def _unheard(_: object) -> None:
    """A coroutine that is let go of in the middle may complain."""


@contextlib.contextmanager
def _no_span(_name: str, **_about: object) -> Iterator[Span]:
    yield INVALID_SPAN


def _note_alarm(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Alarms belong to the history; nothing else is logged."""
    if telling:
        about = " ".join(f"{name}={str(value)[:40]}" for name, value in sorted(event.items()) if name != "event")
        telling[-1].say(f"ALARM {event['event']} {about}")
        ordered = " on order" if event.get("code") == "operator" else ""  # told again where the settler died of it
        telling[-1].alarms.append(f"{event['event']}{ordered}")
    raise structlog.DropEvent
