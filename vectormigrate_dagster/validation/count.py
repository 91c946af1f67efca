"""Tier 1: both sides have as many records as they should."""

from __future__ import annotations

import time

from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.motion import slack, slack_text
from vectormigrate_dagster.validation.report import TierResult

_REPEATED = "rows that repeat the id of another one (of those the source returns one)"


def check_count(context: Context, *, accounted: int | None = None) -> TierResult:
    """Compare the target's exact count with source - refused - vanished + pre-existing - left alone.

    Rows of the source that repeat an id cannot be read, nor moved. They may cost a look at all ids, so they are looked
    for only where the numbers differ.

    Args:
        context: both sides.
        accounted: records of the source that were read, where that is known.
    """
    started = time.monotonic()
    known = context.exceptions
    expected = context.source_records - known.refused - known.vanished + known.pre_existing
    actual = context.target_records
    alone = min(known.left_alone, max(0, expected - actual))
    expected -= alone
    differ = actual < expected or (accounted is not None and accounted < context.source_records)
    repeated = context.repeated_records if differ else 0
    expected -= repeated
    statement = (
        f"the target holds {actual:,} records, {expected:,} were expected: {context.source_records:,} in the source"
    )
    for number, what in ((known.refused, "refused"), (known.vanished, "vanished at the source"), (repeated, _REPEATED)):
        statement += f" - {number:,} {what}" if number else ""
    statement += f" + {known.pre_existing:,} that stood there before" if known.pre_existing else ""
    statement += f" - {alone:,} left alone in their place" if alone else ""
    differ_by = abs(actual - expected)
    # Asked only where it matters: most validations are of collections that nobody writes to.
    allowed = slack(context) if differ_by else 0
    moving = differ_by if differ_by <= allowed else 0
    statement += slack_text(moving, allowed)
    if context.both_empty:
        statement = "both collections are empty"
    return TierResult(
        tier="count",
        passed=moving == differ_by and (expected > 0 or context.both_empty),
        checked=expected,
        missing=max(0, expected - actual - moving),
        extra=max(0, actual - expected - moving),
        in_motion=moving,
        statement=statement,
        seconds=time.monotonic() - started,
    )
