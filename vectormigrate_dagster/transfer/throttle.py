"""How fast we go and what we do when a database cannot keep up: the one retry policy of this project.

`Retry` repeats calls that failed for a while, `Circuit` stops repeating when nothing works any more,
`BatchSize` halves batches when the database asks us to slow down, `RateLimiter` holds a rate that can be
changed while work runs. `Throttle` is one of each for a source and a target.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from vectormigrate_dagster.errors import DatabaseError, Stopped, Throttled, Unavailable

T = TypeVar("T")
Sleep = Callable[[float], None]

_SLICE_SECONDS = 0.5
_LEAST_SECONDS = 0.001  # a shorter wait may not move a clock at all


class Interrupt:
    """What ends every wait of a transfer at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End all waits, now and from now on."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether waits end at once."""
        return self._event.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopped: the wait was ended.
        """
        if self._event.wait(seconds):
            raise Stopped("the transfer is ending; what was acknowledged is recorded")


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
    """Repeat a call while it fails for a while: full-jitter exponential backoff, never shorter than Retry-After.

    Only errors that say `transient` are repeated, up to `max_retries` times; then the last one is raised.

    Args:
        max_retries: repetitions after the first attempt.
        first_seconds, longest_seconds: upper bound of the first wait, and of every wait. Each wait is drawn
            evenly between 0 and a bound that doubles
            (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        circuit: what counts failures over all calls to this database.
    """

    def __init__(
        self,
        *,
        max_retries: int = 5,
        first_seconds: float = 0.5,
        longest_seconds: float = 60.0,
        circuit: Circuit | None = None,
    ) -> None:
        self.circuit = circuit or Circuit()
        self._max_retries = max_retries
        self._jitter = wait_random_exponential(multiplier=first_seconds, max=longest_seconds)

    def call(self, function: Callable[[], T], *, sleep: Sleep = time.sleep) -> T:
        """Call `function` until it returns.

        Args:
            function: is called anew for each attempt.
            sleep: waits a number of seconds; what it raises ends the repetition.

        Raises:
            DatabaseError: one that is not transient, the last transient one, or `Unavailable` from an open circuit.
        """
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, DatabaseError) and error.transient),
            stop=stop_after_attempt(self._max_retries + 1),
            wait=self._wait,
            sleep=sleep,
            reraise=True,
        )
        result: T = retrying(self._attempt, function)
        return result

    def _attempt(self, function: Callable[[], T]) -> T:
        self.circuit.check()
        try:
            result = function()
        except DatabaseError as error:
            if error.transient:
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


class BatchSize:
    """How many records one write holds: halved when the database asks to slow down, grown slowly after.

    Args:
        largest: where it starts, and what it never exceeds.
        smallest: what it never falls below.
    """

    def __init__(self, largest: int, *, smallest: int = 1) -> None:
        self._largest = largest
        self._smallest = min(smallest, largest)
        self._size = largest
        self._lock = threading.Lock()

    @property
    def records(self) -> int:
        """Records of the next write."""
        return self._size

    def shrink(self) -> None:
        """Halve it."""
        with self._lock:
            self._size = max(self._smallest, self._size // 2)

    def grow(self) -> None:
        """Add a thirty-second of the largest size."""
        with self._lock:
            self._size = min(self._largest, self._size + max(1, self._largest // 32))


class RateLimiter:
    """A token bucket over records: holds a rate on average, and lets at most one second's worth through at once.

    Args:
        rate: records per second; None is unlimited.
        clock: seconds, ascending.
    """

    def __init__(self, rate: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rate: float | None = None
        self._tokens = 0.0
        self._updated = clock()
        self.set_rate(rate)

    @property
    def rate(self) -> float | None:
        """Records per second; None is unlimited."""
        return self._rate

    def set_rate(self, rate: float | None) -> None:
        """Change the rate; who waits now notices within half a second.

        Raises:
            ValueError: the rate is not above zero.
        """
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate limit is above zero; {rate} was given")
        with self._lock:
            self._refill()
            self._rate = rate

    def acquire(self, records: int, *, sleep: Sleep = time.sleep) -> None:
        """Wait until the bucket is not in debt, then take `records`, which may put it into debt."""
        while True:
            with self._lock:
                self._refill()
                if self._rate is None:
                    return
                if self._tokens >= 0:
                    self._tokens -= records
                    return
                seconds = -self._tokens / self._rate
            sleep(min(max(seconds, _LEAST_SECONDS), _SLICE_SECONDS))

    def _refill(self) -> None:
        now = self._clock()
        if self._rate is None:
            self._tokens = 0.0
        else:
            self._tokens = min(self._rate, self._tokens + (now - self._updated) * self._rate)
        self._updated = now


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """Everything that slows a transfer down; may be shared by the splits that one process moves.

    Args:
        source, target: the retry policy of each side, with its own circuit.
        batch: records per write.
        rate: records per second read from the source.
    """

    source: Retry = field(default_factory=Retry)
    target: Retry = field(default_factory=Retry)
    batch: BatchSize = field(default_factory=lambda: BatchSize(1000))
    rate: RateLimiter = field(default_factory=RateLimiter)

    @classmethod
    def of(cls, *, max_retries: int = 5, batch_records: int = 1000, rate: float | None = None) -> Throttle:
        """A throttle from the settings of a migration file."""
        return cls(
            source=Retry(max_retries=max_retries),
            target=Retry(max_retries=max_retries),
            batch=BatchSize(batch_records),
            rate=RateLimiter(rate),
        )
