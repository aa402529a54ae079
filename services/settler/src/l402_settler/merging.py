"""Two lists by payment hash, brought side by side page by page. It knows neither what they hold nor where they lie.

Every hash of either list is in exactly one pair of pages, so that what is compared page by page is all there is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
PAGE = 1_000


async def side_by_side(
    ours: Callable[[str, int], Awaitable[dict[str, A]]],
    theirs: Callable[[str, str | None, int], dict[str, B]],
    *,
    page: int = PAGE,
) -> AsyncIterator[tuple[dict[str, A], dict[str, B]]]:
    """Pages of both with the same span of hashes, none longer than `page`.

    `ours(after, at_most)` answers the next of ours in order of hashes; `theirs(after, upto, at_most)` those of the same
    span, without end where `upto` is None.
    """
    after = ""
    while True:
        mine = await ours(after, page)
        upto = max(mine) if len(mine) == page else None
        yours = theirs(after, upto, page)
        if len(yours) == page:  # theirs are the denser ones: the span ends with the last of them
            upto = max(yours)
            mine = {hash_: one for hash_, one in mine.items() if hash_ <= upto}
        if mine or yours:
            yield mine, yours
        if upto is None:
            return
        after = upto
