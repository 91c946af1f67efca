"""Checks homes that share a journal, and a planner that was killed: all is done by one plan, and the rest is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import planning
from vectormigrate_dagster.defs.catching_up import catch_up_migration
from vectormigrate_dagster.defs.cutting_over import look_ahead, move_primary
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.jobs import load_job, plan_job
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.rolling_back import begin_rollback
from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.live.journal import State
from vectormigrate_dagster.live.journal.tables import CONTROL
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.services.live import report_changes
from vectormigrate_dagster.services.rollback import rollback
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.defs.test_catching_up import Sensor
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of

ANEW = {"make_plan": {"replan": True}}
ADOPTED = {"make_plan": {"replan": True, "adopt": True}}


@pytest.fixture
def migration(place: Workplace, tmp_path: Path) -> Migration:
    """One whose journal other homes can use, too."""
    place.write(
        transfer={"partition_records": 100, "checkpoint_seconds": 0},
        journal={"url": f"sqlite:///{tmp_path / 'shared.db'}"},
    )
    return load_migration(place.migrations / f"{ID}.yaml")


@pytest.fixture
def elsewhere(place: Workplace, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_home(tmp_path / "another home") as opened:
        yield opened


def everything(instance: dg.DagsterInstance, migration: Migration, place: Workplace) -> dict[str, Callable[[], object]]:
    """What goes by a plan, as a home sees it."""
    log = MigrationLog(instance, ID)
    log.refresh()
    sides = place.source, place.target
    key = log.require_plan().keys[0]
    return {
        "load": lambda: run_job(load_job(migration), instance, ID, partition=key),
        "catch up": lambda: catch_up_migration(instance, migration, *sides, until="level"),
        "look": lambda: look_ahead(instance, migration, "cutover"),
        "cut over": lambda: move_primary(instance, migration, *sides, "cutover", by="test", reason="test"),
        "roll back": lambda: begin_rollback(log, migration, tell=lambda _: None),
        "go on with the plan": lambda: planning.plan_migration(instance, migration, *sides),
    }


def test_once_another_home_has_planned_nothing_is_done_by_the_plan_of_this_one(
    instance: dg.DagsterInstance,
    elsewhere: dg.DagsterInstance,
    migration: Migration,
    planned: MigrationLog,
    place: Workplace,
) -> None:
    plan = planned.require_plan()
    with open_journal(instance, migration, plan) as journal:
        journal.enter(State.BACKFILLING, since=journal.control(), by="test", reason="test")
    # Another generation: the first plans of two homes would be the same plan, and then it is one.
    run_job(plan_job(migration), elsewhere, ID)
    run_job(plan_job(migration), elsewhere, ID, ops=ANEW)
    with open_journal(elsewhere, migration) as journal:
        theirs = journal.control()

    for what, act in everything(instance, migration, place).items():
        if what != "go on with the plan":
            with pytest.raises(PlanOutdated, match="goes by another plan"):
                act()
    sensor = Sensor(instance, migration)
    assert (sensor.tick(), "goes by another plan" in sensor.skipped) == ([], True)

    with open_journal(elsewhere, migration, MigrationLog(elsewhere, ID).require_plan()) as journal:
        assert journal.control() == theirs


def test_a_home_may_plan_anew_what_another_one_has_planned(
    instance: dg.DagsterInstance, elsewhere: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    for _ in range(3):  # the second plans of two homes would be one plan, too
        run_job(plan_job(migration), elsewhere, ID, ops=ANEW)

    with pytest.raises(PlanOutdated, match="goes by another plan"):
        run_job(plan_job(migration), instance, ID)
    run_job(plan_job(migration), instance, ID, ops=ANEW)

    planned.refresh()
    with open_journal(instance, migration, planned.require_plan()) as journal:
        assert journal.control().reason == "generation 2 was planned"
    with pytest.raises(PlanOutdated), open_journal(elsewhere, migration, MigrationLog(elsewhere, ID).require_plan()):
        pytest.fail("the other one's plan was replaced")


def test_what_another_home_has_kept_from_being_taken_back_is_taken_back_by_the_next_plan(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    sides = place.source, place.target
    run_job(load_job(migration), instance, ID, partition=planned.require_plan().keys[0])
    begin_rollback(MigrationLog(instance, ID), migration, tell=[].append)  # and killed
    with open_journal(instance, migration) as journal:
        now = journal.control()
        journal.replan(id_kinds=now.id_kinds, bounds=now.bounds, plan="another home's", by="it", reason="planned")

    with pytest.raises(PlanOutdated, match="goes by another plan"):
        rollback(context_of(place), ID)
    with pytest.raises(PlanOutdated, match="is being rolled back"):
        planning.plan_migration(instance, migration, *sides)
    planning.plan_migration(instance, migration, *sides, replan=True, adopt=True)

    done = rollback(context_of(place), ID)
    assert (done.undone, done.left, done.dropped) == (100, 0, True)


def test_what_an_application_reports_counts_for_whichever_plan_it_is(
    instance: dg.DagsterInstance,
    elsewhere: dg.DagsterInstance,
    migration: Migration,
    planned: MigrationLog,
    place: Workplace,
) -> None:
    """An application goes by none, and has changed the record in any case."""
    del instance, planned
    run_job(plan_job(migration), elsewhere, ID)
    run_job(plan_job(migration), elsewhere, ID, ops=ANEW)

    assert report_changes(context_of(place), ID, [3]).noted == 1

    with open_journal(elsewhere, migration, MigrationLog(elsewhere, ID).require_plan()) as journal:
        assert journal.lag().records == 1


def test_a_first_plan_names_itself_in_a_journal_that_names_none(
    instance: dg.DagsterInstance, elsewhere: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    """Such as one of before, of a home that is gone, in which nothing was moved yet."""
    plan = planned.require_plan()
    with open_journal(instance, migration) as journal, journal.database.transaction() as connection:
        connection.execute(sa.update(CONTROL).values(plan=None))

    run_job(plan_job(migration), elsewhere, ID)

    with open_journal(elsewhere, migration) as journal:
        assert (journal.control().plan, plan.generation) == (plan.digest, 1)


def test_after_a_planner_was_killed_the_plan_before_is_gone_on_with(
    instance: dg.DagsterInstance,
    migration: Migration,
    planned: MigrationLog,
    place: Workplace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, acts = planned.require_plan(), everything(instance, migration, place)
    acts["load"]()

    with monkeypatch.context() as patch:
        patch.setattr(MigrationLog, "record_plan", killed)
        with pytest.raises(KeyboardInterrupt):
            planning.plan_migration(instance, migration, place.source, place.target, replan=True, adopt=True)

    assert planned.require_plan() == plan
    for what in ("catch up", "look"):
        with pytest.raises(PlanOutdated, match="'vectormigrate plan moving' puts right what a killed one has left"):
            acts[what]()
    acts["go on with the plan"]()
    acts["catch up"]()
    with open_journal(instance, migration, plan) as journal:
        assert journal.control().state is State.BACKFILLING


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
