"""Commands that only look: `status`, `trace`, `ledger`, `explain`, `rungs`, `channels`, `config`. They change nothing."""

import http.client
import json
import os
from pathlib import Path
from typing import Any

import msgspec
from l402core.documents import Terms
from l402core.events import ChannelsView
from l402core.signing import Signed
from rich.console import Console
from rich.table import Table

from l402train import (
    books,
    channel_tables,
    explaining,
    exporting,
    lives,
    open_rungs,
    outside_story,
    screen,
    services,
    spans,
    story_screen,
    tranche_story,
)
from l402train.channels import now
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
    told["channels"] = _channels(url or "")
    told["oracle"] = _plan(url or "")
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
    view = _read(f"{url}/v1/rounds/current")
    if view is None:
        return None
    wanted = ("round", "phase", "opened", "uploaded", "scored", "places_left", "available", "unavailable_reason")
    return {name: view.get(name) for name in wanted}


def _plan(url: str) -> dict[str, Any] | None:
    """What the oracle itself says of its pace, at the URL that the current terms name; None where it does not."""
    view = _read(f"{url}/v1/rounds/current")
    terms = msgspec.json.decode(msgspec.convert(view["terms"], Signed).body, type=Terms) if view else None
    return _read(f"{terms.attestor_url}/v1/plan") if terms else None


def _channels(url: str) -> dict[str, Any] | None:
    """The coordinator's channels; None where they are not shown."""
    return _read(f"{url}/v1/channels")


def _read(url: str) -> dict[str, Any] | None:
    try:
        code, body = services.get(url)
        view: Any = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return view if code == http.HTTPStatus.OK and isinstance(view, dict) else None


def _print_status(out: Console, told: dict[str, Any]) -> None:
    table = Table("part", "state", box=None, pad_edge=False)
    for name, state in _states(told).items():
        table.add_row(name, state)
    out.print(f"gateway {told['gateway']}", style="bold", soft_wrap=True)
    out.print(table)
    round_ = told["round"]
    if round_ is not None:
        sold = (
            "submissions are sold"
            if round_["available"]
            else f"nothing is sold: {round_['unavailable_reason'] or 'not now'}"
        )
        out.print(
            f"\nround {round_['round']}, phase {round_['phase']}: {round_['opened']} opened, {round_['uploaded']} uploaded, "
            f"{round_['scored']} scored, {round_['places_left']} places left; {sold}",
            soft_wrap=True,
        )
    if told["oracle"] is not None:
        out.print(f"oracle: {told['oracle']['says']}", soft_wrap=True)
    if told["channels"] is not None:
        channel_tables.tell(out, msgspec.convert(told["channels"], ChannelsView))
    if round_ is None and not any(told.get("running", {}).values()):
        out.print("\nNothing runs here. `l402-train up` keeps a network running.")


def _states(told: dict[str, Any]) -> dict[str, str]:
    """Each part once: whether its process runs, and what it says of itself."""
    answers = {**told.get("services", {}), "gateway": told["ready"]}
    running = told.get("running", {})
    states = {}
    for name in {**running, **answers}:
        answer = answers.get(name.split("-")[0], answers.get(name))
        if not running.get(name, True):
            states[name] = "ended"
        elif answer is not None:
            states[name] = _parts(answer)
        else:
            states[name] = "does not answer" if name in answers else "running"
    return {name: state for name, state in states.items() if name in running or name != "worker"}


def _parts(ready: dict[str, bool]) -> str:
    """What it lacks comes first; a part that calls itself `ready` is the whole, and has no name."""
    fine = [name for name, well in ready.items() if well]
    lacking = [name for name, well in ready.items() if not well and name != "ready"]
    words = [f"NOT READY: {', '.join(lacking)}" if lacking else "NOT READY"] if len(fine) < len(ready) else []
    words += [f"ready: {', '.join(fine)}"] if fine else []
    return "; ".join(words) or "ready"


def trace(out: Console, *, folder: Folder, wanted: str, every_span: bool = False, as_json: bool) -> Exit:
    """One payment's life in plain words; with `every_span`, or where it is no payment's, the whole tree."""
    found = spans.find(folder.traces, wanted)
    told = lives.life(found)
    tree = spans.waterfall(found, most=ROWS_SHOWN)
    if as_json:
        screen.show_json(out, tree)
    elif every_span or not told.moments:
        out.print(screen.waterfall_table(tree, width=out.width))
    else:
        out.print(screen.life_table(told, width=out.width))
    return Exit.FINE


def ledger(out: Console, *, where: Path | str, account: str | None, export: Path | None, as_json: bool) -> Exit:
    """The trial balance, or one account's statement, or the journal as a file; UNTRUE where it does not balance."""
    if export is not None:
        name = books.statement(where, account).account if account else ""
        written = exporting.export(where, export, account=name)
        told = {"file": str(export), "lines": written}
        out.print(json.dumps(told) if as_json else f"{written} lines in {export}", soft_wrap=True)
        return Exit.FINE
    if account is not None:
        statement = books.statement(where, account)
        if as_json:
            screen.show_json(out, statement)
        else:
            story_screen.tell_statement(out, statement)
        return Exit.FINE
    found = books.ledger(where)
    if as_json:
        screen.show_json(out, found)
    else:
        out.print(screen.ledger_table(found))
    return Exit.FINE if found.debits_msat == found.credits_msat else Exit.UNTRUE


def explain(out: Console, *, where: Path | str, wanted: str, as_json: bool) -> Exit:
    """One submission's whole story, or one tranche's; or what a person has said was none of ours."""
    is_hash = len(wanted) >= explaining.SHORTEST and set(wanted.lower()) <= explaining.HEX
    if is_hash:
        told = tranche_story.tranche(where, wanted.lower())
        if told is not None:
            screen.show_json(out, told) if as_json else tranche_story.tell(out, told)
            return Exit.FINE
    try:
        story = explaining.explain(where, wanted)
    except Stop:
        found = outside_story.outside(where, wanted.lower()) if is_hash else []
        if not found:
            raise
        screen.show_json(out, found) if as_json else outside_story.tell(out, found)
        return Exit.FINE
    if as_json:
        screen.show_json(out, story)
    else:
        story_screen.tell_story(out, story)
    return Exit.FINE


def rungs(out: Console, *, where: Path | str, as_json: bool) -> Exit:
    """What is locked and has not ended, the nearest expiry first."""
    found = open_rungs.open_rungs(where)
    if as_json:
        screen.show_json(out, found)
        return Exit.FINE
    if not found:
        out.print("No rung is open.")
        return Exit.FINE
    table = Table("expires at", "sat", "state", "round", "submission", "payment hash", "peer", box=None, pad_edge=False)
    for one in found:
        table.add_row(
            str(one.expiry_height or "-"), screen.sat(one.amount_msat), f"{one.state}{', frozen' if one.frozen else ''}",
            str(one.round), f"{one.commitment[:16]}…", f"{one.payment_hash[:16]}…", f"{one.peer[:16]}…",
        )  # fmt: skip
    out.print(table)
    return Exit.FINE


async def channels(out: Console, nats_url: str, *, as_json: bool) -> Exit:
    """The coordinator's channels as they are now, told by the settler. Raises Stop."""
    view = await now(nats_url)
    if as_json:
        screen.show_json(out, view)
    else:
        channel_tables.tell(out, view)
    return Exit.FINE


def config(out: Console, *, service: str | None, as_json: bool) -> Exit:
    """All knobs, or one service's."""
    found = [knob for knob in knobs() if service is None or service in knob.service]
    if not found:
        raise Stop(Exit.NOT_FOUND, f"no service is called {service!r}")
    if as_json:
        screen.show_json(out, found)
        return Exit.FINE
    for name in dict.fromkeys(knob.service for knob in found):
        table = Table("variable", "default", "bounds", "what it is", title=name, title_justify="left")
        for knob in found:
            if knob.service == name:
                table.add_row(knob.name, knob.default, knob.bounds, knob.description)
        out.print(table, soft_wrap=False)
    return Exit.FINE
