"""Checks the sensor and job `<id>_catch_up`: ranges become partitions, runs are bounded, a re-run writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.definitions import definitions_of
from vectormigrate_dagster.defs import catch_up_sensor as sensors
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.catch_up_job import catch_up_job
from vectormigrate_dagster.defs.catch_up_sensor import catch_up_sensor
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.live.journal import Bounds, Journal, JournalDatabase, Key, State
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.harness import ID

DAY = 86_400.0


def key(number: int) -> Key:
    return Key(None, IdKind.U64, str(number))


@pytest.fixture
def journal(instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog) -> Iterator[Journal]:
    """The journal of a migration of which something is being moved."""
    with open_journal(instance, migration, planned.require_plan()) as opened:
        opened.enter(State.BACKFILLING, since=opened.control(), by="test", reason="test")
        yield opened


class Sensor:
    """The sensor with its cursor, and what Dagster does with what it says."""

    def __init__(self, instance: dg.DagsterInstance, migration: Migration) -> None:
        self._instance = instance
        self._migration = migration
        self._sensor = catch_up_sensor(migration, catch_up_job(migration))
        self._repository = definitions_of(migration).get_repository_def()
        self.cursor: str | None = None
        self.skipped = ""

    def tick(self) -> list[dg.RunRequest]:
        # As the daemon makes it: what Dagster builds for tests knows no dynamic partitions.
        context = dg.SensorEvaluationContext(
            instance_ref=self._instance.get_ref(),
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=self.cursor,
            repository_name=None,
            repository_def=self._repository,
            instance=self._instance,
        )
        told: Any = self._sensor.evaluate_tick(context)
        self.cursor = told.cursor or self.cursor
        self.skipped = told.skip_message or ""
        for request in told.dynamic_partitions_requests or ():
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self._instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
            else:
                for gone in request.partition_keys:
                    self._instance.delete_dynamic_partition(request.partitions_def_name, gone)
        return list(told.run_requests or ())

    @property
    def keys(self) -> list[str]:
        return list(self._instance.get_dynamic_partitions(names.changes_name(ID)))


@pytest.fixture
def sensor(instance: dg.DagsterInstance, migration: Migration) -> Sensor:
    return Sensor(instance, migration)


def test_before_anything_is_moved_the_sensor_does_nothing(
    instance: dg.DagsterInstance, migration: Migration, sensor: Sensor, request: pytest.FixtureRequest
) -> None:
    assert sensor.tick() == []
    assert "has no plan" in sensor.skipped
    planned: MigrationLog = request.getfixturevalue("planned")
    with open_journal(instance, migration, planned.require_plan()) as opened:
        opened.note([key(1)], kind="change")
    assert sensor.tick() == []
    assert sensor.skipped == "the migration is planned"


def test_a_journal_that_is_told_after_the_end_does_not_grow(
    journal: Journal, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.enter(State.COMPLETED, since=journal.control(), by="test", reason="test")
    journal.note([key(1), key(2)], kind="change")
    monkeypatch.setattr(JournalDatabase, "now", lambda self, connection: time.time() + 2 * DAY)

    assert sensor.tick() == []

    assert sensor.skipped == "the migration is completed"
    assert journal.lag().records == 1  # the newest says how far the journal has come


def test_new_ranges_become_partitions_one_run_at_a_time(
    instance: dg.DagsterInstance, journal: Journal, sensor: Sensor, planned: MigrationLog
) -> None:
    assert sensor.tick() == []
    assert "nothing waits" in sensor.skipped
    journal.note([key(1), key(2)], kind="change")
    (first,) = sensor.tick()
    assert (first.run_key, first.partition_key, sensor.keys) == ("changes-1-2", "changes-1-2", ["changes-1-2"])
    planned.refresh()
    live = planned.live(planned.require_plan())
    assert live is not None
    assert (live.state, live.lag_records, live.open) == ("backfilling", 2, 0)
    assert live.blocked_by[0].endswith("partitions are not moved")

    job = catch_up_job(planned_migration := sensor._migration)
    run = instance.create_run_for_job(job, tags={names.MIGRATION_TAG: planned_migration.id})
    journal.note([key(3)], kind="change")
    assert sensor.tick() == []
    assert "1 run in flight" in sensor.skipped
    instance.delete_run(run.run_id)
    (second,) = sensor.tick()
    assert second.partition_key == "changes-3-3"
    # Its run left them: again, under another run key, or Dagster would not launch it.
    (again,) = sensor.tick()
    assert (again.partition_key, sensor.keys) == ("changes-3-3", ["changes-1-2", "changes-3-3"])
    assert again.run_key not in (None, second.run_key)


def test_a_write_that_is_under_way_is_waited_for_without_a_run(journal: Journal, sensor: Sensor) -> None:
    journal.admit([key(1)])
    assert sensor.tick() == []
    assert "is being written, or too young" in sensor.skipped
    assert sensor.keys == []


def test_a_run_that_failed_is_not_followed_at_once(
    instance: dg.DagsterInstance, journal: Journal, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.note([key(1)], kind="change")
    job, began = catch_up_job(sensor._migration), time.time()
    now = [began]
    monkeypatch.setattr(sensors.time, "time", lambda: now[0])
    for number in range(1, 8):  # an outage that lasts
        run = instance.create_run_for_job(job, tags={names.MIGRATION_TAG: ID})
        instance.report_run_failed(run, "the database is down")
        (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
        assert record.end_time is not None
        failed, rest = min(number, 4), 60 * 2 ** (min(number, 4) - 1)
        now[0] = record.end_time + rest - 1
        assert sensor.tick() == []
        last = "run failed or was" if failed == 1 else f"{failed} runs failed or were"
        assert f"the last {last} ended; the next one begins in 1 s" in sensor.skipped
        now[0] += 2
        assert len(sensor.tick()) == 1


def test_keys_are_forgotten_a_day_after_they_were_dealt_with(
    journal: Journal, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1e9]
    monkeypatch.setattr(sensors.time, "time", lambda: clock[0])
    journal.note([key(1), key(2)], kind="change")
    sensor.tick()
    clock[0] += 2 * DAY
    sensor.tick()
    assert sensor.keys == ["changes-1-2"]  # however old, it was not dealt with
    lease = journal.lease(seconds=60)
    assert lease is not None
    journal.consume(lease, journal.due(lease))
    clock[0] += DAY / 2
    sensor.tick()
    clock[0] += DAY - 1
    sensor.tick()
    assert sensor.keys == ["changes-1-2"]
    clock[0] += 2
    sensor.tick()
    assert sensor.keys == []


def test_migrations_that_share_a_journal_do_not_see_each_other(journal: Journal, sensor: Sensor) -> None:
    other = Journal.register(journal.database, "other", id_kinds=(IdKind.U64,), bounds=Bounds(), by="test")
    other.note([key(1)], kind="change")
    assert other.lease(seconds=60) is not None
    assert sensor.tick() == []
    assert "nothing waits" in sensor.skipped
    journal.note([key(1)], kind="change")
    (request,) = sensor.tick()
    assert request.partition_key == "changes-2-2"
    assert journal.lease(seconds=60) is not None


def test_a_run_carries_over_and_a_rerun_writes_nothing(
    instance: dg.DagsterInstance,
    migration: Migration,
    planned: MigrationLog,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_job(load_job(migration), instance, ID, partition=planned.require_plan().keys[0])
    with databases.open_source(migration.source.endpoint({})) as source:
        (batch, *_) = source.scan(planned.require_plan().splits[0].split)
    chosen = [Key.of(value, journal.control().id_kinds) for value in batch.ids.to_pylist()[:3]]
    journal.note(chosen, kind="change")
    backlog = journal.backlog()
    name = f"changes-{backlog.first}-{backlog.last}"
    instance.add_dynamic_partitions(names.changes_name(ID), [name])
    run_id = run_job(catch_up_job(migration), instance, ID, partition=name)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert {tag: run.tags[tag] for tag in ("vectormigrate/phase", "dagster/priority", "vectormigrate/embedded")} == {
        "vectormigrate/phase": "catch_up",
        "dagster/priority": "1",
        "vectormigrate/embedded": "yes",
    }
    event = instance.get_latest_materialization_event(names.changes_asset(ID))
    assert event is not None
    assert event.asset_materialization is not None
    told = event.asset_materialization.metadata
    assert (event.asset_materialization.partition, told["carried"].value, told["lag_records"].value) == (name, 3, 3)
    assert told["lag_records_at_the_end"].value == 0
    assert told["already_right"].value == 3
    planned.refresh()
    live = planned.live(planned.require_plan())
    assert live is not None
    assert (live.lag_records, journal.lag().records) == (0, 0)

    monkeypatch.setattr(databases, "open_target", None)  # rule 18
    run_job(catch_up_job(migration), instance, ID, partition=name)
