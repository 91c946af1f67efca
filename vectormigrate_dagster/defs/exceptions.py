"""What a correct migration still leaves different: records refused, vanished, or not ours."""

from __future__ import annotations

from collections.abc import Iterable

from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.refusals import read_refusals, refusals_path
from vectormigrate_dagster.defs.target import overwritten, written_by
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.validation import Exceptions


def exceptions_of(log: MigrationLog, plan: Plan, keys: Iterable[str] | None = None) -> Exceptions:
    """What is known to differ, over some partitions of a plan or (None) all.

    Args:
        log: the state, refreshed.
        plan: the plan.
        keys: partitions to look at.
    """
    chosen = [planned.key for planned in plan.splits] if keys is None else list(keys)
    states = [state for key in chosen if (state := log.partition(plan, key)) is not None]
    skipped = sum(state.skipped for state in states)
    target = log.target(plan)
    if target is None:
        return Exceptions()
    ownership = written_by(log, plan, chosen, target)
    return Exceptions(
        refused=sum(state.refused for state in states),
        vanished=sum(state.vanished for state in states),
        pre_existing=max(0, target.records_before - skipped - overwritten(log)),
        refused_ids=frozenset((r.scope, r.id) for key in chosen for r in read_refusals(refusals_path(log, key))),
        ours=None if ownership is None else ownership.wrote,
    )


def pre_existing(log: MigrationLog, plan: Plan) -> int:
    """How many records of somebody else stood in the target and are under no id of ours, over the whole plan."""
    target = log.target(plan)
    if target is None or target.records_before == 0:
        return 0
    skipped = sum(state.skipped for state in log.partitions(plan).values())
    return max(0, target.records_before - skipped - overwritten(log))
