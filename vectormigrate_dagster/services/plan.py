"""`plan`: look at both sides, write to neither, store what will be done."""

from __future__ import annotations

from typing import Literal

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import plan_job
from vectormigrate_dagster.defs.planning import conflicts, is_rolled_back
from vectormigrate_dagster.defs.waiting import Tell, tell_nobody, telling
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import Estimate, LossCounts, PlanDocument
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.services.status import endpoint_document


def plan(
    context: Context,
    migration_id: str,
    *,
    profile: Literal["sample", "full"] = "sample",
    replan: bool = False,
    adopt: bool = False,
    tell: Tell = tell_nobody,
) -> PlanDocument:
    """Make the plan, or show the one there is.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        profile: look at a sample of the source's records, or at all of them.
        replan: start a new generation although there is a plan.
        adopt: keep what the generation before wrote.
        tell: is told what is waited for, if anything is.

    Raises:
        PlanRefused: something cannot be moved, or would be changed and is not allowed to.
        PlanOutdated: there is a plan that may not be replaced.
        DatabaseError: a database could not be reached or refused us.
        Stopped: a signal ended it; there is no new plan.
    """
    migration = context.migration(migration_id)
    endpoints(migration)
    with context.instance() as instance:
        settings = {"full_profile": profile == "full", "replan": replan, "adopt": adopt}

        def run() -> None:
            with telling(tell):
                run_job(plan_job(migration), instance, migration.id, ops={"make_plan": settings})

        in_foreground(run)
        return _document(MigrationLog(instance, migration.id).require_plan(), migration)


def ensure_plan(instance: dg.DagsterInstance, migration: Migration) -> Plan:
    """The stored plan; made by a run of the plan job if there is none, or it was rolled back."""
    log = MigrationLog(instance, migration.id)
    stored = log.plan()
    log.refresh()
    if stored is None or is_rolled_back(log, stored):
        run_job(plan_job(migration), instance, migration.id)
        stored = log.require_plan()
    return stored


def _document(plan: Plan, migration: Migration) -> PlanDocument:
    return PlanDocument(
        migration_id=plan.migration_id,
        generation=plan.generation,
        digest=plan.digest,
        source=endpoint_document(migration.source),
        target=endpoint_document(migration.target),
        records=plan.source_records,
        partitions=len(plan.splits),
        conflicts=conflicts(plan, migration),
        mapping=plan.loss.rows,
        loss=LossCounts(**plan.loss.counts()),
        estimate=Estimate(seconds=plan.estimate.seconds, requests=plan.estimate.requests),
    )
