"""Checks that changes reported during a migration are carried over, told by status, and looked for by polling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.planning import plan_migration
from vectormigrate_dagster.defs.validating import whole_only
from vectormigrate_dagster.defs.whole_validation import current_round, opened
from vectormigrate_dagster.errors import ConfigurationError, NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import Bounds, Journal, State
from vectormigrate_dagster.live.journal import control as rows
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.live import catch_up, report_changes
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.polling import poll
from vectormigrate_dagster.services.rollback import rollback
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.harness import COLLECTION, DIM, ID, Records, Workplace, arrived, fill
from vectormigrate_dagster_tests.services.conftest import context_of

COUNT = 40
QUICK: dict[str, Any] = {"start_seconds": 1, "request_seconds": 1, "margin_seconds": 1}


@pytest.fixture
def living(tmp_path: Path) -> Workplace:
    """A migration of 40 records whose source the test may write to."""
    source = Endpoint(type="qdrant", path=tmp_path / "source", collection=COLLECTION)
    fill(source, Records.of(COUNT))
    made = Workplace.make(tmp_path, source, "milvus")
    made.write(journal=QUICK, transfer={"partition_records": 20}, validation={"search": {"queries": 0}})
    return made


@pytest.fixture
def moved(living: Workplace) -> Context:
    """The same, moved."""
    context = context_of(living)
    assert migrate(context, ID).status == "completed"
    return context


def write(place: Workplace, number: int, *, at: float | None = None, payload: dict[str, Any] | None = None) -> None:
    """What an application does: insert or update a record of the source."""
    stamp = {} if at is None else {"updated_at": at}
    with databases.open_target(place.source) as source:
        vector = np.full((1, DIM), number, np.float32)
        row = {**Records.payload(number), **stamp, **(payload or {})}
        source.upsert(Batch(IdColumn.of(IdKind.U64, [number]), None, {"embedding": Dense(vector)}, [row]))


def delete(place: Workplace, number: int) -> None:
    with databases.open_target(place.source) as source:
        source.delete(IdColumn.of(IdKind.U64, [number]))


def numbers(place: Workplace) -> set[int]:
    return {number for number, _, _ in arrived(place.target)}


def test_what_is_reported_is_carried_over_once(
    living: Workplace, moved: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(living, 3)
    write(living, 100)
    delete(living, 5)
    noted = report_changes(moved, ID, ["3", 100, "5", "3"])
    assert (noted.noted, noted.live.lag_records) == (3, 3)
    told = status(moved, ID).live
    assert (told.state, told.primary, told.lag_records) == ("catching_up", "source", 3)
    assert told.blocked_by == ("it was not validated",)
    differing = validate(moved, ID, full=True)
    assert differing.passed
    assert "3 are in motion and left to catch-up" in differing.tiers[2].summary

    done = catch_up(moved, ID)
    assert (done.carried, done.records, done.unsettled) == (3, {"repaired": 3}, ())
    assert (done.live.lag_records, status(moved, ID).live.lag_records) == (0, 0)
    found = {number: vector for number, vector, _ in arrived(living.target)}
    assert found.keys() == {*range(1, COUNT + 1), 100} - {5}
    assert all((found[number] == number).all() for number in (3, 100))
    compared = validate(moved, ID, full=True)
    assert compared.passed
    assert "motion" not in "".join(tier.summary for tier in compared.tiers)
    assert status(moved, ID).live.blocked_by == ()  # though nobody has looked at the journal since

    # Rule 18: with nothing to do, nothing is opened, so nothing can be written.
    monkeypatch.setattr(databases, "open_target", None)
    assert catch_up(moved, ID).carried == 0


def test_what_was_changed_while_partitions_were_compared_is_no_surplus(living: Workplace, moved: Context) -> None:
    """A round may take days, and its end counts what its partitions have not met."""
    migration = moved.migration(ID)
    source, target = endpoints(migration)
    with moved.instance() as instance:
        log = MigrationLog(instance, ID)
        planned = log.require_plan()
        log.refresh()
        begun = current_round(log, planned)
        with opened(log, planned, migration, source, target, publish=whole_only(instance)) as whole:
            for key in planned.keys:
                assert whole.partition(key, begun).passed
        write(living, 100)
        report_changes(moved, ID, [100])
        assert catch_up(moved, ID).live.lag_records == 0
        with opened(log, planned, migration, source, target, publish=whole_only(instance)) as whole:
            report = whole.conclude(begun)
    assert report is not None
    assert report.passed


def test_validation_fails_for_what_the_journal_does_not_name(living: Workplace, moved: Context) -> None:
    write(living, 3)
    write(living, 4)
    report_changes(moved, ID, [4])
    found = validate(moved, ID, full=True)
    assert not found.passed
    assert "1 of 39 differ" in found.tiers[2].summary
    assert "1 are in motion" in found.tiers[2].summary


def test_ids_that_the_source_cannot_hold_are_named_and_none_is_noted(living: Workplace) -> None:
    context = context_of(living)
    with pytest.raises(PlanOutdated, match="has no plan"):
        report_changes(context, ID, [1])
    plan(context, ID)
    with pytest.raises(ConfigurationError, match=r"2 of 3 are no ids of the source, which are u64 or uuid: 'x', '-1'"):
        report_changes(context, ID, ["x", 7, "-1"])
    with pytest.raises(ConfigurationError, match="not divided, so there is no scope 'a'"):
        report_changes(context, ID, [7], scope="a")
    with pytest.raises(ConfigurationError, match="no ids were given"):
        report_changes(context, ID, [])
    assert report_changes(context, ID, [8]).live.lag_records == 1
    with pytest.raises(PlanOutdated, match="nothing of 'moving' was moved yet"):
        catch_up(context, ID)


def test_a_rollback_ends_catching_up_and_a_new_plan_begins_anew(living: Workplace, moved: Context) -> None:
    write(living, 3)
    report_changes(moved, ID, [3])
    assert catch_up(moved, ID).carried == 1
    report_changes(moved, ID, [3])
    rollback(moved, ID)
    with pytest.raises(PlanOutdated, match=r"was rolled back|nothing of 'moving' was moved yet"):
        catch_up(moved, ID)
    assert migrate(moved, ID).status == "completed"
    assert catch_up(moved, ID).live.state == "catching_up"
    assert numbers(living) == set(range(1, COUNT + 1))


def test_after_the_switch_nothing_is_moved_planned_or_taken_back(living: Workplace, moved: Context) -> None:
    migration = moved.migration(ID)
    with moved.instance() as instance:
        log = MigrationLog(instance, ID)
        with open_journal(instance, migration, log.require_plan()) as journal:
            _switch(journal)
        for call in (
            lambda: plan_migration(instance, migration, *endpoints(migration), replan=True, adopt=True),
            lambda: rollback(moved, ID),
        ):
            with pytest.raises(PlanOutdated, match="was switched to its target"):
                call()
    # The target is primary now, so what is reported goes the other way.
    with databases.open_target(living.target) as target:
        target.delete(IdColumn.of(IdKind.I64, [7]))
    report_changes(moved, ID, [7])
    done = catch_up(moved, ID)
    assert (done.live.primary, done.carried) == ("target", 1)
    with databases.open_source(living.source) as source:
        assert source.count() == COUNT - 1
    with pytest.raises(NotSo, match="the application writes to the target"):
        poll(moved, ID, field="updated_at", since="0")


def _switch(journal: Journal) -> None:
    """Make the target primary, as a cutover does at its end."""
    with journal.database.transaction() as connection:
        now = rows.read(journal.database, connection, ID)
        values = {"state": State.SWITCHED.value, "primary_side": "target"}
        rows.change(journal.database, connection, now, by="test", reason="test", **values)


def test_polling_reports_equal_values_and_what_was_changed_while_it_looked(living: Workplace) -> None:
    for number in range(1, COUNT + 1):
        write(living, number, at=1000.0)
    context = context_of(living)
    plan(context, ID)
    assert poll(context, ID, field="updated_at").began
    migrate(context, ID)
    write(living, 3, at=1000.0)  # in the same tick of the application's clock as what was seen
    first = poll(context, ID, field="updated_at", overlap=0)
    assert (first.noted, first.read, first.without) == (COUNT, COUNT, 0)
    catch_up(context, ID)
    write(living, 4, at=1500.0)
    assert poll(context, ID, field="updated_at", overlap=0).noted == COUNT
    # A poll may not see what is written behind its back: the next one looks from where the one before it had come.
    write(living, 5, at=1500.0)
    assert poll(context, ID, field="updated_at", overlap=0).noted == COUNT
    last = poll(context, ID, field="updated_at", overlap=0)
    assert (last.noted, last.read) == (2, 2)
    assert "only records that may have changed were asked for" in last.limits
    assert catch_up(context, ID).live.lag_records == 0
    assert validate(context, ID, full=True).passed


def test_polling_a_field_for_the_first_time_after_the_move_needs_a_beginning(living: Workplace, moved: Context) -> None:
    write(living, 3, at=2000.0)
    with pytest.raises(ConfigurationError, match="give --since"):
        poll(moved, ID, field="updated_at")
    with pytest.raises(ConfigurationError, match="neither a number nor a time"):
        poll(moved, ID, field="updated_at", since="yesterday")
    found = poll(moved, ID, field="updated_at", since="2000")
    assert (found.noted, found.without, found.read) == (1, COUNT - 1, COUNT)
    assert "every record of the source was read" in found.limits
    assert "no deletions" in found.limits


def test_a_sweep_finds_deletions_and_what_nobody_reported(living: Workplace, moved: Context) -> None:
    write(living, 3)
    write(living, 100)
    delete(living, 5)
    assert poll(moved, ID, sweep=True).noted == 3
    catch_up(moved, ID)
    assert numbers(living) == {*range(1, COUNT + 1), 100} - {5}
    assert poll(moved, ID, sweep=True).noted == 0


def test_the_journal_is_told_what_the_file_says(living: Workplace) -> None:
    context = context_of(living)
    plan(context, ID)
    with context.instance() as instance, open_journal(instance, context.migration(ID)) as journal:
        control = journal.control()
    assert (control.state, control.primary, control.id_kinds) == (State.PLANNED, "source", (IdKind.U64, IdKind.UUID))
    assert control.bounds == Bounds(start=1.0, request=1.0, margin=1.0)
