"""Events for people: materializations and check evaluations. Never read back to decide anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.plots import plot_metadata
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster.validation import Finding, TierResult
from vectormigrate_dagster.validation.outcome import Outcome
from vectormigrate_dagster.validation.report import SHOWN

SAMPLE_CHECK = "sample"
RECORDS_CHECK = "records"
COUNT = "count"
TIERS = (COUNT, "ids", RECORDS_CHECK, "search")
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


def whole_partition_check(
    migration_id: str, key: str, outcome: Outcome, *, passed: bool, mismatches: Path | None
) -> dg.AssetCheckEvaluation:
    """The outcome of comparing every record of one partition."""
    wrong = outcome.mismatched + outcome.missing
    statement = f"{wrong:,} of {outcome.compared:,} differ; all of the partition were compared"
    beyond = outcome.extra + outcome.others
    statement += f"; {beyond:,} were not promised" if beyond else ""
    return dg.AssetCheckEvaluation(
        asset_key=names.migration_asset(migration_id),
        check_name=RECORDS_CHECK,
        passed=passed,
        partition=key,
        description=statement,
        metadata={
            "checked": outcome.compared,
            "mismatched": outcome.mismatched,
            "missing": outcome.missing,
            "extra": beyond,
            "left_alone": outcome.left_alone,
            "seconds": round(outcome.seconds, 3),
            **_findings([*outcome.findings, *outcome.surplus, *outcome.strangers]),
            **_counts(outcome.counts),
            **({} if mismatches is None else {"mismatches": dg.MetadataValue.path(str(mismatches))}),
        },
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
    """Counts, the first differences as a table, and the plots of what was searched."""
    counts: dict[str, Any] = {
        "checked": result.checked,
        "mismatched": result.mismatched,
        "missing": result.missing,
        "extra": result.extra,
        "seconds": round(result.seconds, 3),
    }
    return counts | _findings(result.differences) | _counts(result.counts) | plot_metadata(result)


def _findings(found: Sequence[Finding]) -> dict[str, Any]:
    """The first findings as a table."""
    columns = ["scope", "id", "where", "expected", "actual"]
    if not found:
        return {}
    rows = [{name: "" if (value := getattr(one, name)) is None else str(value) for name in columns} for one in found]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns])
    return {"differences": dg.MetadataValue.table([dg.TableRecord(row) for row in rows[:SHOWN]], schema=schema)}


def _counts(counts: Mapping[str, int]) -> dict[str, Any]:
    """Mismatches per vector and field as a table."""
    if not counts:
        return {}
    rows = [dg.TableRecord({"where": where, "records": number}) for where, number in counts.items()]
    schema = dg.TableSchema(columns=[dg.TableColumn("where", "string"), dg.TableColumn("records", "int")])
    return {"counts": dg.MetadataValue.table(rows, schema=schema)}
