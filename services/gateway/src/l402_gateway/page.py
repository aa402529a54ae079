"""One small page for people: the current round. It needs no script and shows nothing that the reads do not."""

from html import escape

from l402core.documents import Terms
from l402core.events import RoundView
from l402core.money import show_sat

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:46rem;padding:0 1rem}"
    "th,td{padding:.2rem 1.5rem .2rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{font-weight:400;opacity:.7;min-width:9rem;overflow-wrap:normal}code{font-size:.85em}a{color:inherit}"
)
_PHASES = {
    "commit": "peers train, pay their fee and have their reward locked",
    "upload": "peers whose reward is locked upload their gradients",
    "judge": "the oracle measures the gradients and decides what each earned",
    "done": "over",
}


def of_round(view: RoundView, terms: Terms, *, now_ms: int) -> str:
    """The page of a round."""
    phase = f"{view.phase}: {_PHASES[view.phase]}" if view.phase in _PHASES else view.phase
    sold = (
        "yes" if view.available and view.phase == "commit" else f"no: {view.unavailable_reason or 'not in this phase'}"
    )
    rows = {
        "round": str(view.round),
        "phase": phase,
        "submissions close": _left(terms.commit_until_ms, now_ms),
        "can be bought now": sold,
        "fee": show_sat(terms.fee_msat),
        "reward": f"up to {show_sat(terms.ladder_msat())}, locked before the upload",
        "places": f"{view.places_left} of {terms.places} left",
        "submissions": f"{view.opened} opened, {view.uploaded} uploaded, {view.scored} scored",
    }
    hashes = {"model": terms.model_id, "checkpoint": terms.checkpoint.sha256, "terms": terms.digest()}
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    cells += "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>" for name, value in hashes.items()
    )
    return _page(
        "<p>A training network in which every gradient is paid for, both ways, over Lightning.</p>"
        f"<table>{cells}</table><p><a href='/.well-known/l402.json'>What is sold here, for programs</a></p>"
    )


def nothing(detail: str) -> str:
    """The page while there is no round to show."""
    return _page(f"<p>{escape(detail)}</p>")


def _left(until_ms: int, now_ms: int) -> str:
    seconds = (until_ms - now_ms) / 1_000
    return f"in {seconds:.0f} s" if seconds > 0 else "they have closed"


def _page(content: str) -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>l402-train</title><style>{_STYLE}</style><h1>l402-train</h1>{content}</html>"
    )
