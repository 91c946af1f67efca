"""Note in the journal who writes pages of a split to the target, or takes them back, and until when that may arrive.

A load is watched while an application writes to the source (rules 10 to 13 of the live protocol), a rollback so that no
new plan begins too early.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from vectormigrate_dagster.errors import PlanOutdated, StorageFailed
from vectormigrate_dagster.live.journal import Attempt, Journal, Key, SplitAttempt
from vectormigrate_dagster.live.journal.undoing import Undoing
from vectormigrate_dagster.model import IdColumn, Split
from vectormigrate_dagster.transfer.guard import WriteGuard

LEASE_SECONDS = 60.0
"""How long an attempt may write before it asks again; after a kill others wait so long and `Bounds.request` more."""

Kind = TypeVar("Kind", bound=Attempt)


class _Guard(ABC, Generic[Kind]):
    """One attempt, which asks for more time as it goes on, and knows of its requests whose outcome is not known.

    Args:
        key: the partition's key.
        seconds: see `LEASE_SECONDS`.
    """

    def __init__(self, key: str, *, seconds: float) -> None:
        self.writes = WriteGuard(self._check, self._unsure)
        self._key = key
        self._seconds = seconds
        self._lock = threading.Lock()
        self._attempt: Kind | None = None
        self._unsure_until = 0.0

    @property
    def attempt(self) -> Kind:
        """What the journal knows of this attempt."""
        if self._attempt is None:
            raise ValueError(f"split '{self._key}' was not begun")
        return self._attempt

    @abstractmethod
    def _renewed(self, attempt: Kind) -> Kind:
        """The same attempt, for longer."""

    def _check(self) -> None:
        """See that this attempt may send; renews it once half of its time is over."""
        attempt = self.attempt
        if attempt.ends - time.monotonic() < self._seconds / 2:
            with self._lock:
                if self._attempt is attempt:  # or another thread has renewed it
                    self._attempt = self._renewed(attempt)
        self.attempt.check()

    def _unsure(self) -> None:
        bounds = self.attempt.control.bounds
        self._unsure_until = time.monotonic() + bounds.request + bounds.margin

    def _unsure_seconds(self) -> float:
        """For how long a request whose outcome is not known may still be applied."""
        return max(0.0, self._unsure_until - time.monotonic())


class SplitGuard(_Guard[SplitAttempt]):
    """One attempt to load a split; what `transfer.transfer_split` takes as `guard`.

    Another attempt ends this one: the next write then raises `LeaseHeld`, and the split is loaded by the other. As a
    context it notes an attempt's early end: nobody then waits for requests that it did not send.

    Args:
        journal: the migration's.
        key: the partition's key.
        split: what it moves.
        seconds: see `LEASE_SECONDS`.
    """

    def __init__(self, journal: Journal, key: str, split: Split, *, seconds: float = LEASE_SECONDS) -> None:
        super().__init__(key, seconds=seconds)
        self.touched: int | None = None
        self._journal = journal
        self._split = split

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an interrupt (no `Exception`) a thread may still be sending, as after a kill.
        if isinstance(error, Exception) and self._attempt is not None:
            # What ended the load is told; this only spares others a wait.
            with suppress(StorageFailed, PlanOutdated):
                self._journal.rest_split(self._attempt, unsure=self._unsure_seconds())

    def begin(self) -> None:
        """Note durably, before the first read, from where on the split must distrust what it reads.

        Raises:
            LeaseHeld: the sides were switched, so nothing is loaded any more.
            StorageFailed: the journal cannot be written.
        """
        self._attempt = self._journal.begin_split(self._key, seconds=self._seconds)

    def moving(self, ids: IdColumn, scope: str | None) -> set[str]:
        """Those ids of the source, as text, that anybody has named since `begin`, or that wait for a re-sync."""
        keys = [Key(called, ids.kind, text) for text in ids.texts() for called in {scope, None}]
        return {key.text for key in self._journal.moving(keys, since=self.attempt.low)}

    def finish(self) -> None:
        """Ask for another look at each key of the split that was named since `begin`; `touched` says how many.

        That is left to catch-up (`Journal.retire_splits`), and `touched` stays None, while a request of an attempt that
        was given up, or one of this attempt whose outcome is not known, can still be applied.

        Raises:
            LeaseHeld: another attempt has begun.
            StorageFailed: the journal cannot be written.
        """
        self.touched = self._journal.leave_split(self.attempt, belongs=self._belongs, unsure=self._unsure_seconds())

    def _renewed(self, attempt: SplitAttempt) -> SplitAttempt:
        return self._journal.renew(attempt, seconds=self._seconds)

    def _belongs(self, key: Key) -> bool:
        split = self._split
        return key.kind is split.kind and self._is_scope(key, split.scope) and split.contains(key.id)

    @staticmethod
    def _is_scope(key: Key, scope: str | None) -> bool:
        """Whether a key may be of a scope; one without may be of the default scope, whatever that is called."""
        return key.scope == scope or key.scope is None or scope is None


class UndoGuard(_Guard[Attempt]):
    """One attempt to take something back, as a context: noted before its first request, until all have an answer.

    Args:
        journal: the migration's.
        key: the partition's key, or what the target is called where partitions are; the caller holds its lease.
        seconds: see `LEASE_SECONDS`.
    """

    def __init__(self, journal: Journal, key: str, *, seconds: float = LEASE_SECONDS) -> None:
        super().__init__(key, seconds=seconds)
        self._undoing = Undoing(journal)

    def __enter__(self) -> Self:
        self._attempt = self._undoing.begin(self._key, seconds=self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an interrupt (no `Exception`) a thread may still be sending, as after a kill.
        if error is None or isinstance(error, Exception):
            with suppress(StorageFailed):  # as after a kill: others wait for longer
                self._undoing.end(self.attempt, unsure=self._unsure_seconds())

    def _renewed(self, attempt: Attempt) -> Attempt:
        return self._undoing.renew(attempt, seconds=self._seconds)
