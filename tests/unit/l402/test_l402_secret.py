"""A secret leaves through `reveal()` and through nothing else."""

import copy
import json
import pickle
from dataclasses import asdict, dataclass

import msgspec
import pytest
from l402core.secret import Secret

HIDDEN = Secret(b"hunter2-hunter2-hunter2-hunter2!")


def test_it_reveals_its_bytes_on_request() -> None:
    """And only on request."""
    assert HIDDEN.reveal() == b"hunter2-hunter2-hunter2-hunter2!"


def test_no_way_of_printing_shows_it() -> None:
    """repr, str, f-strings with and without conversions, percent formatting, containers, dataclasses."""

    @dataclass
    class Holder:
        secret: Secret

    shown = [repr(HIDDEN), str(HIDDEN), f"{HIDDEN}", f"{HIDDEN!r:>40}", f"{HIDDEN:s}", "%s %r" % (HIDDEN, HIDDEN)]  # noqa: UP031 - % is one of the ways to print
    shown += [repr([HIDDEN]), repr({"key": HIDDEN}), repr(Holder(HIDDEN)), repr(asdict(Holder(HIDDEN)))]
    assert not any("hunter" in text for text in shown)


def test_nothing_serializes_it() -> None:
    """Pickle, JSON, msgspec and bytes() refuse, and there is no __dict__ to look into."""
    for attempt in (
        lambda: pickle.dumps(HIDDEN),
        lambda: json.dumps({"key": HIDDEN}),
        lambda: msgspec.json.encode(HIDDEN),
        lambda: msgspec.msgpack.encode([HIDDEN]),
        lambda: bytes(HIDDEN),  # type: ignore[call-overload]  # wrong on purpose
        lambda: hash(HIDDEN),
        lambda: vars(HIDDEN),
    ):
        with pytest.raises(TypeError):
            attempt()


def test_it_compares_by_value_with_secrets_only() -> None:
    """Bytes that happen to be the same are not a secret."""
    assert Secret(HIDDEN.reveal()) == HIDDEN
    assert Secret(b"other") != HIDDEN
    assert HIDDEN.reveal() != HIDDEN
    assert copy.copy(HIDDEN) is HIDDEN
    assert copy.deepcopy([HIDDEN])[0] is HIDDEN


def test_it_is_made_of_bytes() -> None:
    """Text would hide an encoding, a bytearray could be changed afterwards."""
    for wrong in ("text", bytearray(b"x"), None):
        with pytest.raises(TypeError, match="bytes"):
            Secret(wrong)  # type: ignore[arg-type]  # wrong on purpose
