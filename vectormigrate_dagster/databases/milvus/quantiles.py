"""Where to cut an id space into pieces of equal numbers of records, in O(pieces) questions.

Milvus gives the id at some place after another one, but not farther than a page; and it counts ids in a range. So
ranges that hold several cuts are halved, and the others are asked where the cut should be if ids were spread evenly,
until a cut is about a page behind an id whose place is known. Ranges that have nothing to do with each other are asked
for at the same time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.milvus.id_space import IdSpace, Numbers, Texts
from vectormigrate_dagster.model import Id

_EXACT_PARTS = 256
"""From so small a part of a piece, or from within a page, a cut is reached by pages."""

_HOPS = 4
"""Pages that are gone to a cut."""

_IDLE = 3
"""Halves without a record that are found in a row before both ends of a range are looked for."""

_ROUNDS = 400
"""After so many rounds, several for each bit of an id, cuts are made where the search has come to."""


class Ids(Protocol):
    """What is asked of the database, from several threads."""

    def at(self, after: Id | None, place: int) -> Id | None:
        """The id that stands `place` places after `after`, at most a page; None if there are not so many."""

    def count(self, after: Id | None, last: Id) -> int:
        """Records with ids > `after` and <= `last`."""


@dataclass(frozen=True)
class _Gap:
    """Ids > `low` and <= `high`, of which only is known how many there are.

    Args:
        low, high: ids, existing or not; None is the beginning, and the end.
        before, upto: records up to `low`, and up to `high`.
        cuts: how many records stand up to each place where the collection is to be cut, ascending.
        idle: questions in a row that found all records on one side.
    """

    low: Id | None
    high: Id | None
    before: int
    upto: int
    cuts: tuple[int, ...]
    idle: int = 0

    def divided(self, middle: Id, passed: int) -> tuple[_Gap, _Gap]:
        """Both sides of an id up to which there are `passed` records."""
        passed = min(max(passed, self.before), self.upto)  # somebody may be writing
        lower = bisect_right(self.cuts, passed)
        return (
            _Gap(self.low, middle, self.before, passed, self.cuts[:lower]),
            _Gap(middle, self.high, passed, self.upto, self.cuts[lower:]),
        )


def quantiles(ids: Ids, total: int, parts: int, *, page: int, numbers: bool) -> list[Id]:
    """The last ids of all parts but the last one; fewer if somebody deleted records meanwhile.

    Args:
        ids: the database.
        total: records that there are.
        parts: number of parts.
        page: farthest place that `ids.at` reaches.
        numbers: ids are integers; texts otherwise.
    """
    cuts = tuple(sorted({total * i // parts for i in range(1, parts)} - {0}))
    near = max(page, total // parts // _EXACT_PARTS)
    search = _Search(ids, Numbers() if numbers else Texts(), page=page, near=near)
    bounds: list[Id] = []
    for bound in ahead(search.bound, search.gaps(total, cuts)):
        if bound is not None and (not bounds or bound > bounds[-1]):  # type: ignore[operator]  # both of one kind
            bounds.append(bound)
    return bounds


class _Search:
    """A search for cuts.

    Args:
        page: farthest place that `ids.at` reaches.
        near: records that may be between an id whose place is known and a cut.
    """

    def __init__(self, ids: Ids, space: IdSpace, *, page: int, near: int) -> None:
        self._ids, self._space, self._page, self._near = ids, space, page, near

    def gaps(self, total: int, cuts: tuple[int, ...]) -> list[_Gap]:
        """For each cut a gap that has it near its beginning."""
        narrow: list[_Gap] = []
        wide = [self._closed_in(_Gap(None, None, 0, total, cuts))] if cuts else []
        for number in range(_ROUNDS):
            left: list[_Gap] = []
            for gap in wide:
                near = bisect_right(gap.cuts, gap.before + self._near)
                narrow += (replace(gap, cuts=(cut,)) for cut in gap.cuts[:near])
                left += [replace(gap, cuts=gap.cuts[near:])] if near < len(gap.cuts) else []
            wide = [part for parts in ahead(partial(self._divide, halve=number % 2 == 1), left) for part in parts]
        narrow += (replace(gap, cuts=(cut,)) for gap in wide for cut in gap.cuts)
        return sorted(narrow, key=lambda gap: gap.cuts)

    def bound(self, gap: _Gap) -> Id | None:
        """The id at the first cut of a gap, exactly if it is near; None if there are not so many."""
        found, cut = gap.low, gap.cuts[0]
        for _ in range(_HOPS):
            found, places = self._hop(gap)
            gap = replace(gap, low=found, before=gap.before + places)
            if found is None or gap.before == cut:
                break
        return found

    def _divide(self, gap: _Gap, *, halve: bool) -> list[_Gap]:
        """The parts of a gap that hold cuts, after one or two questions.

        Args:
            gap: what to look at.
            halve: whatever one might expect of the cut's place, as ids need not be spread evenly.
        """
        share = 0.5
        if len(gap.cuts) == 1 and not halve:
            # A cut is found from an id before it, so it pays to come out before it.
            share = max(0.0, gap.cuts[0] - self._near / 2 - gap.before) / max(1, gap.upto - gap.before)
        middle = self._space.between(gap.low, gap.high, share)
        if middle is None:
            found, places = self._hop(gap)
            if found is None:
                return []
            self._space.learn(found)
            return [replace(gap, low=found, before=gap.before + places)]
        lower, upper = gap.divided(middle, gap.before + self._ids.count(gap.low, middle))
        if gap.before < lower.upto < gap.upto:
            return [part for part in (lower, upper) if part.cuts]
        rest = replace(lower if lower.cuts else upper, idle=gap.idle + 1)
        if rest.idle % _IDLE == 0:
            return [self._closed_in(rest)]
        return [rest if lower.cuts else self._from_first(rest)[0]]

    def _from_first(self, gap: _Gap) -> tuple[_Gap, Id | None]:
        """The gap from its first id on, and that id; nothing changes if it has none."""
        first = self._ids.at(gap.low, 1)
        if first is None:
            return gap, None
        self._space.learn(first)
        below = self._space.below(first)
        farther = below is not None and (gap.low is None or below > gap.low)  # type: ignore[operator]  # of one kind
        return (replace(gap, low=below) if farther else gap), first

    def _closed_in(self, gap: _Gap) -> _Gap:
        """The gap with ends that are not much farther apart than its ids, by as many questions as halving has steps."""
        gap, first = self._from_first(gap)
        if first is None:
            return gap
        ends = [end for end in self._space.ends(first) if not _behind(end, gap.high)]
        place = bisect_left(ends, True, key=lambda end: _behind(self._ids.at(end, 1), gap.high))
        return replace(gap, high=ends[place]) if place < len(ends) else gap

    def _hop(self, gap: _Gap) -> tuple[Id | None, int]:
        """The id at the first cut, or as near to it as a page goes, and how many places after `low` it is."""
        places = min(gap.cuts[0] - gap.before, self._page)
        found = self._ids.at(gap.low, places)
        # Rows that repeat an id are left out of a page after it was cut, so that it may end too early.
        while found is None and places > 1:
            places //= 2
            found = self._ids.at(gap.low, places)
        return found, places


def _behind(place: Id | None, high: Id | None) -> bool:
    """Whether an id is beyond the end of a gap; None is the end of everything."""
    return place is None or (high is not None and place > high)  # type: ignore[operator]  # of one kind
