"""What all pages share: templates that escape whatever they are given, words for amounts and times, and the headers.

It knows Jinja, and refuses to know what a page is about. Style and script are inside the page, named by their hashes in
the content security policy: nothing else runs, and nothing is fetched but this address.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from l402core.money import show_sat
from markupsafe import Markup

from l402_gateway.hints import NAMES

_TEMPLATES = files("l402_gateway.pages").joinpath("templates")
STYLE: Final = _TEMPLATES.joinpath("style.css").read_text()
SCRIPT: Final = _TEMPLATES.joinpath("live.js").read_text()
NANO: Final = 1e-9


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def rendered(template: str, **context: Any) -> bytes:
    """A whole page."""
    return _ENVIRONMENT.get_template(template).render(**context).encode()


def sat(amount_msat: int) -> str:
    """Without its unit, which the column or the sentence names."""
    return show_sat(amount_msat).removesuffix(" sat")


def signed(amount_msat: int) -> str:
    """With its sign, also where it is more."""
    return f"+{sat(amount_msat)}" if amount_msat > 0 else sat(amount_msat)


def nats(nano: int) -> str:
    """A loss for people."""
    return f"{nano * NANO:.4f}"


def left(ms: int) -> str:
    """Minutes and seconds."""
    seconds = max(0, -(-ms // 1_000))
    return f"{seconds // 60}:{seconds % 60:02d}"


def clock(ms: int) -> str:
    """The time of day, of the one clock that everybody shares."""
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%H:%M:%S} UTC"


def took(ms: int) -> str:
    """How long something took."""
    if ms < 1_000:
        return f"{ms} ms"
    return f"{ms / 1_000:.1f} s" if ms < 60_000 else f"{ms // 60_000} min {ms % 60_000 // 1_000} s"


def hue(key: str) -> int:
    """A colour to know a key again by; no more than that."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:4], 16) % 360


def several(count: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("l402_gateway.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(sat=sat, signed=signed, nats=nats, left=left, clock=clock, took=took, hue=hue)
    made.globals.update(
        style=Markup(STYLE),  # noqa: S704 - a file of this package
        script=Markup(SCRIPT),  # noqa: S704 - the same
        hints=" ".join(name.removesuffix(".v1") for name in NAMES),
        several=several,
        show_sat=show_sat,
    )
    return made


_ENVIRONMENT: Final = _environment()
