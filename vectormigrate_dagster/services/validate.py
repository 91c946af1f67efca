"""`validate`: compare source and target, tier by tier."""

from __future__ import annotations

import time
from functools import partial

from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.defs.validating import validate_migration
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import TierResult, ValidationDocument


def validate(
    context: Context, migration_id: str, *, sample_size: int | None = None, full: bool = False
) -> ValidationDocument:
    """Compare source and target; the outcome is recorded for `status` and the UI.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        sample_size: records to compare; None is the migration file's.
        full: compare every record.

    Raises:
        PlanOutdated: there is no plan to validate against.
        DatabaseError: a database could not be reached or refused us.
        Stopped: a signal ended it; nothing is recorded.
    """
    if full and sample_size is not None:
        raise ConfigurationError("give a sample size or ask for a full validation, not both")
    migration = context.migration(migration_id)
    source, target = endpoints(migration)
    began = time.monotonic()
    with context.instance() as instance:
        report = in_foreground(
            partial(validate_migration, instance, migration, source, target, sample_size=sample_size, full=full)
        )
    return ValidationDocument(
        migration_id=migration.id,
        passed=report.passed,
        full=full,
        at=now(),
        seconds=round(time.monotonic() - began, 3),
        tiers=tuple(
            TierResult(
                name=tier.tier,
                passed=tier.passed,
                checked=tier.checked,
                mismatched=tier.mismatched,
                summary=tier.statement,
            )
            for tier in report.tiers
        ),
    )
