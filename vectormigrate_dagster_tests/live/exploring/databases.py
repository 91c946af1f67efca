"""Collections whose every call is a step of the world, and a journal in memory whose every transaction is one."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import sqlalchemy as sa

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.live.journal import JournalDatabase, database
from vectormigrate_dagster.live.journal.tables import bring_up_to_date
from vectormigrate_dagster.model import Batch, Dense, Id, IdColumn, IdKind
from vectormigrate_dagster_tests.batches import dense_schema
from vectormigrate_dagster_tests.live.exploring.world import HERE, World
from vectormigrate_dagster_tests.memory import MemoryDatabase, _Store

MIGRATION = "live"
_JOURNAL = str(Path(database.__file__).parent)
_READS = {"scan", "fetch"}
Values = dict[int, int]
"""Id -> which value; small numbers, counted up by those who write."""


@cache
def record(key: int, value: int) -> Batch:
    """A record that holds a value."""
    vectors = {"": Dense(np.array([[value]], np.float32))}
    return Batch(IdColumn.of(IdKind.U64, [key]), None, vectors, [{"value": value}])


def values_of(records: dict[Id, Batch]) -> Values:
    """What records hold."""
    return {int(key): batch.payloads[0]["value"] for key, batch in records.items()}


def _sorted(values: Values) -> Hashable:
    return tuple(sorted(values.items()))


class SteppedDatabase(MemoryDatabase):
    """A collection that answers when the world says so, and may show what it held before the last write.

    Args:
        side: "source" or "target".
        values: what it holds at the beginning.
    """

    def __init__(self, world: World, side: str, values: Values) -> None:
        self._world = world
        self._real = _Store()
        self._before = _Store()
        self._changed_at = -np.inf
        self._view: _Store | None = None
        super().__init__(side, schema=dense_schema(side, dim=1))
        self.side = side
        self._real.records[None] = {key: record(key, value) for key, value in values.items()}

    @property
    def store(self) -> _Store:
        """What the call that is under way sees."""
        return self._view or self._real

    @store.setter
    def store(self, value: _Store) -> None:
        """The store is this class' own."""

    @property
    def values(self) -> Values:
        """What it really holds."""
        return values_of(self._real.records[None])

    @property
    def remembered(self) -> Hashable:
        """All that later reads go by."""
        stale = (values_of(self._before.records[None]), self._changed_at) if self._may_be_stale() else ({}, 0.0)
        return _sorted(self.values), _sorted(stale[0]), stale[1]

    def upsert(self, batch: Batch) -> list[Refusal]:
        """Send a write; as a migration does."""
        keys = [int(key) for key in batch.ids.to_pylist()]
        what = ", ".join(f"{key}={payload['value']}" for key, payload in zip(keys, batch.payloads, strict=True))
        self._world.write(
            self.side, what, keys, lambda: self._land({key: batch.take([i]) for i, key in enumerate(keys)})
        )
        return []

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """Send a deletion; as a migration does."""
        keys = [int(key) for key in ids.to_pylist()]
        what = ", ".join(f"no {key}" for key in keys)
        self._world.write(self.side, what, keys, lambda: self._land(dict.fromkeys(keys)))

    def wait_visible(self) -> None:
        """Wait until reads show every write."""
        if self._may_be_stale():
            self._world.sleep(self._world.bounds.stale[self.side])  # type: ignore[index]

    def put_value(self, key: int, value: int | None) -> None:
        """Send what an application writes; None deletes."""
        what = f"no {key}" if value is None else f"{key}={value}"
        new = None if value is None else record(key, value)
        self._world.write(self.side, what, [key], lambda: self._land({key: new}), application=True)

    def _land(self, changes: dict[int, Batch | None]) -> None:
        self._before.records = {None: dict(self._real.records[None])}
        self._changed_at = self._world.now
        for key, batch in changes.items():
            if batch is None:
                self._real.records[None].pop(key, None)
            else:
                self._real.records[None][key] = batch

    def _call(self, method: str) -> None:
        self._view = None
        if method in _READS and self._world.read(f"read {self.side}", self._may_be_stale):
            self._view = self._before
        if HERE.actor is not None and method in _READS:
            HERE.actor.saw(tuple(sorted(values_of(self.store.records[None]).items())))

    def _may_be_stale(self) -> bool:
        bound = self._world.bounds.stale[self.side]  # type: ignore[index]
        return bool(self._world.now - self._changed_at < bound)


class SteppedJournal(JournalDatabase):
    """A journal in memory: a transaction is a step, its clock is the world's."""

    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__("sqlite://")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A step.

        Raises:
            StorageFailed: nothing was done, or nobody knows that it was.
        """
        how = "" if HERE.actor is None else self._world.step("journal", f"journal: {_caller(sys._getframe())}")
        if how == "refuse":
            raise StorageFailed("the journal is not there")
        with super().transaction() as connection:
            yield connection
        if how == "fail":
            raise StorageFailed("the journal was there, and is not any more")

    def now(self, connection: sa.Connection) -> float:
        """The world's clock."""
        return self._world.look_at_clock()

    def close(self) -> None:
        """Keep it: others use it too."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Look into it, beside the world."""
        return list(_connection(self._engine).execute(query))

    @property
    def remembered(self) -> Hashable:
        """All that is in it."""
        connection = _connection(self._engine)
        return tuple(frozenset(connection.execute(f"select * from {table}")) for table in _tables())

    def _make_engine(self) -> sa.Engine:
        """The one engine of all journals, which has compiled all queries before; what it held is gone."""
        engine = _engine()
        _connection(engine).deserialize(_empty())
        return engine


@cache
def _engine() -> sa.Engine:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("begin immediate"))
    return engine


@cache
def _empty() -> bytes:
    """A journal in which nothing is."""
    with _engine().begin() as connection:
        bring_up_to_date(connection)
    return bytes(_connection(_engine()).serialize())


@cache
def _tables() -> tuple[str, ...]:
    """All tables, and the one that numbers entries."""
    names = "select name from sqlite_master where type = 'table' order by name"
    return tuple(name for (name,) in _connection(_engine()).execute(names))


def _connection(engine: sa.Engine) -> Any:
    """The only connection, as the driver knows it."""
    connection = engine.raw_connection()
    try:
        return connection.driver_connection
    finally:
        connection.close()


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    connection.row_factory = _seen


def _seen(_: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row, which the actor has seen now."""
    if HERE.actor is not None:
        HERE.actor.saw(row)
    return row


def _caller(frame: FrameType | None) -> str:
    """The step of the journal that wants a transaction: the outermost function of its room."""
    name = "?"
    while frame is not None:
        if frame.f_code.co_filename.startswith(_JOURNAL) and not frame.f_code.co_name.startswith("_"):
            name = frame.f_code.co_name
        frame = frame.f_back
    return name
