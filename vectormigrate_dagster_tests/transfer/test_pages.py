"""Contract of reading: ahead of what is mapped and written, in pages that fit bytes, batches and patience."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from vectormigrate_dagster.databases import Refusal, Source
from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.model import Batch, IdKind, Split
from vectormigrate_dagster.transfer import Interrupt, Settings
from vectormigrate_dagster.transfer.reader import Budget, PageReader
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapped, SameMapper
from vectormigrate_dagster_tests.transfer.conftest import Pair, assert_moved, impatient

########
# Ahead
########


@pytest.mark.parametrize("stage", ["map", "write"])
def test_the_next_page_is_read_while_one_is_mapped_or_written(pair: Pair, stage: str) -> None:
    """Each stage waits here until the source was asked for a page that comes later."""
    pages, later = 0, threading.Event()
    scan, upsert = pair.source.scan, pair.target.upsert

    def watched(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        nonlocal pages
        for batch in scan(split, after, batch_records):
            pages += 1
            if pages == 3:
                later.set()
            yield batch

    def wait(at: str) -> None:
        if at == stage:
            assert later.wait(60)

    class Waiting(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            wait("map")
            return super().map(batch)

    def waiting(batch: Batch) -> list[Refusal]:
        wait("write")
        return upsert(batch)

    pair.source.scan = watched  # type: ignore[method-assign]
    pair.target.upsert = waiting  # type: ignore[method-assign]
    pair.mapper = Waiting()
    list(pair.move())
    assert_moved(pair)


def test_batches_are_mapped_while_one_is_written(pair: Pair) -> None:
    mapped, upsert = threading.Semaphore(0), pair.target.upsert

    class Counting(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            mapped.release()
            return super().map(batch)

    def waiting(batch: Batch) -> list[Refusal]:
        if batch.ids[0] == 0:
            for _ in range(3):
                assert mapped.acquire(timeout=60)
        return upsert(batch)

    pair.target.upsert = waiting  # type: ignore[method-assign]
    pair.mapper = Counting()
    list(pair.move())
    assert_moved(pair)


def test_h29_no_more_batches_are_mapped_than_can_soon_be_written(pair: Pair) -> None:
    mapped, written, most = 0, 0, 0
    upsert = pair.target.upsert

    class Counting(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            nonlocal mapped, most
            mapped += 1
            most = max(most, mapped - written)
            return super().map(batch)

    def counted(batch: Batch) -> list[Refusal]:
        nonlocal written
        try:
            return upsert(batch)
        finally:
            written += 1

    pair.target.upsert = counted  # type: ignore[method-assign]
    pair.mapper = Counting()
    list(pair.move(settings=Settings(batch_records=2, page_records=50, writers=1)))
    assert_moved(pair)
    assert most <= 1 + 2 + 1


########
# Pages
########


def asked_for(source: MemoryDatabase) -> list[int]:
    """The sizes of pages that the source is asked for, from now on."""
    asked: list[int] = []
    scan = source.scan

    def watched(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        asked.append(batch_records)
        return scan(split, after, batch_records)

    source.scan = watched  # type: ignore[method-assign]
    return asked


def test_a_page_that_shrank_grows_again_within_a_scan() -> None:
    pair = Pair().fill(400)
    asked = asked_for(pair.source)
    throttle = impatient(batch_records=1)

    def set_rate(records: int, sleep: Any) -> None:
        throttle.rate.set_rate(11 if len(asked) < 3 else 9)  # nobody waits; a page is no more than a second's worth

    throttle.rate.acquire = set_rate  # type: ignore[method-assign, assignment]
    pair.source.faults.append(Fault("scan", Unavailable("slow"), at=1))
    list(pair.move(settings=Settings(batch_records=1, writers=1), throttle=throttle))
    assert_moved(pair)
    assert asked[:4] == [1, 11, 5, 9]


def test_a_page_holds_whole_batches() -> None:
    pair = Pair().fill(1000)
    asked = asked_for(pair.source)
    checkpoints = list(
        pair.move(settings=Settings(batch_records=30, page_records=100), throttle=impatient(batch_records=30))
    )
    assert set(asked[1:]) == {90}
    assert checkpoints[-1].batches == 34


def reader(source: MemoryDatabase, clock: Any, batch: int) -> PageReader:
    return PageReader(
        Source(source),
        Split(kind=IdKind.U64),
        after=None,
        batch_records=lambda: batch,
        page_records=10_000,
        page_bytes=2**20,
        throttle=impatient(),
        budget=Budget(pages=1000, bytes=2**40),
        ends=Interrupt(),
        clock=clock,
    )


def test_a_slow_source_is_not_asked_for_more_than_it_gives_in_seconds() -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(range(3000)))
    source.capabilities = source.capabilities.but(max_page_records=10_000)
    now, slow, sizes = 0.0, True, []
    scan = source.scan

    def timed(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        nonlocal now
        for batch in scan(split, after, batch_records):
            now += len(batch) / 25 if slow else 0.001
            yield batch

    source.scan = timed  # type: ignore[method-assign]
    for page in reader(source, lambda: now, 10).pages():
        sizes.append(len(page.batch))
        slow = sum(sizes) < 1000
    before, after = sizes[:10], sizes[sizes.index(next(size for size in sizes if size > 100)) :]
    assert before == [10, *[100] * 9]  # four seconds at 25 records a second
    assert sum(after) >= 1500
    assert max(after) > 1000  # the source is quick now
