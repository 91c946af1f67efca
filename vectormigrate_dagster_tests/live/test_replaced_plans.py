"""Checks that the journal goes by one plan: once that was replaced, nothing is done by the one before, by anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, State
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster.live.journal.tables import VERSION
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import BOUNDS, MIGRATION, entered, keys, opened

PLAN, NEXT = "the plan", "the next plan"


def planned(database: JournalDatabase, plan: str = PLAN) -> Journal:
    return Journal.register(database, MIGRATION, id_kinds=[IdKind.U64], bounds=BOUNDS, plan=plan, by="test")


def replace(database: JournalDatabase) -> None:
    Journal(database, MIGRATION).replan(
        id_kinds=[IdKind.U64], bounds=BOUNDS, plan=NEXT, before=PLAN, by="somebody", reason="generation 2 was planned"
    )


@pytest.fixture
def database(journal_url: str) -> Iterator[JournalDatabase]:
    found = JournalDatabase(journal_url)
    yield found
    found.close()


Act = Callable[[], object]


def to_re_sync(journal: Journal) -> list[Act]:
    journal.note(keys(1), kind="change")
    lease = journal.lease(seconds=60)
    assert lease is not None
    due = journal.due(lease)
    assert len(due) == 1
    return [
        lambda: journal.lease(seconds=60),
        lambda: journal.extend(lease, seconds=60),
        lambda: journal.consume(lease, due),
        lambda: journal.note(keys(2), kind="touch"),
        journal.position,
        journal.prune,
    ]


def to_load(journal: Journal) -> list[Act]:
    attempt = journal.begin_split("g0001-00000", seconds=60)
    return [
        lambda: journal.begin_split("g0001-00001", seconds=60),
        lambda: journal.renew(attempt, seconds=60),
        lambda: journal.finish_split(attempt),
        lambda: journal.leave_split(attempt),
        lambda: journal.leave_splits(over=True),
    ]


def to_switch(journal: Journal) -> list[Act]:
    generations = Generations(journal)
    chunk = generations.begin("a part")
    control = journal.control()
    return [
        lambda: generations.begin("another part"),
        lambda: generations.finish(chunk, []),
        lambda: journal.enter(State.VERIFYING, since=control, by="test", reason="test"),
        lambda: journal.freeze(since=control, seconds=60, by="test", reason="test"),
        lambda: journal.verified(control),
        lambda: journal.switch(since=control, by="test", reason="test"),
        lambda: journal.complete(since=control, by="test", reason="test"),
        journal.control,
    ]


@pytest.mark.parametrize("acts", [to_re_sync, to_load, to_switch])
def test_nothing_is_done_by_a_plan_that_was_replaced(
    database: JournalDatabase, acts: Callable[[Journal], list[Act]]
) -> None:
    every = acts(planned(database))
    replace(database)
    unplanned = Journal(database, MIGRATION)
    before = unplanned.lag().records, unplanned.control()

    for act in every:
        with pytest.raises(PlanOutdated, match=r"goes by another plan \(somebody: generation 2 was planned\)"):
            act()

    assert (unplanned.lag().records, unplanned.control()) == before


def test_a_journal_of_another_plan_is_not_opened_by_this_one(database: JournalDatabase) -> None:
    planned(database)

    with pytest.raises(PlanOutdated):
        planned(database, NEXT)
    with pytest.raises(PlanOutdated):
        Journal(database, MIGRATION, NEXT)


def test_an_application_goes_by_no_plan(database: JournalDatabase) -> None:
    planned(database)
    application = Journal(database, MIGRATION)
    replace(database)

    application.applied(application.admit(keys(1)))

    assert planned(database, NEXT).lag().records == 1


def test_a_journal_that_was_made_before_it_told_its_plan_goes_by_any_until_the_next(journal_url: str) -> None:
    with opened(journal_url) as (database, journal), database.transaction() as connection:
        entered_before = journal.control().epoch
        for column in ("plan", "plan_before"):
            connection.execute(sa.text(f"alter table vectormigrate_control drop column {column}"))
        connection.execute(sa.delete(VERSION).where(VERSION.c.version > 2))

    older = JournalDatabase(journal_url)
    try:
        journal = planned(older)
        assert (journal.control().plan, journal.control().epoch) == (None, entered_before)
        assert entered(journal, State.BACKFILLING).state is State.BACKFILLING
        replace(older)
        with pytest.raises(PlanOutdated):
            entered(journal, State.CATCHING_UP)
    finally:
        older.close()
