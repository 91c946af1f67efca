"""The real code on stage: writers, catch-up, the load of a split and cutovers as actors of one world."""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar
from unittest.mock import patch
from weakref import WeakSet

from vectormigrate_dagster.databases import Source, ahead
from vectormigrate_dagster.errors import DatabaseError, LeaseHeld, StorageFailed
from vectormigrate_dagster.live import dual_writer, group_commit
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.cutover import Cutover, Ended
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.live.journal import Bounds, Journal, Side
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.steps import Limits
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.transfer import Settings, line, transfer_split
from vectormigrate_dagster.transfer.throttle import Interrupt, Retry, Throttle
from vectormigrate_dagster.validation import pairs
from vectormigrate_dagster_tests.live.exploring.checks import BACKFILL, Watch, key_of, ticket_of
from vectormigrate_dagster_tests.live.exploring.databases import (
    MIGRATION,
    SteppedDatabase,
    SteppedJournal,
    Values,
    record,
)
from vectormigrate_dagster_tests.live.exploring.world import BOUNDS, HERE, LEASE_SECONDS, LONG, Event, Violation, World
from vectormigrate_dagster_tests.live.mapped import mapping_between
from vectormigrate_dagster_tests.memory import dense_schema

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 25.0
"""Every shorter wait takes so long here: a process may always be slow, and runs stay short."""

FREEZE_SECONDS = 300.0


class VirtualTime:
    """`time` as the live code sees it."""

    def __init__(self, world: World) -> None:
        self.sleep = lambda seconds: world.sleep(max(seconds, POLL_SECONDS))
        self.monotonic = self.perf_counter = self.time = world.monotonic


class VirtualSecrets:
    """`secrets` as the live code sees it: the same draws in every run with the same schedule."""

    def __init__(self) -> None:
        self._outside = 0

    def token_hex(self, size: int = 8) -> str:
        """A name."""
        if HERE.actor is not None:
            return HERE.actor.draw()
        self._outside += 1
        return f"stage-{self._outside}"

    def randbits(self, bits: int) -> int:
        """A number."""
        return ticket_of(self.token_hex())


class InOneThread:
    """A pool of no threads: what is submitted is done at once, so that an actor does one thing at a time."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what a pool takes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do it; what ends an actor's thread goes through."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # it is the future's to tell
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        """There is nothing to wait for."""


class _NoThread:
    """A thread that is never begun: what it would do in the background, an actor does as a step when it ends."""

    def __init__(self, **_: Any) -> None:
        """Take what a thread takes."""

    def start(self) -> None:
        """Do nothing."""

    def join(self) -> None:
        """There is nothing to wait for."""


class _OneThread:
    """`threading` as the writer sees it."""

    Lock = threading.Lock
    Event = threading.Event
    Thread = _NoThread


@contextmanager
def virtual(world: World, journal: SteppedJournal) -> Iterator[None]:
    """Let the live code see this world's clock and journal, and draw from this world."""
    clock, drawn = VirtualTime(world), VirtualSecrets()
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("vectormigrate_dagster.live"):
                if getattr(module, "time", None) is time:
                    stack.enter_context(patch.object(module, "time", clock))
                if getattr(module, "secrets", None) is secrets:
                    stack.enter_context(patch.object(module, "secrets", drawn))
        stack.enter_context(patch.object(dual_writer, "JournalDatabase", lambda url: journal))
        stack.enter_context(patch.object(logging.getLogger(dual_writer.__name__), "disabled", True))
        stack.enter_context(patch.object(group_commit, "threading", _OneThread))
        stack.enter_context(patch.object(group_commit, "_OPEN", WeakSet()))
        for module in (line, pairs, ahead):
            stack.enter_context(patch.object(module, "ThreadPoolExecutor", InOneThread))
        stack.enter_context(patch.object(Interrupt, "sleep", lambda self, seconds: world.sleep(seconds)))
        yield


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
        self.journal = Journal.register(self.database, MIGRATION, id_kinds=[IdKind.U64], bounds=bounds, by="the stage")
        keys = dict.fromkeys([*source, *target, *range(1, 3)])
        self.watch = Watch(
            self.world, self.database, self.source, self.target, {key: source.get(key) for key in keys}, loaded
        )
        self.lanes = sorted({key_of(key).lane for key in keys})
        self.split = Split(kind=IdKind.U64)
        self.moved: str | None = None

    ####################################################################
    # Actors
    ####################################################################

    def writer(self, name: str, *writes: tuple[int, int | None], crashes: bool = True, stalls: bool = False) -> None:
        """An application that writes values (None deletes), one after the other; what was not sent it tries again."""
        left = list(writes)

        def body() -> None:
            with DualWriter("sqlite://", MIGRATION, patience=0.0) as writer:
                for _ in range(3 * len(writes)):
                    if left:
                        self._write(writer, left)

        self.world.add(name, body, restarts=crashes, stalls=stalls)

    def catch_up(self, name: str, *, steps: int = 2, crashes: bool = True) -> None:
        """A run of catch-up."""
        catch_up = self._catch_up(name)

        def body() -> None:
            for _ in range(steps):
                with suppress(DatabaseError, StorageFailed):
                    catch_up.step()

        self.world.add(name, body, restarts=crashes)

    def backfill(self, name: str = BACKFILL, *, crashes: bool = True, pages: int = 1) -> None:
        """A worker that loads the split, and loads it again if it is told that it lost it."""

        def body() -> None:
            for _ in range(4):
                with suppress(LeaseHeld, DatabaseError, StorageFailed):
                    self._load(pages)
                    return

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

    def cutover(self, name: str = "K", *, back: bool = False, crashes: bool = True) -> None:
        """The real coordinator, which cuts over and perhaps goes back."""
        catch_up = self._catch_up(name)
        verification = Verification(self.journal, self.sides(), {"split": self.split}, sleep=self.world.sleep)
        limits = Limits(freeze_seconds=20 * POLL_SECONDS, patience_seconds=30 * POLL_SECONDS)
        cutover = Cutover(
            self.journal,
            catch_up,
            verification,
            [lambda: [] if self.watch.loaded else ["it is not loaded"]],
            limits=limits,
            sleep=self.pause,
        )

        def body() -> None:
            self._until_done(partial(cutover.run, by=name, reason="a test"))
            if back:
                self._until_done(partial(cutover.reverse, by=name, reason="a test"))

        self.world.add(name, body, restarts=crashes)

    ####################################################################
    # The end
    ####################################################################

    def settle(self) -> None:
        """Let everything come to rest, and check what is then.

        Raises:
            Violation: it does not come to rest, or is not right then.
        """
        if not self.watch.loaded:
            self._load(1)
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

    def _until_done(self, passage: Callable[[], Ended]) -> None:
        """Try again what something was in the way of, a few times."""
        for _ in range(3):
            with suppress(DatabaseError, StorageFailed):
                if passage().done:
                    return
            self.pause(POLL_SECONDS)

    def _load(self, pages: int) -> None:
        guard = SplitGuard(self.journal, "split", self.split, seconds=LEASE_SECONDS)
        records = -(-len(self.watch.truth) // pages)
        for checkpoint in transfer_split(
            source=Source(self.source),
            target=self.target,
            mapper=RecordMapper(MAPPING),
            split=self.split,
            after=self.moved,
            settings=Settings(batch_records=records, page_records=records, writers=1),
            guard=guard,
            throttle=_throttle(),
        ):
            self.moved = checkpoint.after
        self.watch.loaded = True

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
        return CatchUp(self.journal, self.sides(), holder=name, lanes=self.lanes, lease_seconds=LEASE_SECONDS)

    def _write(self, writer: DualWriter, left: list[tuple[int, int | None]]) -> None:
        """Write the first of some values; once it is sent it is not one of them any more, whatever becomes of it."""
        key, value = left[0]

        def put(side: SteppedDatabase) -> None:
            left.pop(0)
            side.put_value(key, value)

        write = writer.delete if value is None else writer.upsert
        with suppress(DatabaseError, StorageFailed):
            write([key], source=partial(put, self.source), target=partial(put, self.target))


def _throttle() -> Throttle:
    return Throttle(source=Retry(max_retries=1, first_seconds=0.0), target=Retry(max_retries=1, first_seconds=0.0))
