"""Validate a whole migration and record the outcome as state and as checks."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.bulk import before_validation
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import tier_check
from vectormigrate_dagster.defs.exceptions import exceptions_of
from vectormigrate_dagster.defs.journal import known_journal
from vectormigrate_dagster.defs.live import JournalMotion, tolerance_now
from vectormigrate_dagster.defs.searching import given_queries, search_settings, unsearched
from vectormigrate_dagster.defs.state import VALIDATION, now
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.whole_validation import state_of, validate_whole
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.validation import (
    Context,
    GivenQueries,
    TierResult,
    ValidationReport,
    validate_sample,
)
from vectormigrate_dagster.validation.count import check_count

EventSink = Callable[[dg.AssetCheckEvaluation], None]


def validate_migration(
    instance: dg.DagsterInstance,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    *,
    sample_size: int | None = None,
    full: bool = False,
    queries: GivenQueries | None = None,
    seed: int | None = None,
    again: bool = False,
    publish: EventSink | None = None,
) -> ValidationReport:
    """Run every tier and record the outcome.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        source: one side.
        target: the other.
        sample_size: records to compare; None is the migration file's; ignored if `full`.
        full: compare every record, partition by partition.
        queries: what to search for; None takes those of the file that the migration file names, or samples records.
        seed: what random choices begin with; the same one makes the same choices. None is 0, or that of a full
            validation that is gone on with.
        again: do not go on with a full validation that was interrupted.
        publish: where check evaluations go; None reports those of the whole without a run.

    Raises:
        PlanOutdated: there is no plan to validate against.
        LeaseHeld: `full`, and a partition is being worked on.
        DatabaseError: a database could not be reached or refused us.
        Stopped: it was asked to end.
    """
    log = MigrationLog(instance, migration.id)
    log.refresh()
    publish = publish or whole_only(instance)
    if full:
        return validate_whole(log, migration, source, target, publish=publish, queries=queries, seed=seed, again=again)
    report = _sampled(log, migration, source, target, sample_size, queries, seed or 0)
    for tier in report.tiers:
        publish(tier_check(migration.id, tier))
    plan = log.require_plan()
    before = log.validation(plan)
    # A sample lists nothing, and says nothing of what was listed: that still waits for `repair`.
    listed = None if before is None else before.mismatches
    log.record(VALIDATION, state_of(plan, report).model_copy(update={"mismatches": listed}))
    return report


def _sampled(  # noqa: PLR0917  # in the order of its caller's
    log: MigrationLog,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    sample_size: int | None,
    queries: GivenQueries | None,
    seed: int,
) -> ValidationReport:
    """Validate a sample."""
    plan = log.require_plan()
    queries = queries or given_queries(migration)
    mapper, splits = RecordMapper(plan.mapping), [planned.split for planned in plan.splits]
    throttle = throttle_of(log, migration.transfer)
    sleep = throttle.interrupt.sleep
    began = now()
    with (
        known_journal(log.instance, migration) as journal,
        databases.open_source(source, sleep=sleep) as src,
        databases.open_target(target, sleep=sleep) as dst,
    ):
        before_validation(log, plan, dst, throttle)
        sides = (src.probe(), dst.probe())
        search = search_settings(plan, migration, sides, queries, seed=seed)
        report = validate_sample(
            src,
            dst,
            mapper,
            splits,
            size=sample_size or migration.validation.sample_size,
            seed=seed,
            tolerance=tolerance_now(plan, migration, *sides, journal),
            exceptions=exceptions_of(log, plan, journal=journal),
            search=search,
            throttle=throttle,
            motion=JournalMotion.of(journal),
        )
    return report.sealed(
        skipped=() if search is not None else tuple(unsearched(plan, sides)),
        plan=plan.digest,
        seed=seed,
        began_at=began,
        ended_at=now(),
        looked_at="sample",
    )


def whole_only(instance: dg.DagsterInstance) -> EventSink:
    """Report checks of the whole without a run; Dagster keeps but one of a partition that no run has made."""

    def report(event: dg.AssetCheckEvaluation) -> None:
        if event.partition is None:
            instance.report_runless_asset_event(event)

    return report


def count_migration(
    instance: dg.DagsterInstance,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    plan: Plan,
    *,
    publish: EventSink | None = None,
) -> TierResult:
    """Compare what both sides hold with what the partitions have accounted for; reads no record.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        source: one side.
        target: the other.
        plan: what the partitions are of.
        publish: where the check evaluation goes; None reports it without a run.

    Raises:
        DatabaseError: a database could not be reached or refused us.
    """
    log = MigrationLog(instance, migration.id)
    log.refresh()
    states = log.partitions(plan).values()
    began = min((state.started_at for state in states), default=plan.created_at)
    accounted = sum(state.acknowledged + state.skipped + state.refused + state.vanished for state in states)
    throttle = throttle_of(log, migration.transfer)
    sleep = throttle.interrupt.sleep
    with (
        known_journal(log.instance, migration) as journal,
        databases.open_source(source, sleep=sleep) as src,
        databases.open_target(target, sleep=sleep) as dst,
    ):
        motion = JournalMotion.of(journal)
        context = Context(
            source=src,
            target=dst,
            mapper=RecordMapper(plan.mapping),
            splits=[planned.split for planned in plan.splits],
            exceptions=exceptions_of(log, plan, journal=journal),
            throttle=throttle,
            motion=motion,
        )
        result = check_count(context, accounted=accounted)
        repeated = context.repeated_records if context.source_records > accounted else 0
        unaccounted = abs(context.source_records - repeated - accounted)
        if unaccounted and unaccounted > (0 if motion is None else motion.changed_after(began)):
            statement = f"the source holds {context.source_records:,} records, {accounted:,} were accounted for"
            result = result.model_copy(update={"passed": False, "statement": f"{statement}; {result.statement}"})
    (publish or whole_only(instance))(tier_check(migration.id, result))
    return result
