"""What launches runs by itself: the sensor that continues after a plan, and a migration's schedule."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import Lease
from vectormigrate_dagster.defs.planning import is_rolled_back
from vectormigrate_dagster.defs.state import Continue, PartitionState
from vectormigrate_dagster.defs.whole_validation import current_round
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
        wish = None if plan is None else log.continues(plan)
        if plan is None or wish is None:
            yield dg.SkipReason(f"no plan of '{migration.id}' was launched with tag {names.CONTINUE_TAG}=load")
            return
        report_dead_runs(context.instance, migration.id)
        running = context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=_UNFINISHED))
        missing = [key for key, state in open_partitions(log, plan).items() if may_begin(state, wish)]
        chosen = missing[: max(0, in_flight - running)]
        if not chosen:
            yield dg.SkipReason(f"{running} runs in flight, {len(missing)} partitions waiting")
        states = log.partitions(plan)
        for key in chosen:
            before = states[key].run_id if key in states else "first"
            tags = {} if wish.principal is None else {names.PRINCIPAL_TAG: wish.principal}
            yield dg.RunRequest(run_key=f"{plan.digest[:12]}:{key}:{before}", partition_key=key, tags=tags)

    return sensor


def schedule_of(
    migration: Migration, load: dg.JobDefinition, validate: dg.JobDefinition, rollback: dg.JobDefinition
) -> dg.ScheduleDefinition | None:
    """The migration file's schedule: load missing partitions, verify, or roll back; None if it has none."""
    if migration.schedule.cron is None:
        return None
    if migration.schedule.action == "verify":
        return _verify_schedule(migration, validate, migration.schedule.cron)
    if migration.schedule.action == "rollback":
        return _rollback_schedule(migration, rollback, migration.schedule.cron)

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


def _verify_schedule(migration: Migration, job: dg.JobDefinition, cron: str) -> dg.ScheduleDefinition:
    """Validate every record, a run for each partition."""

    @dg.schedule(
        name=f"{names.job_name(migration.id)}_verify",
        job=job,
        cron_schedule=cron,
        description="Validates every record, partition by partition.",
    )
    def verify(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        report_dead_runs(context.instance, migration.id)
        log = MigrationLog(context.instance, migration.id)
        plan = log.plan()
        log.refresh()
        if plan is None:
            return dg.SkipReason(f"migration '{migration.id}' has no plan")
        if log.rollback(plan) is not None:
            return dg.SkipReason(f"generation {plan.generation} was rolled back")
        current_round(log, plan, again=True)
        tick = context.scheduled_execution_time.isoformat()
        return [dg.RunRequest(run_key=f"{tick}:{key}", partition_key=key) for key in plan.keys]

    return verify


def _rollback_schedule(migration: Migration, job: dg.JobDefinition, cron: str) -> dg.ScheduleDefinition:
    """Roll back the one generation that the file names, so that what is moved later is safe from it."""
    generation = migration.schedule.generation

    @dg.schedule(
        name=job.name,
        job=job,
        cron_schedule=cron,
        description=f"Takes back every partition of generation {generation} that is not taken back; no other one.",
    )
    def take_back(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        report_dead_runs(context.instance, migration.id)
        log = MigrationLog(context.instance, migration.id)
        plan = log.plan()
        log.refresh()
        if plan is None or plan.generation != generation:
            found = "there is no plan" if plan is None else f"the plan is generation {plan.generation}"
            return dg.SkipReason(f"schedule.generation is {generation}, {found}; nothing is taken back")
        if is_rolled_back(log, plan):
            return dg.SkipReason(f"generation {generation} was rolled back")
        wanted = log.not_taken_back(plan) or plan.keys[-1:]
        free = [key for key in wanted if not Lease(log.instance, migration.id, key).is_held()]
        if not free:
            return dg.SkipReason("every partition that is not taken back is being worked on")
        tick = context.scheduled_execution_time.isoformat()
        return [dg.RunRequest(run_key=f"{tick}:{key}", partition_key=key) for key in free]

    return take_back


def open_partitions(log: MigrationLog, plan: Plan) -> dict[str, PartitionState | None]:
    """Partitions that are not done and that nobody works on, with their state; none once a rollback has begun."""
    if log.rollback(plan) is not None:
        return {}
    states = log.partitions(plan)
    waiting: dict[str, PartitionState | None] = {}
    for planned in plan.splits:
        state = states.get(planned.key)
        done = state is not None and state.state == "done"
        if not done and not Lease(log.instance, log.migration_id, planned.key).is_held():
            waiting[planned.key] = state
    return waiting


def may_begin(state: PartitionState | None, wish: Continue) -> bool:
    """A partition that failed or was stopped waits for a person to ask again; one that died is tried a few times."""
    if state is None or state.at < wish.at:
        return True
    return state.state in ("loading", "lost") and state.attempt < _MAX_ATTEMPTS
