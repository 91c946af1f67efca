"""Carry over what the application changes while its collection moves, for as long as somebody wants that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.exceptions import note_unlike
from vectormigrate_dagster.defs.journal import KEPT_SECONDS, open_journal, principal
from vectormigrate_dagster.defs.live import note_live, open_sides, settle_state
from vectormigrate_dagster.defs.planning import require_not_rolled_back
from vectormigrate_dagster.defs.refusals import LoadLists
from vectormigrate_dagster.defs.state import LiveState, now
from vectormigrate_dagster.defs.storage import storage
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.errors import LeaseHeld, NotSo, PlanOutdated, Stopped
from vectormigrate_dagster.live.catch_up import CatchUp, Step, Unmoved
from vectormigrate_dagster.live.journal import Journal, State
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.transfer.resync import Outcome

Until = Literal["due", "level", "stopped"]
"""When to end: nothing can be done at once; the other side is level; somebody ends it."""

_LINGER_POLL_SECONDS = 1.0
_FAIR_SECONDS = 120.0
"""How long a run that may linger goes on at most while another one waits for a place, or for an embedded database."""

PRUNE_SECONDS = 600.0
RESTING = (State.PLANNED, State.COMPLETED)
"""States in which nothing is carried over."""

_NOTE_SECONDS = 5.0
_LIST_SECONDS = 60.0
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
    linger: float = 0.0,
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
        linger: seconds to wait for more once there is nothing to do; not while any run is queued, which wants the
            place. Where a database is embedded, which nobody else can open meanwhile, such a run does not wait, and
            ends after two minutes at the latest.
        tell: is told every few seconds how far it is.

    Raises:
        PlanOutdated: there is no plan, nothing was moved by it yet, or it was replaced or is being taken back.
        NotSo: the migration is completed; if that happens later, a run that would end by itself just ends.
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
                work = CatchUp(
                    journal,
                    sides,
                    holder=principal(),
                    rests=RESTING,
                    generation=plan.generation,
                    load_lists=LoadLists(log, plan),
                )
                if linger and migration.embedded:
                    linger, seconds = 0.0, min(_FAIR_SECONDS, seconds or _FAIR_SECONDS)
                loop = _Loop(log, plan, journal, work, caught, until=until, seconds=seconds, linger=linger, tell=tell)
                try:
                    loop.run(throttle.interrupt.sleep)
                finally:
                    note_unlike(log, plan, journal)
        else:
            note_unlike(log, plan, journal)  # others may have caught up, elsewhere
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
        linger: float,
        tell: Callable[[Caught], None],
    ) -> None:
        self._log = log
        self._plan = plan
        self._journal = journal
        self._work = work
        self._caught = caught
        self._until = until
        self._linger = linger
        self._tell = tell
        self._began = now()
        at = time.monotonic()
        self._ends = None if seconds is None else at + seconds
        self._looked = self._pruned = self._told = self._useful = self._started = at
        self._is_in_the_way = self._is_completed = False

    def run(self, sleep: Callable[[float], None]) -> None:
        """Make steps until it is to end."""
        while self._until == "stopped" or self._is_more(sleep):
            step = self._step()
            if self._is_over():
                return
            self._look()
            if step is None or step.consumed == 0:
                sleep(_IDLE_SECONDS)
            else:
                self._useful = time.monotonic()
                sleep(0)

    def _is_more(self, sleep: Callable[[float], None]) -> bool:
        """Whether there is anything to do; waits for it, without taking a lease, for as long as that is wanted."""
        while not _is_more(self._journal, self._until):
            if self._is_over() or self._is_in_the_way or time.monotonic() - self._useful >= self._linger:
                return False
            self._look()
            sleep(_LINGER_POLL_SECONDS)
        return True

    def _is_over(self) -> bool:
        at = time.monotonic()
        is_late = self._ends is not None and at >= self._ends
        return is_late or self._is_completed or (self._is_in_the_way and at - self._started >= _FAIR_SECONDS)

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
        self._require_wanted()
        if time.monotonic() - self._told >= _LIST_SECONDS:
            self._told = time.monotonic()
            note_unlike(log, plan, self._journal)
        if time.monotonic() - self._pruned >= PRUNE_SECONDS:
            self._pruned = time.monotonic()
            self._journal.prune(age=KEPT_SECONDS)
        if self._linger:
            queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])  # of any migration: all share the places
            with storage():
                self._is_in_the_way = log.instance.get_runs_count(queued) > 0
        self._caught.live = note_live(log, plan, self._journal, seldom=True)
        self._tell(self._caught)

    def _require_wanted(self) -> None:
        """See whether what is done here is still to be done, and by this plan.

        Raises:
            PlanOutdated, NotSo, Stopped: see `catch_up_migration`.
        """
        log, plan = self._log, self._plan
        log.refresh()
        summary = log.require_summary()
        if summary.digest != plan.digest or log.rollback(summary) is not None:
            raise PlanOutdated(f"the plan of '{log.migration_id}' was replaced or is being taken back")
        asked = log.control().stop_requested_at
        if asked is not None and asked > self._began:
            raise Stopped("stopped on request; what was carried over is noted")
        state = settle_state(log, plan, self._journal).state
        self._is_completed = state is State.COMPLETED and self._until == "due"
        if not self._is_completed:
            _require_under_way(self._journal, state)
