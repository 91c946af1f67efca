"""Contract of samples and of what they let one conclude: even, repeatable, over the whole id space, exact bounds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import Batch, Element, IdKind, Metric, Packed, Split
from vectormigrate_dagster.validation import sample as sampling
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.report import share_text, upper_bound
from vectormigrate_dagster.validation.sample import Reservoir, Sample, draw, draw_split
from vectormigrate_dagster.validation.scores import components, scores
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper


def context_of(source: MemoryDatabase, *splits: Split) -> Context:
    return Context(source=Source(source), target=MemoryDatabase("target"), mapper=SameMapper(), splits=splits)


def ids_of(sample: Sample) -> list[object]:
    return [key for part in sample.parts for key in part.ids.to_pylist()]


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 20), st.integers(0, 100))
def test_a_reservoir_keeps_exactly_as_many_as_asked(size: int, records: int, page: int, seed: int) -> None:
    reservoir = Reservoir(size, seed=seed)
    for start in range(0, records, page):
        reservoir.add(make_batch(range(start, min(records, start + page))))
    sample = reservoir.sample()
    kept = ids_of(sample)
    assert len(kept) == len(set(kept)) == min(size, records)
    assert sample.complete == (size >= records)


def test_a_reservoir_is_even() -> None:
    batch = make_batch(range(40))
    counts = np.zeros(40)
    for seed in range(500):
        reservoir = Reservoir(10, seed=seed)
        for start in range(0, 40, 8):
            reservoir.add(batch.take(np.arange(start, start + 8)))
        for key in ids_of(reservoir.sample()):
            assert isinstance(key, int)
            counts[key] += 1
    # each is binomial(500, 1/4): 125 with a standard deviation of 9.7; five of those on either side
    assert counts.min() > 125 - 49
    assert counts.max() < 125 + 49


def test_the_same_seed_draws_the_same_records() -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(range(100)))
    context = context_of(source, Split(kind=IdKind.U64))
    assert ids_of(draw(context, 10, seed=1)) == ids_of(draw(context, 10, seed=1))
    assert ids_of(draw(context, 10, seed=1)) != ids_of(draw(context, 10, seed=2))


def test_a_large_collection_is_sampled_without_reading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_ALL_BELOW", 100)
    source = MemoryDatabase("source")
    source.put(make_batch(range(1000)))
    sample = draw(context_of(source, Split(kind=IdKind.U64)), 100, seed=1)
    kept = [key for key in ids_of(sample) if isinstance(key, int)]
    assert not sample.complete
    assert 80 <= len(kept) <= 100
    assert len(set(kept)) == len(kept)
    assert {key // 100 for key in kept} == set(range(10))
    assert source.calls["scan"] <= 2 * 11
    # ten pieces of 100 records and an empty one; the first is open below, so that its run is from a fixed place
    assert (sample.runs, sample.random_runs) == (10, 9)


def test_runs_of_text_ids_are_not_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_ALL_BELOW", 100)
    source = MemoryDatabase("source")
    source.put(make_batch([f"{number:04}" for number in range(1000)], kind=IdKind.TEXT))
    sample = draw(context_of(source, Split(kind=IdKind.TEXT)), 100, seed=1)
    assert (sample.runs, sample.random_runs) == (10, 0)


def test_many_small_scopes_are_not_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_ALL_BELOW", 100)
    source = MemoryDatabase("source")
    splits = [Split(kind=IdKind.U64, scope=f"{number:03}") for number in range(50)]
    for split in splits:
        source.put(make_batch(range(20), scope=split.scope))
    sample = draw(context_of(source, *splits), 100, seed=1)
    assert len(ids_of(sample)) == 100
    assert source.calls["scan"] == 10


def test_places_that_lead_into_one_gap_are_one_random_run(monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemoryDatabase("source")
    source.put(make_batch([0, *range(2**60, 2**60 + 500)]))
    split = Split(kind=IdKind.U64, records=10_000)
    sample = draw_split(context_of(source, split), split, 100, seed=1)
    assert (sample.runs, sample.random_runs) == (10, 1)


def test_a_split_is_not_read_whole_for_a_few_records() -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(range(3000), dim=1))
    split = Split(kind=IdKind.U64, records=3000, last="2999")
    read = 0

    def counted(*arguments: Any) -> Iterator[Batch]:
        nonlocal read
        for batch in MemoryDatabase.scan(source, *arguments):
            read += len(batch)
            yield batch

    source.scan = counted  # type: ignore[method-assign]
    sample = draw_split(context_of(source, split), split, 100, seed=1)
    assert 50 <= len(ids_of(sample)) <= 100
    assert read <= 200
    source.calls.clear()
    small = Split(kind=IdKind.U64, records=2000, last="1999")
    assert draw_split(context_of(source, small), small, 100, seed=1).runs == 0


def test_a_run_that_has_vanished_is_passed_over() -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(range(100)))
    source.vanish = set(range(30))
    split = Split(kind=IdKind.U64, records=5000)
    sample = draw_split(context_of(source, split), split, 50, seed=1)
    assert sample.runs > 0
    assert not {key for key in ids_of(sample) if isinstance(key, int) and key < 30}


@pytest.mark.parametrize("kind", [IdKind.U64, IdKind.I64, IdKind.UUID])
def test_a_large_split_is_sampled_between_its_first_and_last_id(kind: IdKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_ALL_BELOW", 100)
    numbers = range(-500, 500) if kind is IdKind.I64 else range(1000)
    ids = [uuid.UUID(int=n << 90) for n in numbers] if kind is IdKind.UUID else list(numbers)
    source = MemoryDatabase("source")
    source.put(make_batch(ids, kind=kind))
    split = Split(kind=kind, records=1000)
    sample = draw_split(context_of(source, split), split, 200, seed=3)
    places = [ids.index(key) for key in ids_of(sample)]  # type: ignore[arg-type]
    assert not sample.complete
    assert 100 <= len(places) <= 200
    assert len(set(places)) == len(places)
    assert min(places) < 150
    assert max(places) > 850
    assert source.calls["scan"] < 20 + 130 + 2


def test_a_large_split_that_turns_out_empty_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_ALL_BELOW", 10)
    split = Split(kind=IdKind.U64, records=1000)
    assert draw_split(context_of(MemoryDatabase("source"), split), split, 10, seed=0).parts == ()


########## Bounds ##########


@pytest.mark.parametrize(
    ("failures", "checked", "bound"),
    # 1 - 0.05^(1/n) for no failure; the others from tables of exact one-sided 95 % limits
    [(0, 1000, 0.0029912), (0, 100, 0.0295130), (1, 100, 0.0465597), (5, 100, 0.1022532), (10, 10, 1.0), (0, 0, 1.0)],
)
def test_the_bound_is_that_of_clopper_and_pearson(failures: int, checked: int, bound: float) -> None:
    assert upper_bound(failures, checked) == pytest.approx(bound, abs=2e-5)


def test_a_statement_says_what_a_sample_proves() -> None:
    assert share_text(0, 1000) == "0 of 1,000 differ: at most 0.30 % wrong at 95 % confidence"
    runs = "0 of 1,000 differ, in 100 runs of neighbours"
    bound = "of such runs hold a wrong record at 95 % confidence"
    assert share_text(0, 1000, runs=100, at_random=100) == f"{runs} from random places: at most 2.95 % {bound}"
    some = f"{runs}, 50 of them from random places: at most 5.82 % {bound}"
    assert share_text(0, 1000, runs=100, at_random=50) == some
    assert share_text(0, 1000, runs=100).startswith(f"{runs} from fixed places")
    assert share_text(0, 1000, runs=100).endswith("no bound on the others follows")
    assert (
        share_text(3, 1000, runs=100, at_random=100)
        == "3 of 1,000 differ, in 100 runs of neighbours from random places"
    )


########## Scores ##########


def test_scores_by_hand() -> None:
    q, v = np.array([[3.0, 4.0]]), np.array([[3.0, 4.0], [0.0, 0.0], [4.0, -3.0]])
    assert scores(Metric.COSINE, q, v) == pytest.approx(np.array([[1.0, 0.0, 0.0]]))
    assert scores(Metric.DOT, q, v).tolist() == [[25.0, 0.0, 0.0]]
    assert scores(Metric.EUCLIDEAN, q, v) == pytest.approx(np.array([[0.0, -5.0, -np.sqrt(50)]]))
    assert scores(Metric.MANHATTAN, q, v).tolist() == [[0.0, -7.0, -8.0]]
    assert scores(Metric.HAMMING, q, v).tolist() == [[0.0, -2.0, -2.0]]
    assert scores(Metric.JACCARD, np.array([[1, 1, 0]]), np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]])).tolist() == [
        [0.5, 1.0, 0.0]
    ]


def test_packed_components() -> None:
    bits = Packed(Element.BINARY, 9, np.array([[0b10000001, 0b10000000]], np.uint8))
    assert components(bits).tolist() == [[1, 0, 0, 0, 0, 0, 0, 1, 1]]
    brain = np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16
    assert components(Packed(Element.BFLOAT16, 2, brain.astype(np.uint16)[None, :])).tolist() == [[1.5, -2.0]]
    assert components(Packed(Element.INT8, 2, np.array([[-1, 2]], np.int8))).tolist() == [[-1.0, 2.0]]
