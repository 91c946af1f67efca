"""`stop` and `throttle`: what people ask of running work, noticed at its next checkpoint."""

from __future__ import annotations

from vectormigrate_dagster import databases
from vectormigrate_dagster.defs.bulk import in_hands, leave
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.state import CONTROL, now
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.status import status_of


def stop(context: Context, migration_id: str) -> Status:
    """End running work at its next checkpoint; everything acknowledged is kept and it can be resumed.

    Where a load was killed that had put off indexing of the target, and none goes on, that is put back.

    Raises:
        DatabaseError: the target, opened only for that, could not be reached or refused us.
    """
    status = _control(context, migration_id, stop_requested_at=now())
    if status.indexing != "deferred":
        return status
    migration = context.migration(migration_id)
    with context.instance() as instance:
        log = MigrationLog(instance, migration.id)
        plan = log.require_summary()
        log.refresh()
        if not in_hands(log, plan):
            leave(log, plan, lambda: databases.open_target(endpoints(migration)[1]))
        return status_of(log, migration, plan)


def throttle(context: Context, migration_id: str, *, rate: float | None) -> Status:
    """Limit running and later work to `rate` records per second; None lifts the limit."""
    return _control(context, migration_id, rate_limit=rate, rate_limit_set=True)


def _control(context: Context, migration_id: str, **changes: object) -> Status:
    migration = context.migration(migration_id)
    with context.instance() as instance:
        log = MigrationLog(instance, migration.id)
        plan = log.require_summary()
        log.refresh()
        log.record(CONTROL, log.control().model_copy(update={**changes, "at": now()}))
        return status_of(log, migration, plan)
