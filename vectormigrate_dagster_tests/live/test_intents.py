"""Checks admissions under a control row that was seen before, on both engines (rule 1, CE-6).

Nearly every admission is one: it is a single transaction that holds the row, on a server a single execution, and it
counts only while the row is still the one that was seen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from vectormigrate_dagster.errors import InvalidRecord, StorageFailed
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, Key, Request, State
from vectormigrate_dagster.live.journal import control as control_rows
from vectormigrate_dagster.live.journal.admissions import admit_together
from vectormigrate_dagster.live.journal.tables import APPLIED
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import MIGRATION, entered, frozen, keys, registered, rows


@contextmanager
def two_processes(url: str) -> Iterator[tuple[Journal, Journal]]:
    """The journals of an application and of somebody who changes the control row."""
    databases = JournalDatabase(url), JournalDatabase(url)
    try:
        yield registered(databases[0]), registered(databases[1])
    finally:
        for database in databases:
            database.close()


def asked(*numbers: int) -> list[Request]:
    return [Request(keys=keys(number), began=0.0) for number in numbers]


@contextmanager
def executed() -> Iterator[list[str]]:
    """What is sent to databases meanwhile, one entry for each round trip but those of BEGIN and COMMIT."""
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_a_row_that_was_changed_meanwhile_counts_as_it_is(journal_url: str) -> None:
    with two_processes(journal_url) as (application, other):
        first = admit_together(application, asked(1))
        changed = entered(other, State.CATCHING_UP)

        second = admit_together(application, asked(2, 3), applied=first or ())
        third = admit_together(application, asked(4), applied=second or ())

        assert [one.control.epoch for one in [*(first or ()), *(second or ()), *(third or ())]] == [
            changed.epoch - 1,
            *[changed.epoch] * 3,
        ]
        assert [row.epoch for row in rows(other.database)] == [changed.epoch - 1, *[changed.epoch] * 3]
        assert other.lag().open == 1


def test_a_freeze_that_the_application_has_not_seen_holds_its_writes_back(journal_url: str) -> None:
    with two_processes(journal_url) as (application, other):
        before = admit_together(application, asked(1))
        frozen(other, 600)

        assert admit_together(application, asked(2), applied=before or ()) is None
        assert admit_together(application, asked(2)) is None
        assert len(rows(other.database)) == len(rows(other.database, APPLIED)) == 1

        entered(other, State.CATCHING_UP)
        assert admit_together(application, asked(2)) is not None
        assert len(rows(other.database)) == 2


def test_a_write_about_no_record_goes_to_the_side_that_is_primary_now(journal_url: str) -> None:
    with two_processes(journal_url) as (application, other):
        changed = entered(other, State.CATCHING_UP)

        admitted = admit_together(application, [Request(keys=[], began=0.0)])

        assert [one.control.epoch for one in admitted or ()] == [changed.epoch]
        assert rows(other.database) == []


def test_acknowledgements_ride_along_even_twice(journal_url: str) -> None:
    with two_processes(journal_url) as (application, other):
        first = admit_together(application, asked(1, 2)) or []

        admit_together(application, asked(3), applied=first)
        admit_together(application, asked(4), applied=first)

        assert other.lag().open == 2
        assert {row.ticket for row in rows(other.database, APPLIED)} == {one.ticket for one in first}


def test_an_admission_that_waits_for_a_freeze_sees_it(postgres_url: str) -> None:
    """CE-6 on a server: what the second statement sees must be younger than the lock, whatever the server's default."""
    with sa.create_engine(postgres_url.replace(":", "+psycopg2:", 1), isolation_level="AUTOCOMMIT").connect() as owner:
        name = postgres_url.rsplit("/", 1)[1]
        owner.exec_driver_sql(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    with two_processes(postgres_url) as (application, other):
        admit_together(application, asked(1))
        given: list[object] = []
        with other.holding("update") as (connection, control):
            control_rows.change(other.database, connection, control, by="test", reason="wanted", state="frozen")
            thread = threading.Thread(target=lambda: given.append(admit_together(application, asked(2))))
            thread.start()
            waiting = 0
            while not waiting and not given:
                waiting = connection.exec_driver_sql("select count(*) from pg_locks where not granted").scalar_one()
        thread.join()

        assert given == [None]
        assert len(rows(other.database)) == 1


def test_an_admission_is_one_round_trip_to_a_server(postgres_url: str) -> None:
    with two_processes(postgres_url) as (application, other):
        entered(other, State.CATCHING_UP)
        first = admit_together(application, asked(1))  # sees the row as it is now

        with executed() as statements:
            admit_together(application, asked(2, 3), applied=first or ())
        with application.database.single() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            autocommits = driver.autocommit

        assert len(statements) == 1
        assert autocommits  # so neither BEGIN nor COMMIT is sent


@pytest.mark.parametrize("text", ["it's", 'a "b"', "100%", "back\\slash", "{}", "ü", ""])
def test_ids_are_noted_as_they_are(journal_url: str, text: str) -> None:
    with two_processes(journal_url) as (application, other):
        named = [Key(text or None, IdKind.TEXT, text)]

        admit_together(application, [Request(keys=named, began=0.0)])

        assert [(row.migration, row.scope, row.id, row.lane) for row in rows(other.database)] == [
            (MIGRATION, text or None, text, named[0].lane)
        ]


def test_an_intent_that_waits_for_its_commit_is_below_no_low(postgres_url: str) -> None:
    """CE-7, rule 4: it has its number by then, and another entry a larger one; so who reads a low waits for it."""
    with two_processes(postgres_url) as (application, other), other.database.transaction() as blocker:
        before = admit_together(application, asked(1)) or []
        told = {"ticket": before[0].ticket, "migration": "another's", "at": 0.0}
        blocker.execute(sa.insert(APPLIED).values(told))  # so that who tells it too waits for the end of this
        lows: list[int] = []
        tasks = [
            threading.Thread(target=lambda: admit_together(application, asked(2), applied=before)),
            threading.Thread(target=lambda: lows.append(other.begin_split("all", seconds=60).low)),
        ]
        for count, task in enumerate(tasks, 1):
            task.start()
            waiting = 0
            while waiting < count and task.is_alive():
                locks = "select count(*) from pg_locks where not granted"
                waiting = blocker.exec_driver_sql(locks).scalar_one()
            other.note(keys(3), kind="touch") if count == 1 else None
        assert lows == []
        blocker.rollback()
        for task in tasks:
            task.join()

        named = [row.id for row in rows(other.database) if row.seq >= lows[0]]
        assert {"2", "3"} <= set(named)


def test_a_connection_that_may_have_the_statement_is_given_up(postgres_url: str) -> None:
    with two_processes(postgres_url) as (application, other):
        admit_together(application, asked(1))
        with application.database.single() as connection:
            connection.info.clear()  # as if the answer to PREPARE had been lost

        with pytest.raises(StorageFailed, match="already exists"):
            admit_together(application, asked(2))
        assert admit_together(application, asked(3)) is not None
        assert [row.id for row in rows(other.database)] == ["1", "3"]


def test_a_transaction_within_another_is_one_of_its_own(postgres_url: str) -> None:
    with two_processes(postgres_url) as (application, other):
        with application.database.single(), application.database.transaction() as connection:
            connection.execute(sa.insert(APPLIED).values(ticket=1, migration=MIGRATION, at=0.0))
            connection.rollback()

        assert rows(other.database, APPLIED) == []


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d"])
def test_an_id_that_databases_cannot_take_is_refused_before_it_is_noted_with_others(text: str) -> None:
    for wrong, scope in ((text, None), ("a", text)):
        with pytest.raises(InvalidRecord, match="NUL or half a character"):
            Key.of(wrong, [IdKind.TEXT], scope)
        with pytest.raises(InvalidRecord, match="NUL or half a character"):
            Key.parse(wrong, [IdKind.TEXT], scope)
