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


def report_dead_runs(instance: dg.DagsterInstance, migration_id: str) -> list[str]:
    """Mark runs of a migration as failed that are started and hold no lease; return their ids."""
    started = dg.RunsFilter(
        tags={names.MIGRATION_TAG: migration_id},
        statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING],
    )
    with storage():
        records = instance.get_run_records(started)
    dead = [
        record.dagster_run.run_id
        for record in records
        if now() - record.create_timestamp > _STARTING
        and not Lease(instance, migration_id, run_lease(record.dagster_run.run_id)).is_held()
    ]
    for run_id in dead:
        report_dead(instance, run_id, "the process of this run is gone")
    return dead
