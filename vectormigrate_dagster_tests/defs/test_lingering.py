"""Checks how long a run of catch-up stays: while changes trickle in, not while others wait, and never for ever."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import dagster as dg
import pytest

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import catching_up as module
from vectormigrate_dagster.defs.catching_up import Caught, _Loop, catch_up_migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.live import note_live
from vectormigrate_dagster.errors import PlanOutdated, Stopped
from vectormigrate_dagster.live.catch_up import Step
from vectormigrate_dagster.live.journal import Journal, Key, State
from vectormigrate_dagster.model import IdKind

LINGER, MOST = 10.0, 50.0


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


class Application:
    """Writes every so many seconds, for so long; and what carries that over."""

    def __init__(self, journal: Journal, clock: Clock, *, every: float, seconds: float) -> None:
        self._journal = journal
        self.told = Journal(journal.database, journal.migration)
        """What it tells of its writes; an application goes by no plan."""
        self._clock = clock
        self._every = every
        self._next, self._ends = clock.now, clock.now + seconds
        self.leases = 0
        self.sleep(0.0)

    def sleep(self, seconds: float) -> None:
        """Let time pass, and write what is written meanwhile."""
        self._clock.now += seconds
        while self._next <= min(self._clock.now, self._ends):
            self._next += self._every
            self.told.note([Key(None, IdKind.U64, "1")], kind="change")

    def step(self) -> Step:
        """As `CatchUp.step`, without the databases."""
        self.leases += 1
        lease = self._journal.lease(seconds=60.0)
        assert lease is not None
        due = self._journal.due(lease)
        self._journal.consume(lease, due)
        self._journal.release(lease)
        return Step(control=lease.control, keys=len(due), consumed=len(due), outcomes=Counter())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


Run = Callable[..., tuple[float, Application]]


@pytest.fixture
def run(instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, clock: Clock) -> Iterator[Run]:
    """Makes a run beside an application; says how many seconds it has stayed."""
    plan = planned.require_plan()
    with open_journal(instance, migration, plan) as journal:
        journal.enter(State.CATCHING_UP, since=journal.control(), by="test", reason="test")

        def make(*, every: float, seconds: float, linger: float = LINGER) -> tuple[float, Application]:
            application = Application(journal, clock, every=every, seconds=seconds)
            live = note_live(planned, plan, journal)
            caught, began = Caught(live=live, began=live), clock.now
            loop = _Loop(
                planned,
                plan,
                journal,
                application,  # type: ignore[arg-type]  # of it, only `step` is used
                caught,
                until="due",
                seconds=MOST,
                linger=linger,
                tell=lambda caught: None,
            )
            loop.run(application.sleep)
            return clock.now - began, application

        yield make


def test_one_run_follows_a_trickle_for_as_long_as_a_run_may(run: Run) -> None:
    stayed, application = run(every=1.0, seconds=3_600.0)
    assert MOST <= stayed < MOST + 2
    assert application.leases <= MOST + 2  # while it waits it takes none


def test_without_lingering_a_run_ends_at_the_first_empty_look(run: Run) -> None:
    stayed, _ = run(every=1.0, seconds=3_600.0, linger=0.0)
    assert stayed < 1.0


def test_a_run_ends_once_nothing_came_for_a_while(run: Run) -> None:
    stayed, _ = run(every=10.0, seconds=35.0)
    assert 30.0 + LINGER <= stayed < 30.0 + LINGER + 5.0


@pytest.mark.parametrize(("every", "most"), [(8.0, 10.0), (0.5, 22.0)], ids=["idle", "busy"])
def test_a_run_makes_room_for_one_that_is_queued(
    run: Run, every: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another migration, perhaps, at which a run that only waits would look on for ever."""
    monkeypatch.setattr(Application, "sleep", slower(Application.sleep))
    monkeypatch.setattr(module, "_FAIR_SECONDS", 20.0)
    waiting = [1]

    def count(self: dg.DagsterInstance, filters: dg.RunsFilter) -> int:
        assert filters == dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
        return waiting[0]

    monkeypatch.setattr(dg.DagsterInstance, "get_runs_count", count)
    stayed, _ = run(every=every, seconds=3_600.0)
    assert stayed <= most
    waiting[0] = 0
    longer, _ = run(every=every, seconds=3_600.0)
    assert longer >= MOST


def test_a_run_just_ends_when_the_migration_is_completed_meanwhile(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly every completion finds one that lingers, which is no failure of its run."""
    sleep = Application.sleep

    def complete(self: Application, seconds: float) -> None:
        sleep(self, seconds)
        if self.leases and (control := self._journal.control()).state is not State.COMPLETED:
            self._journal.complete(since=control, by="test", reason="test")

    monkeypatch.setattr(Application, "sleep", complete)
    stayed, _ = run(every=1.0, seconds=3_600.0)
    assert stayed <= 10.0


def test_a_run_that_has_lingered_does_nothing_by_a_plan_that_was_replaced_meanwhile(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it looks at the clock again, too: the load by the new plan may have begun."""
    monkeypatch.setattr(module, "_NOTE_SECONDS", 1_000.0)
    sleep, leases = Application.sleep, list[int]()

    def replace(self: Application, seconds: float) -> None:
        sleep(self, seconds)
        leases.append(self.leases)
        if self.leases == 1:
            kinds, bounds = self.told.control().id_kinds, self.told.control().bounds
            planned = self.told.replan(id_kinds=kinds, bounds=bounds, plan="another", by="test", reason="planned anew")
            self.told.enter(State.BACKFILLING, since=planned, by="test", reason="another load")

    monkeypatch.setattr(Application, "sleep", replace)
    with pytest.raises(PlanOutdated):
        run(every=1.0, seconds=3_600.0)
    assert leases[-1] == 1


def test_a_run_leaves_an_embedded_database_to_others_after_two_minutes(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = dict[str, float]()

    def watched(*args: object, seconds: float, linger: float, **others: object) -> None:
        asked.update(seconds=seconds, linger=linger)
        raise Stopped("seen")

    monkeypatch.setattr(module, "_Loop", watched)
    monkeypatch.setattr(module, "open_sides", lambda *given: nullcontext())
    monkeypatch.setattr(module, "CatchUp", lambda *given, **named: None)
    with open_journal(instance, migration, planned.require_plan()) as journal:
        journal.enter(State.CATCHING_UP, since=journal.control(), by="test", reason="test")
        journal.note([Key(None, IdKind.U64, "1")], kind="change")
    sides = migration.source.endpoint({}), migration.target.endpoint({})
    assert migration.embedded
    with pytest.raises(Stopped):
        catch_up_migration(instance, migration, *sides, until="due", seconds=600.0, linger=60.0)
    assert asked == {"seconds": 120.0, "linger": 0.0}


def slower(sleep: Callable[[Application, float], None]) -> Callable[[Application, float], None]:
    """Each step takes a second at least, or a busy run would make thousands of them."""
    return lambda self, seconds: sleep(self, max(1.0, seconds))
