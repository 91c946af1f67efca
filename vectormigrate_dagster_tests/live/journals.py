"""Journals that tests look into, and whose clock they move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from vectormigrate_dagster.live.journal import Bounds, Control, Journal, JournalDatabase, Key, State
from vectormigrate_dagster.live.journal.tables import ENTRIES
from vectormigrate_dagster.model import IdKind

MIGRATION = "packages"
BOUNDS = Bounds(start=5.0, request=100.0, margin=5.0)
OPEN = BOUNDS.open_seconds


class ClockedDatabase(JournalDatabase):
    """A journal's database whose clock stands still until it is moved."""

    time = 1_000_000.0

    def now(self, connection: sa.Connection) -> float:
        return self.time

    @property
    def server_clock(self) -> str:
        return repr(self.time)

    def tick(self, seconds: float) -> None:
        self.time += seconds


Clocked = tuple[ClockedDatabase, Journal]


def key(number: int) -> Key:
    return Key(None, IdKind.U64, str(number))


def keys(*numbers: int) -> list[Key]:
    return [key(number) for number in numbers]


def registered(database: JournalDatabase, bounds: Bounds = BOUNDS) -> Journal:
    return Journal.register(database, MIGRATION, id_kinds=[IdKind.U64], bounds=bounds, by="test")


@contextmanager
def opened(url: str, bounds: Bounds = BOUNDS) -> Iterator[tuple[ClockedDatabase, Journal]]:
    """A journal whose clock stands still."""
    database = ClockedDatabase(url)
    try:
        yield database, registered(database, bounds)
    finally:
        database.close()


def entered(journal: Journal, state: State) -> Control:
    return journal.enter(state, since=journal.control(), by="test", reason="wanted")


def frozen(journal: Journal, seconds: float = 60.0) -> Control:
    return journal.freeze(since=journal.control(), seconds=seconds, by="test", reason="wanted")


def switched(journal: Journal) -> Control:
    """The row after a switch with nothing under way."""
    control = frozen(journal)
    journal.verified(control)
    return journal.switch(since=control, by="test", reason="wanted")


def written(journal: Journal, *numbers: int) -> None:
    """An application's write of some records, from intent to acknowledgement."""
    journal.applied(journal.admit(keys(*numbers)))


def carried_over(journal: Journal, seconds: float = 60.0) -> list[Key]:
    """What a catch-up run finds to do, done."""
    lease = journal.lease(seconds=seconds)
    assert lease is not None
    found = journal.due(lease)
    journal.consume(lease, found)
    journal.release(lease)
    return [entry.key for entry in found]


def rows(database: JournalDatabase, table: sa.Table = ENTRIES) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(table)))
