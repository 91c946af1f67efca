"""Make the target collection ready, once per generation, and remember whose it is."""

from __future__ import annotations

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.state import TARGET, TargetState
from vectormigrate_dagster.errors import NotFound, TargetNotEmpty
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.transfer.ownership import OwnershipLog

_WAIT_SECONDS = 120.0
"""Creating a collection with indexes takes seconds on a server."""


def prepare_target(log: MigrationLog, plan: Plan, migration: Migration, target: Database) -> TargetState:
    """Create the target collection, or accept the one that is there.

    Raises:
        TargetNotEmpty: it holds records, `on_conflict` is `fail`, and this is the generation's first run.
        SchemaMismatch: it cannot be made as planned.
    """
    with held(Lease(log.instance, log.migration_id, TARGET), _WAIT_SECONDS):
        log.refresh()
        state = log.target(plan)
        if state is None:
            records = _records(target)
            if records is None:
                state = TargetState(plan=plan.digest, state="creating")
            else:
                if records and migration.transfer.on_conflict == "fail":
                    raise TargetNotEmpty(
                        f"collection '{target.endpoint.collection}' in the target holds {records:,} records; "
                        "set transfer.on_conflict to skip, or name an empty collection"
                    )
                state = TargetState(plan=plan.digest, state="existing", records_before=records)
            log.record(TARGET, state)
        if state.state == "creating":
            if _records(target) is None:
                target.create(plan.mapping.target_schema)
            state = TargetState(plan=plan.digest, state="created")
            log.record(TARGET, state)
        return state


def ownership_of(instance: dg.DagsterInstance, migration_id: str, key: str, target: TargetState) -> OwnershipLog | None:
    """The ownership log of a partition; None where the whole collection is ours."""
    if target.state == "created":
        return None
    return OwnershipLog(migration_folder(instance, migration_id) / "ownership" / key)


def _records(target: Database) -> int | None:
    """How many records the target holds; None if there is no collection."""
    try:
        target.describe()
    except NotFound:
        return None
    return target.count()
