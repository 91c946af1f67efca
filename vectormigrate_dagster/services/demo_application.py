"""The application of `demo --live`: four writers that insert, update and delete packages, and know what they were told.

Each writer has records of its own, so that the last value which it was told is there is the one that must be there.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Database, Endpoint, Source
from vectormigrate_dagster.errors import InvalidRecord
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, id_text

WRITERS = 4
_WRITES_PER_SECOND = 6.0
"""Of each writer: an embedded Qdrant takes hundredths of a second for a write, and others want to use it too."""

_REVISION = "revision"
_FETCHED = 500


class Application:
    """Writes from when it is entered until `stop`.

    Args:
        source, target: both sides.
        plan: how records of the one are those of the other.
        url: of the journal.
        packages: the records that there were, with ids from 1 on.
    """

    def __init__(self, source: Endpoint, target: Endpoint, plan: Plan, url: str, packages: Batch) -> None:
        self._writer = DualWriter(url, plan.migration_id)
        self._source = databases.open_target(source)
        self._target = databases.open_target(target)
        self._mapper = RecordMapper(plan.mapping)
        self._packages = packages
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._known: dict[int, str | None] = {}
        self._running: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="application")
        self.writes = 0
        self.slowest = 0.0

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._write_on, number) for number in range(WRITERS)]
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        self._writer.close()
        self._source.close()
        self._target.close()

    def stop(self) -> None:
        """End all writers; raises what one of them has failed with."""
        self._ended.set()
        for running in self._running:
            running.result()

    def forget_slowest(self) -> None:
        """Measure `slowest`, the seconds that a write has taken at most, from now on."""
        self.slowest = 0.0

    def lost(self, source: Source) -> int:
        """How many records are not what the application was told last."""
        ids, wrong = sorted(self._known), 0
        for start in range(0, len(ids), _FETCHED):
            some = ids[start : start + _FETCHED]
            found = source.fetch(self._column(some)).batch
            there = {
                id_text(value): payload.get(_REVISION)
                for value, payload in zip(found.ids.to_pylist(), found.payloads, strict=True)
            }
            wrong += sum(there.get(str(number)) != self._known[number] for number in some)
        return wrong

    def _write_on(self, number: int) -> None:
        chance, serial = random.Random(number), 0  # noqa: S311  # no secret
        while not self._ended.wait(chance.uniform(0.5, 1.5) / _WRITES_PER_SECOND):
            serial += 1
            # Ids beyond the packages are new; each writer has its own.
            own = chance.randrange(len(self._packages) + 200) // WRITERS * WRITERS + number + 1
            value = None if chance.random() < 0.25 else f"{number}.{serial}"
            began = time.monotonic()
            self._write(own, value)
            with self._lock:
                self._known[own] = value
                self.writes += 1
                self.slowest = max(self.slowest, time.monotonic() - began)

    def _write(self, number: int, value: str | None) -> None:
        if value is None:
            there = self._writer.target_id(number)
            self._writer.delete(
                [number],
                source=lambda: self._source.delete(self._column([number])),
                target=lambda: self._target.delete(IdColumn.of(self._target_kind, [there])),
            )
            return
        record = self._record(number, value)
        self._writer.upsert(
            [number],
            source=lambda: _upsert(self._source, [record]),
            target=lambda: _upsert(self._target, self._mapper.map(record).batches),
        )

    def _record(self, number: int, value: str) -> Batch:
        row = self._packages.take([(number - 1) % len(self._packages)])
        payload: dict[str, Any] = {**row.payloads[0], _REVISION: value}
        return Batch(ids=self._column([number]), vectors=row.vectors, payloads=[payload])

    def _column(self, numbers: Sequence[int]) -> IdColumn:
        return IdColumn.of(self._packages.ids.kind, numbers)

    @property
    def _target_kind(self) -> IdKind:
        return self._mapper.mapping.ids.target_kinds[0]


def _upsert(database: Database, batches: Sequence[Batch]) -> None:
    for batch in batches:
        refused = database.upsert(batch)
        if refused:
            raise InvalidRecord(refused[0].reason, ids=[refused[0].id])


class Following:
    """A thread that does something again and again until it is ended.

    Args:
        work: what; it returns soon.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="demo")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        if self._running is not None and raised[0] is None:
            self._running.result()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self._work()
