"""A service with every SQLite statement of its own counted by its first word: `python -m _scale_counted l402_settler`.

The counts are a file that is written anew once a second. It changes nothing of what the service does.
"""

import collections
import json
import os
import runpy
import sqlite3
import sys
import threading
import time
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

FOLDER = "SCALE_COUNTED_FOLDER"
"""Where the counts of each service lie, a file for each."""
EVERY_S = 1.0
counted: collections.Counter[str] = collections.Counter()
_connect = sqlite3.connect


def kind_of(statement: str) -> str:
    """Its first word; a savepoint's beginning and end are one kind, and so are those of a transaction."""
    word = statement.lstrip().split(None, 1)[0].lower() if statement.strip() else ""
    return {"release": "savepoint", "rollback": "commit"}.get(word, word)


def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
    """A connection whose statements are counted. Those of triggers begin with a comment, and are counted as such."""
    connection: sqlite3.Connection = _connect(*args, **kwargs)
    connection.set_trace_callback(lambda statement: counted.update((kind_of(statement),)))
    return connection


def write(file: Path) -> None:
    """For ever."""
    while True:
        time.sleep(EVERY_S)
        unfinished = file.with_suffix(".new")
        unfinished.write_text(json.dumps(dict(counted)))
        unfinished.replace(file)


def main() -> None:
    """The module that is named, as if it had been started itself."""
    for module in (sqlite3, dbapi2):  # two names of it, and drivers use either
        vars(module)["connect"] = connect
    sys.argv = sys.argv[1:]
    file = Path(os.environ[FOLDER]) / f"{'-'.join(sys.argv)}.json"
    threading.Thread(target=write, args=(file,), daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
