"""Generated documents: current, complete, and found stale when they are."""

import json
from pathlib import Path
from typing import Any

import pytest
from l402core.delivering import Consumer
from l402core.events import EVENTS, QUESTIONS, EscrowLock
from l402train.docs import __main__ as docs
from l402train.docs import asyncapi
from l402train.exits import Exit


def test_every_message_and_question_is_in_the_bus_document() -> None:
    """Each event has a channel and its writer, each question its answer, each consumer its operation."""
    made: Any = asyncapi.document([Consumer("invoicer", EscrowLock)])
    names = {event.__name__ for event in EVENTS} | {question.__name__ for question, _ in QUESTIONS}
    assert names <= set(made["channels"])
    assert "settler.sends.EscrowLock" in made["operations"]
    assert made["operations"]["invoicer.receives.EscrowLock"]["x-durable"] == "invoicer-escrow-lock-v1"
    assert made["operations"]["settler.answers.SubmissionOpen"]["reply"]
    text = json.dumps(made)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/')[1:]}:
        target = made
        for step in reference.split("/"):
            target = target[step]


def test_a_stale_document_is_found_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` exits 1 with the difference; writing makes it pass."""
    monkeypatch.setattr(docs, "GENERATED", {"page.md": lambda: "new\n"})
    (tmp_path / "page.md").write_text("old\n")
    assert docs.main(["--check", "--into", str(tmp_path)]) == Exit.UNTRUE
    assert "-old" in capsys.readouterr().err
    assert (tmp_path / "page.md").read_text() == "old\n"
    assert docs.main(["--into", str(tmp_path)]) == Exit.FINE
    assert docs.main(["--check", "--into", str(tmp_path)]) == Exit.FINE
