"""One small page for people: the current round. It needs no script and shows nothing that the reads do not."""

from html import escape

from l402core.documents import Terms
from l402core.events import RoundView
from l402core.money import show_sat

_STYLE = (
    "body{font:16px/1.5 system-ui;margin:3rem auto;max-width:42rem;padding:0 1rem}td{padding:.15rem 1.5rem .15rem 0}"
)


def of_round(view: RoundView, terms: Terms, *, now_ms: int) -> str:
    """The page of a round."""
    sold = "yes" if view.available and view.phase == "commit" else f"no: {view.unavailable_reason or view.phase}"
    rows = {
        "round": str(view.round),
        "phase": view.phase,
        "submissions open till": _left(terms.commit_until_ms, now_ms),
        "opened, uploaded, scored": f"{view.opened}, {view.uploaded}, {view.scored}",
        "places left": f"{view.places_left} of {terms.places}",
        "sold now": sold,
        "fee": show_sat(terms.fee_msat),
        "reward, at most": show_sat(terms.ladder_msat()),
        "model": terms.model_id,
        "checkpoint": terms.checkpoint.sha256,
        "terms": terms.digest(),
    }
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return _page(f"<table>{cells}</table><p><a href='/.well-known/l402.json'>What is sold here</a></p>")


def nothing(detail: str) -> str:
    """The page while there is no round to show."""
    return _page(f"<p>{escape(detail)}</p>")


def _left(until_ms: int, now_ms: int) -> str:
    seconds = (until_ms - now_ms) / 1_000
    return f"{seconds:.0f} s from now" if seconds > 0 else "closed"


def _page(content: str) -> str:
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>l402-train</title><style>{_STYLE}</style>"
        f"<h1>l402-train</h1>{content}</html>"
    )
