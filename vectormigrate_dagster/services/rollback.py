"""`rollback`: take back what a migration wrote, and nothing else; again goes on, or says that it is done."""

from __future__ import annotations

import time
from collections.abc import Callable

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.lease import ROLLBACK, Lease, held
from vectormigrate_dagster.defs.planning import is_rolled_back, sync_keys
from vectormigrate_dagster.defs.rolling_back import begin_rollback, rollback_job
from vectormigrate_dagster.defs.signals import request_stop, stop_requested
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.defs.waiting import Tell, tell_nobody, telling
from vectormigrate_dagster.errors import Stopped
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import RollbackDocument, Status
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.services.status import endpoint_document, status_of
from vectormigrate_dagster.transfer.rollback import WORKERS
from vectormigrate_dagster.transfer.throttle import Interrupt


def rollback(
    context: Context,
    migration_id: str,
    *,
    workers: int = WORKERS,
    progress: Callable[[Status], None] | None = None,
    tell: Tell = tell_nobody,
) -> RollbackDocument:
    """Take back everything that the stored plan wrote, partition by partition.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        workers: batches that are taken back at once; one on an embedded database, whatever is asked for.
        progress: called with the status about twice a second.
        tell: is told what is waited for, if anything is.

    Raises:
        PlanOutdated: there is no plan.
        LeaseHeld: a load is at work, or another rollback.
        Stopped: a signal or `stop` ended it; it can be resumed.
        DatabaseError: a database could not be reached or refused us; it can be resumed.
    """
    migration = context.migration(migration_id)
    began = time.monotonic()
    with context.instance() as instance:
        report_dead_runs(instance, migration.id)
        log = MigrationLog(instance, migration.id)
        plan = log.require_plan()
        log.refresh()
        already = is_rolled_back(log, plan)
        if not already:
            work = _Work(instance, migration, plan, workers, tell)
            with held(Lease(instance, migration.id, ROLLBACK), 0):
                in_foreground(work.run, lambda: work.look(progress))
            log.refresh()
        return _document(log, migration, plan, already=already, seconds=time.monotonic() - began)


class _Work:
    """Takes back one partition after the other; several batches of it at a time."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        migration: Migration,
        plan: Plan,
        workers: int,
        tell: Tell,
    ) -> None:
        self._instance = instance
        self._migration = migration
        self._plan = plan
        self._workers = workers
        self._tell = tell
        self._target = endpoints(migration)[1]
        self._log = MigrationLog(instance, migration.id)
        self._seen = MigrationLog(instance, migration.id)
        self._began = now()
        self._sleep = Interrupt(stop_requested).sleep

    def run(self) -> None:
        """Work until the rollback is finished.

        Raises:
            VectorMigrateError: what ended it.
        """
        begin_rollback(self._log, self._migration, tell=self._tell)
        sync_keys(self._instance, self._migration.id, self._plan)
        job = rollback_job(self._migration)
        ops = {"roll_back_partition": {"workers": self._workers}}
        with databases.keep_open(self._target, scopes=(), sleep=self._sleep), telling(self._tell):
            while not self._finished():
                # Of a rollback that was killed before its very end, only that end is missing.
                for key in self._log.not_taken_back(self._plan) or self._plan.keys[-1:]:
                    self._check_stop()
                    run_job(job, self._instance, self._migration.id, partition=key, ops=ops)

    def look(self, progress: Callable[[Status], None] | None) -> None:
        """Notice the wish to stop, and report progress; called from another thread than `run`."""
        self._seen.refresh()
        if self._asked_to_stop(self._seen):
            request_stop()
        if progress is not None:
            progress(status_of(self._seen, self._migration, self._seen.require_summary()))

    def _finished(self) -> bool:
        self._log.refresh()
        return is_rolled_back(self._log, self._plan)

    def _check_stop(self) -> None:
        self._log.refresh()
        if stop_requested() or self._asked_to_stop(self._log):
            raise Stopped("stopped; what was taken back is recorded")

    def _asked_to_stop(self, log: MigrationLog) -> bool:
        asked = log.control().stop_requested_at
        return asked is not None and asked > self._began


def _document(
    log: MigrationLog, migration: Migration, plan: Plan, *, already: bool, seconds: float
) -> RollbackDocument:
    states, end = log.partitions(plan).values(), log.rollback(plan)
    left, remaining = sum(state.left for state in states), 0 if end is None else end.remaining
    folder = migration_folder(log.instance, migration.id) / "left"
    return RollbackDocument(
        migration_id=migration.id,
        generation=plan.generation,
        target=endpoint_document(migration.target),
        already=already,
        undone=sum(state.undone for state in states),
        left=left,
        dropped=end is not None and end.dropped,
        remaining=remaining,
        listed=str(folder) if left or remaining else None,
        seconds=round(seconds, 3),
    )
