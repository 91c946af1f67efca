"""The application: writers that insert, update, delete and insert again, as fast as they can, through `DualWriter`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.mapping.id_columns import map_column
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch
from vectormigrate_dagster_tests.live.chaos import records
from vectormigrate_dagster_tests.live.chaos.history import Notes
from vectormigrate_dagster_tests.live.chaos.world import HOT, NUMBERS, World

THREADS = 2

_BACKLOG = 300
"""Changes that may wait: an application that writes faster than anything is carried over is never switched over."""

_LOOK_EVERY = 10
_REST_SECONDS = 0.1


def run(world: World, name: str) -> None:
    """Write until the flag "quiet" is there; a process of the application.

    Args:
        name: unique to this process; the notes are kept under it.
    """
    notes = Notes(world.folder / f"{name}.notes")
    writer = DualWriter(world.journal_url, world.name)
    failed: list[BaseException] = []
    with databases.open_target(world.source) as source, databases.open_target(world.target) as target:
        for database in (source, target):
            _warm_up(database)

        def work(number: int) -> None:
            try:
                Writer(world, f"{name}.{number}", writer, notes, source, target).run(world.flag("quiet").exists)
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def _warm_up(database: Database) -> None:
    """Let a client build what it builds once: Pinecone's ends its process if two threads do so at a time."""
    with suppress(DatabaseError):
        database.describe()


class Writer:
    """One thread that writes; the clients are those of its process."""

    def __init__(
        self, world: World, name: str, writer: DualWriter, notes: Notes, source: Database, target: Database
    ) -> None:
        self._world = world
        self._name = name
        self._chance = random.Random(f"{world.seed} {name}")
        self._writer = writer
        self._notes = notes
        self._mapper = RecordMapper(world.plan.mapping)
        self._source = source
        self._target = target
        self._journal = world.journal()
        self._serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._journal.database.close()

    def run(self, ended: Callable[[], bool]) -> None:
        """Write until the end."""
        with self:
            while not ended():
                time.sleep(self._world.pause)
                if self._serial % _LOOK_EVERY == 0 and self._journal.lag().records > _BACKLOG:
                    time.sleep(_REST_SECONDS)
                    continue
                self._serial += 1
                try:
                    self.write()
                except DatabaseError:
                    continue  # what came of it is unknown to the application too; it goes on with other records

    def write(self) -> None:
        """Write once, something, somewhere."""
        scope = self._chance.choice(self._world.scopes)
        numbers = self._numbers()
        deletes = self._chance.random() < 0.3
        value = None if deletes else f"{self._name}.{self._serial}"
        ids = records.column(self._world.schema, numbers).to_pylist()
        write = self._writer.delete if deletes else self._writer.upsert

        def noted(send: Callable[[str | None, Sequence[int], str | None], None]) -> Callable[[], int]:
            def call() -> int:
                noted = self._notes.began([(scope, number) for number in numbers], value)
                send(scope, numbers, value)
                return noted

            return call

        self._notes.ended(write(ids, source=noted(self._to_source), target=noted(self._to_target), scope=scope))

    def _numbers(self) -> list[int]:
        """One record, or three that go in one request: hot ones, or any."""
        hot = self._chance.random() < 0.5
        first = self._chance.randrange(HOT if hot else NUMBERS)
        kinds = len(self._world.schema.ids.kinds)
        count = 3 if self._chance.random() < 0.2 else 1
        return sorted({(first + kinds * step) % NUMBERS for step in range(count)})

    def _to_source(self, scope: str | None, numbers: Sequence[int], value: str | None) -> None:
        if value is None:
            self._source.delete(records.column(self._world.schema, numbers), scope)
        else:
            _require(self._source, [records.batch(self._world.schema, scope, numbers, value)])

    def _to_target(self, scope: str | None, numbers: Sequence[int], value: str | None) -> None:
        """What an application does that keeps to the plan of the migration."""
        if value is None:
            mapped = map_column(self._world.plan.mapping.ids, records.column(self._world.schema, numbers), scope)
            for _, ids in mapped.parts:
                self._target.delete(ids, self._mapper.target_scope(scope))
            return
        _require(self._target, self._mapper.map(records.batch(self._world.schema, scope, numbers, value)).batches)


def _require(database: Database, batches: Sequence[Batch]) -> None:
    for batch in batches:
        refused = database.upsert(batch)
        assert not refused, refused
