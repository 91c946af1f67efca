"""Tier 1: both sides have as many records as they should."""

from __future__ import annotations

import time

from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.report import TierResult


def check_count(context: Context) -> TierResult:
    """Compare the target's exact count with source - refused - vanished + pre-existing."""
    started = time.monotonic()
    known = context.exceptions
    expected = context.source_records - known.refused - known.vanished + known.pre_existing
    actual = context.target_records
    statement = (
        f"the target holds {actual:,} records, {expected:,} were expected: {context.source_records:,} in the source"
    )
    for number, what in ((known.refused, "refused"), (known.vanished, "vanished at the source")):
        statement += f" - {number:,} {what}" if number else ""
    statement += f" + {known.pre_existing:,} that stood there before" if known.pre_existing else ""
    if context.both_empty:
        statement = "both collections are empty"
    return TierResult(
        tier="count",
        passed=actual == expected and (expected > 0 or context.both_empty),
        checked=expected,
        missing=max(0, expected - actual),
        extra=max(0, actual - expected),
        statement=statement,
        seconds=time.monotonic() - started,
    )
