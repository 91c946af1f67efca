"""The real code on stage: writers, catch-up, the load of a split and cutovers as actors of one world."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from typing import Literal

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import DatabaseError, LeaseHeld, PlanOutdated, StorageFailed
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.cutover import Cutover
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.live.journal import Bounds, Control, Journal, Side, State
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.steps import Limits
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.transfer import Settings, transfer_split
from vectormigrate_dagster.transfer.throttle import Retry, Throttle
from vectormigrate_dagster_tests.batches import dense_schema
from vectormigrate_dagster_tests.live.exploring.applications import Application, Write
from vectormigrate_dagster_tests.live.exploring.checks import BACKFILL, Watch, key_of
from vectormigrate_dagster_tests.live.exploring.databases import (
    MIGRATION,
    SteppedDatabase,
    SteppedJournal,
    Values,
    record,
)
from vectormigrate_dagster_tests.live.exploring.virtual import POLL_SECONDS
from vectormigrate_dagster_tests.live.exploring.world import BOUNDS, LEASE_SECONDS, LONG, Event, Violation, World
from vectormigrate_dagster_tests.live.mapped import mapping_between

Verb = Literal["run", "reverse", "complete"]

FREEZE_SECONDS = 300.0

MAPPING = mapping_between(dense_schema("source", dim=1), record(0, 0))


class Stage:
    """One migration and those who work at it.

    Args:
        source, target: what they hold at the beginning.
        loaded: whether the target was loaded before.
        bounds: of the protocol.
    """

    def __init__(self, *, source: Values, target: Values, loaded: bool, bounds: Bounds = BOUNDS) -> None:
        self.world = World(bounds=bounds)
        self.database = SteppedJournal(self.world)
        self.source = SteppedDatabase(self.world, "source", source)
        self.target = SteppedDatabase(self.world, "target", target)
        Journal.register(
            self.database, MIGRATION, id_kinds=[IdKind.U64], bounds=bounds, plan=_digest(1), by="the stage"
        )
        self.journal = Journal(self.database, MIGRATION)
        """For whoever goes by no plan."""
        keys = dict.fromkeys([*source, *target, *range(1, 3)])
        self.watch = Watch(
            self.world, self.database, self.source, self.target, {key: source.get(key) for key in keys}, loaded
        )
        self.lanes = sorted({key_of(key).lane for key in keys})
        self.split = Split(kind=IdKind.U64)
        self.applications: list[Application] = []
        self.generation = 1
        self.moved: dict[int, str] = {}
        """Up to where the split of a generation was loaded."""
        self.loaded = {1} if loaded else set()
        """Generations that are."""

    def switch(self) -> None:
        """Make the other side the primary, before anybody is on stage."""
        self._cut_over(self._catch_up("the stage"), "the stage")

    @property
    def remembered(self) -> Hashable:
        """All there is, for who wants to know whether he was here before."""
        return (
            self.world.remembered,
            self.database.remembered,
            self.source.remembered,
            self.target.remembered,
            self.watch.remembered,
            tuple(tuple(application.left) for application in self.applications),
            (self.generation, frozenset(self.loaded), tuple(sorted(self.moved.items()))),
        )

    @property
    def end(self) -> Hashable:
        """What is left once all are through."""
        return self.database.remembered, self.source.remembered, self.target.remembered

    ####################################################################
    # Actors
    ####################################################################

    def writer(self, name: str, *writes: Write, crashes: bool = True, stalls: bool = False) -> None:
        """An application that writes through `DualWriter`."""
        self.world.add(name, self._application(writes).run, restarts=crashes, stalls=stalls)

    def async_writer(self, name: str, *writes: Write, crashes: bool = True, stalls: bool = False) -> None:
        """An application that writes through `AsyncDualWriter`."""
        self.world.add(name, self._application(writes).run_async, restarts=crashes, stalls=stalls)

    def catch_up(self, name: str, *, steps: int = 2, crashes: bool = True) -> None:
        """A run of catch-up."""
        catch_up = self._catch_up(name)

        def body() -> None:
            for _ in range(steps):
                with suppress(DatabaseError, StorageFailed, PlanOutdated):
                    catch_up.step()

        self.world.add(name, body, restarts=crashes)

    def backfill(self, name: str = BACKFILL, *, crashes: bool = True, pages: int = 1) -> None:
        """A worker that loads the split of the first plan, and loads it again if it is told that it lost it."""
        self.world.add(name, lambda: self._load_patiently(1, pages), restarts=crashes)

    def new_plan(self, name: str = f"{BACKFILL}2", *, crashes: bool = True) -> None:
        """Whoever plans anew, which leaves the target as it is, and loads by the new plan."""

        def body() -> None:
            self._plan_anew(name)
            self._load_patiently(self.generation, 1)

        self.world.add(name, body, restarts=crashes)

    def coordinator(self, name: str = "K", *, to: tuple[Side, ...] = ("target",), crashes: bool = True) -> None:
        """Whoever freezes, drains and switches under the journal's own conditions: without the net of a comparison."""
        catch_up = self._catch_up(name)

        def body() -> None:
            for side in to:
                if self.journal.control().primary != side:
                    self._cut_over(catch_up, name)

        self.world.add(name, body, restarts=crashes)

    def pruner(self) -> None:
        """Whoever forgets what is dealt with, as soon as it may be forgotten."""

        def body() -> None:
            for _ in range(2):
                with suppress(StorageFailed):
                    self.journal.prune(age=0.0)

        self.world.add("P", body)

    def cutover(self, name: str = "K", *verbs: Verb, crashes: bool = True) -> None:
        """The real coordinator, which cuts over, goes back or completes, one after the other."""

        def body() -> None:
            for verb in verbs or ("run",):
                self._until_done(name, verb)

        self.world.add(name, body, restarts=crashes)

    ####################################################################
    # The end
    ####################################################################

    def settle(self) -> None:
        """Let everything come to rest, and check what is then.

        Raises:
            Violation: it does not come to rest, or is not right then.
        """
        self._resume()
        if self.generation not in self.loaded:
            self._load(self.generation, 1)
        catch_up = self._catch_up("the end")
        for _ in range(6):
            lag = catch_up.drain(self.world.now + 50 * POLL_SECONDS, sleep=self.pause).lag
            if lag.records == 0 and self.journal.busy_seconds() == 0 and not self.watch.unfinished():
                break
            self.world.advance(LONG)
        else:
            raise Violation("it never comes to rest")
        for request in self.world.flying():
            self.world.do(Event(f"land:{request.number}"))
        self.watch.settled()

    def pause(self, seconds: float) -> None:
        """Wait, seldom and long rather than often and short."""
        self.world.sleep(max(seconds, POLL_SECONDS))

    def close(self) -> None:
        """End it."""
        self.world.close()

    def _application(self, writes: tuple[Write, ...]) -> Application:
        application = Application(self.source, self.target, writes)
        self.applications.append(application)
        return application

    def _until_done(self, name: str, verb: Verb) -> None:
        """Try again what something was in the way of, a few times, each time by the plan that there is."""
        for _ in range(3):
            with suppress(DatabaseError, StorageFailed, LeaseHeld, PlanOutdated):
                if getattr(self._cutover(name), verb)(by=name, reason="a test").done:
                    return
            self.pause(POLL_SECONDS)

    def _cutover(self, name: str) -> Cutover:
        generation = self.generation

        def changed(control: Control) -> None:
            if control.state is State.SWITCHED and control.changed_by == name and generation != self.generation:
                raise Violation(f"{name} has switched by plan {generation}, though there is plan {self.generation}")

        journal, splits = self._journal_of(generation), {f"split {generation}": self.split}
        return Cutover(
            journal,
            self._catch_up(name),
            Verification(journal, self.sides(), splits, sleep=self.world.sleep),
            [lambda: [] if generation in self.loaded else ["it is not loaded"]],
            limits=Limits(freeze_seconds=20 * POLL_SECONDS, patience_seconds=30 * POLL_SECONDS),
            changed=changed,
            sleep=self.pause,
        )

    def _plan_anew(self, name: str) -> None:
        """Plan anew.

        Raises:
            NotSo: the application writes to the target.
            Violation: it does, and it is planned anew all the same.
        """
        control = self._replan(self.generation + 1, name)
        if control.primary != "source":
            raise Violation(f"{name} has planned anew, though the application writes to the {control.primary}")
        self.generation += 1

    def _resume(self) -> None:
        """Go by the plan that is stored, if whoever replaced it was killed before he had stored the new one."""
        if not self.journal.control().goes_by(_digest(self.generation)):
            self._replan(self.generation, "the stage")

    def _replan(self, generation: int, name: str) -> Control:
        return self.journal.replan(
            id_kinds=[IdKind.U64], bounds=self.world.bounds, plan=_digest(generation), by=name, reason="planned anew"
        )

    def _journal_of(self, generation: int) -> Journal:
        return Journal(self.database, MIGRATION, _digest(generation))

    def _load_patiently(self, generation: int, pages: int) -> None:
        for _ in range(4):
            with suppress(LeaseHeld, DatabaseError, StorageFailed, PlanOutdated):
                self._load(generation, pages)
                return

    def _load(self, generation: int, pages: int) -> None:
        key, records = f"split {generation}", -(-len(self.watch.truth) // pages)
        with SplitGuard(self._journal_of(generation), key, self.split, seconds=LEASE_SECONDS) as guard:
            for checkpoint in transfer_split(
                source=Source(self.source),
                target=self.target,
                mapper=RecordMapper(MAPPING),
                split=self.split,
                after=self.moved.get(generation),
                settings=Settings(batch_records=records, page_records=records, writers=1),
                guard=guard,
                throttle=_throttle(),
            ):
                self.moved[generation] = checkpoint.after
        self.watch.loaded = True
        self.loaded.add(generation)

    def _cut_over(self, catch_up: CatchUp, name: str) -> None:
        journal = self.journal
        frozen = journal.freeze(since=journal.control(), seconds=FREEZE_SECONDS, by=name, reason="a cutover")
        for _ in range(8):
            catch_up.step()
            if not [found for found in journal.blockers(frozen) if "verification" not in found]:
                break
            self.world.sleep(POLL_SECONDS)
        journal.verified(frozen)
        journal.switch(since=frozen, by=name, reason="drained")

    def sides(self) -> Sides:
        """Both sides, for one actor."""
        return Sides(
            MAPPING,
            source=Source(self.source),
            target=self.target,
            open_source=lambda: self.source,
            throttle=_throttle(),
        )

    def _catch_up(self, name: str) -> CatchUp:
        journal = self._journal_of(self.generation)
        return CatchUp(journal, self.sides(), holder=name, lanes=self.lanes, lease_seconds=LEASE_SECONDS)


def _digest(generation: int) -> str:
    return f"plan {generation}"


def _throttle() -> Throttle:
    return Throttle(source=Retry(max_retries=1, first_seconds=0.0), target=Retry(max_retries=1, first_seconds=0.0))
