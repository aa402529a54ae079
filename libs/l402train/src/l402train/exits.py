"""How a command ends: one exit code per kind of failure, each with one sentence. It knows no part of the network."""

import errno
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """The exit codes, as `--help` and docs/cli.md list them."""

    FINE = 0
    UNTRUE = 1
    USAGE = 2
    PORT_IN_USE = 3
    DISK_FULL = 4
    FOLDER = 5
    PART_FAILED = 6
    NOT_FOUND = 7
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.FINE: "it did what was asked",
    Exit.UNTRUE: "it ran, but the books, a payment or a document is not as it must be",
    Exit.USAGE: "the command line makes no sense",
    Exit.PORT_IN_USE: "a port that was asked for is in use",
    Exit.DISK_FULL: "the disk is full",
    Exit.FOLDER: "the folder cannot be used: missing permission, or it holds something else",
    Exit.PART_FAILED: "a part of the network did not start, or ended by itself",
    Exit.NOT_FOUND: "there is no such network, round or trace, or it does not answer",
    Exit.INTERRUPTED: "interrupted; everything that was started has been stopped",
}


class Stop(Exception):
    """Ends the command with a code and one sentence; `detail` holds further lines, such as the end of a log."""

    def __init__(self, code: Exit, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.detail = detail


def stop_for(error: OSError, path: Path | str) -> Stop:
    """What an operating system's error about a path or an address means to whoever typed the command."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Stop(Exit.DISK_FULL, f"the disk is full: {path} could not be written")
    if error.errno == errno.EADDRINUSE:
        return Stop(Exit.PORT_IN_USE, f"{path} is in use by another program")
    return Stop(Exit.FOLDER, f"{path} cannot be used: {error.strerror or error}")
