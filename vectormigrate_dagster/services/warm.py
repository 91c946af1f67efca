"""Answers of a process that stays: the same documents as `status`, from memory that follows Dagster's storage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.state import PlanSummary
from vectormigrate_dagster.defs.storage import storage
from vectormigrate_dagster.migration_file import BrokenMigration
from vectormigrate_dagster.migration_file.watched import WatchedFolder
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import MigrationList, MigrationStatus, Status
from vectormigrate_dagster.services.status import listed, page, status_of

MAX_AGE_SECONDS = 4.0
"""How old an answer may be. Running work tells its state every 5 s, so that nobody hears of one older than 10 s."""
_RENEWED_AT = 0.5
"""Part of that age from which on an answer is renewed while it is still given: who asks often never waits for it."""
_CLOSING_SECONDS = 10.0
"""How long `close` waits for whoever looks at the storage."""

_LOG = logging.getLogger("vectormigrate.sidecar")


class Reader:
    """Where migrations stand, for a process that is asked again and again; several threads may ask.

    It keeps one log for each migration that has a file, which reads only what is new, and each answer for as long as it
    may be old; many callers within half of that time cost one look at the storage. Nothing of migrations whose file is
    gone is kept.

    Args:
        context: where migrations and Dagster's storage are.
        max_age: seconds that an answer may be old.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        context: Context,
        *,
        max_age: float = MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.context = context
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = ExitStack()
        self._instance: dg.DagsterInstance | None = None
        self._folder = WatchedFolder(context.migrations)
        self._known: dict[str, _Known] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of Dagster's storage, as far as it does not hang; a later question opens it again."""
        until = time.monotonic() + _CLOSING_SECONDS
        if not self._lock.acquire(timeout=_CLOSING_SECONDS):
            return  # it hangs while it is opened: there is nothing to let go of
        try:
            for known in self._known.values():
                known.settle(until)
            self._known.clear()
            self._instance = None
            self._closing.close()
        finally:
            self._lock.release()

    def migration(self, migration_id: str) -> Migration:
        """One migration file, as it is now.

        Raises:
            ConfigurationError: there is none of that name, or it is wrong.
        """
        return self._folder.find(migration_id)

    def status(self, migration_id: str) -> Status:
        """Where a migration stands, at most `max_age` seconds ago.

        Raises:
            ConfigurationError: there is none of that name, or it is wrong.
            StorageFailed: Dagster's storage cannot be read.
        """
        return self._status(self.migration(migration_id))

    def statuses(self) -> tuple[Status, ...]:
        """Where every migration stands whose file can be read, in order of their names."""
        return tuple(self._status(migration) for migration in self._migrations()[0])

    def list_migrations(
        self,
        *,
        status: MigrationStatus | None = None,
        limit: int = 10,
        offset: int = 0,
        sort_by: Literal["created_at", "migration_id", "status"] = "created_at",
        sort_order: Literal["asc", "desc"] = "desc",
    ) -> MigrationList:
        """The migrations of the folder, a page at a time, as `services.status.list_migrations` gives them."""
        migrations, broken = self._migrations()
        return page(
            [
                listed(*self._kept(migration).standing(migration, self._clock, self._max_age))
                for migration in migrations
            ],
            broken,
            status=status,
            limit=limit,
            offset=offset,
            sort_by=sort_by,
            sort_order=sort_order,
        )

    def ask_storage(self) -> None:
        """Ask Dagster's storage for as little as it can be asked for, to see that it answers.

        Raises:
            StorageFailed: it cannot be read.
        """
        instance = self._open()
        with storage():
            instance.get_run_ids(limit=1)

    def _migrations(self) -> tuple[list[Migration], list[BrokenMigration]]:
        migrations, broken = self._folder.load()
        ids = {migration.id for migration in migrations}
        with self._lock:
            for gone in self._known.keys() - ids:
                del self._known[gone]
        return migrations, broken

    def _status(self, migration: Migration) -> Status:
        return self._kept(migration).standing(migration, self._clock, self._max_age)[0]

    def _kept(self, migration: Migration) -> _Known:
        instance = self._open()
        with self._lock:
            known = self._known.get(migration.id)
            if known is None:
                known = self._known[migration.id] = _Known(MigrationLog(instance, migration.id))
            return known

    def _open(self) -> dg.DagsterInstance:
        with self._lock:
            if self._instance is None:
                self._instance = self._closing.enter_context(self.context.instance())
            return self._instance


@dataclass(frozen=True)
class _Answer:
    """What one look at the storage has shown.

    Args:
        of: the migration file at that time.
        at: when the look began.
    """

    of: Migration
    status: Status
    plan: PlanSummary | None
    at: float


class _Known:
    """One migration's log and the newest answer."""

    def __init__(self, log: MigrationLog) -> None:
        self._log = log
        self._looking = threading.Lock()
        self._answer: _Answer | None = None

    def standing(
        self, migration: Migration, clock: Callable[[], float], max_age: float
    ) -> tuple[Status, PlanSummary | None]:
        """Status and plan. One caller at a time looks; the others then find what it has seen."""
        answer = self._kept(migration, clock, max_age)
        if answer is None:
            with self._looking:
                answer = self._kept(migration, clock, max_age) or self._look(migration, clock)
        elif clock() - answer.at >= max_age * _RENEWED_AT:
            self._renew(migration, clock)
        return answer.status, answer.plan

    def settle(self, until: float) -> None:
        """Wait until nobody looks at the storage; no longer than `until`, of `time.monotonic`."""
        if self._looking.acquire(timeout=max(0.0, until - time.monotonic())):
            self._looking.release()

    def _kept(self, migration: Migration, clock: Callable[[], float], max_age: float) -> _Answer | None:
        """The newest answer, if it is good enough."""
        answer = self._answer
        return answer if answer is not None and answer.of == migration and clock() - answer.at < max_age else None

    def _look(self, migration: Migration, clock: Callable[[], float]) -> _Answer:
        at = clock()
        plan = self._log.summary()
        self._log.refresh()
        answer = self._answer = _Answer(migration, status_of(self._log, migration, plan), plan, at)
        return answer

    def _renew(self, migration: Migration, clock: Callable[[], float]) -> None:
        """Look in a thread, unless somebody is looking."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._look_aside, args=(migration, clock), daemon=True).start()
        except RuntimeError:  # no thread is to be had; whoever asks later looks himself
            self._looking.release()

    def _look_aside(self, migration: Migration, clock: Callable[[], float]) -> None:
        try:
            self._look(migration, clock)
        except Exception as error:  # noqa: BLE001  (whoever asks when the answer is too old meets it)
            _LOG.warning("status of '%s' could not be renewed: %s", migration.id, type(error).__name__)
        finally:
            self._looking.release()
