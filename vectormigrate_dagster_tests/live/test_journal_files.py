"""Checks that a journal outlives programs and hosts: older files are stepped up, a power cut ends all trust."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from vectormigrate_dagster.errors import ConfigurationError, NotSo, StorageFailed
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, State, boot, database, tables
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster_tests.live.journals import (
    carried_over,
    entered,
    frozen,
    keys,
    registered,
    written,
)


@contextmanager
def opened(url: str) -> Iterator[Journal]:
    found = JournalDatabase(url)
    try:
        yield registered(found)
    finally:
        found.close()


########
# Steps
########


def test_an_older_journal_is_stepped_up_and_keeps_what_it_holds(
    journal_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(journal_url) as journal:
        entered(journal, State.BACKFILLING)
        written(journal, 1, 2)
        before = journal.control()
    made: list[str] = []

    def add_column(connection: sa.Connection) -> None:
        connection.execute(sa.text("alter table vectormigrate_entries add column shard integer not null default 7"))
        made.append("column")

    def fill_column(connection: sa.Connection) -> None:
        connection.execute(sa.text("update vectormigrate_entries set shard = 8 where id = '2'"))
        made.append("values")

    monkeypatch.setattr(tables, "STEPS", (*tables.STEPS, add_column, fill_column))
    for _ in range(2):
        with opened(journal_url) as journal:
            assert journal.control() == before
            with journal.database.reading() as connection:
                shards = connection.exec_driver_sql("select shard from vectormigrate_entries order by id").scalars()
                assert list(shards) == [7, 8]
    with opened(journal_url) as journal:
        assert carried_over(journal) == keys(1, 2)

    assert made == ["column", "values"]


def test_a_step_that_fails_leaves_the_journal_as_it_was(journal_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(journal_url) as journal:
        written(journal, 1)

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("create table vectormigrate_half (a integer)"))
        connection.execute(sa.text("insert into nowhere values (1)"))

    with monkeypatch.context() as patch:
        patch.setattr(tables, "STEPS", (*tables.STEPS, fail))
        with pytest.raises(StorageFailed, match="nowhere"):
            JournalDatabase(journal_url)
    with opened(journal_url) as journal, journal.database.reading() as connection:
        assert "vectormigrate_half" not in sa.inspect(connection).get_table_names()


def test_a_journal_of_a_newer_program_is_not_touched(journal_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tables, "STEPS", (*tables.STEPS, lambda connection: None))
        with opened(journal_url):
            pass

    known = len(tables.STEPS)
    with pytest.raises(ConfigurationError, match=f"of version {known + 1}, this program knows {known}; use the newer"):
        JournalDatabase(journal_url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageFailed, match="folder of the journal"):
        JournalDatabase(f"sqlite:///{tmp_path / 'file' / 'journal.db'}")


########
# Power
########


def started_anew(monkeypatch: pytest.MonkeyPatch, number: str = "another start") -> None:
    monkeypatch.setattr(database, "boot_number", lambda: number)


def test_after_a_start_of_the_host_nothing_counts_that_was_compared_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last intents may be lost with the power: what they would have told is found by comparing everything."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    with opened(url) as journal:
        generations = Generations(journal)
        assert generations.finish(generations.begin("done"), []) == []
        under_way = generations.begin("under way")
        control = frozen(journal, 600)
        seen = generations.quiet(control, ["done"])
        assert seen is not None
        generations.verified(control, seen)
        assert journal.blockers(control) == []

    with opened(url) as journal:  # the same start
        assert Generations(journal).missing(["done"], max_age=3600) == []
        assert journal.blockers(control) == []
    started_anew(monkeypatch)
    with opened(url) as journal:
        generations = Generations(journal)
        assert generations.missing(["done"], max_age=3600) == ["done"]
        assert generations.finish(under_way, []) is None
        with pytest.raises(NotSo, match="verification has not passed"):
            journal.switch(since=control, by="test", reason="late")
        with pytest.raises(NotSo, match=r"1 of 1 part of .* is not compared"):
            generations.quiet(control, ["done"])
        assert (journal.control().epoch, journal.control().state) == (control.epoch, control.state)


def test_containers_that_are_told_different_numbers_do_not_distrust_each_other_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    for number in ("one", "another"):
        started_anew(monkeypatch, number)
        with opened(url) as journal:
            generations = Generations(journal)
            assert generations.missing(["all"], max_age=3600) == ["all"]
            generations.finish(generations.begin("all"), [])

    started_anew(monkeypatch, "one")
    with opened(url) as journal:
        assert Generations(journal).missing(["all"], max_age=3600) == []


def test_only_admissions_do_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(f"sqlite:///{tmp_path / 'journal.db'}") as journal:

        def synchronous() -> int:
            return int(connection.exec_driver_sql("pragma synchronous").scalar_one())

        with journal.database.relaxed() as connection:
            assert synchronous() == 1  # normal
        with journal.database.transaction() as connection:
            assert synchronous() == 2  # full
        with journal.holding("update") as (connection, _):
            assert synchronous() == 2

    monkeypatch.setattr(database, "boot_number", lambda: None)
    with opened(f"sqlite:///{tmp_path / 'other.db'}") as journal, journal.database.relaxed() as connection:
        assert synchronous() == 2


def test_the_number_of_a_start_is_the_hosts_own_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot.boot_number() == boot.boot_number()
    monkeypatch.setattr(boot, "_FILE", tmp_path / "missing")

    assert boot.boot_number() is None


def test_postgres_has_intents_on_disk_whatever_its_default_is(postgres_url: str) -> None:
    with opened(postgres_url) as journal, journal.database.transaction() as connection:
        name = connection.exec_driver_sql("select current_database()").scalar()
        connection.exec_driver_sql(f'alter database "{name}" set synchronous_commit = off')
    with opened(postgres_url) as journal, journal.database.relaxed() as connection:
        assert connection.exec_driver_sql("show synchronous_commit").scalar() == "on"
