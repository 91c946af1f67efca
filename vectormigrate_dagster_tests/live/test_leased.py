"""Checks that a repair re-syncs under the same leases as catching up (rules 5 and 6), and only from the primary."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from vectormigrate_dagster.errors import NotSo, Stopped, Unavailable
from vectormigrate_dagster.live.journal import LANES, Bounds, Journal, JournalDatabase, State
from vectormigrate_dagster.live.journal import control as rows
from vectormigrate_dagster.live.leased import LeasedResync
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.transfer.guard import WriteGuard
from vectormigrate_dagster.transfer.resync import Keys, Resync, Resynced

ONE = IdColumn.of(IdKind.U64, [1])
KEYS = Keys(scope=None, ids=ONE, target_scope=None, target_ids=ONE, seen=[None])


class Writes:
    """A re-sync that writes once, and may be told how that ends."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.guard = WriteGuard()
        self.error: Exception | None = None
        self.sent = 0

    def made_with(self, guard: WriteGuard) -> Resync:
        self.guard = guard
        return cast("Resync", self)

    def make_equal(self, keys: Keys) -> list[Resynced]:
        del keys
        assert self.journal.lease(seconds=1) is None, "nobody else may re-sync now"
        with self.guard.sending():
            self.sent += 1
            if self.error is not None:
                raise self.error
        return []


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    database = JournalDatabase(f"sqlite:///{tmp_path / 'journal.db'}")
    return Journal.register(database, "films", id_kinds=(IdKind.U64,), bounds=Bounds(), by="test")


@pytest.fixture
def writes(journal: Journal) -> Writes:
    return Writes(journal)


def leased(journal: Journal, writes: Writes, waits: list[float] | None = None) -> LeasedResync:
    def sleep(seconds: float) -> None:
        if waits is None:
            raise Stopped("it would wait")
        waits.append(seconds)

    return LeasedResync(journal, writes.made_with, holder="repair", sleep=sleep)


def test_all_lanes_are_leased_for_a_call_and_given_back(journal: Journal, writes: Writes) -> None:
    work = leased(journal, writes)
    work.make_equal(KEYS)
    work.make_equal(KEYS)
    assert (writes.sent, journal.busy_seconds()) == (2, 0)


def test_it_waits_for_lanes_that_are_somebody_elses(journal: Journal, writes: Writes) -> None:
    other = journal.lease([7], seconds=60)
    assert other is not None
    with pytest.raises(Stopped):
        leased(journal, writes).make_equal(KEYS)
    rest = journal.lease(seconds=60)
    assert rest is not None
    assert len(rest.lanes) == LANES - 1  # what was free while it waited was given back
    journal.release(rest)
    waits: list[float] = []

    def release_after_a_wait(seconds: float) -> None:
        waits.append(seconds)
        journal.release(other)

    LeasedResync(journal, writes.made_with, holder="repair", sleep=release_after_a_wait).make_equal(KEYS)
    assert (len(waits), writes.sent) == (1, 1)


def test_after_an_outcome_that_is_not_known_the_lanes_stay_taken(journal: Journal, writes: Writes) -> None:
    writes.error = Unavailable("no answer came")
    with pytest.raises(Unavailable):
        leased(journal, writes).make_equal(KEYS)
    assert journal.busy_seconds() > Bounds().request


def test_nothing_is_written_from_a_source_that_is_the_copy(journal: Journal, writes: Writes) -> None:
    with journal.database.transaction() as connection:
        now = rows.read(journal.database, connection, "films")
        values = {"state": State.SWITCHED.value, "primary_side": "target"}
        rows.change(journal.database, connection, now, by="test", reason="test", **values)
    with pytest.raises(NotSo, match="its source is the copy"):
        leased(journal, writes).make_equal(KEYS)
    assert (writes.sent, journal.busy_seconds()) == (0, 0)
