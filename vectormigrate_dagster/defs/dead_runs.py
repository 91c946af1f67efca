"""Find runs whose process is gone: Dagster calls them started for ever, and its queue counts them."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import report_dead
from vectormigrate_dagster.defs.lease import Lease, run_lease
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.defs.storage import storage

_STARTING = timedelta(seconds=120)
"""A run takes its lease in its first op; until then its process imports what it needs."""

_LAUNCHING = timedelta(seconds=300)
"""A run whose process has not begun by then never will; our `dagster.yaml` lets Dagster say so after 180 s."""


def report_dead_runs(instance: dg.DagsterInstance, migration_id: str) -> list[str]:
    """Mark runs of a migration as failed that hold no lease though they have begun, or never came to that.

    Returns:
        Their ids.
    """
    status = dg.DagsterRunStatus
    patience = {status.STARTED: _STARTING, status.CANCELING: _STARTING, status.STARTING: _LAUNCHING}
    begun = dg.RunsFilter(tags={names.MIGRATION_TAG: migration_id}, statuses=list(patience))
    with storage():
        records = instance.get_run_records(begun)
    dead = [
        record.dagster_run.run_id
        for record in records
        # Since its status has changed: a run may have waited in the queue for hours.
        if now() - record.update_timestamp > patience[record.dagster_run.status]
        and not Lease(instance, migration_id, run_lease(record.dagster_run.run_id)).is_held()
    ]
    for run_id in dead:
        report_dead(instance, run_id, "the process of this run is gone")
    return dead
