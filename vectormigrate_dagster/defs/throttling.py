"""The throttle that a migration's work obeys, made from its file and from what people asked since."""

from __future__ import annotations

from functools import cache

from vectormigrate_dagster.config import TransferConfig
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.signals import stop_requested
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.tuning import Found


def throttle_of(log: MigrationLog, settings: TransferConfig) -> Throttle:
    """Retries and batch size as a migration file has them, and the rate that `throttle` has set since.

    All processes that work on the migration hold the rate together. No wait outlasts a wish of this process to end.
    """
    control = log.control()
    rate = control.rate_limit if control.rate_limit_set else settings.rate_limit
    return Throttle.of(
        max_retries=settings.max_retries,
        batch_records=settings.batch_records,
        rate=rate,
        shared=migration_folder(log.instance, log.migration_id) / "rate",
        stop=stop_requested,
    )


@cache
def found_of(digest: str) -> Found:  # noqa: ARG001  (told apart by it)
    """What this process found best to write at once for the plan with this digest: its next partition begins there."""
    return Found()
