"""The op of the job `<id>_validate`: one partition of a full validation, or without a partition key all of it."""

# Dagster reads the annotations of ops and checks when they are defined: they may not be put off.
from functools import partial

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.evidence import publish
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.validating import validate_migration
from vectormigrate_dagster.defs.whole_validation import current_round, opened
from vectormigrate_dagster.defs.work import PartitionWork, explained
from vectormigrate_dagster.errors import ValidationFailed
from vectormigrate_dagster.validation import ValidationReport


class ValidateConfig(dg.Config):
    """How much to validate."""

    sample_size: int | None = Field(
        default=None, description="records to compare, in a run without a partition; empty: every record"
    )
    seed: int | None = Field(default=None, description="what random choices begin with; empty: 0")
    conclude: bool = Field(
        default=True,
        description="once all partitions are validated, add counts and searches and conclude",
    )


@dg.op(
    description="Compare every record of the partition; the run that completes all partitions concludes with counts, "
    "ids and searches over the whole. Fails if anything differs."
)
def validate_all(
    context: dg.OpExecutionContext,
    config: ValidateConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Compare every record of the partition, or of all partitions."""
    with explained():
        if context.has_partition_key:
            _validate_partition(context, config, migration, (source, target), lease)
            return
        lease.take(context.instance, migration.id)
        report = validate_migration(
            context.instance,
            migration,
            source.endpoint(),
            target.endpoint(),
            sample_size=config.sample_size,
            full=config.sample_size is None,
            seed=config.seed,
            publish=partial(publish, context),
        )
        _tell(context, report)


def _validate_partition(
    context: dg.OpExecutionContext,
    config: ValidateConfig,
    migration: Migration,
    sides: tuple[DatabaseResource, DatabaseResource],
    lease: WorkLease,
) -> None:
    """Compare every record of the run's partition, and conclude if it was the last.

    Raises:
        ValidationFailed: the partition differs, or the whole does.
    """
    work = PartitionWork(context, migration, lease)
    known = current_round(work.log, work.plan, seed=config.seed)
    source, target = (side.endpoint() for side in sides)
    with opened(work.log, work.plan, migration, source, target, publish=partial(publish, context)) as whole:
        found = whole.partition(work.key, known)
        report = whole.conclude(known) if config.conclude else None
    validated = len(work.log.validated(work.plan, known.name))
    context.add_output_metadata({"validated": f"{validated} of {len(work.plan.keys)} partitions", "round": known.name})
    if report is not None:
        _tell(context, report)
    if not found.passed:
        raise ValidationFailed(
            f"partition '{work.key}' differs from the source; every finding is in '{found.mismatches}'; "
            f"'vectormigrate repair {migration.id}' rewrites them once all partitions are validated"
        )


def _tell(context: dg.OpExecutionContext, report: ValidationReport) -> None:
    """Show the outcome of the whole on the run's page.

    Raises:
        ValidationFailed: it failed.
    """
    listed = {} if report.mismatches is None else {"mismatches": dg.MetadataValue.path(report.mismatches)}
    context.add_output_metadata({tier.tier: tier.statement for tier in report.tiers} | listed)
    if not report.passed:
        raise ValidationFailed("; ".join(tier.statement for tier in report.tiers if not tier.passed))
