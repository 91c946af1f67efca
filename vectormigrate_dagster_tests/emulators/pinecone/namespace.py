"""One namespace: the records that reads see, and the writes that they do not see yet."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vectormigrate_dagster_tests.emulators.pinecone.filters import Predicate
from vectormigrate_dagster_tests.emulators.pinecone.records import Record, Sparse
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings

Change = Callable[["Namespace"], None]


@dataclass(frozen=True)
class _Pending:
    lsn: int
    after_request: int
    after_time: float
    change: Change


class Namespace:
    """Records by id. A write has a number (LSN), one more than the write before it in the same namespace.

    Attributes:
        lsn: of the last write that was accepted.
        indexed: of the last write that reads see.
        schema: which metadata is indexed, if the namespace was created with such a schema.

    Args:
        created: whether a request of its own created it; else it comes into being with the first write that is seen.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        schema: dict[str, dict[str, bool]] | None = None,
        *,
        created: bool = False,
    ) -> None:
        self.name = name
        self._created = created
        self.records: dict[str, Record] = {}
        self.lsn = self.indexed = 0
        self.schema = schema
        self._settings = settings
        self._requests = 0
        self._pending: deque[_Pending] = deque()
        self._sorted: list[str] | None = []
        self._rows: dict[str, tuple[list[Record], np.ndarray]] = {}

    @property
    def seen(self) -> bool:
        """Whether it is there for those who ask which namespaces there are."""
        return self._created or self.indexed > 0

    # Writes

    def accept(self, change: Change) -> int:
        """Carry a change out, at once or when its time has come; its LSN."""
        self.lsn += 1
        delay, seconds = self._settings.visible_after, self._settings.visible_after_seconds
        self._pending.append(_Pending(self.lsn, self._requests + delay, time.monotonic() + seconds, change))
        if not delay and not seconds:
            self._apply(self._requests + 1)
        return self.lsn

    def tick(self) -> None:
        """Count a request, before it looks at anything."""
        self._requests += 1
        self._apply(self._requests)

    def _apply(self, request: int) -> None:
        now = time.monotonic()
        while self._pending and request > self._pending[0].after_request and now >= self._pending[0].after_time:
            pending = self._pending.popleft()
            pending.change(self)
            self.indexed = pending.lsn

    # Changes, which `accept` calls

    def store(self, records: Iterable[Record]) -> None:
        self._rows.clear()
        for record in records:
            if record.id not in self.records:
                self._sorted = None
            self.records[record.id] = record

    def delete(self, ids: Iterable[str]) -> None:
        self._rows.clear()
        self._sorted = None
        for each in ids:
            self.records.pop(each, None)

    def remove(self, ids: Iterable[str], predicate: Predicate | None, *, everything: bool) -> None:
        """Delete what a condition finds, which makes the ids irrelevant, or all, or those ids."""
        self.delete(self.matching(predicate) if predicate else list(self.records) if everything else ids)

    # Reads

    def ids(self) -> list[str]:
        """All ids, in the order of their bytes."""
        if self._sorted is None:
            self._sorted = sorted(self.records)  # ids are ASCII, so characters are bytes
        return self._sorted

    def page(self, prefix: str, after: str | None, limit: int) -> tuple[list[str], bool]:
        """Ids that begin so and follow one, and whether there are more of them."""
        ids = self.ids()
        start = bisect_left(ids, prefix) if after is None else bisect_right(ids, after)
        end = bisect_left(ids, prefix[:-1] + chr(ord(prefix[-1]) + 1)) if prefix else len(ids)
        return ids[start : min(end, start + limit)], end > start + limit

    def matching(self, predicate: Predicate) -> list[str]:
        """Ids of the records whose metadata fulfil a condition, in order."""
        return [each for each in self.ids() if predicate(self.records[each].metadata)]

    def dense_rows(self, field: str) -> tuple[list[Record], np.ndarray]:
        """The records that have a dense vector in a field, and their vectors as rows of float32."""
        if field not in self._rows:
            found = [
                self.records[each]
                for each in self.ids()
                if isinstance(self.records[each].vectors.get(field), np.ndarray)
            ]
            rows = np.stack([record.vectors[field] for record in found]) if found else np.empty((0, 0), np.float32)
            self._rows[field] = found, rows
        return self._rows[field]

    def sparse_rows(self, field: str) -> list[tuple[Record, Sparse]]:
        """The records that have a sparse vector in a field, with it."""
        found = [(self.records[each], self.records[each].vectors.get(field)) for each in self.ids()]
        return [(record, vector) for record, vector in found if isinstance(vector, Sparse)]
