"""Collections of any size that nobody stores: the id at a place, and the place of an id, are computed."""

from __future__ import annotations

import threading
import uuid
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vectormigrate_dagster.model import Id, IdKind

_SCRAMBLE = 0x9E3779B97F4A7C15
"""An odd number that spreads neighbours over 64 bits (https://en.wikipedia.org/wiki/Hash_function#Fibonacci_hashing)."""


@dataclass(frozen=True)
class Kind:
    """How ids look.

    Args:
        kind: of the ids.
        id_at: the id at a place, counted from 0, of so many; it rises with the place.
    """

    kind: IdKind
    id_at: Callable[[int, int], Any]

    @property
    def numbers(self) -> bool:
        return self.kind is not IdKind.TEXT


def spread(place: int, total: int, bits: int) -> int:
    """A number of `bits` bits: even steps, each with a jitter of its own."""
    step = 2**bits // total
    return place * step + (place * _SCRAMBLE) % 2**64 % step


def _clustered(place: int, total: int) -> int:
    """Ten clusters of ids that follow each other, far apart."""
    size = -(-total // 10)
    return place // size * 2**59 + place % size


KINDS = {
    "counted": Kind(IdKind.I64, lambda place, _: place + 1),
    "hashed numbers": Kind(IdKind.I64, lambda place, total: spread(place, total, 64) - 2**63),
    "clustered numbers": Kind(IdKind.I64, _clustered),
    "counted texts": Kind(IdKind.TEXT, lambda place, _: f"document-{place:012}"),
    "uuid texts": Kind(IdKind.TEXT, lambda place, total: str(uuid.UUID(int=spread(place, total, 128)))),
    "addresses": Kind(
        IdKind.TEXT,
        lambda place, total: f"https://site{place * 1000 // total:03}.example.com/größe?id={place:010}#1",
    ),
}


class Huge:
    """Ids of a collection, asked as `databases.milvus.quantiles` asks; counts questions."""

    def __init__(self, kind: Kind, total: int) -> None:
        self.kind, self.total, self.asked = kind, total, 0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, name: str, total: int) -> Huge:
        return cls(KINDS[name], total)

    def id_at(self, place: int) -> Any:
        """The id at a place, counted from 0."""
        return self.kind.id_at(place, self.total)

    def upto(self, last: Id | None) -> int:
        """Records with ids <= `last`; none if that is None."""
        return 0 if last is None else bisect_right(range(self.total), last, key=self.id_at)  # type: ignore[type-var]

    def at(self, after: Id | None, place: int) -> Id | None:
        self._count()
        found = self.upto(after) + place - 1
        known: Id | None = self.id_at(found) if found < self.total else None
        return known

    def count(self, after: Id | None, last: Id) -> int:
        self._count()
        return self.upto(last) - self.upto(after)

    def _count(self) -> None:
        with self._lock:
            self.asked += 1
