"""Where to cut the ids of one namespace: at quantiles where all ids can be listed, else along a tree of prefixes.

A split is a range of ids. Its bounds are the ends of prefixes, so that a scan lists what it reads and hardly more. How
many ids have a prefix nobody can ask. A page of the first hundred tells how dense they lie: if "a0" to "a3f" are a
hundred, about four hundred begin with "a". Prefixes that seem to hold too many are divided further, so the sizes of
splits are estimates; that they tile the id space is certain, whatever ids there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.pinecone.api import LIST_LIMIT, IdPage
from vectormigrate_dagster.databases.pinecone.listing import BEHIND, Listing
from vectormigrate_dagster.databases.splits import cut
from vectormigrate_dagster.model import IdKind, Split

MAX_SPLIT = 200_000
"""Ids of a split; a resume lists up to a tenth of a percent of them again."""

_LISTED_PAGES = 100
_PAGES_PER_SPLIT = 8
"""Pages that are listed to cut at quantiles: of a collection that has no more, every split's size is exact."""

_CALLS = 500
_CALLS_PER_SPLIT = 100
_DEPTH = 40
_DENSITY_CHARACTERS = 8


@dataclass(frozen=True)
class Plan:
    """Splits of one namespace.

    Args:
        exact: all ids were listed, so `Split.records` is what there is.
    """

    splits: list[Split]
    exact: bool


def plan_namespace(listing: Listing, *, total: int, target_records: int, scope: str | None) -> Plan:
    """Tile the ids of one namespace into splits of about `target_records`, and at most `MAX_SPLIT`.

    Args:
        total: records that the server believes to be there; it may lag behind.
    """
    target = min(target_records, MAX_SPLIT)
    parts = math.ceil(total / target)
    pages = listing.pages("")
    ids: list[str] = []
    more = True
    for page in itertools.islice(pages, max(_LISTED_PAGES, _PAGES_PER_SPLIT * parts)):
        ids += page.ids
        more = page.token is not None
    if not more:
        return Plan(cut(IdKind.TEXT, ids, 1, target, scope), exact=True)
    total = max(total, len(ids) + 1)
    tree = _Tree(listing, alphabet=sorted({c for value in ids for c in value}), target=target)
    tree.calls = _CALLS + _CALLS_PER_SPLIT * math.ceil(total / target)
    leaves = list(tree.leaves("", float(total), 0)) or [("", float(total))]
    return Plan(list(_merged(leaves, target, scope)), exact=False)


@dataclass
class _Tree:
    """Divides prefixes until each seems to hold few enough ids.

    Args:
        alphabet: characters that ids are known to have. Ids with others are in a split as well, of which nobody knows
            beforehand.
        calls: requests that may still be made.
    """

    listing: Listing
    alphabet: list[str]
    target: int
    calls: int = field(default=0)

    def leaves(self, prefix: str, weight: float, depth: int) -> Iterator[tuple[str, float]]:
        """Yield prefixes in order, each with the records that it seems to hold."""
        if weight <= self.target or depth >= _DEPTH or self.calls < len(self.alphabet):
            yield prefix, weight
            return
        self.calls -= len(self.alphabet)
        prefixes = [prefix + character for character in self.alphabet]
        pages = list(ahead(self.listing.first, prefixes))
        known = sum(len(page.ids) for page in pages if page.token is None)
        guesses = [
            0.0 if page.token is None else self._density(child, page)
            for child, page in zip(prefixes, pages, strict=True)
        ]
        share = max(0.0, weight - known) / (sum(guesses) or 1.0)
        for child, page, guess in zip(prefixes, pages, guesses, strict=True):
            if page.token is not None:
                yield from self.leaves(child, max(guess * share, len(page.ids) + 1.0), depth + 1)
            elif page.ids:
                yield child, float(len(page.ids))

    def _density(self, prefix: str, page: IdPage) -> float:
        """Records under a prefix, were all as dense as its first page."""
        if len(page.ids) <= 1:  # one id is no distance
            return float(LIST_LIMIT)
        reach = self._place(page.ids[-1], len(prefix)) - self._place(page.ids[0], len(prefix))
        return len(page.ids) / max(reach, 1e-9)

    def _place(self, value: str, start: int) -> float:
        """Where an id lies among those with its first `start` characters: 0 to 1."""
        base, place, step = len(self.alphabet) + 1, 0.0, 1.0
        for character in value[start : start + _DENSITY_CHARACTERS]:
            step /= base
            rank = self.alphabet.index(character) + 1 if character in self.alphabet else base
            place += step * rank
        return place


def _merged(leaves: list[tuple[str, float]], target: int, scope: str | None) -> Iterator[Split]:
    """Splits of neighbouring leaves, as long as they hold no more than `target` together."""
    after: str | None = None
    size = 0.0
    for (prefix, weight), following in itertools.zip_longest(leaves, leaves[1:]):
        size += weight
        if following is None:
            yield Split(scope=scope, kind=IdKind.TEXT, after=after, last=None, records=round(size))
        elif size + following[1] > target:
            last = prefix + BEHIND
            yield Split(scope=scope, kind=IdKind.TEXT, after=after, last=last, records=round(size))
            after, size = last, 0.0
