r"""Ids in a range, though Pinecone lists by prefix only and cannot start after an id.

Ids come sorted by their bytes, 100 at a time. A range begins somewhere inside of a prefix. What lies before it is
skipped by going down to longer prefixes, of which there are at most 127 next to each other: after "b42" come the ids
that begin with "b42", then those with "b43" to "b\x7f", then "c" to "\x7f". So a range costs as many calls as it has
pages, and some hundred more at most, however many ids lie before it.

A bound may be a prefix with `BEHIND` at its end: behind every id with that prefix, before all that come after those.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.columns import out_of_order
from vectormigrate_dagster.databases.pinecone.api import IdPage
from vectormigrate_dagster.errors import AuthenticationFailed, BrokenScan, DatabaseError, NotFound

BEHIND = "\u00ff"
"""Sorts behind each of the characters U+0001 to U+007F, of which ids are made."""

_LAST_CHARACTER = "\x7f"
_PATIENCE = 4
"""Pages before the range that are read before the way down is taken."""

_PATIENCE_WITH_EMPTY_PAGES = 100
_PATIENCE_WITH_TOKENS = 3
_FINAL = (AuthenticationFailed, BrokenScan, NotFound)

PageOf = Callable[[str, str | None], IdPage]
"""Lists a page of the ids with a prefix, by a token for all but the first."""


class Listing:
    """Lists the ids of one namespace.

    Args:
        page_of: asks the server; may be called from several threads.
        where: what is listed, for messages.
    """

    def __init__(self, page_of: PageOf, where: str) -> None:
        self._page_of = page_of
        self._where = where

    def between(self, after: str | None = None, last: str | None = None) -> Iterator[list[str]]:
        """Yield the ids > `after` and <= `last` in pages, in strictly ascending order.

        Raises:
            BrokenScan: the server returned ids twice, out of order, or without the prefix that was asked for.
        """
        seen, refusals = after, 0
        while True:
            try:
                for ids in self._between(seen, last):
                    if seen is not None and ids[0] <= seen:
                        raise out_of_order(ids[0], f"id '{seen}'", self._where)
                    seen, refusals = ids[-1], 0
                    yield ids
            except DatabaseError as error:
                # Nobody says how long a token is good for. Without one the listing goes on after the last id.
                refusals += 1
                if error.transient or isinstance(error, _FINAL) or refusals >= _PATIENCE_WITH_TOKENS:
                    raise
            else:
                return

    def pages(self, prefix: str, first: IdPage | None = None) -> Iterator[IdPage]:
        """Yield all pages of ids with a prefix, checked.

        Args:
            first: the first one, if it was read already.

        Raises:
            BrokenScan: as `between`.
        """
        page = self.first(prefix) if first is None else first
        empty = 0
        while True:
            yield page
            if page.token is None:
                return
            empty = 0 if page.ids else empty + 1
            if empty >= _PATIENCE_WITH_EMPTY_PAGES:
                raise out_of_order(prefix, f"{empty} pages, all of them empty", self._where)
            page = self._checked(prefix, self._page_of(prefix, page.token))

    def first(self, prefix: str) -> IdPage:
        """The first page of ids with a prefix."""
        return self._checked(prefix, self._page_of(prefix, None))

    def _between(self, after: str | None, last: str | None) -> Iterator[list[str]]:
        prefix = "" if after is None or last is None else _shared(after, last)
        return self._under(prefix, after, last)

    def _under(self, prefix: str, after: str | None, last: str | None) -> Iterator[list[str]]:
        """Ids with a prefix, in the range."""
        below = after is not None and after.startswith(prefix) and len(after) > len(prefix)
        if after is not None and below and BEHIND in after:  # the end of a longer prefix: the way down is known
            yield from self._below(prefix, after, last)
            return
        skipped = 0
        for page in self.pages(prefix):
            ids = [value for value in page.ids if (after is None or value > after) and (last is None or value <= last)]
            if ids:
                yield ids
            if last is not None and page.ids and page.ids[-1] >= last:
                return
            skipped += not ids
            if after is not None and below and not ids and page.token is not None and skipped >= _PATIENCE:
                yield from self._below(prefix, after, last)
                return

    def _below(self, prefix: str, after: str, last: str | None) -> Iterator[list[str]]:
        """Ids with a prefix, after one that is longer than it and begins with it."""
        here = after[len(prefix)]
        if here <= _LAST_CHARACTER:
            yield from self._under(prefix + here, after, last)
        siblings = [prefix + chr(code) for code in range(ord(here) + 1, ord(_LAST_CHARACTER) + 1)]
        wanted = list(itertools.takewhile(lambda sibling: last is None or sibling <= last, siblings))
        for sibling, first in zip(wanted, ahead(self.first, wanted), strict=True):
            for page in self.pages(sibling, first):
                ids = [value for value in page.ids if last is None or value <= last]
                if ids:
                    yield ids
                if len(ids) < len(page.ids):
                    return

    def _checked(self, prefix: str, page: IdPage) -> IdPage:
        ascending = all(low < high for low, high in itertools.pairwise(page.ids))
        if not ascending or not all(value.startswith(prefix) for value in page.ids):
            raise out_of_order(page.ids[0], f"prefix '{prefix}'", self._where)
        return page


def _shared(low: str, high: str) -> str:
    """The longest prefix that ids between two bounds have in common."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1] <= _LAST_CHARACTER, zip(low, high, strict=False))
    return "".join(character for character, _ in pairs)
