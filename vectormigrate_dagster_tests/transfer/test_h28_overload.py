"""Contract of a transfer whose databases cannot keep up: every call is repeated, less is asked for, nothing is lost.

429, 503 and timeouts arrive here as `Throttled` and `Unavailable` (each database's module translates its own).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.errors import InvalidRecord, Stopped, Throttled, Unavailable
from vectormigrate_dagster.model import Batch, Split
from vectormigrate_dagster.transfer import (
    BatchSize,
    Checkpoint,
    Concurrency,
    Interrupt,
    OwnershipLog,
    Retry,
    Settings,
    Throttle,
)
from vectormigrate_dagster_tests.memory import Fault
from vectormigrate_dagster_tests.transfer.conftest import Pair, impatient

TOO_MANY_REQUESTS = Throttled("429: too many requests", retry_after=0)
SERVICE_UNAVAILABLE = Unavailable("503: service unavailable")
TIMEOUT = Unavailable("the call took longer than its deadline")


########
# Concurrency
########


def fails(limit: Concurrency, error: Exception) -> None:
    with pytest.raises(type(error)), limit.slot():
        raise error


def test_a_slot_is_taken_and_given_back() -> None:
    limit, ended = Concurrency(2), Interrupt()
    ended.set()
    with limit.slot(), limit.slot(), pytest.raises(Stopped), limit.slot(sleep=ended.sleep):
        pytest.fail("a third slot of two")
    with limit.slot(), limit.slot():
        pass


def test_h28_calls_that_fail_together_halve_the_limit_once() -> None:
    limit = Concurrency(8)
    together, failed = threading.Barrier(8), []

    def call() -> None:
        try:
            with limit.slot():
                together.wait(60)
                raise Throttled("slow")
        except Throttled:
            failed.append(True)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(failed), limit.limit) == (8, 4)


def test_h28_the_limit_halves_what_is_in_flight_not_what_might_be() -> None:
    limit = Concurrency(64)
    with limit.slot(), limit.slot(), limit.slot():
        fails(limit, TIMEOUT)
        assert limit.limit == 2


@pytest.mark.parametrize("error", [TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE, TIMEOUT])
def test_h28_the_limit_never_falls_below_one_and_grows_back(error: Exception) -> None:
    limit = Concurrency(8)
    for _ in range(5):
        fails(limit, error)
    assert limit.limit == 1
    grown = []
    for _ in range(40):
        with limit.slot():
            pass
        grown.append(limit.limit)
    assert grown == sorted(grown)
    assert (grown[2], grown[3], grown[27], grown[-1]) == (1, 2, 8, 8)


def test_errors_that_say_nothing_about_load_leave_the_limit_alone() -> None:
    limit = Concurrency(8)
    for error in (InvalidRecord("no"), RuntimeError("bug")):
        fails(limit, error)
    assert limit.limit == 8


def test_h28_a_batch_size_is_halved_once_by_calls_that_fail_together() -> None:
    size = BatchSize(320, smallest=10)
    for _ in range(4):
        size.shrink(used=320)
    assert size.records == 160
    size.shrink(used=160)
    assert size.records == 80
    size.shrink(used=12)
    assert size.records == 10


########
# A transfer
########


def watch(moving: Iterator[Checkpoint], seen: list[Checkpoint]) -> None:
    """Collect checkpoints as they come."""
    for checkpoint in moving:
        seen.append(checkpoint)  # what came before an error counts


def moved(pair: Pair) -> bool:
    return pair.target.ids() == pair.source.ids() and pair.target.count() == 100


CALLS: list[tuple[str, str]] = [
    *(("source", "scan"), ("target", "upsert")),
    *(("target", "fetch"), ("target", "wait_visible")),
]


@pytest.mark.parametrize("error", [TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE, TIMEOUT], ids=["429", "503", "timeout"])
@pytest.mark.parametrize(("side", "method"), CALLS)
@pytest.mark.parametrize("writers", [1, 4])
def test_h28_every_call_of_a_transfer_is_repeated(
    pair: Pair, tmp_path: Path, side: str, method: str, error: Exception, writers: int
) -> None:
    database = pair.source if side == "source" else pair.target
    for at in (0, 3, 9):
        database.faults.append(Fault(method, error, at=at, times=2))
    checkpoints = list(
        pair.move(
            settings=Settings(batch_records=10, page_records=10, writers=writers),
            verify_every=1,
            ownership=OwnershipLog(tmp_path / "log"),
        )
    )
    assert moved(pair)
    assert checkpoints[-1].acknowledged == 100
    assert database.calls[method] >= 10 + 4


@pytest.mark.parametrize(("side", "method"), CALLS[:2])
def test_h28_retry_after_is_honoured_by_reads_and_writes(pair: Pair, side: str, method: str) -> None:
    waits: list[float] = []

    class Watched(Retry):
        def call(self, function: Callable[[], Any], *, sleep: Callable[[float], None], **options: Any) -> Any:
            def wait(seconds: float) -> None:
                waits.append(seconds)
                sleep(min(seconds, 0.001))

            return super().call(function, sleep=wait, **options)

    database = pair.source if side == "source" else pair.target
    database.faults.append(Fault(method, Throttled("429", retry_after=17), at=2, times=3))
    throttle = Throttle(source=Watched(first_seconds=0), target=Watched(first_seconds=0), batch=BatchSize(10))
    list(pair.move(throttle=throttle))
    assert moved(pair)
    assert waits == [17, 17, 17]


def test_h28_a_slow_source_is_asked_for_smaller_pages(pair: Pair) -> None:
    asked: list[int] = []
    scan = pair.source.scan

    def watched(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        asked.append(batch_records)
        return scan(split, after, batch_records)

    pair.source.scan = watched  # type: ignore[method-assign]
    pair.source.faults.append(Fault("scan", TIMEOUT, at=1, times=3))
    list(pair.move(settings=Settings(batch_records=8, page_records=8, writers=1)))
    assert moved(pair)
    assert asked == [8, 4, 2, 1, 2, 4, 8, 8]  # the end is asked for twice


def test_h28_a_slow_target_is_sent_less_at_once(pair: Pair) -> None:
    throttle = impatient(batch_records=8)
    least: list[tuple[int, int]] = []
    pair.target.on_call = lambda _: least.append((throttle.batch.records, throttle.target.calls.limit))
    pair.target.faults.append(Fault("upsert", TOO_MANY_REQUESTS, at=2, times=4))
    list(pair.move(settings=Settings(batch_records=10, page_records=10, writers=4), throttle=throttle))
    assert moved(pair)
    assert min(limit for _, limit in least) == 1
    assert min(records for records, _ in least) < 8


def test_h28_no_more_writes_are_in_flight_than_the_limit_says(pair: Pair) -> None:
    throttle = Throttle(batch=BatchSize(5), target=Retry(calls=Concurrency(2)))
    lock, now, most = threading.Lock(), 0, 0
    upsert = pair.target.upsert

    def counted(batch: Batch) -> list[Refusal]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        refused = upsert(batch)
        with lock:
            now -= 1
        return refused

    pair.target.upsert = counted  # type: ignore[method-assign]
    list(pair.move(settings=Settings(batch_records=5, page_records=20, writers=4), throttle=throttle))
    assert moved(pair)
    assert 1 <= most <= 2


@pytest.mark.parametrize(("side", "method"), CALLS[:2])
@pytest.mark.parametrize("error", [TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE], ids=["429", "503"])
def test_h28_a_database_that_stays_overloaded_ends_the_transfer_resumably(
    pair: Pair, side: str, method: str, error: Exception
) -> None:
    database = pair.source if side == "source" else pair.target
    database.faults.append(Fault(method, error, at=3, times=None))
    yielded: list[Checkpoint] = []
    with pytest.raises((Throttled, Unavailable)):
        watch(pair.move(settings=Settings(batch_records=10, page_records=10, writers=3)), yielded)
    after = yielded[-1].after if yielded else None
    assert set(range(-1 if after is None else int(after) + 1)) <= pair.target.ids()
    database.faults.clear()
    before = yielded[-1].acknowledged if yielded else 0
    assert before + list(pair.move(after=after))[-1].acknowledged == 100
    assert moved(pair)


def test_h28_an_open_circuit_makes_no_more_calls() -> None:
    pair = Pair().fill(400)
    pair.target.faults.append(Fault("upsert", SERVICE_UNAVAILABLE, times=None))
    with pytest.raises(Unavailable, match="goes on after the last checkpoint"):
        list(pair.move(throttle=impatient(max_retries=1000), settings=Settings(batch_records=10, writers=4)))
    assert pair.target.calls["upsert"] <= 30 + 4
    assert pair.target.ids() == set()


########
# Pages that are larger than a batch
########


def test_a_page_is_written_in_batches_with_a_checkpoint_each(pair: Pair) -> None:
    checkpoints = list(pair.move(settings=Settings(batch_records=10, writers=3)))
    assert moved(pair)
    assert [checkpoint.after for checkpoint in checkpoints] == [str(last) for last in range(9, 100, 10)]
    assert pair.source.calls["scan"] == 4  # one batch, all the rest, the end, and the end again


def test_pages_keep_to_their_bytes_the_source_and_the_rate(pair: Pair) -> None:
    def largest(**arguments: Any) -> int:
        asked: list[int] = []
        other = Pair().fill()
        scan = other.source.scan

        def watched(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
            asked.append(batch_records)
            return scan(split, after, batch_records)

        other.source.scan = watched  # type: ignore[method-assign]
        other.source.capabilities = other.source.capabilities.but(max_page_records=70)
        list(other.move(**{"settings": Settings(batch_records=10), **arguments}))
        assert moved(other)
        return max(asked)

    record = 1 + 4 * 4 + len(repr(pair.source.get(50).payloads[0]))
    assert largest() == 70
    assert largest(settings=Settings(batch_records=10, page_records=30)) == 30
    assert largest(settings=Settings(batch_records=10, page_bytes=40 * record)) in range(38, 43)
    assert largest(settings=Settings(batch_records=10, page_bytes=1)) == 10
    limited = Throttle(batch=BatchSize(10))
    limited.rate.set_rate(50)
    pages: list[float] = []
    limited.rate.acquire = lambda records, sleep: pages.append(records)  # type: ignore[method-assign]
    assert largest(throttle=limited) == 50
    assert sum(pages) == 100


def test_a_failure_in_the_middle_of_a_page_leaves_a_checkpoint_in_the_middle(pair: Pair) -> None:
    pair.target.faults.append(Fault("upsert", Unavailable("gone"), at=4, times=None))
    yielded: list[Checkpoint] = []
    with pytest.raises(Unavailable):
        watch(pair.move(settings=Settings(batch_records=10, page_records=50, writers=1)), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9", "19", "29", "39"]
    assert pair.target.ids() == set(range(40))


def test_h27_a_page_with_vanished_records_counts_them_once(pair: Pair) -> None:
    pair.source.vanish = {3, 19, *range(30, 40), 99}
    checkpoints = list(pair.move(settings=Settings(batch_records=10)))
    assert checkpoints[-1].vanished == 13
    assert checkpoints[-1].acknowledged == 87
    assert checkpoints[-1].after == "99"


def test_an_embedded_target_is_written_by_one_thread() -> None:
    pair = Pair().fill()
    pair.target.capabilities = pair.target.capabilities.but(single_process=True)
    threads: set[str] = set()
    pair.target.on_call = lambda method: threads.add(threading.current_thread().name) if method == "upsert" else None
    list(pair.move(settings=Settings(batch_records=5, writers=4)))
    assert len(threads) == 1
