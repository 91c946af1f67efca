"""What every op of a partition's run begins with: the lease, the plan it was launched for, and the newest state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.event_log import MigrationLog, log_of, report_dead
from vectormigrate_dagster.defs.planning import require_current, require_not_rolled_back
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import PartitionState, now
from vectormigrate_dagster.errors import PlanOutdated, VectorMigrateError
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import Split

Manifest = dict[str, Any]
"""A partition's key and the plan's digest, as JSON: all that ops pass to each other."""


class PartitionWork:
    """One partition in the hands of this run.

    Every op makes one anew: a run that is re-executed in the UI may begin with any op, and what another run did
    in between is in the state, never in what ops pass to each other.

    Args:
        context: the op's.
        migration: the migration file.
        lease: the run's leases.
        manifest: what the first op of the run made; None in that op itself.
        undoing: take back what was written by the plan, whatever the migration file says by now.

    Raises:
        PlanOutdated: there is no plan, it is not the one the run began with, or the key is not one of its own; or what
            was written by it is being taken back.
        LeaseHeld: another run has the partition.
    """

    def __init__(
        self,
        context: dg.OpExecutionContext,
        migration: Migration,
        lease: WorkLease,
        manifest: Manifest | None = None,
        *,
        undoing: bool = False,
    ) -> None:
        self.log = log_of(context.instance, migration.id)
        self.key = _partition_key(context, self.log) if manifest is None else str(manifest["key"])
        self._run_id = context.run_id
        # The lease comes first: a new plan is stored only while nobody holds a lease of the old one.
        lease.take(context.instance, migration.id, self.key)
        self.log.refresh()
        self.plan = self.log.require_plan()
        if not undoing:
            require_not_rolled_back(self.log, self.plan)
            require_current(self.plan, migration)
        self.split = _split(self.plan, self.key)
        if manifest is not None and manifest["plan"] != self.plan.digest:
            raise PlanOutdated(f"the plan was replaced by generation {self.plan.generation}; launch its partitions")

    @property
    def manifest(self) -> Manifest:
        """What the next op needs."""
        return {"key": self.key, "plan": self.plan.digest}

    @property
    def done(self) -> bool:
        """Whether everything was moved before."""
        known = self.log.partition(self.plan, self.key)
        return known is not None and known.state == "done"

    def state(self, *, restart: bool = False) -> PartitionState:
        """The state to go on from, as this run's own.

        Args:
            restart: begin at the split's beginning.
        """
        known = self.log.partition(self.plan, self.key)
        fresh = PartitionState(plan=self.plan.digest, state="loading", run_id=self._run_id)
        if known is None:
            return fresh
        if known.run_id == self._run_id and not restart:
            return known
        if known.state == "done" and not restart:
            return known.model_copy(update={"run_id": self._run_id})
        if known.state == "loading":
            known = self._lost(known)
        if restart:
            return fresh.model_copy(update={"attempt": known.attempt + 1, "started_at": known.started_at})
        return known.model_copy(
            update={"run_id": self._run_id, "attempt": known.attempt + 1, "resumed_from": known.after}
        )

    def undoing(self) -> PartitionState:
        """The state to go on from with taking back, as this run's own."""
        known = self.log.partition(self.plan, self.key)
        if known is None:
            return PartitionState(plan=self.plan.digest, state="rolling_back", run_id=self._run_id)
        if known.run_id == self._run_id:
            return known
        if known.state in ("loading", "rolling_back"):
            known = self._lost(known)
        return known.model_copy(update={"run_id": self._run_id, "attempt": known.attempt + 1})

    def _lost(self, state: PartitionState) -> PartitionState:
        """Note that the run that had the partition is dead: it would have to hold the lease that we hold."""
        at_work = "rolling back" if state.state == "rolling_back" else "loading"
        reason = f"the process that was {at_work} partition '{self.key}' is gone"
        report_dead(self.log.instance, state.run_id, reason)
        lost = state.model_copy(update={"state": "lost", "at": now(), "error": reason})
        self.log.record(self.key, lost)
        return lost


def require_planned(side: DatabaseResource, planned: str) -> None:
    """Refuse a collection that the Launchpad was told to use instead of the planned one.

    Raises:
        PlanOutdated: the plan is for another collection.
    """
    given = str(side.endpoint())
    if given != planned:
        raise PlanOutdated(f"this run was given {given}, the plan is for {planned}; leave its resources as they are")


@contextmanager
def explained() -> Iterator[None]:
    """Show what went wrong as the failure of the step, once: what we raise is never mended by a retry of the step."""
    try:
        yield
    except VectorMigrateError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _partition_key(context: dg.OpExecutionContext, log: MigrationLog) -> str:
    """The run's partition key.

    Raises:
        PlanOutdated: the run has none.
    """
    if context.has_partition_key:
        return context.partition_key
    raise PlanOutdated(f"this job runs on one partition; launch it with a partition key, {_keys(log.require_plan())}")


def _split(plan: Plan, key: str) -> Split:
    """The split of a partition.

    Raises:
        PlanOutdated: the plan has no such partition.
    """
    for planned in plan.splits:
        if planned.key == key:
            return planned.split
    raise PlanOutdated(f"'{key}' is not a partition of generation {plan.generation}; launch it with {_keys(plan)}")


def _keys(plan: Plan) -> str:
    return f"one of '{plan.splits[0].key}' to '{plan.splits[-1].key}'"
