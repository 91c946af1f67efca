"""A live migration in memory whose coordinators can be killed between any two calls, on a clock that only they move."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.cutover import Cutover, Gate, Limits
from vectormigrate_dagster.live.journal import Admission, Bounds, Control, Journal, JournalDatabase, Key, State
from vectormigrate_dagster.live.journal.database import _SYNCHRONOUS
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.model import IdKind, Split, tile
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.transfer import Retry, Throttle
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.live.mapped import mapping_between
from vectormigrate_dagster_tests.memory import MemoryDatabase

MIGRATION = "moving"
BOUNDS = Bounds(start=5.0, request=120.0, margin=5.0)
MAPPING = mapping_between(dense_schema("source"), make_batch(range(3)))
SPLITS: dict[str, Split] = {f"g0001-{at}": split for at, split in enumerate(tile(IdKind.U64, [4]))}
WHO = {"by": "tester", "reason": "tested"}


class Killed(BaseException):
    """The process is dead."""


class Clock:
    """`time` as the live room sees it: a look at it takes a millisecond, and more passes only if somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def monotonic(self) -> float:
        """Seconds."""
        self.now += 0.001
        return self.now

    def time(self) -> float:
        """Seconds since 1970."""
        return self.monotonic()


@contextmanager
def standing_clock() -> Iterator[Clock]:
    """Give the live room a clock of its own."""
    clock = Clock()
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("vectormigrate_dagster.live") and getattr(module, "time", None) is time:
                stack.enter_context(patch.object(module, "time", clock))
        yield clock


class Process:
    """What does something at its nth call, such as to die, which no later call survives."""

    def __init__(self, at: int | None = None, then: Callable[[], None] | None = None) -> None:
        self.calls = 0
        self.at = at
        self._then = then
        self._dead = False

    def point(self, _: str = "") -> None:
        """Pass a place where it may happen."""
        if self._dead:
            raise Killed
        self.calls += 1
        if self.calls == self.at:
            if self._then is not None:
                self._then()
                return
            self._dead = True
            raise Killed


class WatchedJournal(JournalDatabase):
    """A journal whose every transaction is a point before and after it."""

    def __init__(self, url: str, clock: Clock, process: Process) -> None:
        self._clock = clock
        self._watched = process
        super().__init__(url)
        if self.url.get_backend_name() == "sqlite":
            self.close()
            sa.event.listen(self._engine, "connect", _never_wait_for_the_disk)

    def now(self, connection: sa.Connection) -> float:
        """The clock that only the test moves."""
        del connection
        return self._clock.time()

    @property
    def server_clock(self) -> str:
        """The same as SQL."""
        return repr(self._clock.time())

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """See `JournalDatabase.transaction`."""
        self._watched.point()
        with super().transaction() as connection:
            yield connection
        self._watched.point()


def _never_wait_for_the_disk(connection: Any, record: Any) -> None:
    """Of what a test takes, that would be most: no machine goes down here."""
    connection.execute("pragma synchronous=off")
    record.info[_SYNCHRONOUS] = "full"


class Switching:
    """A migration of records 0 to 7 that is loaded, an application, and coordinators.

    Args:
        url: of the journal.
        clock: what time it is.
    """

    def __init__(self, url: str, clock: Clock, *, bounds: Bounds = BOUNDS) -> None:
        self.url = url
        self.clock = clock
        self.model = dict.fromkeys(range(8), 0)
        """What the application believes to have written: id -> seed of `make_batch`."""
        self.stores = {side: MemoryDatabase(side, schema=dense_schema(side)) for side in ("source", "target")}
        for store in self.stores.values():
            for key in self.model:
                store.put(make_batch([key]))
        self._open: list[JournalDatabase] = []
        database = self._database(Process())
        self.journal = Journal.register(database, MIGRATION, id_kinds=[IdKind.U64], bounds=bounds, by="tester")
        self.changes: list[Control] = []
        self.handles: dict[str, MemoryDatabase] = {}
        """Both collections as the newest process has opened them."""

    def close(self) -> None:
        """Give the journal's connections back."""
        for database in self._open:
            database.close()

    @property
    def control(self) -> Control:
        """The control row."""
        return self.journal.control()

    ####################################################################
    # The application
    ####################################################################

    def write(self, key: int, seed: int | None, *, patience: float = 0.0, acknowledged: bool = True) -> None:
        """Write a value of a record, or (None) delete it, as `DualWriter` does."""
        admission = self.admit(key, patience=patience)
        self.send(admission, key, seed)
        if acknowledged:
            self.journal.applied(admission)
        if seed is None:
            self.model.pop(key, None)
        else:
            self.model[key] = seed

    def admit(self, key: int, *, patience: float = 0.0) -> Admission:
        """Ask for leave to write a record."""
        return self.journal.admit([key_of(key)], patience=patience)

    def send(self, admission: Admission, key: int, seed: int | None) -> None:
        """Let a write take effect."""
        admission.check()
        store = self.stores[admission.control.primary]
        if seed is None:
            store.store.records.get(None, {}).pop(key, None)
        else:
            store.put(make_batch([key], seed=seed))

    ####################################################################
    # Coordinators
    ####################################################################

    def cutover(self, process: Process | None = None, *, gates: tuple[Gate, ...] = (), **limits: float) -> Cutover:
        """A coordinator in a process of its own."""
        process = process or Process()
        journal = Journal(self._database(process), MIGRATION)
        sides = self._sides(process)
        verification = Verification(journal, sides, SPLITS, sleep=self.clock.sleep)
        return Cutover(
            journal,
            CatchUp(journal, sides, holder="coordinator", lease_seconds=10.0),
            verification,
            gates,
            limits=Limits(**limits),  # type: ignore[arg-type]  # all of them are numbers
            changed=self.changes.append,
            sleep=self.clock.sleep,
        )

    def catch_up(self, process: Process | None = None) -> CatchUp:
        """A run of catch-up in a process of its own."""
        process = process or Process()
        return CatchUp(
            Journal(self._database(process), MIGRATION), self._sides(process), holder="run", lease_seconds=10.0
        )

    def assert_moved(self) -> None:
        """Fail unless both sides hold what the application has written, no more and no less."""
        for side, store in self.stores.items():
            assert store.ids() == self.model.keys(), side
            for key, seed in self.model.items():
                assert compare(make_batch([key], seed=seed), store.get(key)).equal, f"{key} in the {side}"

    def assert_writable(self) -> None:
        """Fail unless the application can write, and what it writes arrives on both sides."""
        self.write(3, 99, patience=60.0)
        self.clock.sleep(BOUNDS.open_seconds)
        self.catch_up().drain(self.clock.now + 600.0, sleep=self.clock.sleep)
        self.assert_moved()

    def _sides(self, process: Process) -> Sides:
        handles = self.handles = {side: _handle(store, process) for side, store in self.stores.items()}
        retry = Retry(max_retries=1, first_seconds=0.0), Retry(max_retries=1, first_seconds=0.0)
        return Sides(
            MAPPING,
            source=Source(handles["source"]),
            target=handles["target"],
            open_source=lambda: handles["source"],
            throttle=Throttle(source=retry[0], target=retry[1]),
        )

    def _database(self, process: Process) -> JournalDatabase:
        database = WatchedJournal(self.url, self.clock, process)
        self._open.append(database)
        return database


def key_of(key: int) -> Key:
    """The journal's key of a record."""
    return Key(None, IdKind.U64, str(key))


def frozen(switching: Switching) -> bool:
    """Whether writes are frozen."""
    return switching.control.state is State.FROZEN


def _handle(store: MemoryDatabase, process: Process) -> MemoryDatabase:
    """Another handle on a collection, each of whose calls is a point."""
    handle = MemoryDatabase(store.endpoint.collection, schema=store.schema)
    handle.store = store.store
    handle.on_call = process.point
    return handle
