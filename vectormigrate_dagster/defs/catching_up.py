"""Carry over what the application changes while its collection moves: the job `<id>_catch_up`, and what it does.

Its partitions are ranges of the journal, which are names for people: a run deals with whatever is due, because any run
may, under the leases of the journal.
"""

# Dagster reads the annotations of ops when they are defined: they may not be put off.
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import publish
from vectormigrate_dagster.defs.jobs import changes_of, job_of, title
from vectormigrate_dagster.defs.journal import KEPT_SECONDS, open_journal, principal
from vectormigrate_dagster.defs.live import note_live, open_sides, settle_state
from vectormigrate_dagster.defs.planning import require_not_rolled_back
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import LiveState, now
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.work import explained, require_planned
from vectormigrate_dagster.errors import LeaseHeld, NotSo, PlanOutdated, Stopped
from vectormigrate_dagster.live.catch_up import CatchUp, Step, Unmoved
from vectormigrate_dagster.live.journal import Journal, State
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.transfer.resync import Outcome

Until = Literal["due", "level", "stopped"]
"""When to end: nothing can be done at once; the other side is level; somebody ends it."""

_RUN_SECONDS = 120.0
"""How long a run goes on while changes keep coming: the next one costs seconds to start."""

PRUNE_SECONDS = 600.0
RESTING = (State.PLANNED, State.COMPLETED)
"""States in which nothing is carried over."""

_NOTE_SECONDS = 5.0
_IDLE_SECONDS = 0.2
_SHOWN = 20


@dataclass(kw_only=True)
class Caught:
    """What catching up has done.

    Args:
        carried: entries of the journal that were dealt with.
        outcomes: how many records ended in which way.
        unmoved: the first records that are not alike on both sides after all.
        live: how far it is.
        began: how far it was when this began.
    """

    live: LiveState
    began: LiveState
    carried: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    unmoved: list[Unmoved] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Count what a step did."""
        self.carried += step.consumed
        self.outcomes += step.outcomes
        self.unmoved += step.listed[: _SHOWN - len(self.unmoved)]


def catch_up_migration(
    instance: dg.DagsterInstance,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    *,
    until: Until,
    seconds: float | None = None,
    tell: Callable[[Caught], None] = lambda caught: None,  # noqa: ARG005  # nobody listens
) -> Caught:
    """Carry changes over, in whichever direction the journal says; without any that are due, open no database.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        source: one side.
        target: the other.
        until: when to end.
        seconds: when to end in any case; None is never.
        tell: is told every few seconds how far it is.

    Raises:
        PlanOutdated: there is no plan, nothing was moved by it yet, or it was replaced or is being taken back.
        NotSo: the migration is completed.
        DatabaseError: a database failed for longer than the retry policy allows; another run goes on.
        Stopped: it was asked to end.
    """
    log = MigrationLog(instance, migration.id)
    log.refresh()
    plan = log.require_plan()
    with open_journal(instance, migration, plan) as journal:
        control = settle_state(log, plan, journal)
        require_not_rolled_back(log, plan)
        _require_under_way(journal, control.state)
        began = note_live(log, plan, journal)
        caught = Caught(live=began, began=began)
        if until == "stopped" or _is_more(journal, until):
            throttle = throttle_of(log, migration.transfer)
            with open_sides(log, plan, migration, journal, source, target, throttle) as sides:
                work = CatchUp(journal, sides, holder=principal(), rests=RESTING)
                loop = _Loop(log, plan, journal, work, caught, until=until, seconds=seconds, tell=tell)
                loop.run(throttle.interrupt.sleep)
        caught.live = note_live(log, plan, journal)
    return caught


def _require_under_way(journal: Journal, state: State) -> None:
    """Refuse to begin where nothing follows anything.

    Raises:
        PlanOutdated: nothing was moved yet.
        NotSo: the migration is completed.
    """
    if state is State.PLANNED:
        raise PlanOutdated(
            f"nothing of '{journal.migration}' was moved yet, so there is nothing to keep level; begin with "
            f"'vectormigrate migrate {journal.migration}'; what changes until then is in the journal"
        )
    if state is State.COMPLETED:
        raise NotSo(f"'{journal.migration}' is completed: no side follows the other any more")


def _is_more(journal: Journal, until: Until) -> bool:
    """Whether there is anything to do, or to wait for."""
    if until == "due":
        return journal.backlog().due > 0
    return journal.lag().records > 0


class _Loop:
    """Steps, and between them a look at the clock, at the state, and at what people ask."""

    def __init__(  # what it works with
        self,
        log: MigrationLog,
        plan: Plan,
        journal: Journal,
        work: CatchUp,
        caught: Caught,
        *,
        until: Until,
        seconds: float | None,
        tell: Callable[[Caught], None],
    ) -> None:
        self._log = log
        self._plan = plan
        self._journal = journal
        self._work = work
        self._caught = caught
        self._until = until
        self._tell = tell
        self._began = now()
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._looked = self._pruned = time.monotonic()

    def run(self, sleep: Callable[[float], None]) -> None:
        """Make steps until it is to end."""
        while self._until == "stopped" or _is_more(self._journal, self._until):
            step = self._step()
            if self._ends is not None and time.monotonic() >= self._ends:
                return
            self._look()
            if step is None or step.consumed == 0:
                sleep(_IDLE_SECONDS)
            else:
                sleep(0)

    def _step(self) -> Step | None:
        try:
            step = self._work.step()
        except LeaseHeld:
            return None  # it was slow; what it did is noted, and the rest is for whoever has the next lease
        self._caught.add(step)
        return step

    def _look(self) -> None:
        """Every few seconds: say how far it is, and see whether it is still wanted."""
        if time.monotonic() - self._looked < _NOTE_SECONDS:
            return
        self._looked = time.monotonic()
        log, plan = self._log, self._plan
        log.refresh()
        summary = log.require_summary()
        if summary.digest != plan.digest or log.rollback(summary) is not None:
            raise PlanOutdated(f"the plan of '{log.migration_id}' was replaced or is being taken back")
        asked = log.control().stop_requested_at
        if asked is not None and asked > self._began:
            raise Stopped("stopped on request; what was carried over is noted")
        _require_under_way(self._journal, settle_state(log, plan, self._journal).state)
        if time.monotonic() - self._pruned >= PRUNE_SECONDS:
            self._pruned = time.monotonic()
            self._journal.prune(age=KEPT_SECONDS)
        self._caught.live = note_live(log, plan, self._journal, seldom=True)
        self._tell(self._caught)


class CatchUpConfig(dg.Config):
    """How long to go on."""

    seconds: float = Field(default=_RUN_SECONDS, gt=0, description="at most, while changes keep coming")


@dg.op(description="Carry over what the journal says has changed and is settled; without any, write nothing.")
def carry_over(
    context: dg.OpExecutionContext,
    config: CatchUpConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Carry changes over."""
    with explained():
        lease.take(context.instance, migration.id)
        plan = MigrationLog(context.instance, migration.id).require_plan()
        require_planned(source, plan.source)
        require_planned(target, plan.target)
        caught = catch_up_migration(
            context.instance, migration, source.endpoint(), target.endpoint(), until="due", seconds=config.seconds
        )
        metadata = _metadata(caught)
        context.add_output_metadata(metadata)
        context.log.info(_sentence(caught))
        if context.has_partition_key:
            event = dg.AssetMaterialization(
                asset_key=names.changes_asset(migration.id),
                partition=context.partition_key,
                description=_sentence(caught),
                metadata=metadata,
            )
            publish(context, event)


@dg.graph(description="Bring the other side up to date with what the application has changed.")
def catch_up_graph() -> None:
    """Catch up."""
    carry_over()


def catch_up_job(migration: Migration) -> dg.JobDefinition:
    """The job that carries changes over; a partition is a range of the journal."""
    return job_of(
        catch_up_graph,
        migration,
        name=names.catch_up_job_name(migration.id),
        phase="catch_up",
        description=f"Carry over what the application has changed, {title(migration)}. Running it again does no harm.",
        partitions_def=changes_of(migration),
        # Before the partitions that wait in the queue: what is behind grows, what is to be moved does not.
        tags={"dagster/priority": "1"},
    )


def _metadata(caught: Caught) -> dict[str, Any]:
    live, began = caught.live, caught.began
    unmoved = [f"{one.key.text}: {one.outcome.value}: {one.reason}" for one in caught.unmoved]
    return {
        "carried": caught.carried,
        "lag_records": began.lag_records,
        "lag_seconds": began.lag_seconds,
        "lag_records_at_the_end": live.lag_records,
        "lag_seconds_at_the_end": live.lag_seconds,
        "open_writes": live.open,
        "state": live.state,
        "primary": live.primary,
        **{outcome.value: number for outcome, number in caught.outcomes.items()},
        **({"not_alike": dg.MetadataValue.md("\n".join(f"- {line}" for line in unmoved))} if unmoved else {}),
    }


def _sentence(caught: Caught) -> str:
    live = caught.live
    behind = f"{live.lag_records:,} changes behind" if live.lag_records else "level"
    return f"{caught.carried:,} changes carried over; {behind}"
