"""The shape of a trace: who is whose child, and what happened because of what."""

import re
from collections import Counter
from collections.abc import Iterable

from l402train.spans import Span

_PACKAGE = re.compile("^[a-z]+rpc[.][A-Za-z]+/")
"""What stands before a call on a node."""


class Tree:
    """All spans of one trace."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = list(spans)
        self._by_id = {span.span_id: span for span in self.spans}

    @property
    def roots(self) -> list[str]:
        """What began it; one, where it is connected."""
        return [said(span) for span in self.spans if span.parent_id not in self._by_id]

    @property
    def counts(self) -> Counter[str]:
        """How often each step was taken."""
        return Counter(said(span) for span in self.spans)

    def because(self, before: str, after: str) -> bool:
        """Whether every `after` there is lies somewhere below a `before`, and there is one."""
        found = [span for span in self.spans if said(span) == after]
        return bool(found) and all(before in self._above(span) for span in found)

    def _above(self, span: Span) -> list[str]:
        above, seen = [], {span.span_id}
        while (parent := self._by_id.get(span.parent_id)) is not None and parent.span_id not in seen:
            seen.add(parent.span_id)
            above.append(said(parent))
            span = parent
        return above


def said(span: Span) -> str:
    """A step in two words: who, and what."""
    return f"{span.service} {_PACKAGE.sub('', span.name)}"


def trees(spans: Iterable[Span]) -> dict[str, Tree]:
    """Every trace by its id."""
    by_id: dict[str, list[Span]] = {}
    for span in spans:
        by_id.setdefault(span.trace_id, []).append(span)
    return {trace_id: Tree(mine) for trace_id, mine in by_id.items()}
