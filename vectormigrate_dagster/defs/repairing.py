"""Repair what the last validation listed, and record truthfully what that proves: a re-check of the listed records."""

# Dagster reads the annotations of ops when they are defined: they may not be put off.
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Database, Endpoint, Source
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import job_of, title
from vectormigrate_dagster.defs.journal import open_journal, require_source_is_primary
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.live import tolerance_now
from vectormigrate_dagster.defs.planning import require_current, require_not_rolled_back
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import VALIDATION, VALIDATION_ROUND, ValidationState, now
from vectormigrate_dagster.defs.target import ownership_of, sent_of, sent_ranges
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.work import explained, require_planned
from vectormigrate_dagster.errors import NotSo, PlanOutdated, ValidationFailed
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.live.leased import LeasedResync
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.transfer.resync import Outcome, Resync
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.repair import RepairContext, RepairReport, repair

TIER = "repair"
"""What the state calls a look at nothing but the records that were listed."""

_PAGE_RECORDS = 500


def repair_migration(
    instance: dg.DagsterInstance, migration: Migration, source: Endpoint, target: Endpoint
) -> tuple[RepairReport, Path | None]:
    """Rewrite the records that the newest validation listed; return what became of them, and the list of what is left.

    Raises:
        PlanOutdated: there is no plan, or its file was changed since.
        NotSo: there was no validation, or it failed for a reason that no list of records mends.
        LeaseHeld: a partition is being loaded or rolled back.
        DatabaseError: a database could not be reached or refused us.
        Stopped: it was asked to end; nothing is recorded.
    """
    log = MigrationLog(instance, migration.id)
    with ExitStack() as stack:
        plan = log.require_plan()
        for key in plan.keys:
            stack.enter_context(held(Lease(instance, migration.id, key)))
        log.refresh()
        require_not_rolled_back(log, plan)
        require_current(plan, migration)
        found = _validated(log, plan)
        if found.mismatches is None:
            return RepairReport(listed=0, outcomes={}, generations=0), None
        listed = Path(found.mismatches)
        if not listed.exists():
            raise NotSo(f"the list '{listed}' of the last validation is gone; {_advice(migration.id)}")
        throttle = throttle_of(log, migration.transfer)
        sleep = throttle.interrupt.sleep
        journal = stack.enter_context(open_journal(instance, migration, plan))
        require_source_is_primary(journal)
        src = stack.enter_context(databases.open_source(source, sleep=sleep))
        dst = stack.enter_context(databases.open_target(target, sleep=sleep))
        throttle.target.call(dst.probe)
        context = _context(log, plan, migration, src, dst, throttle, journal)
        rest = listed.parent / f"repair-{now():%Y%m%dT%H%M%S%fZ}.parquet"
        report = repair(context, listed, rest)
        left = rest if report.unsettled else None
        _look_again(journal, plan)
        log.record(VALIDATION, _state(plan, report, left))
        _end_round(log, plan)
    return report, left


def _look_again(journal: Journal, plan: Plan) -> None:
    """Let catching up say anew what it has said of records that it could not make alike: some may be mended now."""
    unlike = [verdict.key for verdict in journal.verdicts(plan.generation).all() if not verdict.alike]
    if unlike:
        journal.note(unlike, kind="touch")


def _end_round(log: MigrationLog, plan: Plan) -> None:
    """Let the next full validation begin anew: what one under way has seen may not be so any more."""
    known = log.validation_round(plan)
    if known is not None and known.concluded_at is None:
        log.record(VALIDATION_ROUND, known.model_copy(update={"concluded_at": now()}))


def _validated(log: MigrationLog, plan: Plan) -> ValidationState:
    """The newest validation, if a repair can build on it."""
    found = log.validation(plan)
    if found is None:
        raise NotSo(
            f"migration '{log.migration_id}' was not validated, so nothing is listed; {_advice(log.migration_id)}"
        )
    if found.mismatches is None and not found.passed and found.tier != TIER:
        raise NotSo(
            f"the last validation of '{log.migration_id}' failed and listed no records, so there is nothing to "
            f"rewrite; {_advice(log.migration_id)}"
        )
    return found


def _advice(migration_id: str) -> str:
    return f"'vectormigrate validate {migration_id} --full' lists what is wrong"


def _context(  # noqa: PLR0917  # what a repair is made of
    log: MigrationLog,
    plan: Plan,
    migration: Migration,
    source: Source,
    target: Database,
    throttle: Throttle,
    journal: Journal,
) -> RepairContext:
    state = log.target(plan)
    if state is None:
        raise PlanOutdated(f"nothing was loaded by generation {plan.generation} of '{log.migration_id}'; load it first")
    mapper = RecordMapper(plan.mapping)
    tolerance = tolerance_now(plan, migration, source.capabilities, target.capabilities, journal)
    sent_before = sent_ranges(log)
    made: dict[str, LeasedResync] = {}

    def resync_of(key: str) -> LeasedResync:
        if key not in made:
            make = partial(
                Resync,
                source,
                target,
                mapper,
                throttle=throttle,
                on_conflict=migration.transfer.on_conflict,
                ownership=ownership_of(log, plan, key, state),
                sent=sent_of(log, key, state),
                sent_before=sent_before or None,
                tolerance=tolerance,
            )
            made[key] = LeasedResync(
                journal, lambda guard: make(guard=guard), holder="repair", sleep=throttle.interrupt.sleep
            )
        return made[key]

    most = min(_PAGE_RECORDS, source.capabilities.max_page_records, target.capabilities.max_page_records)
    return RepairContext(
        target=target, mapper=mapper, throttle=throttle, splits=plan.splits, resync_of=resync_of, page_records=most
    )


def _state(plan: Plan, report: RepairReport, left: Path | None) -> ValidationState:
    """Not passed, whatever was repaired: nobody has looked at the other records since the validation that failed."""
    return ValidationState(
        plan=plan.digest,
        passed=False,
        tier=TIER,
        checked=report.listed,
        mismatched=report.unsettled,
        mismatches=None if left is None else str(left),
    )


@dg.op(description="Rewrite the records that the last validation listed, and look at them again; fails if any is left.")
def repair_listed(
    context: dg.OpExecutionContext,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Rewrite the records that the last validation listed."""
    with explained():
        lease.take(context.instance, migration.id)
        plan = MigrationLog(context.instance, migration.id).require_plan()
        require_planned(source, plan.source)
        require_planned(target, plan.target)
        report, left = repair_migration(context.instance, migration, source.endpoint(), target.endpoint())
        counts = {outcome.value: report.count(outcome) for outcome in Outcome}
        listed = {} if left is None else {"left": dg.MetadataValue.path(left)}
        context.add_output_metadata({"listed": report.listed, **counts, "generations": report.generations, **listed})
        if report.unsettled:
            raise ValidationFailed(
                f"{report.unsettled:,} of {report.listed:,} listed records are not right; see '{left}'"
            )


@dg.graph(description="Rewrite exactly the records that the last validation listed.")
def repair_graph() -> None:
    """Repair a migration."""
    repair_listed()


def repair_job(migration: Migration) -> dg.JobDefinition:
    """The job that repairs what the last validation listed."""
    return job_of(
        repair_graph,
        migration,
        name=names.repair_job_name(migration.id),
        phase="repair",
        description=f"Repair {title(migration)}: rewrite what the last validation listed, then look at it.",
    )
