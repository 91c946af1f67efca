"""Contract of `transfer.rate`: a rate holds on average, over threads and processes, and survives what files survive."""

from __future__ import annotations

import multiprocessing
import os
import random
import struct
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.transfer import RateLimiter, Throttle

SPAWN = multiprocessing.get_context("spawn")


class Clock:
    """Time that passes only while something sleeps."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Waits(Exception):
    """Raised in place of a wait."""


def granted(limiter: RateLimiter, records: int) -> bool:
    """Whether the limiter lets `records` through at once."""

    def wait(seconds: float) -> None:
        raise Waits(seconds)

    try:
        limiter.acquire(records, sleep=wait)
    except Waits:
        return False
    return True


########
# In one process, with a clock of ours
########


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 500), st.floats(0, 3)), min_size=1, max_size=40),
    rate=st.floats(1, 10_000),
)
def test_all_who_share_a_bucket_keep_to_the_rate_together(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, float]], rate: float
) -> None:
    clock = Clock(now=1000.0)
    shared = tmp_path_factory.mktemp("rate") / "rate"
    limiters = [RateLimiter(rate, clock=clock, shared=shared) for _ in range(4)]
    passed = 0
    for who, records, pause in steps:
        if granted(limiters[who], records):
            # All before this one kept to the rate; this one may put the bucket into debt.
            assert passed <= rate * (clock.now - 1000.0) + 1e-6 * rate
            passed += records
        else:
            assert passed + 1e-6 * rate > rate * min(1.0, clock.now - 1000.0), "nobody waits without need"
        clock.now += pause


@given(amounts=st.lists(st.integers(1, 500), min_size=1, max_size=30), rate=st.floats(1, 10_000))
@settings(deadline=None)
def test_a_shared_bucket_grants_what_one_in_memory_grants(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[int], rate: float
) -> None:
    times = []
    for shared in (None, tmp_path_factory.mktemp("rate") / "rate"):
        clock = Clock()
        limiter = RateLimiter(rate, clock=clock, shared=shared)
        seen = []
        for amount in amounts:
            limiter.acquire(amount, sleep=clock.sleep)
            seen.append(clock.now)
        times.append(seen)
    assert times[0] == times[1]


def test_who_waits_long_saves_no_more_than_a_second(tmp_path: Path) -> None:
    clock = Clock()
    limiters = [RateLimiter(10, clock=clock, shared=tmp_path / "rate") for _ in range(2)]
    assert granted(limiters[0], 10)
    clock.now += 3600
    at_once = 0
    while granted(limiters[at_once % 2], 1):
        at_once += 1
    assert at_once == 11  # ten of the last second, and the one that leaves a debt


def test_an_unlimited_rate_makes_no_file(tmp_path: Path) -> None:
    limiter = RateLimiter(None, shared=tmp_path / "rate")
    assert granted(limiter, 10**9)
    assert list(tmp_path.iterdir()) == []
    limiter.set_rate(5.0)
    assert granted(limiter, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["rate"]


def test_a_rate_that_is_lifted_and_set_again_holds_again(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(10, clock=clock, shared=tmp_path / "rate")
    assert granted(limiter, 100)
    assert not granted(limiter, 1)
    limiter.set_rate(None)
    assert granted(limiter, 1000)
    limiter.set_rate(10)
    assert not granted(limiter, 1)
    clock.now += 10
    assert granted(limiter, 1)


def test_what_was_earned_at_the_old_rate_stays_earned(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(100, clock=clock, shared=tmp_path / "rate")
    assert granted(limiter, 100)
    clock.now += 0.9  # 90 of the 100 are paid back
    limiter.set_rate(20)
    assert not granted(limiter, 1)
    clock.now += 0.4
    assert not granted(limiter, 1)
    clock.now += 0.2
    assert granted(limiter, 1)


@pytest.mark.parametrize("file", ["rate", None])
def test_a_page_taken_at_a_high_rate_is_not_paid_back_at_a_low_one(tmp_path: Path, file: str | None) -> None:
    clock = Clock()
    limiter = RateLimiter(20_000, clock=clock, shared=file and tmp_path / file)
    assert granted(limiter, 16_384)
    limiter.set_rate(1)
    clock.now += 0.9
    assert not granted(limiter, 1)
    clock.now += 0.2
    assert granted(limiter, 1000)
    limiter.set_rate(100)  # what was taken at the low rate is still owed
    clock.now += 9
    assert not granted(limiter, 1)
    clock.now += 1.1
    assert granted(limiter, 1)


########
# What a file goes through
########


def state(tokens: float, at: float) -> bytes:
    """A state as it is on disk."""
    packed = struct.pack("<dd", tokens, at)
    return packed + struct.pack("<I", zlib.crc32(packed))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        state(-1e9, 100.0)[:7],
        state(-1e9, 100.0)[:16],
        state(-1e9, 100.0)[:10] + state(0.0, 3.0)[10:],
        os.urandom(20),
        b"\x00" * 20,
    ],
    ids=["empty", "short", "without sum", "torn", "random", "zeros"],
)
def test_a_damaged_file_is_an_empty_bucket(tmp_path: Path, content: bytes) -> None:
    shared = tmp_path / "rate"
    shared.write_bytes(content)
    clock = Clock(now=500.0)
    limiter = RateLimiter(10, clock=clock, shared=shared)
    assert granted(limiter, 20)
    assert not granted(limiter, 1)
    clock.now += 2.1
    assert granted(limiter, 1)


def test_a_file_of_the_boot_before_is_an_empty_bucket(tmp_path: Path) -> None:
    shared = tmp_path / "rate"
    shared.write_bytes(state(-1e6, 90_000.0))
    clock = Clock(now=30.0)
    limiter = RateLimiter(10, clock=clock, shared=shared)
    assert granted(limiter, 20)
    assert not granted(limiter, 1)


def test_a_file_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    shared = tmp_path / "rate"
    limiter = RateLimiter(10, shared=shared)
    assert granted(limiter, 1)
    shared.unlink()
    assert granted(limiter, 1)
    assert shared.exists()


def test_a_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    limiter = RateLimiter(10, shared=tmp_path / "nobody" / "rate")
    with pytest.raises(StorageFailed, match=r"the rate limit's file '.*rate' cannot be used"):
        limiter.acquire(1)


def test_threads_share_a_bucket_without_losing_a_token(tmp_path: Path) -> None:
    clock = Clock()
    limiters = [RateLimiter(1e6, clock=clock, shared=tmp_path / "rate") for _ in range(4)]
    assert granted(limiters[0], 1)  # makes the file, at time 0
    clock.now = 1.0  # the bucket holds a million less one, and time stands still

    def take(limiter: RateLimiter) -> None:
        for _ in range(200):
            limiter.acquire(10)

    threads = [threading.Thread(target=take, args=(limiter,)) for limiter in limiters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens, _ = struct.unpack("<dd", (tmp_path / "rate").read_bytes()[:16])
    assert tokens == 1e6 - 1 - 4 * 200 * 10


########
# Several processes, with the machine's clock
########


def consume(shared: Path, rate: float, records: int, times: int, results: multiprocessing.Queue[list[float]]) -> None:
    """Take tokens; tell when each were granted."""
    limiter = RateLimiter(rate, shared=shared)
    seen = []
    for _ in range(times):
        limiter.acquire(records)
        seen.append(time.monotonic())
    results.put(seen)


def test_spawned_processes_keep_to_one_rate_together(tmp_path: Path) -> None:
    rate, records, times = 400.0, 10, 40
    results: multiprocessing.Queue[list[float]] = SPAWN.Queue()
    processes = [
        SPAWN.Process(target=consume, args=(tmp_path / "rate", rate, records, times, results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    grants = sorted(moment for _ in processes for moment in results.get(timeout=60))
    for process in processes:
        process.join()
    assert len(grants) == 3 * times
    # From the first grant on, when the bucket was empty: the second process could do nothing of its own before, and
    # a process notes the moment after it was granted. 1,200 records need 3 seconds; alone, each would need one.
    slack = 2 * len(processes) * records
    for number, moment in enumerate(grants):
        assert number * records <= rate * (moment - grants[0]) + slack


def hold_for_ever(shared: Path, ready: multiprocessing.Queue[bool]) -> None:
    """Look into the bucket and never close it."""
    limiter = RateLimiter(10, shared=shared)
    with limiter._bucket.opened() as tokens:
        tokens.held -= 10
        ready.put(True)
        threading.Event().wait()


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    shared = tmp_path / "rate"
    ready: multiprocessing.Queue[bool] = SPAWN.Queue()
    process = SPAWN.Process(target=hold_for_ever, args=(shared, ready))
    process.start()
    assert ready.get(timeout=60)
    process.kill()
    process.join()
    assert granted(RateLimiter(10, shared=shared), 1)


def die(shared: Path) -> None:
    """Take tokens until killed."""
    limiter = RateLimiter(1e9, shared=shared)
    while True:
        limiter.acquire(random.randrange(1, 10))


def test_processes_killed_at_any_moment_leave_a_file_that_can_be_read(tmp_path: Path) -> None:
    shared = tmp_path / "rate"
    limiter = RateLimiter(1e9, shared=shared)
    for _ in range(3):
        process = SPAWN.Process(target=die, args=(shared,))
        process.start()
        while not shared.exists() or not shared.read_bytes():
            assert process.is_alive()
        process.kill()
        process.join()
        assert granted(limiter, 1)
        content = shared.read_bytes()
        assert struct.unpack("<I", content[16:]) == (zlib.crc32(content[:16]),)
        shared.unlink()


def test_a_throttle_passes_the_file_on(tmp_path: Path) -> None:
    throttles = [Throttle.of(rate=1.0, shared=tmp_path / "rate") for _ in range(2)]
    assert granted(throttles[0].rate, 1000)
    assert not granted(throttles[1].rate, 1)
    assert granted(Throttle.of(rate=1.0).rate, 1)
