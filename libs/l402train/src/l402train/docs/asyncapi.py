"""The AsyncAPI document of the bus, from `l402core.events` and every service's consumers. It starts no broker."""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec
from l402core.delivering import Consumer
from l402core.events import EVENTS, QUESTIONS, WORK, Event

KEYS = {"RoundEvent": "{round}", "SubmissionEvent": "{commitment}", "RungEvent": "{commitment}.{index}"}


def document(consumers: Iterable[Consumer]) -> dict[str, Any]:
    """AsyncAPI 3.0: a channel per message, a send operation for its writer and a receive one for each consumer."""
    known = sorted(consumers, key=lambda consumer: (consumer.event.name, consumer.service))
    questions = [question for question, _ in QUESTIONS]
    answers = list(dict.fromkeys(answer for _, answer in QUESTIONS))
    _, components = msgspec.json.schema_components(
        [*EVENTS, *questions, *answers], ref_template="#/components/schemas/{name}"
    )
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for event in EVENTS:
        channels[event.__name__] = _channel(event)
        operations[f"{event.writer}.sends.{event.__name__}"] = _operation("send", event.__name__, event.writer)
    for consumer in known:
        name = consumer.event.__name__
        told = _operation("receive", name, consumer.service)
        operations[f"{consumer.service}.receives.{name}"] = {
            **told,
            "x-durable": consumer.durable,
            "x-workers": consumer.workers,
            "x-ack-wait-s": consumer.ack_wait_s,
        }
    for question, answer in QUESTIONS:
        name = question.__name__
        channels[name] = {
            "address": question.name,
            "description": _first_line(question),
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        channels[f"{name}.answer"] = {
            "address": None,
            "description": f"The answer to {name}, or an error of the tree.",
            "messages": {answer.__name__: {"$ref": f"#/components/messages/{answer.__name__}"}},
        }
        operations[f"{question.answered_by}.answers.{name}"] = {
            **_operation("receive", name, question.answered_by),
            "reply": {"channel": {"$ref": f"#/channels/{name}.answer"}},
        }
    messages = {
        kind.__name__: {
            "name": kind.__name__,
            "summary": _first_line(kind),
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in (*EVENTS, *questions, *answers)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "l402-train's bus",
            "version": "1",
            "description": "Facts and work on NATS JetStream, questions on core NATS. Every message carries a W3C "
            "`traceparent` header; what rides a stream also carries `Nats-Msg-Id`.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": components},
    }


def _channel(event: type[Event]) -> dict[str, Any]:
    key = next(
        (words for base, words in KEYS.items() if base in {b.__name__ for b in event.__bases__}), "{payment_hash}"
    )
    return {
        "address": f"{event.name}.{key}",
        "description": _first_line(event),
        "parameters": {part.strip("{}"): {"description": "As in the message."} for part in key.split(".")},
        "messages": {event.__name__: {"$ref": f"#/components/messages/{event.__name__}"}},
        "x-stream": event.stream,
        "x-kind": "request to a work queue" if event.stream == WORK else "fact",
    }


def _operation(action: str, channel: str, service: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "x-service": service}


def _first_line(kind: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(kind) or "").split("\n")[0]
