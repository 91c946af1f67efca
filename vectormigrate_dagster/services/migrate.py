"""`migrate`: plan if there is no plan, then load every partition that is not done; again resumes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.automation import open_partitions
from vectormigrate_dagster.defs.bulk import finish_load, leave, noted
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import MIGRATE, Lease
from vectormigrate_dagster.defs.planning import require_current, require_not_rolled_back, sync_keys
from vectormigrate_dagster.defs.signals import request_stop, stop_requested
from vectormigrate_dagster.defs.state import PlanSummary, now
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.validating import count_migration
from vectormigrate_dagster.errors import LeaseHeld, NotSo, Stopped, ValidationFailed
from vectormigrate_dagster.mapping.plan import Plan, partition_records
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.plan import ensure_plan
from vectormigrate_dagster.services.status import status_of
from vectormigrate_dagster.services.workers import Order, ThisProcess, WorkerPool
from vectormigrate_dagster.transfer.throttle import Interrupt

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
        workers: processes that load at the same time; more than one is refused for embedded databases.
        batch_size, max_retries, validate_every: as in the migration file, for this time only.
        progress: called with the status about twice a second.

    Raises:
        ConfigurationError: `workers` is above 1 and a database is embedded.
        Stopped: a signal or `stop` ended it, after the calls that were under way; it can be resumed. A second Ctrl-C
            does not return: it ends this process and its workers at once, with exit code 130.
        NotSo: a partition failed.
        DatabaseError: a database could not be reached or refused us.
        WorkerLost: worker processes died again and again.
    """
    migration = context.migration(migration_id)
    processes = migration.workers(workers)
    given = {"batch_size": batch_size, "max_retries": max_retries, "validate_every": validate_every}
    overrides = {name: value for name, value in given.items() if value is not None}
    with context.instance() as instance:
        report_dead_runs(instance, migration.id)
        log = MigrationLog(instance, migration.id)
        if dry_run:
            in_foreground(lambda: ensure_plan(instance, migration))
        else:
            ops = {"load_batches": overrides} if overrides else None
            work = _Work(instance, Order(home=context.home, migration=migration, ops=ops), processes)
            with _indexed_after(work), _at_work(instance, migration.id):
                in_foreground(work.run, _reporting(work, log, migration, progress))
        log.refresh()
        return status_of(log, migration, log.summary())


class _Work:
    """Plans if need be and loads the open partitions."""

    def __init__(self, instance: dg.DagsterInstance, order: Order, workers: int) -> None:
        self._instance = instance
        self._order = order
        self._workers = workers
        self._migration = migration = order.migration
        self._source, self._target = endpoints(migration)
        self._log = MigrationLog(instance, migration.id)
        self._began = now()
        self._failed: dict[str, ValidationFailed] = {}
        self._sleep = Interrupt(stop_requested).sleep

    def run(self) -> None:
        """Load until every partition is done or has failed once, wait for the target's indexes, and count both sides.

        Raises:
            VectorMigrateError: what ended the work.
        """
        while True:
            plan = self._load_all()
            if self._wait_for_others(plan):
                break
        if not self._failed:
            self._finish(plan)
            self._check_counts(plan)
        else:
            key, error = next(iter(self._failed.items()))
            raise NotSo(f"{len(self._failed)} of {len(plan.splits)} partitions failed; '{key}': {error}")

    def _load_all(self) -> Plan:
        """Load every partition that nobody works on, with embedded folders opened once for all of them."""
        chosen = self._migration.source.scopes
        read = None if chosen == "all" else chosen
        with (
            databases.keep_open(self._source, scopes=read, sleep=self._sleep),
            databases.keep_open(self._target, scopes=(), sleep=self._sleep),
            databases.open_source(self._source, sleep=self._sleep) as source,
        ):
            # Whoever has no folder yet waits here, before it takes a partition that it could not load.
            source.ping()
            with WorkerPool(self._order, self._workers) as pool:
                pool.warm(self._needed(source))
                plan = ensure_plan(self._instance, self._migration)
                require_current(plan, self._migration)
                sync_keys(self._instance, self._migration.id, plan)
                if keys := self._open(plan):
                    here = self._workers == 1 or len(keys) == 1
                    self._load_each(ThisProcess(self._order, self._instance) if here else pool, keys)
        return plan

    def _needed(self, source: databases.Source) -> int:
        """Workers that a plan which is yet to be made will keep busy; 0 if there is a plan, or one is enough."""
        if self._workers == 1 or self._log.summary() is not None:
            return 0
        records = throttle_of(self._log, self._migration.transfer).source.call(source.count)
        partitions = math.ceil(records / partition_records(records, self._migration))
        return partitions if partitions > 1 else 0

    def _load_each(self, crew: ThisProcess | WorkerPool, keys: list[str]) -> None:
        """Load partitions, as many at a time as there are workers; the first failure ends all."""
        size = min(self._workers, len(keys))
        with ThreadPoolExecutor(size, thread_name_prefix="worker") as threads:
            loading = {threads.submit(self._load, crew, key) for key in keys}
            try:
                while loading:
                    ended, loading = wait(loading, _POLL_SECONDS, FIRST_EXCEPTION)
                    for future in ended:
                        future.result()
                    self._log.refresh()
                    self._check_stop()
            except BaseException:
                crew.stop()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

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
            self._sleep(_POLL_SECONDS)

    def _open(self, plan: Plan) -> list[str]:
        self._log.refresh()
        require_not_rolled_back(self._log, plan)
        return [key for key in open_partitions(self._log, plan) if key not in self._failed]

    def _load(self, crew: ThisProcess | WorkerPool, key: str) -> None:
        self._check_stop()
        try:
            crew.load(key)
        except LeaseHeld:
            # Another process took it in between; its state is looked at again.
            return
        except ValidationFailed as error:
            # The records of other partitions may well be right.
            self._failed[key] = error

    def _finish(self, plan: Plan) -> None:
        """Wait until the target's indexes are built; everything is moved by then."""
        throttle = throttle_of(self._log, self._migration.transfer)
        with databases.open_target(self._target, sleep=throttle.interrupt.sleep) as target:
            finish_load(self._log, plan, target, throttle)

    def put_back(self) -> None:
        """Put indexing of the target back if that is still to be done; does not wait for indexes."""
        plan = self._log.summary()
        if plan is not None:
            leave(self._log, plan, partial(databases.open_target, self._target))

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
        if self.asked_to_stop(self._log):
            raise Stopped("stopped on request; everything acknowledged is recorded")

    def asked_to_stop(self, log: MigrationLog) -> bool:
        """Whether `stop` was asked for since this work began, as far as `log` has been read."""
        asked = log.control().stop_requested_at
        return asked is not None and asked > self._began


def _reporting(work: _Work, log: MigrationLog, migration: Migration, progress: Progress | None) -> Callable[[], None]:
    """What to do about twice a second while `work` runs: look whether it should end, and report progress."""
    plan: PlanSummary | None = None

    def look() -> None:
        nonlocal plan
        plan = plan or log.summary()
        log.refresh()
        if work.asked_to_stop(log):
            request_stop()  # it may wait where it does not look
        if progress is not None:
            progress(status_of(log, migration, plan))

    return look


@contextlib.contextmanager
def _indexed_after(work: _Work) -> Iterator[None]:
    """Have indexing of the target put back however `work` ends.

    Not before others see that this command is not at work any more: until then they leave it to us, from then on
    whoever is still loading does it.
    """
    try:
        yield
    except BaseException as error:
        with noted(error):
            in_foreground(work.put_back)
        raise
    in_foreground(work.put_back)


@contextlib.contextmanager
def _at_work(instance: dg.DagsterInstance, migration_id: str) -> Iterator[None]:
    """Let `status` see that work goes on between two partitions. Several may migrate at once; one shows it."""
    lease = Lease(instance, migration_id, MIGRATE)
    with contextlib.suppress(LeaseHeld):
        lease.acquire()
    try:
        yield
    finally:
        lease.release()
