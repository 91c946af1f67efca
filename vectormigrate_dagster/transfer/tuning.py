"""Find by measurement, while work runs, how much to write at once: records of a call, and calls in flight.

What pays depends on the server, the network, the size of records and what else both do, so no number in a file is
right. `HillClimb` finds one setting; `Tuner` has two of them take turns, on what the writes of a transfer turn out to
achieve. `limits.BatchSize` and `limits.Concurrency` go on halving what is too much for a database: the tuner says
what they grow back to.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from vectormigrate_dagster.transfer.limits import BatchSize, Concurrency
from vectormigrate_dagster.transfer.rate import Clock

START_BYTES = 3 * 2**20
BATCH_BYTES = 4 * 2**20
"""Bytes of a batch of records at first, and at most: what is in flight has to fit into the memory of a worker."""

_FIRST_RECORDS = 1000
"""Records of a batch before the size of one is known."""

_FIRST_CALLS = 4
_BATCH_RATIO = 1.5
_BATCH_GAIN = 0.02
_CALLS_GAIN = 0.05
"""By how much more has to be done for half as many records more in a batch, and for one call more in flight."""

_WINDOW_SECONDS = 0.5
_WINDOW_CALLS = 2
"""Least length of a measurement: seconds, and calls for each that is in flight."""

_LEAST_SECONDS = 1e-6  # no write is quicker than a clock can tell
_BUSY = 0.6
"""Part of a setting that has to be in use: what is hardly used cannot be what limits the transfer."""

_LONG_SECONDS = 1.0
"""Seconds of a call from which on it is not made larger: a stop, a checkpoint and a retry wait for it."""

_QUIET = (8, 64)
"""Windows between two looks at settings that were found: at first, and after many looks that changed nothing."""


class HillClimb:
    """A whole number that is moved up or down to where the most is done in a second.

    A neighbour is tried between two measurements of the present value, so that a server that slows down is not taken
    for a worse neighbour. A larger value is kept only if it pays, a smaller one as long as it costs nothing.

    Args:
        start: where it begins.
        smallest, largest: what it never leaves.
        ratio: of a neighbour to the present value; neighbours differ by at least one.
        gain: by how much more has to be done with the larger of two values for it to be the better one.
    """

    def __init__(self, start: int, *, smallest: int = 1, largest: int, ratio: float = 1.0, gain: float) -> None:
        self._smallest = smallest
        self._largest = max(smallest, largest)
        self._ratio = ratio
        self._gain = gain
        self._found = self._within(start)
        self._tried: int | None = None
        self._rates: list[float] = []
        self._up = True
        self._ruled_out = 0

    @property
    def value(self) -> int:
        """What to use now."""
        return self._found if self._tried is None or len(self._rates) != 1 else self._tried

    @property
    def found(self) -> int:
        """The best value so far."""
        return self._found

    @property
    def tries_more(self) -> bool:
        """Whether `value` is a larger one than the best so far."""
        return self.value > self._found

    def learn(self, rate: float) -> bool:
        """Take into account what was done in a second with `value`; return whether no neighbour is better."""
        self._rates.append(rate)
        if self._tried is None:
            return self._try_next()
        if len(self._rates) < 3:
            return False
        before, tried, after = self._rates
        if self._is_better(tried, (before + after) / 2):
            self._found, self._rates = self._tried, [tried]
            self._ruled_out = 1  # behind it is where it comes from
        else:
            self._rates = [after]
            self._turn()
        return self._try_next()

    def step_down(self) -> bool:
        """Give up what is tried, or else take the next smaller value, as this one was too much.

        Returns:
            Whether there is no neighbour left to try: one that was too much says nothing of a smaller one.
        """
        if self.tries_more:
            self._tried, self._rates = None, []
            self._turn()
            if self._ruled_out < 2:
                return False
        else:
            self._found = self._neighbour(up=False)
        self.forget()
        return True

    def forget(self) -> None:
        """Begin to measure anew."""
        self._tried, self._rates, self._up, self._ruled_out = None, [], True, 0

    def set_largest(self, largest: int) -> None:
        """Change what the value never exceeds."""
        self._largest = max(self._smallest, largest)
        if max(self._found, self._tried or 0) > self._largest:
            self._found = self._within(self._found)
            self.forget()

    def _try_next(self) -> bool:
        """Choose the next neighbour; return whether there is none to try."""
        while self._ruled_out < 2:
            self._tried = self._neighbour(up=self._up)
            if self._tried != self._found:
                return False
            self._turn()
        self.forget()
        return True

    def _turn(self) -> None:
        self._up = not self._up
        self._ruled_out += 1

    def _is_better(self, tried: float, found: float) -> bool:
        return tried > found * (1 + self._gain) if self._up else tried * (1 + self._gain) >= found

    def _neighbour(self, *, up: bool) -> int:
        value = self._found
        return self._within(
            max(value + 1, round(value * self._ratio)) if up else min(value - 1, round(value / self._ratio))
        )

    def _within(self, value: int) -> int:
        return max(self._smallest, min(self._largest, value))


@dataclass
class Found:
    """What was found best, for the next transfer between the same collections to begin with; None as long as unknown.

    Args:
        records: of a batch.
        calls: in flight.
    """

    records: int | None = None
    calls: int | None = None


class Tuner:
    """Sets how many records a write holds and how many are in flight, by what the writes achieve; thread-safe.

    The two take turns: calls in flight, records of a batch, then a pause, and again, for a server may change. Nothing
    is learned while a database is too slow for what it is sent, and while it waits for us: then writing is not what
    the transfer waits for.

    Args:
        batch, calls: what is set. Neither ever exceeds what it was made with.
        most_records: of a batch.
        most_calls: in flight.
        behind: batches that may have been cut and not been written when a setting changes.
        found: where to begin, and where to leave what was found.
        window_seconds: least length of a measurement.
        clock: seconds, ascending.
    """

    def __init__(
        self,
        batch: BatchSize,
        calls: Concurrency,
        *,
        most_records: int,
        most_calls: int,
        behind: int = 0,
        found: Found | None = None,
        window_seconds: float = _WINDOW_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._batch = batch
        self._calls = calls
        self._most_records = min(most_records, batch.most)
        self._behind = behind
        self._left = found or Found()
        self._window_seconds = window_seconds
        self._clock = clock
        self._records = HillClimb(
            self._left.records or _FIRST_RECORDS, largest=self._most_records, ratio=_BATCH_RATIO, gain=_BATCH_GAIN
        )
        self._in_flight = HillClimb(
            self._left.calls or _FIRST_CALLS, largest=min(most_calls, calls.most), gain=_CALLS_GAIN
        )
        self._in_turn = self._in_flight
        self._weighed: int | None = None
        self._quiet = _QUIET[0]
        self._pause = 0
        self._lock = threading.Lock()
        self._changed = self._began = clock()
        self._settling = True
        self._overloaded = False
        self._old_batches = 0
        self._done = _Sum()
        self._apply()

    def weigh(self, record_bytes: int) -> None:
        """Take into account how large records are, on average; small changes do not count."""
        with self._lock:
            if self._weighed is not None and 0.8 < record_bytes / self._weighed < 1.25:
                return
            largest = min(self._most_records, max(1, BATCH_BYTES // record_bytes))
            if self._weighed is None:
                start = self._left.records or max(1, START_BYTES // record_bytes)
                self._records = HillClimb(start, largest=largest, ratio=_BATCH_RATIO, gain=_BATCH_GAIN)
            else:
                self._records.set_largest(largest)
            self._weighed = record_bytes
            self._apply()

    def wrote(self, records: int, seconds: float) -> None:
        """Note a write that the target acknowledged.

        Args:
            records: of the call.
            seconds: that the call took.
        """
        with self._lock:
            now = self._clock()
            self._overloaded = self._overloaded and now - seconds < self._changed
            if self._is_held_back():
                self._changed, self._settling = max(self._changed, now - seconds), True
            if not self._is_of_now(records, now - seconds, now):
                self._began, self._done = now, _Sum()
                return
            self._done.add(records, seconds)
            elapsed = now - self._began
            if elapsed >= self._window_seconds and self._done.calls > self._in_flight.value * _WINDOW_CALLS:
                self._look(elapsed)
                self._began, self._done = now, _Sum()

    def was_too_much(self) -> None:
        """Note a write that the target could not cope with; of several at once the first one counts."""
        with self._lock:
            if self._overloaded:
                return
            self._overloaded = True
            if self._in_turn.tries_more:
                if self._in_turn.step_down():
                    self._end_turn()
            else:
                self._records.step_down()
                self._in_flight.step_down()
                self._pause = self._quiet = _QUIET[0]
            self._apply()
            self._changed, self._settling = self._clock(), True

    def _is_held_back(self) -> bool:
        """Whether less is sent than the tuner would have it, because the target cannot keep up."""
        return self._batch.records < self._batch.largest or self._calls.limit < self._calls.largest

    def _is_of_now(self, records: int, began: float, now: float) -> bool:
        """Whether a write was made with the present settings, beside others that were."""
        if records == self._records.value:
            self._old_batches = 0
        elif self._old_batches > 0:
            self._old_batches -= 1
            return False
        if began < self._changed:
            return False
        if self._settling:
            self._changed, self._settling = now, False
            return False
        return True

    def _look(self, elapsed: float) -> None:
        """Learn from a window."""
        if self._pause > 0:
            self._pause -= 1
        elif self._done.seconds < _BUSY * self._in_flight.value * elapsed:
            self._in_turn.forget()  # the target waits for us
        else:
            self._learn()
        self._apply()

    def _learn(self) -> None:
        climb, found = self._in_turn, self._in_turn.found
        if climb is self._records and not self._may_be_judged():
            climb.forget()
            done = True
        else:
            # Not by the window's length: calls that end together would count for more than the time between them.
            done = climb.learn(self._done.records * self._in_flight.value / max(self._done.seconds, _LEAST_SECONDS))
        if climb.found != found:
            self._quiet = _QUIET[0]  # something has changed, and may go on changing
        if done:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._in_turn is self._in_flight:
            self._in_turn = self._records
        else:
            self._in_turn, self._pause = self._in_flight, self._quiet
            self._quiet = min(_QUIET[1], 2 * self._quiet)

    def _may_be_judged(self) -> bool:
        """Whether batches were as large as they were to be, and those that are to become larger do not take too long.

        Pages of the source, and scopes of the target, may make them smaller.
        """
        as_large = self._done.records >= _BUSY * self._records.value * self._done.calls
        too_long = self._records.tries_more and self._done.seconds > _LONG_SECONDS * self._done.calls
        return as_large and not too_long

    def _apply(self) -> None:
        before = (self._batch.largest, self._calls.largest)
        self._batch.set_largest(self._records.value)
        self._calls.set_largest(self._in_flight.value)
        if before != (self._batch.largest, self._calls.largest):
            self._changed, self._settling = self._clock(), True
            self._old_batches = self._behind if before[0] != self._batch.largest else self._old_batches
        self._left.calls = self._in_flight.found
        if self._weighed is not None:
            self._left.records = self._records.found


class _Sum:
    """Writes of a window: how many, and the sums of their records and seconds."""

    def __init__(self) -> None:
        self.calls = 0
        self.records = 0
        self.seconds = 0.0

    def add(self, records: int, seconds: float) -> None:
        self.calls += 1
        self.records += records
        self.seconds += seconds
