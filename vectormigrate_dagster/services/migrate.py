"""`migrate`: plan if there is no plan, then load every partition that is not done; again resumes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.automation import open_partitions
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job
from vectormigrate_dagster.defs.lease import MIGRATE, Lease
from vectormigrate_dagster.defs.planning import require_current, sync_keys
from vectormigrate_dagster.defs.signals import graceful, stop_requested
from vectormigrate_dagster.defs.state import PlanSummary, now
from vectormigrate_dagster.defs.validating import count_migration
from vectormigrate_dagster.errors import ConfigurationError, LeaseHeld, NotSo, Stopped, ValidationFailed
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.plan import ensure_plan
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.services.status import status_of

_REFRESH_SECONDS = 0.5
_POLL_SECONDS = 0.5

Progress = Callable[[Status], None]


def migrate(
    context: Context,
    migration_id: str,
    *,
    dry_run: bool = False,
    workers: int | None = None,
    batch_size: int | None = None,
    max_retries: int | None = None,
    validate_every: int | None = None,
    progress: Progress | None = None,
) -> Status:
    """Move everything that is not moved yet.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        dry_run: plan and show what would be done, but write nothing to the target.
        workers: processes; more than one is refused for embedded databases.
        batch_size, max_retries, validate_every: as in the migration file, for this time only.
        progress: called with the status about twice a second.

    Raises:
        Stopped: a signal or `stop` ended it; it can be resumed.
        NotSo: a partition failed.
        DatabaseError: a database could not be reached or refused us.
    """
    migration = context.migration(migration_id)
    _check_workers(migration, workers)
    overrides = {"batch_size": batch_size, "max_retries": max_retries, "validate_every": validate_every}
    with context.instance() as instance:
        report_dead_runs(instance, migration.id)
        log = MigrationLog(instance, migration.id)
        if dry_run:
            ensure_plan(instance, migration)
        else:
            work = _Work(instance, migration, {name: value for name, value in overrides.items() if value is not None})
            with graceful(), _at_work(instance, migration.id):
                _watch(work, log, migration, progress)
        log.refresh()
        return status_of(log, migration, log.summary())


class _Work:
    """Plans if need be and loads the open partitions, one after the other, in a thread of its own.

    The main thread is left to signals: Dagster would turn an interrupt into a failed run.
    """

    def __init__(self, instance: dg.DagsterInstance, migration: Migration, overrides: dict[str, Any]) -> None:
        self._instance = instance
        self._migration = migration
        self._source, self._target = endpoints(migration)
        self._job = load_job(migration)
        self._ops = {"load_batches": overrides} if overrides else None
        self._log = MigrationLog(instance, migration.id)
        self._began = now()
        self._failed: dict[str, ValidationFailed] = {}

    def run(self) -> None:
        """Load until every partition is done or has failed once.

        Raises:
            VectorMigrateError: what ended the work.
        """
        while True:
            plan = self._load_all()
            if self._wait_for_others(plan):
                break
        if not self._failed:
            self._check_counts(plan)
        else:
            key, error = next(iter(self._failed.items()))
            raise NotSo(f"{len(self._failed)} of {len(plan.splits)} partitions failed; '{key}': {error}")

    def _load_all(self) -> Plan:
        """Load every partition that nobody works on, with embedded folders opened once for all of them."""
        with (
            databases.keep_open(self._source),
            databases.keep_open(self._target),
            databases.open_source(self._source) as source,
        ):
            # Whoever has no folder yet waits here, before it takes a partition that it could not load.
            source.ping()
            plan = ensure_plan(self._instance, self._migration)
            require_current(plan, self._migration)
            sync_keys(self._instance, self._migration.id, plan)
            for key in self._open(plan):
                self._check_stop()
                self._load(key)
        return plan

    def _wait_for_others(self, plan: Plan) -> bool:
        """Wait while all partitions that are left are in other hands; whether none is left."""
        while True:
            self._check_stop()
            if self._open(plan):
                return False
            states = self._log.partitions(plan)
            settled = {key for key, state in states.items() if state.state == "done"} | self._failed.keys()
            if len(settled) == len(plan.splits):
                return True
            time.sleep(_POLL_SECONDS)

    def _open(self, plan: Plan) -> list[str]:
        self._log.refresh()
        return [key for key in open_partitions(self._log, plan) if key not in self._failed]

    def _load(self, key: str) -> None:
        try:
            run_job(self._job, self._instance, self._migration.id, partition=key, ops=self._ops)
        except LeaseHeld:
            # Another process took it in between; its state is looked at again.
            return
        except ValidationFailed as error:
            # The records of other partitions may well be right.
            self._failed[key] = error

    def _check_counts(self, plan: Plan) -> None:
        """Compare what both sides hold with what was accounted for.

        Raises:
            ValidationFailed: a scan missed records, or one side was written to meanwhile.
        """
        result = count_migration(self._instance, self._migration, self._source, self._target, plan)
        if not result.passed:
            raise ValidationFailed(
                f"every partition is done, but {result.statement}; was a side written to meanwhile? "
                f"'vectormigrate validate {self._migration.id} --full' names the records"
            )

    def _check_stop(self) -> None:
        if stop_requested():
            raise Stopped("interrupted; everything acknowledged is recorded")
        asked = self._log.control().stop_requested_at
        if asked is not None and asked > self._began:
            raise Stopped("stopped on request; everything acknowledged is recorded")


def _watch(work: _Work, log: MigrationLog, migration: Migration, progress: Progress | None) -> None:
    """Run `work` and report progress until it ends."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="migrate") as pool:
        future: Future[None] = pool.submit(work.run)
        plan: PlanSummary | None = None
        while wait([future], timeout=_REFRESH_SECONDS).not_done:
            plan = plan or log.summary()
            if progress is not None:
                log.refresh()
                progress(status_of(log, migration, plan))
    future.result()


@contextlib.contextmanager
def _at_work(instance: dg.DagsterInstance, migration_id: str) -> Iterator[None]:
    """Let `status` see that work goes on between two partitions. Several may migrate at once; one shows it."""
    lease = Lease(instance, migration_id, MIGRATE)
    with contextlib.suppress(LeaseHeld):
        lease.acquire(timeout=0)
    try:
        yield
    finally:
        lease.release()


def _check_workers(migration: Migration, workers: int | None) -> None:
    """Refuse workers that would fight over a folder.

    Raises:
        ConfigurationError: more than one worker and an embedded database.
    """
    wanted = workers if workers is not None else migration.transfer.workers
    if wanted in ("auto", 1):
        return
    for side in (migration.source, migration.target):
        if databases.capabilities_of(side.type, embedded=side.embedded).single_process:
            raise ConfigurationError(
                f"{wanted} workers were asked for, but '{side.path}' is an embedded {side.type} that one process "
                "at a time may open; use 1 worker"
            )
    raise ConfigurationError(f"{wanted} workers were asked for; this version moves with 1")
