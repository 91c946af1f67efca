"""The jobs of a migration: the same ops for all, bound to one migration file."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.ops import (
    extract_id_range,
    load_batches,
    make_plan,
    map_schema,
    validate_samples,
)
from vectormigrate_dagster.defs.resources import resources_of
from vectormigrate_dagster.defs.validation_runs import validate_all


@dg.graph(description="Move one split: find its range, check the mapping, load it, read a sample back.")
def move_split() -> None:
    """Move one split."""
    validate_samples(load_batches(map_schema(extract_id_range())))


@dg.graph(description="Plan a migration; writes to neither database.")
def plan_graph() -> None:
    """Plan a migration."""
    make_plan()


@dg.graph(description="Compare source and target, tier by tier.")
def validate_graph() -> None:
    """Compare source and target."""
    validate_all()


def splits_of(migration: Migration) -> dg.DynamicPartitionsDefinition:
    """The partitions of a migration: the splits of its plan."""
    return dg.DynamicPartitionsDefinition(name=names.partitions_name(migration.id))


def changes_of(migration: Migration) -> dg.DynamicPartitionsDefinition:
    """The partitions of catching up: ranges of the journal."""
    return dg.DynamicPartitionsDefinition(name=names.changes_name(migration.id))


def load_job(migration: Migration) -> dg.JobDefinition:
    """The job that moves one partition; its name is the migration's."""
    return job_of(
        move_split,
        migration,
        name=names.job_name(migration.id),
        phase="load",
        description=f"Move a partition of {title(migration)}. Launched again, it resumes.",
        partitions_def=splits_of(migration),
    )


def plan_job(migration: Migration) -> dg.JobDefinition:
    """The job that plans a migration."""
    return job_of(
        plan_graph,
        migration,
        name=names.plan_job_name(migration.id),
        phase="plan",
        description=f"Plan {title(migration)}; with tag {names.CONTINUE_TAG}=load the load follows by itself.",
    )


def validate_job(migration: Migration) -> dg.JobDefinition:
    """The job that validates a partition, every record of it; without a partition key it validates all of them."""
    return job_of(
        validate_graph,
        migration,
        name=names.validate_job_name(migration.id),
        phase="validate",
        description=f"Validate every record of a partition of {title(migration)}; the last adds counts and searches.",
        partitions_def=splits_of(migration),
    )


def job_of(
    graph: dg.GraphDefinition,
    migration: Migration,
    *,
    name: str,
    phase: str,
    description: str,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.JobDefinition:
    """One graph bound to one migration file; in one process, since a process costs seconds."""
    return graph.to_job(
        name=name,
        description=description,
        partitions_def=partitions_def,
        resource_defs=resources_of(migration),
        executor_def=dg.in_process_executor,
        tags={**tags_of(migration, phase), **(tags or {})},
        metadata=_metadata(migration),
    )


def title(migration: Migration) -> str:
    """Both ends of a migration in a few words."""
    source, target = migration.source, migration.target
    return f"'{source.collection}' ({source.type}) to '{target.collection}' ({target.type})"


def tags_of(migration: Migration, phase: str) -> dict[str, str]:
    """What every run of a migration carries.

    A run may hold two embedded folders, and a tag has one value, so runs with an embedded database at either
    end queue up one by one (`dagster.yaml`).
    """
    tags = {names.MIGRATION_TAG: migration.id, names.PHASE_TAG: phase}
    if migration.embedded:
        tags[names.EMBEDDED_TAG] = "yes"
    return tags


def _metadata(migration: Migration) -> dict[str, str]:
    source, target = migration.source, migration.target
    return {
        "source": f"{source.type} collection '{source.collection}' at {source.url or source.path}",
        "target": f"{target.type} collection '{target.collection}' at {target.url or target.path}",
        "on_conflict": migration.transfer.on_conflict,
    }
