"""Events for people: materializations and check evaluations. Never read back to decide anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster.validation import TierResult

SAMPLE_CHECK = "sample"
TIERS = ("count", "ids", "records", "search")
"""The checks of a migration's asset, beside the sample that each partition's run reads back."""


def partition_materialization(
    migration_id: str, key: str, state: PartitionState, result: TierResult, *, split: str, total: int
) -> dg.AssetMaterialization:
    """What a partition's run did, as numbers that the UI plots.

    Args:
        migration_id: the migration.
        key: the partition.
        state: how far it is.
        result: what reading a sample back found.
        split: the partition's ids, for people.
        total: records that all partitions have moved by now.
    """
    return dg.AssetMaterialization(
        asset_key=names.migration_asset(migration_id),
        partition=key,
        description=f"{state.acknowledged:,} records loaded; {result.statement}",
        metadata={
            "dagster/row_count": total,
            "dagster/partition_row_count": state.acknowledged,
            "records_per_second": round(state.rate, 1),
            "seconds": round(state.seconds, 3),
            "ids": split,
            "batches": state.batches,
            "megabytes": round(state.bytes / 1e6, 3),
            "skipped": state.skipped,
            "refused": state.refused,
            "vanished": state.vanished,
            "attempts": state.attempt,
            "resumed_from": state.resumed_from or "its start",
            "checked": result.checked,
        },
    )


def partition_check(migration_id: str, key: str, result: TierResult) -> dg.AssetCheckEvaluation:
    """The outcome of reading a sample of one partition back."""
    return dg.AssetCheckEvaluation(
        asset_key=names.migration_asset(migration_id),
        check_name=SAMPLE_CHECK,
        passed=result.passed,
        partition=key,
        description=result.statement,
        metadata=check_metadata(result),
    )


def tier_check(migration_id: str, result: TierResult) -> dg.AssetCheckEvaluation:
    """The outcome of one tier over the whole migration."""
    return dg.AssetCheckEvaluation(
        asset_key=names.migration_asset(migration_id),
        check_name=result.tier,
        passed=result.passed,
        description=result.statement,
        metadata=check_metadata(result),
    )


def publish(context: dg.OpExecutionContext, event: dg.AssetMaterialization | dg.AssetCheckEvaluation) -> None:
    """Log an event in a run. Dagster's own signature of `log_event` leaves check evaluations out; it takes them."""
    log: Callable[[Any], None] = context.log_event
    log(event)


def check_metadata(result: TierResult) -> dict[str, Any]:
    """Counts, and the first differences as a table."""
    counts: dict[str, Any] = {
        "checked": result.checked,
        "mismatched": result.mismatched,
        "missing": result.missing,
        "extra": result.extra,
        "seconds": round(result.seconds, 3),
    }
    if result.differences:
        columns = ["id", "where", "expected", "actual"]
        counts["differences"] = dg.MetadataValue.table(
            [dg.TableRecord({name: str(getattr(found, name)) for name in columns}) for found in result.differences],
            schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns]),
        )
    return counts
