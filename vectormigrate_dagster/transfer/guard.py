"""What watches requests that write, so that a transfer, a re-sync and a writing application do not cross."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.databases.watch import ANSWERS, watched
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.model import IdColumn


def _allow() -> None:
    """Let every request pass."""


def _ignore() -> None:
    """Forget that an outcome is not known."""


class WriteGuard:
    """Is asked right before each request that writes, and told of those whose outcome is not known.

    Args:
        check: raises if nothing may be sent now; what it raises leaves the transfer or the re-sync.
        unsure: is called, from any thread, once a request may be applied later than its caller waits for it.
    """

    def __init__(self, check: Callable[[], None] = _allow, unsure: Callable[[], None] = _ignore) -> None:
        self.check = check
        self._unsure = unsure

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Bracket one call that writes; each of its requests is asked about."""
        self.check()
        try:
            with watched(self.check):
                yield
        except ANSWERS:
            raise
        except BaseException:
            self._unsure()
            raise

    def failed(self, error: DatabaseError) -> None:
        """Note that one request of a call that writes failed, whether or not it is made again."""
        if not isinstance(error, ANSWERS):
            self._unsure()

    def after(self, sleep: Sleep) -> Sleep:
        """A sleep that asks before it ends: what comes after it is a request."""

        def wait(seconds: float) -> None:
            sleep(seconds)
            self.check()

        return wait


NO_GUARD = WriteGuard()
"""For a source that nobody writes to."""


class SplitGuard(Protocol):
    """Watches the transfer of one split, from before its first read until all of it is acknowledged."""

    @property
    def writes(self) -> WriteGuard:
        """Watches its requests."""

    def begin(self) -> None:
        """Note from where on the split must distrust what it reads; called before the first read."""

    def moving(self, ids: IdColumn, scope: str | None) -> Collection[str]:
        """Those ids of the source, as text, that an application has written since `begin`, or is writing."""

    def finish(self) -> None:
        """See that those are looked at once more; called after the last acknowledgement."""
