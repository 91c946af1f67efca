"""Hold a rate: a token bucket in memory, or one in a small file that all worker processes of a migration share."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import StorageFailed

Clock = Callable[[], float]

SLICE_SECONDS = 0.5
"""No wait is longer in one piece, so that a changed setting is noticed."""

_LEAST_SECONDS = 0.001  # a shorter wait may not move a clock at all

_STATE = struct.Struct("<dd")  # tokens, and the clock's reading at that moment
_SUM = struct.Struct("<I")  # CRC-32 of the state


@dataclass
class Tokens:
    """What a bucket holds; below zero it is in debt.

    Args:
        held: tokens at the moment `at`.
        at: a reading of the clock, in seconds.
    """

    held: float
    at: float


class Bucket(Protocol):
    """Keeps the tokens between two looks."""

    def opened(self) -> AbstractContextManager[Tokens]:
        """Give the tokens to one caller at a time, and keep what it leaves in them."""


class RateLimiter:
    """A token bucket over records: holds a rate on average, and lets at most one second's worth through at once.

    Args:
        rate: records per second; None is unlimited.
        clock: seconds, ascending; of a shared bucket the same clock in every process of this machine.
        shared: a file, made when it is first needed, that holds the bucket of every process that names it: together
            they keep to the rate. None keeps the bucket in this object.
    """

    def __init__(self, rate: float | None = None, *, clock: Clock = time.monotonic, shared: Path | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._bucket: Bucket = _Memory(clock()) if shared is None else _File(shared, clock)
        self._rate: float | None = None
        self.set_rate(rate)

    @property
    def rate(self) -> float | None:
        """Records per second; None is unlimited."""
        return self._rate

    def set_rate(self, rate: float | None) -> None:
        """Change the rate of this object; who waits now notices within half a second.

        Of what was taken at a higher rate, no more than a second's worth of the new one is still to be paid back: a
        page that took a second would otherwise cost hours.

        Processes that share a bucket are each told; until the last of them knows, the rate is between the two.

        Raises:
            ValueError: the rate is not above zero.
            StorageFailed: the shared bucket cannot be used.
        """
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate limit is above zero; {rate} was given")
        with self._lock:
            if self._rate is not None and rate != self._rate:
                with self._bucket.opened() as tokens:  # what was earned so far was earned at the old rate
                    self._refill(tokens, self._rate)
                    if rate is not None and rate < self._rate:
                        tokens.held = max(tokens.held, -rate)
            self._rate = rate

    def acquire(self, records: int, *, sleep: Sleep = time.sleep) -> None:
        """Wait until the bucket is not in debt, then take `records`, which may put it into debt.

        Raises:
            StorageFailed: the shared bucket cannot be used.
        """
        while True:
            with self._lock:
                if self._rate is None:
                    return
                with self._bucket.opened() as tokens:
                    self._refill(tokens, self._rate)
                    if tokens.held >= 0:
                        tokens.held -= records
                        return
                    seconds = -tokens.held / self._rate
            sleep(min(max(seconds, _LEAST_SECONDS), SLICE_SECONDS))

    def _refill(self, tokens: Tokens, rate: float) -> None:
        now = self._clock()
        tokens.held = min(rate, tokens.held + (now - tokens.at) * rate)
        tokens.at = now


class _Memory:
    """A bucket of this process; empty at first."""

    def __init__(self, now: float) -> None:
        self._tokens = Tokens(0.0, now)

    @contextmanager
    def opened(self) -> Iterator[Tokens]:
        """See `Bucket.opened`; the limiter's own lock lets one thread in."""
        yield self._tokens


class _File:
    """A bucket in a file, which is locked for the microseconds that a look takes.

    The kernel frees the lock of a process that dies. A file that is empty, torn, or of another boot of the machine,
    when the clock had another zero, counts as an empty bucket: all that is lost is the debt of one page.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    @contextmanager
    def opened(self) -> Iterator[Tokens]:
        """See `Bucket.opened`.

        Raises:
            StorageFailed: the file cannot be used.
        """
        with self._locked() as file:
            tokens = self._read(file)
            yield tokens
            state = _STATE.pack(tokens.held, tokens.at)
            os.pwrite(file, state + _SUM.pack(zlib.crc32(state)), 0)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            # Opened anew each time: a lock belongs to the opened file, so threads exclude each other as well.
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise StorageFailed(
                f"the rate limit's file '{self._path}' cannot be used: {error}; mend that, then run the migration again"
            ) from error

    def _read(self, file: int) -> Tokens:
        now = self._clock()
        found = os.pread(file, _STATE.size + _SUM.size, 0)
        state, checksum = found[: _STATE.size], found[_STATE.size :]
        if checksum == _SUM.pack(zlib.crc32(state)) and len(state) == _STATE.size:
            tokens = Tokens(*_STATE.unpack(state))
            if tokens.at <= now:
                return tokens
        return Tokens(0.0, now)
