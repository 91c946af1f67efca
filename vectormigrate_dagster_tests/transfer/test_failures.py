"""Contract of `transfer_split` where a side or a record is bad: it is survived or told, and checkpoints stay true."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
    ValidationFailed,
)
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, Multi
from vectormigrate_dagster.model.compare import Tolerance
from vectormigrate_dagster.transfer import Checkpoint, Settings
from vectormigrate_dagster_tests.memory import Fault
from vectormigrate_dagster_tests.same_mapper import SameMapped, SameMapper
from vectormigrate_dagster_tests.transfer.conftest import Pair, assert_moved, impatient, watch

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
    assert sum(len(checkpoint.refused) for checkpoint in moved) == 1999
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
    pair.target.capabilities = pair.target.capabilities.but(max_batch_bytes=10 * 4 * 4)
    monkeypatch.setattr(Batch, "take", counted)
    list(pair.move(settings=Settings(batch_records=1000), throttle=impatient(batch_records=1000)))
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
    gone = [refusal for checkpoint in checkpoints for refusal in checkpoint.gone]
    assert [int(refusal.id) for refusal in gone] == sorted(pair.source.vanish)
    assert "could not give it" in gone[0].reason


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
    upsert, again = pair.target.upsert, 0

    def watched(batch: Batch) -> list[Refusal]:
        nonlocal again
        try:
            return upsert(batch)
        except Unavailable:
            again += len(batch)
            raise

    pair.target.upsert = watched  # type: ignore[method-assign]
    for at in (0, 3, 6):
        pair.target.faults.append(Fault("upsert", Unavailable("the answer was lost"), at=at, after_commit=True))
    checkpoints = list(pair.move())
    assert 10 < again <= 30
    assert len(pair.target.written) == 100 + again
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


########## Reading back ##########


def test_what_is_read_back_must_be_what_was_sent(pair: Pair) -> None:
    checkpoints = list(pair.move(verify_every=3))
    assert len(checkpoints) == 10
    assert pair.target.calls["fetch"] == 3
    assert pair.target.calls["wait_visible"] == 3 + 1  # and once at the end, for who looks at the target next


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
