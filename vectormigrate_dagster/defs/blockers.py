"""What keeps a migration from its cutover, as far as the state in Dagster's storage tells."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.state import LiveState, PlanSummary, now
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model.counting import agreeing, counted

_VALIDATED = timedelta(hours=24)


def what_blocks(log: MigrationLog, plan: Plan | PlanSummary, *, primary: str, state: str) -> Iterator[str]:
    """What keeps a migration from its cutover.

    Args:
        log: the state, refreshed.
        plan: the plan.
        primary: the side that the application writes to.
        state: a `live.journal.State`.
    """
    if primary == "target" or state == "completed":
        yield f"it is {state}"
        return
    if log.rollback(plan) is not None:
        yield "it was taken back, or is being taken back"
    done = sum(state.state == "done" for state in log.partitions(plan).values())
    if left := len(plan.keys) - done:
        yield f"{left:,} of {counted(len(plan.keys), 'partition')} {agreeing(left, 'is')} not moved"
    validation, target = log.validation(plan), log.target(plan)
    if validation is None or not validation.passed:
        yield "it was not validated" if validation is None else "its last validation failed"
    elif now() - validation.at > _VALIDATED:
        yield f"its last validation is of {validation.at:%Y-%m-%d %H:%M} UTC, more than a day ago"
    if target is not None and target.indexing in ("deferred", "building"):
        yield "the target's index is not built"


def newest_live(log: MigrationLog, plan: Plan | PlanSummary) -> LiveState | None:
    """How far it was when somebody looked at the journal last, with what blocks it now; None if nobody has."""
    known = log.live(plan)
    if known is None:
        return None
    blocked_by = tuple(what_blocks(log, plan, primary=known.primary, state=known.state))
    return known.model_copy(update={"blocked_by": blocked_by})
