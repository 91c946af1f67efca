"""Run a migration's jobs in this process, so that the UI shows them like any other run."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

import dagster as dg

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.storage import storage
from vectormigrate_dagster.errors import VectorMigrateError

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""What a run logs is in Dagster's storage; a terminal shows progress instead."""


def run_job(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    migration_id: str,
    *,
    partition: str | None = None,
    ops: Mapping[str, Any] | None = None,
) -> str:
    """Run a job to its end in this process; return the run's id.

    Args:
        job: the job.
        instance: Dagster's storage.
        migration_id: the migration it belongs to.
        partition: the partition key, if the job has partitions.
        ops: configuration of its ops.

    Raises:
        VectorMigrateError: what made it fail.
    """
    tags = {**names.partition_run_tags(migration_id, job.name), names.PRINCIPAL_TAG: getpass.getuser()}
    if partition is None:
        del tags["dagster/partition_set"]
    config = {**_QUIET, "ops": {name: {"config": settings} for name, settings in (ops or {}).items()}}
    try:
        with storage():
            result = job.execute_in_process(run_config=config, instance=instance, partition_key=partition, tags=tags)
    except dg.Failure as failure:
        if isinstance(failure.__cause__, VectorMigrateError):
            raise failure.__cause__ from failure
        raise
    return result.run_id
