"""Jobs as Dagster's own commands, backfills, sensors and schedules launch them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.definitions import definitions_of
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.automation import continue_sensor, schedule_of
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job, plan_job, validate_job
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.rolling_back import rollback_job
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.errors import LeaseHeld, PlanOutdated, TargetNotEmpty, ValidationFailed
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import ID, NOTHING, Workplace, differences, environment, fill


def load(instance: dg.DagsterInstance, migration: Migration, key: str, **ops: object) -> str:
    return run_job(load_job(migration), instance, ID, partition=key, ops=ops)


def dagster(place: Workplace, *words: str) -> subprocess.CompletedProcess[str]:
    """Dagster's own command, as a user would type it."""
    return subprocess.run(
        [sys.executable, "-m", "dagster", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**environment(), "DAGSTER_HOME": str(place.home), "VECTORMIGRATE_MIGRATIONS": str(place.migrations)},
        cwd=place.folder,
    )


def test_a_partition_leaves_state_materialization_and_check(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    key = planned.require_plan().splits[0].key
    run_id = load(instance, migration, key)
    planned.refresh()
    state = planned.partitions(planned.require_plan())[key]
    assert (state.state, state.run_id, state.resumed_from, state.attempt) == ("done", run_id, None, 1)
    assert state.acknowledged == planned.require_plan().splits[0].split.records > 0
    event = instance.get_latest_materialization_event(names.migration_asset(ID))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.partition == key
    assert event.asset_materialization.metadata["dagster/partition_row_count"].value == state.acknowledged
    tags = instance.get_run_by_id(run_id).tags  # type: ignore[union-attr]
    assert tags["vectormigrate/migration"] == ID
    assert tags["vectormigrate/phase"] == "load"
    assert tags["dagster/partition_set"] == f"{ID}_partition_set"


def test_a_done_partition_is_only_checked_again(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    plan = planned.require_plan()
    key = plan.splits[0].key
    load(instance, migration, key)
    planned.refresh()
    first = planned.partitions(plan)[key]
    load(instance, migration, key)
    planned.refresh()
    second = planned.partitions(plan)[key]
    assert second.acknowledged == first.acknowledged
    assert second.batches == first.batches
    with databases.open_target(migration.target.endpoint({})) as target:
        target.delete(IdColumn.of(IdKind.I64, range(1, 40)))
    with pytest.raises(ValidationFailed, match=f"partition '{key}' differs from the source"):
        load(instance, migration, key)
    load(instance, migration, key, extract_id_range={"mode": "restart"})
    planned.refresh()
    assert planned.partitions(plan)[key].state == "done"
    assert planned.partitions(plan)[key].acknowledged == first.acknowledged


def test_a_bad_partition_key_fails_clearly(place: Workplace, planned: MigrationLog) -> None:
    keys = [split.key for split in planned.require_plan().splits]
    for tags, text in (
        ('{"dagster/partition": "g0001-99999"}', "'g0001-99999' is not a partition of generation 1"),
        ("{}", "this job runs on one partition; launch it with a partition key"),
    ):
        done = dagster(place, "job", "execute", "-m", "vectormigrate_dagster.definitions", "-j", ID, "--tags", tags)
        assert done.returncode != 0
        assert text in done.stderr
        assert keys[-1] in done.stderr
    planned.refresh()
    assert planned.partitions(planned.require_plan()) == {}


def test_dagster_job_execute_moves_one_partition(place: Workplace, planned: MigrationLog) -> None:
    key = planned.require_plan().splits[1].key
    tags = f'{{"dagster/partition": "{key}"}}'
    done = dagster(place, "job", "execute", "-m", "vectormigrate_dagster.definitions", "-j", ID, "--tags", tags)
    assert done.returncode == 0, done.stderr
    planned.refresh()
    assert planned.partitions(planned.require_plan())[key].state == "done"


def test_a_partition_without_a_plan_never_plans(instance: dg.DagsterInstance, migration: Migration) -> None:
    instance.add_dynamic_partitions(names.partitions_name(ID), ["g0001-00000"])
    with pytest.raises(PlanOutdated, match="has no plan"):
        load(instance, migration, "g0001-00000")


def test_a_leased_partition_is_left_alone(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    key = planned.require_plan().splits[0].key
    with held(Lease(instance, ID, key)), pytest.raises(LeaseHeld, match=f"'{key}'"):
        load(instance, migration, key)
    load(instance, migration, key)


def test_a_target_that_was_filled_after_the_plan(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    fill(place.target, SMALL)
    with pytest.raises(TargetNotEmpty, match="in the target holds 300 records"):
        load(instance, migration, planned.require_plan().splits[0].key)


def test_a_file_that_changed_after_the_plan(
    instance: dg.DagsterInstance, place: Workplace, planned: MigrationLog
) -> None:
    place.write(mapping={"rename": {"name": "title"}})
    changed = load_migration(place.migrations / f"{ID}.yaml")
    with pytest.raises(PlanOutdated, match="was changed since its plan was made"):
        load(instance, changed, planned.require_plan().splits[0].key)


def test_a_collection_that_was_not_planned_is_refused(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    key = planned.require_plan().splits[0].key
    other = {"type": "milvus", "path": str(migration.target.path), "collection": "other"}
    with pytest.raises(dg.Failure, match="this run was given milvus collection 'other'"):
        load_job(migration).execute_in_process(
            instance=instance, partition_key=key, run_config={"resources": {"target": {"config": other}}}
        )


def test_replanning_starts_a_generation_and_needs_adoption(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    first = planned.require_plan()
    run_job(plan_job(migration), instance, ID)
    assert planned.require_plan() == first
    run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True}})
    second = planned.require_plan()
    assert second.generation == 2
    assert instance.get_dynamic_partitions(names.partitions_name(ID)) == [split.key for split in second.splits]
    load(instance, migration, second.splits[0].key)
    with pytest.raises(PlanOutdated, match="add --adopt to keep them"):
        run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True}})
    run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True, "adopt": True}})
    third = planned.require_plan()
    for split in third.splits:
        load(instance, migration, split.key)
    assert differences(place.target, SMALL) == NOTHING


def test_the_sensor_loads_after_a_plan_that_asks_for_it(instance: dg.DagsterInstance, migration: Migration) -> None:
    job = load_job(migration)
    sensor = continue_sensor(migration, job)
    (skipped,) = list(sensor(sensor_context(instance, migration)))
    assert isinstance(skipped, dg.SkipReason)
    plan_job(migration).execute_in_process(instance=instance, tags={names.CONTINUE_TAG: "load"})
    plan = MigrationLog(instance, ID).require_plan()
    requested = [request.partition_key for request in sensor(sensor_context(instance, migration))]
    assert requested == [split.key for split in plan.splits][:4]
    for key in requested:
        run_job(job, instance, ID, partition=key)
    (skipped,) = list(sensor(sensor_context(instance, migration)))
    assert skipped.skip_message == "0 runs in flight, 0 partitions waiting"


def test_the_schedule_asks_for_what_is_missing(
    instance: dg.DagsterInstance, place: Workplace, planned: MigrationLog
) -> None:
    place.write(schedule={"cron": "0 3 * * *"}, transfer={"partition_records": 100, "batch_size": 40})
    migration = load_migration(place.migrations / f"{ID}.yaml")
    job = load_job(migration)
    schedule = schedule_of(migration, job, validate_job(migration), rollback_job(migration))
    assert schedule is not None
    keys = [split.key for split in planned.require_plan().splits]
    load(instance, migration, keys[0])
    with held(Lease(instance, ID, keys[1])):
        tick = schedule.evaluate_tick(schedule_context(instance, migration))
    assert [request.partition_key for request in tick.run_requests or []] == keys[2:]


def sensor_context(instance: dg.DagsterInstance, migration: Migration) -> dg.SensorEvaluationContext:
    return dg.build_sensor_context(instance, repository_def=definitions_of(migration).get_repository_def())


def schedule_context(instance: dg.DagsterInstance, migration: Migration) -> dg.ScheduleEvaluationContext:
    repository = definitions_of(migration).get_repository_def()
    return dg.build_schedule_context(instance, scheduled_execution_time=now(), repository_def=repository)


@contextmanager
def daemon(place: Workplace) -> Iterator[None]:
    """Dagster's daemon, as `dagster dev` runs it."""
    environ = {**environment(), "DAGSTER_HOME": str(place.home), "VECTORMIGRATE_MIGRATIONS": str(place.migrations)}
    process = subprocess.Popen(
        [str(Path(sys.prefix) / "bin" / "dagster-daemon"), "run", "-m", "vectormigrate_dagster.definitions"],
        env=environ,
        cwd=place.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.timeout(240)
def test_a_backfill_from_dagsters_command_moves_everything(place: Workplace, planned: MigrationLog) -> None:
    definitions = ("-m", "vectormigrate_dagster.definitions")
    with daemon(place):
        launched = dagster(place, "job", "backfill", *definitions, "-j", ID, "--all", "x", "--noprompt")
        assert launched.returncode == 0, launched.stderr
        end = time.monotonic() + 180
        while place.status()["status"] != "completed" and time.monotonic() < end:
            time.sleep(1)
    status = place.status()
    assert status["status"] == "completed", status
    assert differences(place.target, SMALL) == NOTHING
