"""Names that Dagster, its UI and other programs know our things by."""

from __future__ import annotations

import dagster as dg

from vectormigrate_dagster.migration_file import job_name

LOCATION = "vectormigrate"
"""The code location in `workspace.yaml`; runs that do not come from it still show on its pages."""

MIGRATION_TAG = "vectormigrate/migration"
PHASE_TAG = "vectormigrate/phase"
PRINCIPAL_TAG = "vectormigrate/principal"
CONTINUE_TAG = "vectormigrate/continue"
EMBEDDED_TAG = "vectormigrate/embedded"


__all__ = [
    "CONTINUE_TAG",
    "EMBEDDED_TAG",
    "LOCATION",
    "MIGRATION_TAG",
    "PHASE_TAG",
    "PRINCIPAL_TAG",
    "catch_up_job_name",
    "changes_asset",
    "changes_name",
    "cutover_job_name",
    "job_name",
    "migration_asset",
    "partition_run_tags",
    "partition_set_name",
    "partitions_name",
    "plan_asset",
    "plan_job_name",
    "repair_job_name",
    "rollback_job_name",
    "state_asset",
    "validate_job_name",
]


def plan_job_name(migration_id: str) -> str:
    """The job that plans a migration."""
    return f"{job_name(migration_id)}_plan"


def validate_job_name(migration_id: str) -> str:
    """The job that validates a migration in full."""
    return f"{job_name(migration_id)}_validate"


def repair_job_name(migration_id: str) -> str:
    """The job that repairs what the last validation of a migration listed."""
    return f"{job_name(migration_id)}_repair"


def rollback_job_name(migration_id: str) -> str:
    """The job that takes a migration back, partition by partition."""
    return f"{job_name(migration_id)}_rollback"


def catch_up_job_name(migration_id: str) -> str:
    """The job that carries the application's changes over to the other side."""
    return f"{job_name(migration_id)}_catch_up"


def cutover_job_name(migration_id: str) -> str:
    """The job that makes the target the primary, goes back, or ends."""
    return f"{job_name(migration_id)}_cutover"


def changes_name(migration_id: str) -> str:
    """The dynamic partitions definition whose keys are ranges of the journal."""
    return f"{job_name(migration_id)}_changes"


def changes_asset(migration_id: str) -> dg.AssetKey:
    """The asset whose materializations plot the lag."""
    return dg.AssetKey([job_name(migration_id), "changes"])


def partitions_name(migration_id: str) -> str:
    """The dynamic partitions definition whose keys are the plan's splits."""
    return f"{job_name(migration_id)}_splits"


def migration_asset(migration_id: str) -> dg.AssetKey:
    """The asset that people look at: the target collection, partition by partition."""
    return dg.AssetKey([job_name(migration_id)])


def plan_asset(migration_id: str) -> dg.AssetKey:
    """The asset whose newest materialization is the plan."""
    return dg.AssetKey([job_name(migration_id), "plan"])


def state_asset(migration_id: str) -> dg.AssetKey:
    """The asset whose observations are the state of the migration."""
    return dg.AssetKey([job_name(migration_id), "state"])


def partition_set_name(job: str) -> str:
    """What Dagster calls the partitions of a job where it is asked for runs of some of them."""
    return f"{job}_partition_set"


def partition_run_tags(migration_id: str, job: str) -> dict[str, str]:
    """Tags without which the UI does not count a run that we started ourselves as a run of a partition."""
    return {
        "dagster/partition_set": partition_set_name(job),
        ".dagster/repository": f"__repository__@{LOCATION}",
        MIGRATION_TAG: migration_id,
    }
