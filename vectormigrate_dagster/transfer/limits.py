"""How much at once: halved when the database cannot keep up, grown slowly after.

Additive increase, multiplicative decrease. What they grow back to is found by `tuning.Tuner` for the writes of a
transfer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.transfer.rate import SLICE_SECONDS

_GROWTH = 32
"""Successes after which a halved limit is back at its largest, at most."""


class _Bound:
    """A largest value that may be changed while work runs, up to what it was made with."""

    def __init__(self, largest: int) -> None:
        self._most = self._largest = largest

    @property
    def largest(self) -> int:
        """What it is bounded by now."""
        return self._largest

    @property
    def most(self) -> int:
        """What it was made with: the bound of `largest`, whatever that was set to since."""
        return self._most


class BatchSize(_Bound):
    """How many records one call holds: halved when the database cannot keep up, grown slowly after.

    Args:
        largest: where it starts, and what it never exceeds.
        smallest: what it never falls below.
    """

    def __init__(self, largest: int, *, smallest: int = 1) -> None:
        super().__init__(largest)
        self._smallest = min(smallest, largest)
        self._size = largest
        self._lock = threading.Lock()

    @property
    def records(self) -> int:
        """Records of the next call."""
        return self._size

    def set_largest(self, largest: int) -> None:
        """Change how large it grows, up to `most`; if it has not been halved, it follows."""
        largest = min(largest, self._most)
        with self._lock:
            follows = self._size == self._largest
            self._largest, self._smallest = largest, min(self._smallest, largest)
            self._size = largest if follows else min(self._size, largest)

    def shrink(self, used: int | None = None) -> None:
        """Halve what was too much.

        Args:
            used: the size of the call that failed, so that several calls in flight halve it once; None is the
                present size.
        """
        with self._lock:
            half = (self._size if used is None else used) // 2
            self._size = min(self._size, max(self._smallest, half))

    def grow(self) -> None:
        """Add a thirty-second of the largest size."""
        with self._lock:
            self._size = min(self._largest, self._size + max(1, self._largest // _GROWTH))


class Concurrency(_Bound):
    """How many calls are in flight at once: halved when the database cannot keep up, grown slowly after.

    Args:
        largest: where it starts, and what it never exceeds.
    """

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self._limit = float(largest)
        self._in_flight = 0
        self._halvings = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Calls that may be in flight now; at least one."""
        return int(self._limit)

    def set_largest(self, largest: int) -> None:
        """Change how large it grows, up to `most`; if it has not been halved, it follows."""
        largest = min(largest, self._most)
        with self._changed:
            follows = self._limit == self._largest
            self._largest = largest
            self._limit = float(largest if follows else min(self._limit, largest))
            self._changed.notify_all()

    @contextmanager
    def slot(self, *, sleep: Sleep = time.sleep) -> Iterator[None]:
        """Wait for room and make one call; how it ends changes the limit.

        Args:
            sleep: is asked now and then, while there is no room, whether to go on; what it raises ends the wait.
        """
        halvings = self._enter(sleep)
        try:
            yield
        except DatabaseError as error:
            if error.transient:
                self._halve(halvings)
            raise
        else:
            self._grow()
        finally:
            self._leave()

    def _enter(self, sleep: Sleep) -> int:
        """Take a slot; return how often the limit has been halved."""
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._in_flight < self.limit, timeout=SLICE_SECONDS):
                    self._in_flight += 1
                    return self._halvings
            sleep(0)

    def _halve(self, halvings: int) -> None:
        """Halve what is in flight, once for all calls that fail together."""
        with self._changed:
            if halvings == self._halvings:
                self._limit = max(1.0, min(self._limit, self._in_flight) // 2)
                self._halvings += 1

    def _grow(self) -> None:
        with self._changed:
            self._limit = min(float(self._largest), self._limit + self._largest / _GROWTH)

    def _leave(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()
