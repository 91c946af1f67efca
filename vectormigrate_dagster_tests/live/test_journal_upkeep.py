"""Checks what surrounds the rules of the journal: registering and planning, pruning, keys and addresses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import ConfigurationError, InvalidRecord, NotFound, NotSo, StorageFailed
from vectormigrate_dagster.live.journal import Bounds, Journal, JournalDatabase, Key, State
from vectormigrate_dagster.live.journal.tables import APPLIED
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import (
    BOUNDS,
    MIGRATION,
    OPEN,
    Clocked,
    carried_over,
    entered,
    frozen,
    keys,
    registered,
    rows,
    switched,
    written,
)

########
# Plans
########


def test_registering_again_changes_nothing(clocked: Clocked) -> None:
    database, journal = clocked
    entered(journal, State.BACKFILLING)
    before = journal.control()

    assert registered(database, Bounds(request=7)).control() == before


def test_a_new_plan_keeps_the_larger_bounds_while_anything_relies_on_them(clocked: Clocked) -> None:
    _, journal = clocked
    written(journal, 1)
    small = Bounds(start=1, request=1000, margin=1)
    admission = journal.admit(keys(2))

    def planned() -> Bounds:
        return journal.replan(id_kinds=[IdKind.U64], bounds=small, by="test", reason="planned").bounds

    assert planned() == replace(BOUNDS, request=1000)
    journal.applied(admission)
    assert planned() == small
    assert journal.lag().records == 2


def test_a_new_plan_is_refused_while_the_application_writes_to_the_target(clocked: Clocked) -> None:
    _, journal = clocked
    switched(journal)

    with pytest.raises(NotSo, match="go back with 'reverse'"):
        journal.replan(id_kinds=[IdKind.U64], bounds=BOUNDS, by="test", reason="no")


def test_migrations_of_one_journal_do_not_meet(clocked: Clocked) -> None:
    database, journal = clocked
    other = Journal.register(database, "other", id_kinds=[IdKind.TEXT], bounds=BOUNDS, by="test")
    written(journal, 1)
    frozen(journal)

    other.applied(other.admit([Key("eu", IdKind.TEXT, "a")]))
    assert carried_over(other) == [Key("eu", IdKind.TEXT, "a")]
    assert (journal.lag().records, other.lag().records) == (1, 0)
    with pytest.raises(NotFound, match="knows no migration 'third'"):
        Journal(database, "third")


########
# Pruning
########


def test_pruning_forgets_what_was_dealt_with_and_nothing_else(clocked: Clocked) -> None:
    database, journal = clocked
    written(journal, 1, 2)
    carried_over(journal)
    written(journal, 3)
    journal.admit(keys(4))
    database.tick(10_000)

    assert journal.prune(age=3600) == 2
    assert [row.id for row in rows(database)] == ["3", "4"]
    assert len(rows(database, APPLIED)) == 1
    assert set(carried_over(journal)) == set(keys(3, 4))


def test_pruning_keeps_what_a_split_may_still_have_to_touch(clocked: Clocked) -> None:
    database, journal = clocked
    written(journal, 1)
    carried_over(journal)
    attempt = journal.begin_split("all", seconds=60)
    written(journal, 2)
    carried_over(journal)
    database.tick(10_000)

    assert journal.prune(age=0) == 1
    assert journal.finish_split(attempt) == 1
    assert carried_over(journal) == keys(2)


def test_pruning_keeps_what_was_dealt_with_just_now(clocked: Clocked) -> None:
    database, journal = clocked
    written(journal, 1, 2)
    carried_over(journal)

    assert journal.prune(age=0) == 0
    database.tick(OPEN)
    assert journal.prune(age=0) == 1
    assert [row.id for row in rows(database)] == ["2"]  # the newest says how far the journal has come


########
# Keys and addresses
########


def test_a_key_is_of_the_first_kind_that_can_hold_the_id() -> None:
    kinds = [IdKind.U64, IdKind.UUID]

    assert Key.of(7, kinds) == Key(None, IdKind.U64, "7")
    text = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"
    assert Key.of(text, kinds, "eu") == Key("eu", IdKind.UUID, text.lower())
    for wrong in (-1, "seven"):
        with pytest.raises(InvalidRecord, match="is no id of the source, which has u64, uuid ids"):
            Key.of(wrong, kinds)


def test_only_two_kinds_of_database_keep_journals(tmp_path: Path) -> None:
    for url, says in (("mysql://x/y", "SQLite or Postgres"), ("sqlite://", "lost with its process")):
        with pytest.raises(ConfigurationError, match=says):
            JournalDatabase(url)
    with pytest.raises(ConfigurationError, match="install vectormigrate-dagster\\[postgres\\]"):
        JournalDatabase("postgresql+pg8000://x/y")


def test_a_password_is_never_shown(postgres_url: str) -> None:
    database = JournalDatabase(postgres_url.replace("postgres@", "postgres:open-sesame@"))
    database.close()

    assert "open-sesame" not in str(database)
    assert MIGRATION not in str(database)

    with pytest.raises(StorageFailed) as failed:
        JournalDatabase("postgresql://me@127.0.0.1:1/x?password=open-sesame")
    assert "open-sesame" not in str(failed.value)
    for wrong in ("me:open-sesame@host", "postgresql://me:open@host:sesame/x"):
        with pytest.raises(ConfigurationError, match="needs an address such as") as refused:
            JournalDatabase(wrong)
        assert "sesame" not in str(refused.value)
