"""`validate`: compare source and target, tier by tier."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.planning import require_current, sync_keys
from vectormigrate_dagster.defs.signals import stop_requested
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.defs.validating import validate_migration
from vectormigrate_dagster.defs.whole_validation import current_round
from vectormigrate_dagster.errors import ConfigurationError, Stopped, ValidationFailed
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import Progress, Status, TierResult, ValidationDocument
from vectormigrate_dagster.services.report import check_report, write_report
from vectormigrate_dagster.services.status import status_of
from vectormigrate_dagster.services.workers import Order, ThisProcess, WorkerPool
from vectormigrate_dagster.transfer.throttle import Interrupt
from vectormigrate_dagster.validation import GivenQueries, ValidationReport
from vectormigrate_dagster.validation.search.query_file import read_queries

_POLL_SECONDS = 0.5
_CONCLUDES_LATER = {"validate_all": {"conclude": False}}


def validate(
    context: Context,
    migration_id: str,
    *,
    sample_size: int | None = None,
    full: bool = False,
    workers: int | None = None,
    seed: int | None = None,
    again: bool = False,
    queries: Path | None = None,
    report_file: Path | None = None,
    progress: Callable[[Status], None] | None = None,
) -> ValidationDocument:
    """Compare source and target; the outcome is recorded for `status` and the UI.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        sample_size: records to compare; None is the migration file's.
        full: compare every record. If that was interrupted, it goes on, unless nobody worked on it for a day.
        workers: processes that compare at the same time, if `full`; more than one is refused for embedded databases.
        seed: what random choices begin with; the same one makes the same choices.
        again: do not go on with a full validation that was interrupted.
        queries: file of queries to search for; None is the migration file's, or records that are drawn.
        report_file: where a page with the whole report is written, and its data beside it; None writes none.
        progress: if `full`, called about twice a second with the status, whose progress is that of the validation.

    Raises:
        ConfigurationError: `workers` is above 1 and a database is embedded, or options exclude each other.
        PlanOutdated: there is no plan to validate against.
        LeaseHeld: a partition that is to be compared is being worked on.
        DatabaseError: a database could not be reached or refused us.
        Stopped: a signal ended it. Of a sample nothing is recorded; a full validation goes on the next time.
    """
    if full and sample_size is not None:
        raise ConfigurationError("give a sample size or ask for a full validation, not both")
    if not full and (workers is not None or again):
        raise ConfigurationError("workers, and beginning again, are for a full validation")
    migration = context.migration(migration_id)
    if report_file is not None:
        check_report(report_file)
    given = None if queries is None else read_queries(queries)
    work = _Work(context.home, migration, migration.workers(workers) if full else 1, given)
    with context.instance() as instance:
        if full:
            everything = partial(work.everything, instance, seed=seed, again=again)
            report = in_foreground(everything, _reporting(MigrationLog(instance, migration.id), migration, progress))
        else:
            report = in_foreground(partial(work.sample, instance, sample_size, seed=seed))
    if report_file is not None:
        write_report(report_file, migration, report)
    return document_of(migration.id, report)


def document_of(migration_id: str, report: ValidationReport) -> ValidationDocument:
    """A report as the command and its callers are given it."""
    return ValidationDocument(
        migration_id=migration_id,
        passed=report.passed,
        full=report.looked_at == "full",
        at=report.ended_at or now(),
        seconds=round(report.seconds, 3),
        tiers=tuple(
            TierResult(
                name=tier.tier,
                passed=tier.passed,
                checked=tier.checked,
                mismatched=tier.mismatched,
                summary=tier.statement,
            )
            for tier in report.tiers
        ),
        mismatches=report.mismatches,
        plan=report.plan,
        seed=report.seed,
        began_at=report.began_at,
        digest=report.digest,
    )


def _reporting(
    log: MigrationLog, migration: Migration, progress: Callable[[Status], None] | None
) -> Callable[[], None]:
    """What to do about twice a second while partitions are compared: report how many records were."""
    plan = log.summary()

    def look() -> None:
        log.refresh()
        known = None if plan is None else log.validation_round(plan)
        if progress is None or plan is None or known is None or known.concluded_at is not None:
            return
        read = sum(state.outcome["read"] for state in log.validated(plan, known.name).values())
        compared = Progress.of(read, max(read, plan.source_records))
        told = {"progress": compared, "rate_per_second": None, "eta_seconds": None}
        progress(status_of(log, migration, plan).model_copy(update=told))

    return look


class _Work:
    """A validation that somebody waits for."""

    def __init__(self, home: Path, migration: Migration, workers: int, queries: GivenQueries | None) -> None:
        self._migration = migration
        self._queries = queries
        self._workers = workers
        self._order = Order(home=home, migration=migration, job="validate", ops=_CONCLUDES_LATER)
        self._source, self._target = endpoints(migration)

    def sample(self, instance: dg.DagsterInstance, size: int | None, *, seed: int | None) -> ValidationReport:
        """Compare a sample."""
        return validate_migration(
            instance,
            self._migration,
            self._source,
            self._target,
            sample_size=size,
            queries=self._queries,
            seed=seed,
        )

    def everything(self, instance: dg.DagsterInstance, *, seed: int | None, again: bool) -> ValidationReport:
        """Compare every partition that the round under way has not been through, each in a run; then conclude."""
        migration, sleep = self._migration, Interrupt(stop_requested).sleep
        log = MigrationLog(instance, migration.id)
        plan = log.require_plan()
        require_current(plan, migration)
        sync_keys(instance, migration.id, plan)
        known = current_round(log, plan, seed=seed, again=again)
        validated = log.validated(plan, known.name)
        keys = [key for key in plan.keys if key not in validated]
        with (
            databases.keep_open(self._source, scopes=None, sleep=sleep),
            databases.keep_open(self._target, scopes=None, sleep=sleep),
        ):
            if self._workers == 1 or len(keys) < 2:
                self._compare_each(ThisProcess(self._order, instance), keys, 1)
            else:
                with WorkerPool(self._order, min(self._workers, len(keys))) as pool:
                    self._compare_each(pool, keys, min(self._workers, len(keys)))
            return validate_migration(
                instance, migration, self._source, self._target, full=True, queries=self._queries, seed=seed
            )

    def _compare_each(self, crew: ThisProcess | WorkerPool, keys: list[str], size: int) -> None:
        """Compare partitions, as many at a time as there are workers; the first failure ends all."""
        with ThreadPoolExecutor(size, thread_name_prefix="worker") as threads:
            left = {threads.submit(_compare, crew, key) for key in keys}
            try:
                while left:
                    ended, left = wait(left, _POLL_SECONDS, FIRST_EXCEPTION)
                    for future in ended:
                        future.result()
                    _check_stop()
            except BaseException:
                crew.stop()
                threads.shutdown(wait=False, cancel_futures=True)
                raise


def _check_stop() -> None:
    if stop_requested():
        raise Stopped("interrupted; what was compared is recorded")


def _compare(crew: ThisProcess | WorkerPool, key: str) -> None:
    _check_stop()
    try:
        crew.load(key)
    except ValidationFailed:
        return  # recorded; the other partitions tell more
