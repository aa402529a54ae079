"""The generated pages: every knob, and every command with its exit codes."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

from cyclopts import App, Parameter

from l402train import cli
from l402train.exits import MEANINGS
from l402train.knobs import knobs

MADE = "<!-- Made by `python -m l402train.docs`; edit the code instead. -->"


def configuration() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        MADE,
        "",
        "Every service reads environment variables, and refuses to start with a value outside its bounds. For each `NAME`,",
        "`NAME_FILE` may name a mounted file that holds the value instead.",
        "`l402-train config` prints the same.",
    ]
    found = knobs()
    for service in dict.fromkeys(knob.service for knob in found):
        lines += ["", f"## {service[0].upper()}{service[1:]}", "", "| variable | default | bounds | what it is |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| `{knob.name}` | `{_cell(knob.default) or ' '}` | {_code(knob.bounds)} | {_cell(knob.description)} |"
            for knob in found
            if knob.service == service
        ]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """docs/cli.md."""
    lines = ["# The command line", "", MADE, "", _first(cli.app), ""]
    for name, command in sorted(_commands(cli.app)):
        lines += [f"## l402-train {name}", "", inspect.getdoc(command) or "", ""]
        lines += ["| option | default | what it is |", "|---|---|---|"]
        lines += [_option(parameter, command) for parameter in inspect.signature(command).parameters.values()]
        lines += [""]
    lines += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code.value} | {sentence} |" for code, sentence in MEANINGS.items()]
    lines += [
        "",
        "What went wrong is one line on stderr, with the end of a log where a part failed; with `--json` it is one JSON",
        "object with `error`, `code` and `detail`.",
    ]
    return "\n".join(lines) + "\n"


def _commands(app: App, group: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command that the line knows, those of groups too, so that none can be left out here."""
    for name in app:
        if name.startswith("-"):
            continue
        if (command := app[name].default_command) is not None:
            yield group + name, command
        yield from _commands(app[name], f"{group}{name} ")


def _first(app: App) -> str:
    return str(app.help)


def _option(parameter: inspect.Parameter, command: Any) -> str:
    hint = get_type_hints(command, include_extras=True)[parameter.name]
    told = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Parameter)), Parameter())
    names = tuple(told.name or ()) or (f"--{parameter.name.replace('_', '-')}",)
    shown = parameter.name.upper() if parameter.kind is parameter.POSITIONAL_ONLY else ", ".join(names)
    default = "required" if parameter.default is parameter.empty else _default(parameter.default)
    return f"| `{shown}` | {default} | {_cell(told.help or '')} |"


def _default(value: object) -> str:
    if value is None or value is False:
        return ""
    return "on" if value is True else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(bounds: str) -> str:
    return f"`{_cell(bounds)}`" if "matches" in bounds else _cell(bounds)
