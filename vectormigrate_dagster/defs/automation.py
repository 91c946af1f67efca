"""What launches runs by itself: the sensor that continues after a plan, and a migration's schedule."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import Lease
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster.mapping.plan import Plan

_QUEUED = 4
_MAX_ATTEMPTS = 5
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def continue_sensor(migration: Migration, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Load what a plan with tag `vectormigrate/continue=load` has drawn, as many at a time as `workers` says."""
    # On embedded folders Dagster's queue runs them one by one, without waiting for the sensor in between.
    in_flight = _QUEUED if migration.embedded else migration.workers()

    @dg.sensor(
        name=f"{names.job_name(migration.id)}_continue",
        job=job,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Loads partitions after a plan with tag {names.CONTINUE_TAG}=load, {in_flight} at a time.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        log = MigrationLog(context.instance, migration.id)
        plan = log.plan()
        log.refresh()
        if plan is None or not log.continues(plan):
            yield dg.SkipReason(f"no plan of '{migration.id}' was launched with tag {names.CONTINUE_TAG}=load")
            return
        report_dead_runs(context.instance, migration.id)
        running = context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=_UNFINISHED))
        missing = [key for key, state in open_partitions(log, plan).items() if _may_begin(state)]
        chosen = missing[: max(0, in_flight - running)]
        if not chosen:
            yield dg.SkipReason(f"{running} runs in flight, {len(missing)} partitions waiting")
        states = log.partitions(plan)
        for key in chosen:
            before = states[key].run_id if key in states else "first"
            yield dg.RunRequest(run_key=f"{plan.digest[:12]}:{key}:{before}", partition_key=key)

    return sensor


def schedule_of(
    migration: Migration, load: dg.JobDefinition, validate: dg.JobDefinition
) -> dg.ScheduleDefinition | None:
    """The migration file's schedule: load missing partitions, or verify; None if it has none."""
    if migration.schedule.cron is None:
        return None
    if migration.schedule.action == "verify":
        return dg.ScheduleDefinition(
            name=f"{names.job_name(migration.id)}_verify",
            job=validate,
            cron_schedule=migration.schedule.cron,
            description="Validates every record.",
        )

    @dg.schedule(
        name=f"{names.job_name(migration.id)}_missing",
        job=load,
        cron_schedule=migration.schedule.cron,
        description="Loads every partition of the plan that is not done and not being loaded.",
    )
    def missing(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        report_dead_runs(context.instance, migration.id)
        log = MigrationLog(context.instance, migration.id)
        plan = log.plan()
        log.refresh()
        if plan is None:
            return dg.SkipReason(f"migration '{migration.id}' has no plan")
        waiting = open_partitions(log, plan)
        if not waiting:
            return dg.SkipReason("every partition is done")
        tick = context.scheduled_execution_time.isoformat()
        return [dg.RunRequest(run_key=f"{tick}:{key}", partition_key=key) for key in waiting]

    return missing


def open_partitions(log: MigrationLog, plan: Plan) -> dict[str, PartitionState | None]:
    """Partitions that are not done and that nobody works on, with their state."""
    states = log.partitions(plan)
    waiting: dict[str, PartitionState | None] = {}
    for planned in plan.splits:
        state = states.get(planned.key)
        done = state is not None and state.state == "done"
        if not done and not Lease(log.instance, log.migration_id, planned.key).is_held():
            waiting[planned.key] = state
    return waiting


def _may_begin(state: PartitionState | None) -> bool:
    """A partition that failed or was stopped waits for a person; one that died is tried again a few times."""
    if state is None:
        return True
    return state.state in ("loading", "lost") and state.attempt < _MAX_ATTEMPTS
