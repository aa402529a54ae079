"""lnd's own BOLT11 decoder for any network, as a long-lived process (`tools/zpay32`). It needs no node."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.lnd import tools_bin


class Zpay32:
    """Asks the decoder one invoice at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def decode(self, network: str, text: str) -> dict[str, Any]:
        """The decoded fields, or `{"error": ...}`. Raises ValueError for text that does not fit on a line."""
        if "\n" in text or "\r" in text:
            raise ValueError("an invoice for zpay32 is one line")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{network} {text}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def running_zpay32() -> Iterator[Zpay32]:
    """The decoder; it ends when its input does."""
    command = [str(tools_bin() / "zpay32")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield Zpay32(process)
