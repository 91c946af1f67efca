"""Contract of `transfer_split`: everything arrives once, checkpoints are low-water marks, failures surface."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Refusal, Source
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    BrokenScan,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Stopped,
    Throttled,
    Unavailable,
    ValidationFailed,
)
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, Multi, Split
from vectormigrate_dagster.model.compare import Tolerance, compare
from vectormigrate_dagster.transfer import Checkpoint, Settings, Throttle
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase, SameMapped, SameMapper, make_batch
from vectormigrate_dagster_tests.transfer.conftest import Pair, impatient


def assert_moved(pair: Pair) -> None:
    """Fail unless the target holds exactly the source's records."""
    assert pair.target.ids() == pair.source.ids()
    for key in pair.source.ids():
        assert compare(pair.source.get(key), pair.target.get(key)).equal


def watch(moving: Iterator[Checkpoint], seen: list[Checkpoint], target: MemoryDatabase | None = None) -> None:
    """Collect checkpoints as they come; what they cover must be in `target`."""
    for checkpoint in moving:
        seen.append(checkpoint)
        assert target is None or set(range(int(checkpoint.after) + 1)) <= target.ids()


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
    assert pair.target.calls["upsert"] == 30
    limited = Pair().fill()
    limited.target.capabilities = limited.target.capabilities.but(max_batch_bytes=2 * 4 * 4)
    list(limited.move())
    assert limited.target.calls["upsert"] == 50
    assert_moved(limited)


########## Refused, vanished, skipped ##########


def test_a_refused_record_is_named_and_the_rest_arrives(pair: Pair) -> None:
    pair.target.refuse = lambda key: "too long" if key in {5, 55} else None
    checkpoints = list(pair.move())
    assert [checkpoint.refused for checkpoint in checkpoints if checkpoint.refused] == [
        (Refusal("5", "too long"),),
        (Refusal("55", "too long"),),
    ]
    assert checkpoints[-1].acknowledged == 98
    assert pair.target.ids() == pair.source.ids() - {5, 55}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("bad", [{0}, {99}, {3, 4, 17}, set(range(20, 30)), set(range(0, 100, 2))])
def test_an_invalid_record_is_isolated(pair: Pair, bad: set[int], named: bool) -> None:
    pair.target.invalid = lambda key: key in bad
    pair.target.names_invalid = named
    checkpoints = list(pair.move())
    refused = [refusal for checkpoint in checkpoints for refusal in checkpoint.refused]
    assert {int(refusal.id) for refusal in refused} == bad
    assert {refusal.reason for refusal in refused} == {"the record is not valid"}
    assert len(refused) == len(bad)
    assert pair.target.ids() == pair.source.ids() - bad
    assert checkpoints[-1].acknowledged == 100 - len(bad)
    assert checkpoints[-1].after == "99"


def test_a_database_that_names_one_record_at_a_time_is_served() -> None:
    pair = Pair().fill(2000)
    upsert = pair.target.upsert

    def one_at_a_time(batch: Batch) -> list[Refusal]:
        try:
            return upsert(batch)
        except InvalidRecord as error:
            raise InvalidRecord(error.reason, ids=error.ids[:1]) from error

    pair.target.invalid, pair.target.names_invalid = (lambda key: key != 7), True
    pair.target.upsert = one_at_a_time  # type: ignore[method-assign]
    moved = list(pair.move(settings=Settings(batch_records=2000), throttle=impatient(batch_records=2000)))
    assert len(moved[-1].refused) == 1999
    assert pair.target.ids() == {7}


@pytest.mark.parametrize("healthy", [0, 250])
def test_a_fault_of_the_target_that_looks_like_bad_records_ends_the_transfer(healthy: int) -> None:
    pair = Pair().fill(500)
    pair.target.invalid = lambda key: isinstance(key, int) and key >= healthy
    with pytest.raises(DatabaseError, match="refused 100 records in a row"):
        list(pair.move())  # in pages of 10
    assert pair.target.ids() == set(range(healthy))


def test_a_fault_of_the_target_in_the_middle_of_a_batch_ends_the_transfer() -> None:
    pair = Pair().fill(1000)
    pair.target.invalid = lambda key: isinstance(key, int) and key >= 400
    with pytest.raises(DatabaseError, match="refused 100 records in a row"):
        list(pair.move(settings=Settings(batch_records=1000), throttle=impatient(batch_records=1000)))


def test_many_bad_records_among_good_ones_are_no_fault_of_the_target() -> None:
    pair = Pair().fill(600)
    pair.target.invalid = lambda key: isinstance(key, int) and key % 2 == 0
    checkpoints = list(pair.move())
    assert (checkpoints[-1].acknowledged, sum(len(c.refused) for c in checkpoints)) == (300, 300)


def test_a_page_is_cut_without_copying_the_rest_of_it_for_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    pair = Pair().fill(1000)
    take, upsert = Batch.take, pair.target.upsert

    def counted(batch: Batch, indices: Sequence[int]) -> Batch:
        nonlocal copied
        copied += len(indices)
        return take(batch, indices)

    def uncounted(batch: Batch) -> list[Refusal]:
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "take", take)
            return upsert(batch)

    class Same(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            return SameMapped((batch,))

    pair.mapper, pair.target.upsert = Same(), uncounted  # type: ignore[method-assign]
    monkeypatch.setattr(Batch, "take", counted)
    list(pair.move(settings=Settings(batch_records=1000)))
    assert pair.target.calls["upsert"] == 100
    assert copied == 1000


def test_records_of_different_sizes_are_cut_to_what_the_target_takes() -> None:
    pair = Pair()
    lengths = [1] * 40 + [20] * 4
    offsets = np.cumsum([0, *lengths])
    column = Multi(offsets, np.ones((int(offsets[-1]), 4), np.float32))
    pair.source.put(Batch(IdColumn.of(IdKind.U64, range(44)), vectors={"": column}, payloads=[{}] * 44))
    limit = 400
    pair.target.capabilities = pair.target.capabilities.but(max_batch_bytes=limit)
    sizes: list[int] = []
    upsert = pair.target.upsert

    def sized(batch: Batch) -> list[Refusal]:
        sizes.append(batch.nbytes)
        return upsert(batch)

    pair.target.upsert = sized  # type: ignore[method-assign]
    list(pair.move(settings=Settings(batch_records=100), throttle=impatient(batch_records=100)))
    assert max(sizes) <= limit
    assert pair.target.ids() == set(range(44))


def test_a_page_that_the_mapping_refuses_entirely_moves_the_checkpoint(pair: Pair) -> None:
    pair.mapper = SameMapper(lambda key: "no place" if isinstance(key, int) and 10 <= key < 20 else None)
    checkpoints = list(pair.move())
    assert checkpoints[1].after == "19"
    assert checkpoints[1].acknowledged == 10
    assert len(checkpoints[1].refused) == 10
    assert checkpoints[2].refused == ()
    assert checkpoints[-1].acknowledged == 90


def test_h14_a_mapper_that_loses_a_record_is_found_out(pair: Pair) -> None:
    class Lossy(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            return SameMapped((batch.take(np.arange(1, len(batch))),))

    pair.mapper = Lossy()
    with pytest.raises(ValidationFailed, match="9 records out of the 10"):
        list(pair.move())


def test_h27_vanished_records_are_counted_not_dropped_in_silence(pair: Pair) -> None:
    pair.source.vanish = {3, 19, *range(30, 40)}
    checkpoints = list(pair.move())
    assert [checkpoint.vanished for checkpoint in checkpoints][:4] == [1, 2, 2, 12]
    assert checkpoints[3].after == "39"
    assert checkpoints[-1].acknowledged == 88
    assert pair.target.ids() == pair.source.ids() - pair.source.vanish


########## Faults ##########


@pytest.mark.parametrize("method", ["scan", "upsert"])
@pytest.mark.parametrize("at", [0, 4])
def test_h28_a_transient_fault_on_either_side_is_survived(pair: Pair, method: str, at: int) -> None:
    database = pair.source if method == "scan" else pair.target
    database.faults.append(Fault(method, Throttled("slow", retry_after=0), at=at, times=3))
    checkpoints = list(pair.move())
    assert_moved(pair)
    assert len(pair.target.written) == 100
    assert checkpoints[-1].acknowledged == 100


def test_h09_a_fault_after_the_commit_does_not_duplicate(pair: Pair) -> None:
    for at in (0, 3, 6):
        pair.target.faults.append(Fault("upsert", Unavailable("the answer was lost"), at=at, after_commit=True))
    checkpoints = list(pair.move())
    assert len(pair.target.written) == 119  # what was sent again: 19, for a batch is halved by each failure
    assert_moved(pair)
    assert pair.target.count() == 100
    assert checkpoints[-1].acknowledged == 100


FATAL: list[tuple[str, Callable[[], Exception]]] = [
    ("scan", lambda: AuthenticationFailed("key revoked")),
    ("scan", lambda: Unavailable("gone for good")),
    ("scan", lambda: RuntimeError("bug in a client")),
    ("upsert", lambda: AuthenticationFailed("key revoked")),
    ("upsert", lambda: Throttled("slow for ever", retry_after=0)),
    ("upsert", lambda: SchemaMismatch("no such field")),
    ("upsert", lambda: NotFound("collection dropped")),
    ("upsert", lambda: MemoryError("out of memory")),
    ("fetch", lambda: Unavailable("gone for good")),
    ("wait_visible", lambda: AuthenticationFailed("key revoked")),
]


@pytest.mark.parametrize(("method", "make"), FATAL)
@pytest.mark.parametrize("at", [0, 5])
def test_h21_every_failure_surfaces_after_checkpoints_that_are_true(
    pair: Pair, method: str, make: Callable[[], Exception], at: int
) -> None:
    database = pair.source if method == "scan" else pair.target
    database.faults.append(Fault(method, make, at=at, times=None))
    yielded: list[Checkpoint] = []
    with pytest.raises(type(make())):
        watch(pair.move(verify_every=1), yielded, pair.target)
    assert [checkpoint.acknowledged for checkpoint in yielded] == [10 * (i + 1) for i in range(at)]


def test_h21_a_failing_mapper_surfaces(pair: Pair) -> None:
    class Broken(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            if 50 in batch.ids.to_pylist():
                raise KeyError("a field nobody knows")
            return super().map(batch)

    pair.mapper = Broken()
    yielded: list[Checkpoint] = []
    with pytest.raises(KeyError, match="a field nobody knows"):
        watch(pair.move(), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9", "19", "29", "39", "49"]


def test_a_slow_target_gets_smaller_batches(pair: Pair) -> None:
    throttle = impatient(batch_records=8)
    pair.target.faults.append(Fault("upsert", Throttled("slow", retry_after=0), times=2))
    list(pair.move(throttle=throttle))
    assert_moved(pair)
    assert pair.target.calls["upsert"] > 2 + 100 / 8


def test_the_circuit_ends_a_transfer_with_its_checkpoints(pair: Pair) -> None:
    pair.target.faults.append(Fault("upsert", Unavailable("gone"), at=3, times=None))
    yielded: list[Checkpoint] = []
    with pytest.raises(Unavailable, match="goes on after the last checkpoint"):
        watch(pair.move(throttle=impatient(max_retries=100)), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9", "19", "29"]
    pair.target.faults.clear()
    list(pair.move(after=yielded[-1].after))
    assert_moved(pair)


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


########## Reading back ##########


def test_what_is_read_back_must_be_what_was_sent(pair: Pair) -> None:
    checkpoints = list(pair.move(verify_every=3))
    assert len(checkpoints) == 10
    assert pair.target.calls["fetch"] == 3
    assert pair.target.calls["wait_visible"] == 3


def test_a_target_that_changes_vectors_is_found_out(pair: Pair) -> None:
    pair.target.normalise = {""}
    yielded: list[Checkpoint] = []
    with pytest.raises(ValidationFailed, match="vector '' of '1"):
        watch(pair.move(verify_every=2), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9"]
    other = Pair().fill()
    other.target.normalise = {""}
    list(other.move(verify_every=2, tolerance=Tolerance(min_cosine={"": 0.9999})))


def test_a_target_that_acknowledges_and_drops_is_found_out(pair: Pair) -> None:
    pair.target.upsert = lambda batch: []  # type: ignore[method-assign]
    with pytest.raises(ValidationFailed, match="missing '0', '1', '2', '3', '4'"):
        list(pair.move(verify_every=1))


def test_refused_records_are_not_looked_for(pair: Pair) -> None:
    pair.target.refuse = lambda key: "no"
    assert list(pair.move(verify_every=1))[-1].acknowledged == 0


########## Stopping and closing ##########


def test_a_stop_finishes_what_is_in_flight_and_is_resumable(pair: Pair) -> None:
    yielded: list[Checkpoint] = []
    with pytest.raises(Stopped):
        watch(
            pair.move(stop=lambda: len(yielded) >= 2, settings=Settings(batch_records=5, page_records=5, max_pages=3)),
            yielded,
        )
    assert 2 <= len(yielded) <= 2 + 3
    assert pair.target.ids() == set(range(int(yielded[-1].after) + 1))
    list(pair.move(after=yielded[-1].after))
    assert_moved(pair)
    assert len(pair.target.written) == 100


def test_a_stop_before_the_start_moves_nothing(pair: Pair) -> None:
    with pytest.raises(Stopped):
        list(pair.move(stop=lambda: True))
    assert pair.target.ids() == set()


def test_a_stop_ends_a_wait_for_the_rate(pair: Pair) -> None:
    throttle = Throttle.of(rate=0.001, batch_records=10)
    yielded: list[Checkpoint] = []
    with pytest.raises(Stopped):
        watch(pair.move(throttle=throttle, stop=lambda: len(yielded) > 0), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9"]


@pytest.mark.parametrize("writers", [1, 4])
@pytest.mark.parametrize(("side", "method"), [("source", "scan"), ("target", "upsert")])
def test_a_stop_ends_a_retry_that_would_wait_an_hour(pair: Pair, side: str, method: str, writers: int) -> None:
    database = pair.source if side == "source" else pair.target
    database.faults.append(Fault(method, Throttled("slow", retry_after=3600), at=1, times=None))
    yielded: list[Checkpoint] = []
    moving = pair.move(
        throttle=Throttle.of(batch_records=10),
        settings=Settings(batch_records=10, page_records=30, writers=writers),
        stop=lambda: database.calls[method] > 1,
    )
    with pytest.raises(Stopped):
        watch(moving, yielded, pair.target)
    database.faults.clear()
    list(pair.move(after=yielded[-1].after if yielded else None))
    assert_moved(pair)


def test_after_a_stop_no_call_is_begun(pair: Pair) -> None:
    """A slow target would otherwise get all that was read ahead."""
    writing, stopped = threading.Event(), threading.Event()
    asked = 0
    upsert = pair.target.upsert

    def slow(batch: Batch) -> list[Refusal]:
        writing.set()
        assert stopped.wait(60)
        return upsert(batch)

    def stop() -> bool:
        nonlocal asked
        asked += writing.is_set()
        if asked > 1:
            stopped.set()  # what was said the time before is known to all
        return asked > 0

    pair.target.upsert = slow  # type: ignore[method-assign]
    yielded: list[Checkpoint] = []
    with pytest.raises(Stopped):
        watch(pair.move(stop=stop), yielded, pair.target)
    assert pair.target.calls["upsert"] == len(yielded) == 1


def test_closing_ends_all_threads(pair: Pair) -> None:
    moving = pair.move()
    next(moving)
    moving.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vectormigrate-")]


def test_closing_ends_a_retry_that_would_wait_an_hour(pair: Pair) -> None:
    pair.target.faults.append(Fault("upsert", Throttled("slow", retry_after=3600), at=1, times=None))
    waiting = threading.Event()
    pair.target.on_call = lambda method: waiting.set() if pair.target.calls["upsert"] > 1 else None
    moving = pair.move(throttle=Throttle.of(batch_records=10))
    next(moving)
    assert waiting.wait(60)
    moving.close()  # type: ignore[attr-defined]


def test_a_transfer_that_never_starts_has_no_threads(pair: Pair) -> None:
    pair.move()
    assert pair.source.calls["scan"] == 0


########## Bounds, guard ##########


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
    for checkpoint in pair.move(settings=Settings(batch_records=10, page_records=10, **bounds)):
        gc.collect()
        read_ahead = pair.source.calls["scan"] * 10 - int(checkpoint.after)
        assert read_ahead <= (3 + 1) * 10 + 1
    assert most <= 4  # the three of the bound, and the one that the reader's generator has in its hand
    assert pair.target.ids() == pair.source.ids()


def test_the_guard_brackets_every_page(pair: Pair) -> None:
    events: list[tuple[str, Any]] = []

    class Watching:
        def before_read(self) -> int:
            token = len([event for event in events if event[0] == "read"])
            events.append(("read", token))
            return token

        def after_ack(self, token: int, split: Split, *, last: bool) -> None:
            assert len(pair.target.ids()) >= 10 * (token + 1)
            assert last
            events.append(("ack", token))

    for number, _ in enumerate(pair.move(guard=Watching())):
        assert ("ack", number) in events
        assert ("ack", number + 1) not in events
    assert [token for what, token in events if what == "ack"] == list(range(10))
    assert all(events.index(("read", token)) < events.index(("ack", token)) for token in range(10))


@pytest.mark.parametrize("writers", [1, 4])
def test_the_guard_is_told_which_batch_ends_a_page(pair: Pair, writers: int) -> None:
    tokens, acks = iter(range(100)), list[tuple[int, bool, int]]()

    class Watching:
        def before_read(self) -> int:
            return next(tokens)

        def after_ack(self, token: int, split: Split, *, last: bool) -> None:
            acks.append((token, last, len(pair.target.ids())))

    list(pair.move(guard=Watching(), settings=Settings(batch_records=10, page_records=40, writers=writers)))
    assert [(token, last) for token, last, _ in acks] == [
        *[(0, True)],  # the first page is one batch
        *[(1, False), (1, False), (1, False), (1, True)],
        *[(2, False), (2, False), (2, False), (2, True)],
        *[(3, True)],
    ]
    whole = {0: 10, 1: 50, 2: 90, 3: 100}
    assert all(there >= whole[token] for token, last, there in acks if last)


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
