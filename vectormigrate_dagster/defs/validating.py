"""Validate a whole migration and record the outcome as state and as checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import tier_check
from vectormigrate_dagster.defs.exceptions import exceptions_of
from vectormigrate_dagster.defs.state import VALIDATION, ValidationState
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import VectorKind
from vectormigrate_dagster.model.vectors import Floats
from vectormigrate_dagster.validation import (
    Context,
    SearchSettings,
    TierResult,
    ValidationReport,
    validate_full,
    validate_sample,
)
from vectormigrate_dagster.validation.count import check_count
from vectormigrate_dagster.validation.tolerance import tolerance_of

EventSink = Callable[[dg.AssetCheckEvaluation], None]


def validate_migration(
    instance: dg.DagsterInstance,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    *,
    sample_size: int | None = None,
    full: bool = False,
    queries: Floats | None = None,
    publish: EventSink | None = None,
) -> ValidationReport:
    """Run every tier and record the outcome.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        source: one side.
        target: the other.
        sample_size: records to compare; None is the migration file's; ignored if `full`.
        full: compare every record.
        queries: float32 (q, d) to search for; None samples records.
        publish: where check evaluations go; None reports them without a run.

    Raises:
        PlanOutdated: there is no plan to validate against.
        DatabaseError: a database could not be reached or refused us.
    """
    log = MigrationLog(instance, migration.id)
    plan = log.require_plan()
    log.refresh()
    mapper, splits = RecordMapper(plan.mapping), [planned.split for planned in plan.splits]
    throttle = throttle_of(log, migration.transfer)
    sleep = throttle.interrupt.sleep
    with databases.open_source(source, sleep=sleep) as src, databases.open_target(target, sleep=sleep) as dst:
        tolerance = tolerance_of(plan.mapping.target_schema, dst.capabilities, migration.validation.min_cosine)
        exceptions, search = exceptions_of(log, plan), _search(plan, migration, queries)
        check = (
            validate_full if full else partial(validate_sample, size=sample_size or migration.validation.sample_size)
        )
        report = check(
            src,
            dst,
            mapper,
            splits,
            tolerance=tolerance,
            exceptions=exceptions,
            search=search,
            throttle=throttle,
        )
    for tier in report.tiers:
        event = tier_check(migration.id, tier)
        if publish is None:
            instance.report_runless_asset_event(event)
        else:
            publish(event)
    log.record(VALIDATION, _state(plan, report, full=full))
    return report


def count_migration(
    instance: dg.DagsterInstance, migration: Migration, source: Endpoint, target: Endpoint, plan: Plan
) -> TierResult:
    """Compare what both sides hold with what the partitions have accounted for, and record it as a check.

    Raises:
        DatabaseError: a database could not be reached or refused us.
    """
    log = MigrationLog(instance, migration.id)
    log.refresh()
    states = log.partitions(plan).values()
    accounted = sum(state.acknowledged + state.skipped + state.refused + state.vanished for state in states)
    throttle = throttle_of(log, migration.transfer)
    sleep = throttle.interrupt.sleep
    with databases.open_source(source, sleep=sleep) as src, databases.open_target(target, sleep=sleep) as dst:
        context = Context(
            source=src,
            target=dst,
            mapper=RecordMapper(plan.mapping),
            splits=[planned.split for planned in plan.splits],
            exceptions=exceptions_of(log, plan),
            throttle=throttle,
        )
        result = check_count(context, accounted=accounted)
        repeated = context.repeated_records if context.source_records > accounted else 0
        if context.source_records - repeated != accounted:
            statement = f"the source holds {context.source_records:,} records, {accounted:,} were accounted for"
            result = result.model_copy(update={"passed": False, "statement": f"{statement}; {result.statement}"})
    instance.report_runless_asset_event(tier_check(migration.id, result))
    return result


def _state(plan: Plan, report: ValidationReport, *, full: bool) -> ValidationState:
    return ValidationState(
        plan=plan.digest,
        passed=report.passed,
        tier="full" if full else "sample",
        checked=report.tier("records").checked,
        # A query whose answer is not perfect is no record that is wrong; whether search passed is in `passed`.
        mismatched=sum(t.mismatched + t.missing + t.extra for t in report.tiers if t.tier != "search"),
    )


def _search(plan: Plan, migration: Migration, queries: Floats | None) -> SearchSettings | None:
    """What to search: the first dense vector that both sides can be asked by; None if there is none."""
    settings = migration.validation.search
    if settings.queries == 0 and queries is None:
        return None
    for vector in plan.mapping.vectors:
        made = plan.mapping.target_schema.vector(vector.target)
        if vector.kind is VectorKind.DENSE and made.metric is not None:
            return SearchSettings(
                vector=vector.target,
                source_vector=vector.source,
                metric=made.metric,
                k=settings.k,
                queries=settings.queries,
                given=queries,
                min_overlap=settings.min_overlap,
            )
    return None
