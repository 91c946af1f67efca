"""What the UI shows beside the jobs: the target as a partitioned asset, its plan, its state and its checks."""

# Dagster reads the annotations of ops and checks when they are defined: they may not be put off.
from collections.abc import Iterator
from typing import Any

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import COUNT, SAMPLE_CHECK, TIERS, check_metadata
from vectormigrate_dagster.defs.jobs import changes_of, splits_of, tags_of, title
from vectormigrate_dagster.defs.resources import DatabaseResource
from vectormigrate_dagster.defs.validating import count_migration, validate_migration
from vectormigrate_dagster.defs.work import explained
from vectormigrate_dagster.validation import TierResult, ValidationReport

_GROUP = "migrations"
_DESCRIPTIONS = {
    "count": "The target holds as many records as the plan says.",
    "ids": "Every id of the source is in the target, and no other.",
    "records": "Vectors and payloads are what the plan promised; also for each partition that was validated.",
    "search": "The target answers searches as the exact answer demands.",
}


def assets_of(migration: Migration) -> list[dg.AssetSpec]:
    """The assets of a migration."""
    key = names.migration_asset(migration.id)
    return [
        dg.AssetSpec(
            key,
            description=f"Collection {title(migration)}, partition by partition.",
            partitions_def=splits_of(migration),
            group_name=_GROUP,
            kinds={migration.target.type},
            deps=[names.plan_asset(migration.id)],
        ),
        dg.AssetSpec(
            names.plan_asset(migration.id),
            description=f"How {title(migration)} is mapped and split; the newest materialization is the plan.",
            group_name=_GROUP,
        ),
        dg.AssetSpec(
            names.changes_asset(migration.id),
            description=(
                f"Changes that the application makes while {title(migration)} moves, range by range of the journal; "
                "the plots show how far the other side was behind."
            ),
            partitions_def=changes_of(migration),
            group_name=_GROUP,
            deps=[names.plan_asset(migration.id)],
        ),
        dg.AssetSpec(
            names.state_asset(migration.id),
            description="The state of the migration, written by its runs. Wiping it forgets how far they are.",
            group_name=_GROUP,
            deps=[names.plan_asset(migration.id)],
        ),
    ]


def checks_of(migration: Migration) -> list[dg.AssetChecksDefinition]:
    """The checks of a migration: "Execute" in the UI compares everything; `count` alone counts, `sample` draws one."""
    asset = names.migration_asset(migration.id)
    name = names.job_name(migration.id)
    ends = (DatabaseResource.of(migration.source), DatabaseResource.of(migration.target))
    resources: dict[str, Any] = dict(zip(_resource_keys(migration), ends, strict=True))

    @dg.multi_asset_check(
        name=f"{name}_checks",
        specs=[dg.AssetCheckSpec(tier, asset=asset, description=_DESCRIPTIONS[tier]) for tier in TIERS],
        resource_defs=resources,
        op_tags=tags_of(migration, "validate"),
        can_subset=True,
    )
    def tiers(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        found = (_count(context, migration),) if wanted == {COUNT} else _validate(context, migration, full=True).tiers
        for tier in found:
            if tier.tier in wanted:
                yield _result(tier, tier.tier)

    @dg.asset_check(
        asset=asset,
        name=SAMPLE_CHECK,
        description="A sample of each partition, read back by the run that loaded it. Executed: a sample of all.",
        resource_defs=resources,
        op_tags=tags_of(migration, "validate"),
    )
    def sample(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return _result(_validate(context, migration, full=False).tier("records"), SAMPLE_CHECK)

    return [tiers, sample]


def broken_asset(name: str, error: str) -> dg.AssetSpec:
    """What the UI shows for a migration file that cannot be used."""
    return dg.AssetSpec(
        dg.AssetKey([f"broken_{name}"]),
        description=f"This migration file cannot be used.\n\n```\n{error}\n```",
        group_name="broken",
        metadata={"error": error},
    )


def _resource_keys(migration: Migration) -> tuple[str, str]:
    """Names of both ends; Dagster puts the checks of all migrations into one job, where each name must be one thing."""
    name = names.job_name(migration.id)
    return f"{name}_source", f"{name}_target"


def _count(context: dg.AssetCheckExecutionContext, migration: Migration) -> TierResult:
    """Count without reading a record."""
    source, target = (getattr(context.resources, key).endpoint() for key in _resource_keys(migration))
    with explained():
        plan = MigrationLog(context.instance, migration.id).require_plan()
        return count_migration(context.instance, migration, source, target, plan, publish=_not_logged)


def _validate(context: dg.AssetCheckExecutionContext, migration: Migration, *, full: bool) -> ValidationReport:
    source, target = (getattr(context.resources, key) for key in _resource_keys(migration))
    with explained():
        return validate_migration(
            context.instance,
            migration,
            source.endpoint(),
            target.endpoint(),
            full=full,
            publish=_not_logged,
        )


def _result(tier: TierResult, check: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=check, passed=tier.passed, description=tier.statement, metadata=check_metadata(tier)
    )


def _not_logged(event: dg.AssetCheckEvaluation) -> None:
    """A check yields its results, and Dagster logs those; there is none for a single partition."""
