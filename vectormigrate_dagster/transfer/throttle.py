"""How fast we go and what we do when a database cannot keep up: the one retry policy of this project.

`Retry` repeats calls that failed for a while, `Circuit` stops repeating when nothing works any more.
`limits.BatchSize` and `limits.Concurrency` are halved when the database cannot keep up, `rate.RateLimiter` holds a rate
that can be changed while work runs. `Throttle` is what a source and a target need of these.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.databases.patience import patient
from vectormigrate_dagster.errors import DatabaseError, Stopped, Throttled, Unavailable
from vectormigrate_dagster.transfer.limits import BatchSize, Concurrency
from vectormigrate_dagster.transfer.rate import SLICE_SECONDS, RateLimiter

T = TypeVar("T")

_CALLS = 16
_CIRCUIT_CALLS = 6
"""So many calls at once may each use up their retries before the circuit opens."""

_ANY_RECORDS = 100_000
"""Of one write: more than any database takes."""

Stop = Callable[[], bool]
"""Whether somebody asked work to end."""


Failed = Callable[[DatabaseError], None]
"""Is told how a request failed."""


def never() -> bool:
    """Say that nobody asked."""
    return False


class Interrupt:
    """What ends waits: `set` at once, and `stop` within half a second of saying True.

    Args:
        stop: is asked from every thread that waits.
    """

    def __init__(self, stop: Stop = never) -> None:
        self._event = threading.Event()
        self._stop = stop

    def set(self) -> None:
        """End all waits, now and from now on."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether waits end at once."""
        return self._event.is_set() or self._stop()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopped: the wait was ended.
        """
        end = time.monotonic() + seconds
        while not self.is_set:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._event.wait(min(left, SLICE_SECONDS))
        raise Stopped("the work was asked to end; what was acknowledged is recorded")


def _may_succeed(error: BaseException) -> bool:
    """Whether to make a call again that failed so."""
    return isinstance(error, DatabaseError) and error.transient and not error.repeated


class Circuit:
    """Opens after `after` transient failures in a row, whichever calls they come from; thread-safe."""

    def __init__(self, *, after: int = 30) -> None:
        self._after = after
        self._failures = 0
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused without being made."""
        return self._failures >= self._after

    def check(self) -> None:
        """Let a call through, or refuse it.

        Raises:
            Unavailable: the circuit is open.
        """
        if self.is_open:
            raise Unavailable(
                f"{self._failures} calls in a row failed, so no more are made; run the migration again when the "
                "database answers, it goes on after the last checkpoint"
            )

    def failed(self) -> None:
        """Count a transient failure."""
        with self._lock:
            self._failures += 1

    def succeeded(self) -> None:
        """Start to count again."""
        with self._lock:
            self._failures = 0


class Retry:
    """Make the calls to one database: a few at once, each repeated while it fails for a while.

    The waits between are full-jitter exponential backoff, never shorter than Retry-After. A call must not make another
    one through the same object, which may have no room for it. A call of many requests may have each of them repeated
    alone (`databases.patience`); it is not repeated itself for one that was given up.

    Only errors that say `transient` are repeated, up to `max_retries` times; then the last one is raised.

    Args:
        max_retries: repetitions after the first attempt.
        first_seconds, longest_seconds: upper bound of the first wait, and of every wait. Each wait is drawn
            evenly between 0 and a bound that doubles
            (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        circuit: what counts failures over all calls to this database; without one it opens after as many as a few
            calls at once need to use up their retries, and no fewer than 30.
        calls: how many are made at once.
        sleep: waits a number of seconds where a call is not given another way to; what it raises ends the repetition.
    """

    def __init__(
        self,
        *,
        max_retries: int = 5,
        first_seconds: float = 0.5,
        longest_seconds: float = 60.0,
        circuit: Circuit | None = None,
        calls: Concurrency | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.circuit = circuit or Circuit(after=_CIRCUIT_CALLS * max(max_retries, 5))
        self.calls = calls or Concurrency(_CALLS)
        self._max_retries = max_retries
        self._sleep = sleep
        self._jitter = wait_random_exponential(multiplier=first_seconds, max=longest_seconds)

    def call(self, function: Callable[[], T], *, sleep: Sleep | None = None, failed: Failed | None = None) -> T:
        """Call `function` until it returns.

        Args:
            function: is called anew for each attempt.
            sleep: used in place of the one that this object was made with.
            failed: is told of each failure, of single requests of the call too.

        Raises:
            DatabaseError: one that is not transient, the last transient one, or `Unavailable` from an open circuit.
        """
        sleep = sleep or self._sleep
        return self._repeat(partial(self._attempt, function, sleep, failed), sleep)

    def _attempt(self, function: Callable[[], T], sleep: Sleep, failed: Failed | None) -> T:
        with self.calls.slot(sleep=sleep), patient(partial(self._request, sleep, failed)):
            return self._counted(function, failed)

    def _request(self, sleep: Sleep, failed: Failed | None, request: Callable[[], T]) -> T:
        """Make a request of a call that is under way, in the call's own slot."""
        sleep(0)  # it may be one of very many
        try:
            return self._repeat(partial(self._counted, request, failed), sleep)
        except DatabaseError as error:
            error.repeated = True
            raise

    def _repeat(self, attempt: Callable[[], T], sleep: Sleep) -> T:
        def checked() -> T:
            self.circuit.check()
            return attempt()

        retrying = Retrying(
            retry=retry_if_exception(_may_succeed),
            stop=stop_after_attempt(self._max_retries + 1),
            wait=self._wait,
            sleep=sleep,
            reraise=True,
        )
        result: T = retrying(checked)
        return result

    def _counted(self, function: Callable[[], T], failed: Failed | None) -> T:
        """Call `function` and tell the circuit how it ended."""
        try:
            result = function()
        except DatabaseError as error:
            if failed is not None:
                failed(error)
            if _may_succeed(error):
                self.circuit.failed()
            raise
        self.circuit.succeeded()
        return result

    def _wait(self, state: RetryCallState) -> float:
        if self.circuit.is_open:
            return 0.0  # the next attempt is refused without a call
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, Throttled) else None
        return max(self._jitter(state), asked or 0.0)


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """Everything that slows a transfer down; may be used for the splits that one process moves one after the other.

    Args:
        source, target: the retry policy of each side, with its own circuit and its own bound of calls at once.
        batch: records per write.
        rate: records per second read from the source.
        interrupt: what ends the waits of everybody but a transfer, which has one of its own.
    """

    source: Retry = field(default_factory=Retry)
    target: Retry = field(default_factory=Retry)
    batch: BatchSize = field(default_factory=lambda: BatchSize(1000))
    rate: RateLimiter = field(default_factory=RateLimiter)
    interrupt: Interrupt = field(default_factory=Interrupt)

    @classmethod
    def of(
        cls,
        *,
        max_retries: int = 5,
        batch_records: int | None = 1000,
        rate: float | None = None,
        shared: Path | None = None,
        stop: Stop = never,
    ) -> Throttle:
        """A throttle from the settings of a migration file.

        Args:
            max_retries: repetitions of a call.
            batch_records: most records per write; None leaves it to what the target takes.
            rate: records per second read from the source; None is unlimited.
            shared: a file by which several processes keep to the rate together; see `RateLimiter`.
            stop: ends every wait once it says True.
        """
        interrupt = Interrupt(stop)
        return cls(
            source=Retry(max_retries=max_retries, sleep=interrupt.sleep),
            target=Retry(max_retries=max_retries, sleep=interrupt.sleep),
            batch=BatchSize(_ANY_RECORDS if batch_records is None else batch_records),
            rate=RateLimiter(rate, shared=shared),
            interrupt=interrupt,
        )
