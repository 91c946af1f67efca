"""`status` and the list of migrations: a fold over the state in Dagster's storage; opens no database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import dagster as dg

from vectormigrate_dagster.config import EndpointConfig, Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.blockers import newest_live
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import MIGRATE, ROLLBACK, Lease
from vectormigrate_dagster.defs.state import LiveState, PartitionState, PlanSummary, RollbackState, ValidationState, now
from vectormigrate_dagster.migration_file import BrokenMigration, load_folder
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import (
    BrokenFile,
    EndpointDocument,
    ListedMigration,
    ListProgress,
    LiveStatus,
    LossCounts,
    MigrationList,
    MigrationStatus,
    PartitionCounts,
    Progress,
    Status,
    ValidationSummary,
)

_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)


def status(context: Context, migration_id: str) -> Status:
    """Tell where a migration stands."""
    migration = context.migration(migration_id)
    with context.instance() as instance:
        log = MigrationLog(instance, migration.id)
        plan = log.summary()
        log.refresh()
        return status_of(log, migration, plan)


def list_migrations(
    context: Context,
    *,
    status: MigrationStatus | None = None,
    limit: int = 10,
    offset: int = 0,
    sort_by: Literal["created_at", "migration_id", "status"] = "created_at",
    sort_order: Literal["asc", "desc"] = "desc",
) -> MigrationList:
    """List the migrations of the folder, a page at a time."""
    migrations, broken = load_folder(context.migrations)
    items = []
    with context.instance() as instance:
        for migration in migrations:
            log = MigrationLog(instance, migration.id)
            plan = log.summary()
            log.refresh()
            items.append(listed(status_of(log, migration, plan), plan))
    return page(items, broken, status=status, limit=limit, offset=offset, sort_by=sort_by, sort_order=sort_order)


def page(
    items: Iterable[ListedMigration],
    broken: Iterable[BrokenMigration],
    *,
    status: MigrationStatus | None,
    limit: int,
    offset: int,
    sort_by: Literal["created_at", "migration_id", "status"],
    sort_order: Literal["asc", "desc"],
) -> MigrationList:
    """One page of a list of migrations."""
    chosen = [item for item in items if status is None or item.status == status]
    # A migration that was never planned has no time of creation; it sorts as the oldest.
    chosen.sort(key=lambda item: (str(getattr(item, sort_by) or ""), item.migration_id), reverse=sort_order == "desc")
    return MigrationList(
        migrations=tuple(chosen[offset : offset + limit]),
        total=len(chosen),
        limit=limit,
        offset=offset,
        broken=tuple(BrokenFile(path=str(file.path), error=str(file.error)) for file in broken),
    )


def listed(status: Status, plan: PlanSummary | None) -> ListedMigration:
    """A migration as a line of a list."""
    return ListedMigration(
        migration_id=status.migration_id,
        status=status.status,
        created_at=None if plan is None else plan.created_at,
        progress=ListProgress.of(status.progress.migrated_records, status.progress.total_records),
    )


def status_of(log: MigrationLog, migration: Migration, plan: PlanSummary | None) -> Status:
    """The status from a log that was refreshed."""
    source, target = endpoint_document(migration.source), endpoint_document(migration.target)
    found = log.runs()
    runs = tuple(run.run_id for run in found)
    if plan is None:
        return Status(
            migration_id=migration.id,
            status="not_started",
            phase="plan",
            source=source,
            target=target,
            runs=runs,
        )
    states = log.partitions(plan)
    running = {
        key
        for key, state in states.items()
        if state.state in ("loading", "rolling_back") and Lease(log.instance, log.migration_id, key).is_held()
    }
    commands = (Lease(log.instance, log.migration_id, command) for command in (MIGRATE, ROLLBACK))
    at_work = bool(running) or any(lease.is_held() for lease in commands) or _queued(migration, found)
    rollback = log.rollback(plan)
    word = _status(plan, states, rollback, at_work=at_work)
    validation = None if rollback is not None else log.validation(plan)  # of what is not there any more
    written = None if word == "rolled_back" else log.target(plan)
    moved = sum(_in_target(state) for state in states.values())
    settled = sum(s.acknowledged + s.skipped + s.refused + s.vanished for s in states.values())
    rate = sum(states[key].rate for key in running if states[key].state == "loading") or None
    left = max(0, plan.source_records - settled)
    since = log.since_load(plan)
    return Status(
        migration_id=migration.id,
        status=word,
        phase="rollback" if rollback is not None else _phase(word, validation),
        # A plan's count is as old as the plan: a source that is written to may have more by now.
        progress=_progress(word, moved, settled, plan),
        batches_processed=sum(state.batches for state in states.values()),
        started_at=min((state.started_at for state in states.values()), default=None),
        ended_at=max((state.at for state in states.values()), default=None) if word == "completed" else None,
        rate_per_second=None if rate is None else round(rate, 1),
        eta_seconds=None if rate is None else round(left / rate, 1),
        partitions=PartitionCounts(
            total=len(plan.keys),
            done=sum(state.state == "done" for state in states.values()),
            failed=sum(state.state in ("failed", "lost") for state in states.values()),
            running=len(running),
        ),
        skipped=sum(state.skipped for state in states.values()),
        refused=max(0, since.refused + sum(state.refused for state in states.values())),
        vanished=max(0, since.vanished + sum(state.vanished for state in states.values())),
        source=source,
        target=target,
        indexing=None if written is None else written.indexing,
        loss=LossCounts(**plan.changes),
        validation=_validation(validation),
        live=live_status(newest_live(log, plan)),
        last_error=_last_error(states),
        stale_seconds=_age(states, validation),
        runs=runs,
    )


def endpoint_document(config: EndpointConfig) -> EndpointDocument:
    """One side of a migration file, without any secret."""
    return EndpointDocument(type=config.type, address=config.url or str(config.path), collection=config.collection)


def _status(
    plan: PlanSummary, states: dict[str, PartitionState], rollback: RollbackState | None, *, at_work: bool
) -> MigrationStatus:
    if rollback is not None and rollback.state == "finished":
        return "rolled_back"
    if at_work:
        return "in_progress"
    failed = any(state.state in ("failed", "lost") for state in states.values())
    if rollback is not None:
        return "failed" if failed else "stopped"
    if not states:
        return "planned"
    if len(states) == len(plan.keys) and all(state.state == "done" for state in states.values()):
        return "completed"
    return "failed" if failed else "stopped"


def _in_target(state: PartitionState) -> int:
    """Records of a partition that are in the target because of us."""
    return 0 if state.state == "rolled_back" else max(0, state.acknowledged - state.undone)


def _phase(word: MigrationStatus, validation: ValidationState | None) -> str:
    if word == "completed":
        if validation is None:
            return "loaded"
        return "repaired" if validation.tier == "repair" else "validated"
    return "load"


def _progress(word: MigrationStatus, moved: int, settled: int, plan: PlanSummary) -> Progress:
    if word == "completed" and settled >= plan.source_records:
        return Progress(total_records=plan.source_records, migrated_records=moved, percentage=100.0)
    return Progress.of(moved, max(plan.source_records, moved))


def _validation(state: ValidationState | None) -> ValidationSummary:
    if state is None:
        return ValidationSummary()
    return ValidationSummary(
        passed=state.passed, tier=state.tier, checked=state.checked, mismatched=state.mismatched, at=state.at
    )


def live_status(state: LiveState | None) -> LiveStatus:
    """What the state of a live migration tells people."""
    if state is None:
        return LiveStatus()
    known = state.model_dump(exclude={"plan"})
    return LiveStatus(**known, can_cut_over=state.primary == "source" and not state.blocked_by)


def _last_error(states: dict[str, PartitionState]) -> str | None:
    wrong = [(state.at, key, state.error) for key, state in states.items() if state.error is not None]
    if not wrong:
        return None
    _, key, error = max(wrong)
    return f"partition '{key}': {error}"


def _age(states: dict[str, PartitionState], validation: ValidationState | None) -> float | None:
    times: list[datetime] = [state.at for state in states.values()]
    if validation is not None:
        times.append(validation.at)
    return None if not times else round((now() - max(times)).total_seconds(), 1)


def _queued(migration: Migration, runs: Iterable[dg.DagsterRun]) -> bool:
    """Whether a partition waits for its turn: between two of them nobody holds a lease, and nothing has stopped."""
    jobs = (names.job_name(migration.id), names.rollback_job_name(migration.id))
    return any(run.status in _WAITING and run.job_name in jobs for run in runs)
