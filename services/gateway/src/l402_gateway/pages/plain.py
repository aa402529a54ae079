"""A page that says one sentence: what was asked for is not there. Pure."""

from l402_gateway.pages import frame


def page(title: str, sentence: str, *, now_ms: int) -> bytes:
    """The whole page."""
    return frame.rendered("plain.html", title=title, sentence=sentence, now_ms=now_ms)
