"""Contract of `transfer_split`: all arrives once, in order, in bounded memory; checkpoints are low-water marks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import (
    BrokenScan,
)
from vectormigrate_dagster.model import Batch, IdKind, Split
from vectormigrate_dagster.transfer import Checkpoint, Settings
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapped, SameMapper
from vectormigrate_dagster_tests.transfer.conftest import Pair, assert_moved, watch

########## What arrives ##########


@pytest.mark.parametrize("writers", [1, 3])
def test_a_split_arrives_and_checkpoints_count(pair: Pair, writers: int) -> None:
    checkpoints = list(pair.move(settings=Settings(batch_records=10, page_records=10, writers=writers)))
    assert_moved(pair)
    assert [checkpoint.after for checkpoint in checkpoints] == [str(last) for last in range(9, 100, 10)]
    assert [checkpoint.acknowledged for checkpoint in checkpoints] == list(range(10, 101, 10))
    assert [checkpoint.batches for checkpoint in checkpoints] == list(range(1, 11))
    assert checkpoints[-1].bytes == 100 * 4 * 4
    assert len(pair.target.written) == 100
    seconds = [checkpoint.seconds for checkpoint in checkpoints]
    assert seconds == sorted(seconds)


def test_h02_an_empty_split_moves_nothing() -> None:
    pair = Pair()
    assert list(pair.move()) == []
    assert pair.target.calls["upsert"] == 0


def test_a_split_moves_only_what_it_contains(pair: Pair) -> None:
    list(pair.move(split=Split(kind=IdKind.U64, after="9", last="20")))
    assert pair.target.ids() == set(range(10, 21))


def test_a_resume_goes_on_after_the_checkpoint(pair: Pair) -> None:
    checkpoints = list(pair.move(after="49"))
    assert pair.target.ids() == set(range(50, 100))
    assert checkpoints[-1].acknowledged == 50


def test_short_pages_are_no_end(pair: Pair) -> None:
    pair.source.page_records = 3
    list(pair.move())
    assert_moved(pair)


def test_a_mapper_may_spread_a_page_over_scopes(pair: Pair) -> None:
    class ByParity(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            halves = [batch.take(np.arange(start, len(batch), 2)) for start in (0, 1)]
            parts = zip(halves, ("even", "odd"), strict=True)
            return SameMapped(tuple(Batch(b.ids, scope, b.vectors, b.payloads) for b, scope in parts))

    pair.mapper = ByParity()
    assert list(pair.move())[-1].acknowledged == 100
    assert pair.target.ids("even") == set(range(0, 100, 2))
    assert pair.target.ids("odd") == set(range(1, 100, 2))


def test_pages_are_cut_to_what_the_target_takes(pair: Pair) -> None:
    pair.target.capabilities = pair.target.capabilities.but(max_batch_records=4)
    list(pair.move())
    assert pair.target.calls["upsert"] == 25
    limited = Pair().fill()
    limited.target.capabilities = limited.target.capabilities.but(max_batch_bytes=2 * 4 * 4)
    list(limited.move())
    assert limited.target.calls["upsert"] == 50
    assert_moved(limited)


########## Order ##########


@pytest.mark.parametrize("fault", ["disorder", "repeat"])
def test_h07_a_scan_that_breaks_its_order_is_refused(pair: Pair, fault: str) -> None:
    setattr(pair.source, fault, 2)
    yielded: list[Checkpoint] = []
    with pytest.raises(BrokenScan):
        watch(pair.move(), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9", "19"]


def test_h07_ids_from_outside_of_the_split_are_refused(pair: Pair) -> None:
    scan = pair.source.scan

    def everything(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        return scan(split.model_copy(update={"last": None}), after, batch_records)

    pair.source.scan = everything  # type: ignore[method-assign]
    with pytest.raises(BrokenScan, match="'29', which is not in u64 ids after the start up to 25"):
        list(pair.move(split=Split(kind=IdKind.U64, last="25")))


########## Bounds ##########


@pytest.mark.parametrize("bounds", [{"max_pages": 3}, {"max_bytes": 10 * 4 * 4 * 3}])
def test_h29_pages_alive_never_exceed_the_bounds(bounds: dict[str, int]) -> None:
    pair = Pair().fill(300)
    alive: weakref.WeakSet[Batch] = weakref.WeakSet()
    most = 0
    scan = pair.source.scan

    def watched(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        nonlocal most
        for batch in scan(split, after, batch_records):
            alive.add(batch)
            most = max(most, len(alive))
            yield batch
            del batch

    class Copy(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            return SameMapped((batch.take(np.arange(len(batch))),))

    pair.mapper = Copy()
    pair.source.scan = watched  # type: ignore[method-assign]
    gc.freeze()  # or each look would go through whatever tests before this one have left
    try:
        for checkpoint in pair.move(settings=Settings(batch_records=10, page_records=10, **bounds)):
            gc.collect()
            read_ahead = pair.source.calls["scan"] * 10 - int(checkpoint.after)
            assert read_ahead <= (3 + 1) * 10 + 1
    finally:
        gc.unfreeze()
    assert most <= 4  # the three of the bound, and the one that the reader's generator has in its hand
    assert pair.target.ids() == pair.source.ids()


def test_the_source_is_only_scanned(pair: Pair) -> None:
    list(pair.move(verify_every=1))
    assert set(pair.source.calls) == {"scan"}
    assert not hasattr(Source(pair.source), "upsert")


def test_another_id_kind_is_moved_by_its_own_order() -> None:
    source = MemoryDatabase("source")
    texts = ["a", "B", "é", "aa", "Z", "10", "9", ""]
    source.put(make_batch(sorted(texts), kind=IdKind.TEXT))
    pair = Pair(source=source, split=Split(kind=IdKind.TEXT))
    checkpoints = list(pair.move(settings=Settings(batch_records=2)))
    assert pair.target.ids() == set(texts)
    assert checkpoints[-1].after == "é"


########
# Ends that are none
########


@pytest.mark.parametrize("ends", [(3,), (3, 6), (0, 4, 9)])
def test_a_scan_that_ends_early_without_a_word_is_gone_on_with(pair: Pair, ends: tuple[int, ...]) -> None:
    """A Milvus collection that is released while it is read gives an empty page, which looks like the end."""
    scan, read = pair.source.scan, 0

    def ending_early(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        nonlocal read
        for batch in scan(split, after, batch_records):
            read += 1
            if read - 1 in ends:
                return
            yield batch

    pair.source.scan = ending_early  # type: ignore[method-assign]
    checkpoints = list(pair.move())
    assert pair.target.ids() == set(range(100))
    assert checkpoints[-1].acknowledged == 100


def test_records_that_are_added_for_ever_are_not_waited_for(pair: Pair) -> None:
    scan, added = pair.source.scan, 100

    def growing(split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        nonlocal added
        yield from scan(split, after, batch_records)
        pair.source.put(make_batch([added]))
        added += 1

    pair.source.scan = growing  # type: ignore[method-assign]
    assert list(pair.move())[-1].acknowledged < 110
