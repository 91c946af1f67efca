"""Contract of the tuner: on whatever server, writes soon achieve within a few percent of what they can."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.errors import Throttled
from vectormigrate_dagster.transfer import BatchSize, Concurrency
from vectormigrate_dagster.transfer.tuning import BATCH_BYTES, START_BYTES, Found, HillClimb, Tuner

KIB = 2**10
MOST = 5000


@dataclass
class Server:
    """One whose calls cost a + b * n seconds of one of its workers, by a clock that only its calls move.

    Args:
        a, b: seconds of a call, and of each of its records.
        workers: calls that it works on at once; the others wait.
        refuses: calls in flight from which on it refuses another one; None never.
    """

    a: float
    b: float
    workers: int
    refuses: int | None = None
    now: float = 0.0

    def rate(self, records: int, calls: int) -> float:
        """Records per second with batches of `records` and `calls` in flight."""
        return records * min(calls, self.workers) / (self.a + self.b * records)


@dataclass
class Writing:
    """A transfer's writes to a simulated server, as fast as the tuner has them, in one thread.

    Args:
        largest: records that a write may hold.
        starts: seconds between two calls that the rest of the transfer allows.
    """

    server: Server
    largest: int = MOST
    most_calls: int = 8
    record_bytes: int = 1600
    starts: float = 0.0
    found: Found = field(default_factory=Found)
    refused: int = 0
    written: int = 0
    used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch, self.calls = BatchSize(100_000), Concurrency(16)
        self.tuner = Tuner(
            self.batch,
            self.calls,
            most_records=self.largest,
            most_calls=self.most_calls,
            behind=4,
            found=self.found,
            window_seconds=0.02,
            clock=lambda: self.server.now,
        )
        self.tuner.weigh(self.record_bytes)
        self._ends: list[tuple[float, int, float, int, AbstractContextManager[None]]] = []
        self._free: list[float] = []
        self._next = 0.0

    def work(self, calls: int) -> None:
        """Make so many calls more."""
        end = len(self.used) + calls
        while len(self.used) < end:
            while len(self._ends) < self.calls.limit and self._next <= self.server.now:
                self._begin()
            if self._ends and (self._ends[0][0] <= self._next or len(self._ends) >= self.calls.limit):
                self._finish()
            else:
                self.server.now = self._next

    def _begin(self) -> None:
        server, size = self.server, self.batch.records
        slot = self.calls.slot()
        slot.__enter__()
        self._next = server.now + self.starts
        if server.refuses is not None and len(self._ends) >= server.refuses:
            self.refused += 1
            self.tuner.was_too_much()
            self.batch.shrink(size)
            error = Throttled("too many calls")
            slot.__exit__(Throttled, error, None)
            self._next = max(self._next, server.now + 0.5)
            return
        busy = sorted(self._free)[-server.workers :]
        begins = max(server.now, busy[0]) if len(busy) == server.workers else server.now
        ends = begins + server.a + server.b * size
        self._free = [*busy, ends]
        self.used.append(size)
        heapq.heappush(self._ends, (ends, len(self.used), server.now, size, slot))

    def _finish(self) -> None:
        ends, _, began, size, slot = heapq.heappop(self._ends)
        self.server.now = max(self.server.now, ends)
        slot.__exit__(None, None, None)
        self.written += size
        self.tuner.wrote(size, self.server.now - began)
        self.batch.grow()

    @property
    def largest_batch(self) -> int:
        return max(1, min(self.largest, BATCH_BYTES // self.record_bytes))

    def assert_good(self) -> None:
        """Fail unless the present settings give about what the server can, with not many more calls than it needs."""
        server, size, calls = self.server, self.found.records or 0, self.found.calls or 0
        workers = min(server.workers, server.refuses or server.workers)
        assert workers <= calls <= workers + 2
        best, waits = server.rate(self.largest_batch, workers), calls / workers
        longer = 1.5 * (server.a + server.b * size) * waits
        assert server.rate(size, workers) >= 0.92 * best or longer > 1  # a call that takes longer is not made larger


servers = st.builds(
    Server,
    a=st.floats(0.001, 0.3),
    b=st.floats(5e-6, 3e-4),
    workers=st.integers(1, 8),
)


########
# One setting
########


@given(st.floats(0, 10), st.floats(1e-3, 1), st.integers(1, 5000), st.integers(1, 5000))
def test_a_climb_ends_within_a_few_percent_of_the_best(a: float, b: float, start: int, largest: int) -> None:
    def rate(n: int) -> float:
        return n / (a + b * n)

    climb = HillClimb(start, largest=largest, ratio=1.5, gain=0.02)
    for _ in range(200):
        assert 1 <= climb.value <= largest
        if climb.learn(rate(climb.value)):
            break
    else:
        pytest.fail("no end")
    assert climb.value == climb.found
    assert rate(climb.found) >= 0.9 * rate(largest)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_a_climb_by_ones_finds_where_more_does_not_pay(start: int, largest: int, useful: int) -> None:
    climb = HillClimb(start, largest=largest, gain=0.05)
    while not climb.learn(min(climb.value, useful)):
        pass
    assert climb.found == min(useful, largest)


def test_a_larger_value_that_pays_nothing_is_not_kept() -> None:
    climb = HillClimb(4, largest=8, gain=0.05)
    values = []
    for _ in range(5):
        values.append(climb.value)
        climb.learn(100.0 if climb.value >= 4 else 25.0 * climb.value)
    assert values == [4, 5, 4, 3, 4]
    assert climb.found == 4


def test_a_server_that_slows_down_meanwhile_is_not_a_worse_neighbour() -> None:
    climb = HillClimb(4, largest=8, gain=0.05)
    for number in range(20):
        if climb.learn(climb.value * 0.95**number):
            break
    assert climb.found == 8


def test_what_was_too_much_is_left() -> None:
    climb = HillClimb(4, largest=8, gain=0.05)
    climb.learn(100)
    assert (climb.value, climb.tries_more) == (5, True)
    climb.step_down()
    assert (climb.value, climb.tries_more) == (4, False)
    climb.step_down()
    assert climb.value == 3
    climb.set_largest(2)
    assert climb.value == 2


########
# A transfer's writes
########


@settings(max_examples=40, deadline=None)
@given(servers)
def test_writes_reach_what_the_server_can(server: Server) -> None:
    writing = Writing(server)
    writing.work(800)
    writing.assert_good()


@settings(max_examples=20, deadline=None)
@given(servers.filter(lambda server: server.workers >= 2))
def test_writes_follow_a_server_that_can_do_half_from_now_on(server: Server) -> None:
    writing = Writing(server)
    writing.work(800)
    for factor in (0.5, 2.0):
        server.workers = int(server.workers * factor)
        writing.work(2500)
        writing.assert_good()


@settings(max_examples=20, deadline=None)
@given(servers, st.integers(1, 6))
@example(Server(a=0.25, b=2.5e-4, workers=1), 4)  # what it begins with is just not refused, and more than is of use
def test_h28_writes_stay_below_what_is_refused(server: Server, refuses: int) -> None:
    server.refuses = refuses
    writing = Writing(server)
    writing.work(1000)
    writing.refused = 0
    writing.work(3000)
    assert writing.refused <= 30  # a look at whether more is allowed by now, and such looks get seldom
    writing.assert_good()


@given(servers, st.integers(1, 3000), st.integers(64, 64 * KIB))
@settings(max_examples=30, deadline=None)
def test_batches_keep_to_the_file_and_to_their_bytes(server: Server, largest: int, record_bytes: int) -> None:
    writing = Writing(server, largest=largest, record_bytes=record_bytes)
    assert writing.batch.records == max(1, min(largest, START_BYTES // record_bytes))
    writing.work(300)
    assert max(writing.used) <= max(1, min(largest, BATCH_BYTES // record_bytes))
    writing.tuner.weigh(10 * record_bytes)
    assert writing.batch.records <= max(1, min(largest, BATCH_BYTES // (10 * record_bytes)))


def test_a_target_that_waits_for_us_teaches_nothing() -> None:
    writing = Writing(Server(a=0.01, b=1e-5, workers=8), starts=0.02)
    before = (writing.batch.records, writing.calls.limit)
    writing.work(300)
    assert (writing.batch.records, writing.calls.limit) == before


def test_a_call_that_takes_long_is_not_made_longer() -> None:
    writing = Writing(Server(a=2.0, b=1e-5, workers=2), record_bytes=2000)
    start = writing.batch.records
    writing.work(300)
    assert writing.batch.records <= start


def test_the_next_transfer_begins_with_what_was_found() -> None:
    found = Found()
    writing = Writing(Server(a=0.02, b=1e-5, workers=7), found=found)
    writing.work(800)
    assert found.calls == 7
    again = Writing(Server(a=0.02, b=1e-5, workers=7), found=found)
    assert (again.batch.records, again.calls.limit) == (found.records, found.calls)
    assert Writing(writing.server, largest=100, most_calls=2, found=found).batch.records == 100


def test_a_throttle_that_is_used_again_is_bound_by_what_it_was_made_with() -> None:
    batch, calls = BatchSize(3000), Concurrency(8)
    Tuner(batch, calls, most_records=200, most_calls=1)
    assert (batch.records, calls.limit) == (200, 1)
    Tuner(batch, calls, most_records=5000, most_calls=16, found=Found(records=4000, calls=12))
    assert (batch.records, calls.limit) == (3000, 8)


def test_nothing_is_learned_while_less_is_sent() -> None:
    writing = Writing(Server(a=0.01, b=1e-4, workers=4))
    writing.work(200)
    found = (writing.batch.largest, writing.calls.largest)
    writing.tuner.was_too_much()
    writing.batch.shrink()
    assert writing.batch.records < writing.batch.largest < found[0]
    lower: Callable[[], tuple[int, int]] = lambda: (writing.batch.largest, writing.calls.largest)  # noqa: E731
    now = lower()
    writing.tuner.was_too_much()  # of the same overload
    assert lower() == now
