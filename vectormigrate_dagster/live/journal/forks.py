"""Files of SQLite are closed while their process forks.

SQLite keeps in memory which of its files it has locked. A fork copies that knowledge and not the locks, so the child
believes to hold what it does not: when the parent closes the file it deletes the log that the child goes on writing to,
and what the child has noted there nobody else ever sees
(https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from vectormigrate_dagster.errors import ConfigurationError


class ForkGuard:
    """Keeps a process from forking while it uses a file; one user at a time.

    Args:
        engine: of the file; its connections are closed before a fork.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.lock = threading.RLock()
        self.process = os.getpid()
        with _OPENING:
            _GUARDS[engine] = self

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use the file.

        Raises:
            ConfigurationError: this process was forked without Python's knowledge, with the file open.
        """
        if self.process != os.getpid():
            raise ConfigurationError(
                "this process was forked by a server that does not tell Python, so its journal's file would be "
                "damaged; open DualWriter after the fork (uWSGI: lazy-apps), or keep the journal in Postgres"
            )
        with self.lock:
            yield


_GUARDS: WeakKeyDictionary[sa.Engine, ForkGuard] = WeakKeyDictionary()
_OPENING = threading.Lock()
_HELD: list[ForkGuard] = []


def _before() -> None:
    _OPENING.acquire()
    for engine, guard in list(_GUARDS.items()):
        guard.lock.acquire()
        _HELD.append(guard)
        engine.dispose()


def _after() -> None:
    if not _OPENING.locked():
        return  # nothing was done before this fork: some servers tell only afterwards
    for guard in _HELD:
        guard.process = os.getpid()
        guard.lock.release()
    _HELD.clear()
    _OPENING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
