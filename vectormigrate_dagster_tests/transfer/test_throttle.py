"""Contract of `transfer.throttle`: what is repeated, how long we wait, how rates hold, when we give up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.patience import repeated
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    BrokenScan,
    InvalidRecord,
    NotFound,
    Stopped,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import Batch, IdKind, Split
from vectormigrate_dagster.transfer import (
    BatchSize,
    Circuit,
    Concurrency,
    Interrupt,
    RateLimiter,
    Retry,
    Throttle,
    read_split,
)
from vectormigrate_dagster.transfer.patient import PatientSource
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase


class Clock:
    """Time that passes only while something sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    """A function that fails so often and then returns, and a list that grows with each call."""
    calls: list[int] = []

    def function() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return "done"

    return function, calls


@pytest.mark.parametrize("error", [Throttled("slow"), Unavailable("gone")])
def test_h28_a_transient_error_is_repeated(error: Exception) -> None:
    clock = Clock()
    function, calls = failing(5, error)
    assert Retry(max_retries=5).call(function, sleep=clock.sleep) == "done"
    assert len(calls) == 6
    assert len(clock.slept) == 5


def test_h28_after_the_last_retry_the_error_is_raised() -> None:
    function, calls = failing(100, Unavailable("gone"))
    with pytest.raises(Unavailable, match="gone"):
        Retry(max_retries=3).call(function, sleep=Clock().sleep)
    assert len(calls) == 4


def test_h28_each_request_of_a_long_call_is_repeated_alone() -> None:
    """Among 500 requests of which every third fails, no call would ever get through as a whole."""
    asked: list[int] = []

    def request(number: int) -> int:
        asked.append(number)
        if len(asked) % 3 == 0:
            raise Throttled("slow")
        return number

    def call() -> int:
        return sum(ahead(lambda number: repeated(lambda: request(number)), range(500)))

    retry = Retry(max_retries=8)
    assert retry.call(call, sleep=Clock().sleep) == sum(range(500))
    assert len(asked) == 749 or len(asked) == 750
    assert retry.calls.limit == 16  # the call itself has never failed


def test_h28_a_request_that_is_given_up_ends_its_call() -> None:
    function, requests = failing(100, Unavailable("gone"))
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        return repeated(function)

    with pytest.raises(Unavailable, match="gone"):
        Retry(max_retries=3).call(call, sleep=Clock().sleep)
    assert (len(calls), len(requests)) == (1, 4)


def test_requests_of_a_long_call_end_with_a_stop() -> None:
    stopping: list[bool] = []
    asked: list[int] = []

    def call() -> None:
        for number in range(100):
            repeated(partial(asked.append, number))
            if number == 9:
                stopping.append(True)

    throttle = Throttle.of(stop=lambda: bool(stopping))
    with pytest.raises(Stopped):
        throttle.source.call(call)
    assert len(asked) == 10


def test_without_a_policy_a_request_is_made_once() -> None:
    function, calls = failing(1, Unavailable("gone"))
    with pytest.raises(Unavailable):
        repeated(function)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error", [AuthenticationFailed("no"), NotFound("no"), InvalidRecord("no"), BrokenScan("no"), RuntimeError("bug")]
)
def test_other_errors_are_not_repeated(error: Exception) -> None:
    clock = Clock()
    function, calls = failing(1, error)
    with pytest.raises(type(error)):
        Retry().call(function, sleep=clock.sleep)
    assert (len(calls), clock.slept) == (1, [])


def test_waits_are_drawn_below_a_bound_that_doubles() -> None:
    waits: list[list[float]] = []
    for _ in range(30):
        clock = Clock()
        Retry(max_retries=8, first_seconds=1, longest_seconds=16).call(
            failing(8, Unavailable("x"))[0], sleep=clock.sleep
        )
        waits.append(clock.slept)
    for attempt, drawn in enumerate(zip(*waits, strict=True)):
        bound = min(16, 2**attempt)
        assert all(0 <= wait <= bound for wait in drawn)
        assert max(drawn) > bound / 2
        assert min(drawn) < bound / 2


def test_h28_retry_after_is_honoured() -> None:
    clock = Clock()
    Retry(first_seconds=0.01).call(failing(1, Throttled("slow", retry_after=30))[0], sleep=clock.sleep)
    assert clock.slept == [30]


def test_the_circuit_opens_after_failures_of_different_calls() -> None:
    circuit = Circuit(after=6)
    retry = Retry(max_retries=3, circuit=circuit)
    first, second = failing(100, Unavailable("gone")), failing(100, Unavailable("gone"))
    with pytest.raises(Unavailable, match="gone"):
        retry.call(first[0], sleep=Clock().sleep)
    with pytest.raises(Unavailable, match="6 calls in a row failed"):
        retry.call(second[0], sleep=Clock().sleep)
    third = failing(0, Unavailable("gone"))
    with pytest.raises(Unavailable, match="goes on after the last checkpoint"):
        retry.call(third[0], sleep=Clock().sleep)
    assert (len(first[1]), len(second[1]), len(third[1])) == (4, 2, 0)


def test_a_success_closes_the_count_of_the_circuit() -> None:
    retry = Retry(max_retries=2, circuit=Circuit(after=3))
    for _ in range(5):
        assert retry.call(failing(2, Unavailable("gone"))[0], sleep=Clock().sleep) == "done"


def test_the_batch_size_halves_and_grows_slowly() -> None:
    size = BatchSize(320, smallest=10)
    sizes = []
    for _ in range(6):
        size.shrink()
        sizes.append(size.records)
    assert sizes == [160, 80, 40, 20, 10, 10]
    for _ in range(31):
        size.grow()
    assert size.records == 320
    size.grow()
    assert size.records == 320


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=40),
    st.floats(1, 10_000),
)
def test_the_rate_holds_on_average(amounts: list[int], rate: float) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, clock=clock)
    passed = 0
    for amount in amounts:
        before = passed
        limiter.acquire(amount, sleep=clock.sleep)
        passed += amount
        # the last one may put the bucket into debt; everything before it kept to the rate
        assert before <= rate * clock.now + 1e-6 * rate + 1e-6
    assert clock.now <= sum(amounts) / rate + 0.001 * len(amounts) + 1e-6


def test_a_rate_can_be_changed_while_somebody_waits() -> None:
    clock = Clock()
    limiter = RateLimiter(1.0, clock=clock)
    limiter.acquire(1000, sleep=clock.sleep)

    def lift(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 3:
            limiter.set_rate(None)

    limiter.acquire(1, sleep=lift)
    assert limiter.rate is None
    assert len(clock.slept) == 3
    limiter.set_rate(5.0)
    assert limiter.rate == 5.0
    with pytest.raises(ValueError, match="above zero"):
        limiter.set_rate(0)


def test_an_unlimited_rate_never_waits() -> None:
    clock = Clock()
    for _ in range(3):
        RateLimiter(None, clock=clock).acquire(10**9, sleep=clock.sleep)
    assert clock.slept == []


def test_an_interrupt_ends_a_wait() -> None:
    interrupt = Interrupt()
    interrupt.set()
    with pytest.raises(Stopped):
        Retry().call(failing(1, Throttled("slow", retry_after=3600))[0], sleep=interrupt.sleep)


def test_a_throttle_from_settings() -> None:
    throttle = Throttle.of(max_retries=2, batch_records=7, rate=3.0)
    assert (throttle.batch.records, throttle.rate.rate) == (7, 3.0)
    assert throttle.source.circuit is not throttle.target.circuit


########
# Who asked to end
########


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_wish_to_end_ends_the_waits_of_a_throttle(side: str) -> None:
    asked = threading.Event()

    def fail() -> None:
        asked.set()
        raise Throttled("slow", retry_after=3600)

    throttle = Throttle.of(stop=asked.is_set)
    with pytest.raises(Stopped):
        getattr(throttle, side).call(fail)


def test_a_wish_to_end_ends_reading_and_waits_for_the_rate() -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(range(100)))
    seen: list[Batch] = []
    throttle = Throttle.of(rate=0.001, stop=lambda: len(seen) > 0)
    with pytest.raises(Stopped):
        seen.extend(read_split(Source(source), Split(kind=IdKind.U64), throttle=throttle, batch_records=10))
    assert len(seen) == 1
    with pytest.raises(Stopped):
        list(PatientSource(Source(source), throttle).scan(Split(kind=IdKind.U64)))


def test_h28_questions_that_are_asked_ahead_keep_to_the_calls_of_their_side() -> None:
    limited, lock, now, most = Retry(calls=Concurrency(2)), threading.Lock(), 0, 0

    def ask() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= 1

    list(ahead(lambda _: limited.call(ask), range(30)))
    assert most == 2


@pytest.mark.parametrize(("max_retries", "failures"), [(0, 30), (5, 30), (30, 180)])
def test_the_circuit_leaves_room_for_the_retries_that_were_asked_for(max_retries: int, failures: int) -> None:
    circuit = Retry(max_retries=max_retries).circuit
    for _ in range(failures - 1):
        circuit.failed()
    assert not circuit.is_open
    circuit.failed()
    assert circuit.is_open
