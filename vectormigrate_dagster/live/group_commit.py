"""Admission of many writes of one process at once: who comes first commits for all that wait.

An intent is on disk before its admission is given. That a write was acknowledged is told to the journal a moment later,
with the next admission or after `LINGER_SECONDS`: when a process is killed in between, the intent only stays open until
it is too old to happen, which costs a cutover time and nothing else.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakSet

from vectormigrate_dagster.errors import Unavailable, VectorMigrateError
from vectormigrate_dagster.live.journal import Admission, Journal, Key, Request
from vectormigrate_dagster.live.journal.admissions import NO_TICKET, admit_together

LINGER_SECONDS = 0.02
"""How long an acknowledged write may wait for a transaction that somebody else needs anyway."""

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_INTERRUPTED = "the transaction of several writes was interrupted; nothing was written, so write it again"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    request: Request
    answer: Future[Admission | None]


class PerProcess(Generic[T]):
    """Something of which each process has its own: after a fork, threads and whoever held a lock are the parent's.

    Args:
        make: makes it, perhaps once too often where threads ask at the same time; all of them get the same.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def __call__(self) -> T:
        """This process' own."""
        process = os.getpid()
        if process not in self._made:
            self._made.setdefault(process, self._make())
        return self._made[process]


class GroupCommit:
    """Admissions of one process' writes to one migration; safe to use from several threads.

    Args:
        journal: of the migration.
    """

    def __init__(self, journal: Journal) -> None:
        self.process = os.getpid()
        self._journal = journal
        self._lists = threading.Lock()
        self._turn = threading.Lock()
        self._told = threading.Event()
        self._ended = threading.Event()
        self._waiting: list[_Waiting] = []
        self._applied: list[Admission] = []
        self._since = 0.0
        self._idle = True
        self._teller: threading.Thread | None = None
        _OPEN.add(self)

    def ask(self, keys: Sequence[Key]) -> Future[Admission | None]:
        """Ask for admission, which `commit` gives; the answer is None while writes are frozen."""
        waiting = _Waiting(Request(keys=keys, began=time.monotonic()), Future())
        waiting.answer.set_running_or_notify_cancel()  # nobody can take it back from here on
        with self._lists:
            self._waiting.append(waiting)
        return waiting.answer

    def commit(self, answer: Future[Admission | None] | None = None) -> None:
        """Answer everybody who has asked by now, in one transaction; nothing to do if `answer` is there already."""
        with self._turn:
            if answer is not None and answer.done():
                return
            waiting: list[_Waiting] = []
            applied: list[Admission] = []
            try:
                with self._lists:
                    waiting, self._waiting = self._waiting, []
                    applied, self._applied = self._applied, []
                if not waiting and not applied:
                    return
                admitted = admit_together(self._journal, [one.request for one in waiting], applied=applied)
                for position, one in enumerate(waiting):
                    one.answer.set_result(None if admitted is None else admitted[position])
            except BaseException as error:
                self._keep(applied)
                told = error if isinstance(error, Exception) else Unavailable(_INTERRUPTED)
                for one in waiting:
                    if not one.answer.done():
                        one.answer.set_exception(told)
                if told is not error or not waiting:
                    raise

    def applied(self, admission: Admission) -> None:
        """Note that a write was acknowledged, or that it was never sent; the journal knows soon."""
        if admission.ticket == NO_TICKET:
            return
        self._keep([admission])
        with self._lists:
            if self._teller is None and not self._ended.is_set():
                teller = threading.Thread(target=self._tell, name="vectormigrate-applied", daemon=True)
                try:
                    teller.start()
                except RuntimeError:  # the program ends, or has too many: the next admission tells, or `close`
                    return
                self._teller = teller

    def close(self) -> None:
        """Tell the journal what it does not know yet; may be called twice.

        Raises:
            StorageFailed: it cannot be told; the intents stay open until they are too old.
        """
        _OPEN.discard(self)
        self._ended.set()
        self._told.set()
        with self._lists:
            teller = self._teller
        if teller is not None:
            teller.join()
        self.commit()

    def _keep(self, applied: Sequence[Admission]) -> None:
        """Remember acknowledged writes until a transaction takes them along."""
        with self._lists:
            if applied and not self._applied:
                self._since = time.monotonic()
            self._applied = [*applied, *self._applied]
            self._idle = False
            if not self._told.is_set():  # waking a thread costs more than the rest of this class
                self._told.set()

    def _tell(self) -> None:
        """Tell the journal of acknowledged writes that no admission has taken along."""
        while not self._ended.is_set():
            self._told.wait()
            self._ended.wait(LINGER_SECONDS)
            with self._lists:
                if not self._applied:
                    if self._idle:
                        self._told.clear()
                    self._idle = True
                    continue
                if self._since + LINGER_SECONDS > time.monotonic():
                    continue
            try:
                self.commit()
            except VectorMigrateError as error:  # the next admission says so to the application
                _LOG.warning("%s", error)
                self._ended.wait(_RETRY_SECONDS)


_OPEN: WeakSet[GroupCommit] = WeakSet()


@atexit.register
def _close_all() -> None:
    """At the end of a program that has not closed its writers."""
    for group in list(_OPEN):
        if group.process != os.getpid():
            continue  # of the process that this one was forked from: what waits there is told there
        try:
            group.close()
        except VectorMigrateError as error:
            _LOG.warning("%s", error)
