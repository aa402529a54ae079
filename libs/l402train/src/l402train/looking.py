"""Commands that only look: `status`, `trace`, `ledger`, `config`. They change nothing anywhere."""

import http.client
import json
import os
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from l402train import books, screen, services, spans
from l402train.exits import Exit, Stop
from l402train.folder import Folder
from l402train.knobs import knobs

ROWS_SHOWN = 400


def status(out: Console, *, folder: Folder | None, url: str | None, as_json: bool) -> Exit:
    """Which parts answer, and where the current round stands."""
    told: dict[str, Any] = {}
    if folder is not None:
        description = folder.describe()
        url = url or description.gateway_url
        told["folder"] = str(folder.root)
        told["running"] = {name: _lives(pid) for name, pid in description.pids.items()}
        told["services"] = {path.stem: services.readiness(path.read_text()) for path in _url_files(folder)}
    told["gateway"] = url
    told["ready"] = services.readiness(url or "")
    told["round"] = _round(url or "")
    if as_json:
        out.print_json(json.dumps(told))
    else:
        _print_status(out, told)
    return Exit.FINE if told["ready"] and all(told["ready"].values()) else Exit.NOT_FOUND


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _url_files(folder: Folder) -> list[Path]:
    return sorted(folder.run.rglob("*.url"))


def _round(url: str) -> dict[str, Any] | None:
    """The current round's public numbers; None where there is none to be had."""
    try:
        code, body = services.get(f"{url}/v1/rounds/current")
        view = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    if code != http.HTTPStatus.OK:
        return None
    wanted = ("round", "phase", "opened", "uploaded", "scored", "places_left", "available", "unavailable_reason")
    return {name: view.get(name) for name in wanted}


def _print_status(out: Console, told: dict[str, Any]) -> None:
    table = Table("part", "state", title=f"gateway {told['gateway']}", title_justify="left")
    for name, lives in told.get("running", {}).items():
        table.add_row(name, "running" if lives else "ended")
    ready = told["ready"]
    table.add_row("gateway", "does not answer" if ready is None else _parts(ready))
    for name, found in told.get("services", {}).items():
        if name != "gateway":
            table.add_row(name, "does not answer" if found is None else _parts(found))
    for name, value in (told["round"] or {}).items():
        table.add_row(name, str(value))
    out.print(table)


def _parts(ready: dict[str, bool]) -> str:
    return ", ".join(f"{name} {'ready' if fine else 'NOT READY'}" for name, fine in ready.items()) or "ready"


def trace(out: Console, *, folder: Folder, wanted: str, as_json: bool) -> Exit:
    """One trace as a waterfall."""
    found = spans.waterfall(spans.find(folder.traces, wanted), most=ROWS_SHOWN)
    if as_json:
        out.print_json(msgspec.json.encode(found).decode())
    else:
        out.print(screen.waterfall_table(found))
    return Exit.FINE


def ledger(out: Console, *, folder: Folder, as_json: bool) -> Exit:
    """The trial balance; UNTRUE where it does not balance."""
    found = books.ledger(folder.settler / "books.sqlite3")
    if as_json:
        out.print_json(msgspec.json.encode(found).decode())
    else:
        out.print(screen.ledger_table(found))
    return Exit.FINE if found.debits_msat == found.credits_msat else Exit.UNTRUE


def config(out: Console, *, service: str | None, as_json: bool) -> Exit:
    """All knobs, or one service's."""
    found = [knob for knob in knobs() if service is None or service in knob.service]
    if not found:
        raise Stop(Exit.NOT_FOUND, f"no service is called {service!r}")
    if as_json:
        out.print_json(msgspec.json.encode(found).decode())
        return Exit.FINE
    for name in dict.fromkeys(knob.service for knob in found):
        table = Table("variable", "default", "bounds", "what it is", title=name, title_justify="left")
        for knob in found:
            if knob.service == name:
                table.add_row(knob.name, knob.default, knob.bounds, knob.description)
        out.print(table, soft_wrap=False)
    return Exit.FINE
