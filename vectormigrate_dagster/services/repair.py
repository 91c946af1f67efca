"""`repair`: rewrite exactly the records that the last validation listed, then look at those again."""

from __future__ import annotations

import time
from functools import partial

from vectormigrate_dagster.defs.repairing import repair_migration
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import RepairDocument, UnrepairedRecord


def repair(context: Context, migration_id: str) -> RepairDocument:
    """Make the records that the last validation found wrong what the source says they are.

    Raises:
        PlanOutdated: there is no plan, or its file was changed since.
        NotSo: there was no validation, or it listed no records although it failed.
        LeaseHeld: a partition is being loaded or rolled back.
        DatabaseError: a database could not be reached or refused us.
        Stopped: a signal ended it; nothing is recorded, and it can be run again.
    """
    migration = context.migration(migration_id)
    source, target = endpoints(migration)
    began = time.monotonic()
    with context.instance() as instance:
        report, left = in_foreground(partial(repair_migration, instance, migration, source, target))
    return RepairDocument(
        migration_id=migration.id,
        passed=report.unsettled == 0,
        at=now(),
        seconds=round(time.monotonic() - began, 3),
        listed=report.listed,
        **{outcome.value: number for outcome, number in report.outcomes.items()},
        generations=report.generations,
        progress=report.progress,
        left=tuple(
            UnrepairedRecord(id=one.id, scope=one.scope, outcome=one.outcome.value, reason=one.reason)
            for one in report.left
        ),
        mismatches=None if left is None else str(left),
    )
