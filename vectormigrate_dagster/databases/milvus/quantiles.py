"""Where to cut an id space into pieces of equal numbers of records, without walking over all ids.

Milvus gives the id at some place after another one, but not farther than a page; and it counts ids in a range. Numbers
can be bisected by counts; texts have no middle, so long ways over texts go page by page, one id a page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vectormigrate_dagster.model import Id

_WALK_PAGES = 24
"""A way of more pages than this is shortened by counting, which costs a few calls more than the bits of the way."""

_SMALLEST = -(2**63)
_LARGEST = 2**63 - 1


class Ids(Protocol):
    """What is asked of the database."""

    def at(self, after: Id | None, place: int) -> Id | None:
        """The id that stands `place` places after `after`, at most a page; None if there are not so many."""

    def count(self, after: Id | None, last: Id) -> int:
        """Records with ids > `after` and <= `last`."""


def quantiles(ids: Ids, total: int, parts: int, *, page: int, numbers: bool) -> list[Id]:
    """The last ids of all parts but the last one; fewer if somebody deleted records meanwhile.

    Args:
        ids: the database.
        total: records that there are.
        parts: number of parts.
        page: farthest place that `ids.at` reaches.
        numbers: ids are integers.
    """
    bounds: list[Id] = []
    for i in range(1, parts):
        stride = total * i // parts - total * (i - 1) // parts
        bound = _after(ids, bounds[-1] if bounds else None, stride, page, numbers)
        if bound is None:
            break
        bounds.append(bound)
    return bounds


def _after(ids: Ids, after: Id | None, stride: int, page: int, numbers: bool) -> Id | None:
    """The id that stands `stride` places after `after`; None if there are not so many."""
    if numbers and stride > _WALK_PAGES * page:
        first = after if isinstance(after, int) else _before_first(ids)
        if first is None:
            return None
        number, passed = _jump(lambda low, high: ids.count(_sayable(low), high), first, stride, _WALK_PAGES * page // 2)
        after, stride = _sayable(number), stride - passed
    while stride:
        hop = min(stride, page)
        found = ids.at(after, hop)
        # Rows that repeat an id are left out of a page after it was cut, so that it may end too early.
        while found is None and hop > 1:
            hop //= 2
            found = ids.at(after, hop)
        if found is None:
            return None
        after, stride = found, stride - hop
    return after


def _before_first(ids: Ids) -> int | None:
    first = ids.at(None, 1)
    return first - 1 if isinstance(first, int) else None


def _sayable(after: int) -> int | None:
    """The number itself; None, which is "from the beginning", for the one before the smallest that a server knows."""
    return after if after >= _SMALLEST else None


def _jump(count: Callable[[int, int], int], start: int, stride: int, near: int) -> tuple[int, int]:
    """A number up to which there are at most `stride` ids after `start`, if possible at least `stride - near`.

    Returns:
        The number, and how many ids there are.
    """
    low, passed, step = start, 0, stride
    high = min(low + step, _LARGEST)
    while high < _LARGEST and (more := count(low, high)) + passed <= stride:
        low, passed, step = high, passed + more, 2 * step
        high = min(low + step, _LARGEST)
    while stride - passed > near and high - low > 1:
        middle = (low + high) // 2
        more = count(low, middle)
        if passed + more <= stride:
            low, passed = middle, passed + more
        else:
            high = middle
    return low, passed
