"""Contract of the measures of search: overlap, rank-biased overlap, bootstrap interval, and the truth behind them."""

from __future__ import annotations

import tracemalloc
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Hits
from vectormigrate_dagster.model import Dense, IdColumn, IdKind, Metric, Multi, Packed, Sparse
from vectormigrate_dagster.model.vectors import Element
from vectormigrate_dagster.validation.scores import nearness, scores, scores_of, unit_scores
from vectormigrate_dagster.validation.search import Searched, asked
from vectormigrate_dagster.validation.search.questions import Questions
from vectormigrate_dagster.validation.search.ranking import P, agreement, interval, rank_biased_overlap
from vectormigrate_dagster.validation.search.truth import Labels, Truth
from vectormigrate_dagster_tests.batches import make_batch

########## Rank-biased overlap ##########


def rbo(*agreements: float, p: float = P) -> float:
    return float(rank_biased_overlap(np.array([agreements]), p)[0])


def test_identical_answers_have_one_and_disjoint_ones_none() -> None:
    assert rbo(1, 1, 1, 1, 1) == pytest.approx(1)
    assert rbo(0, 0, 0) == 0


def test_rank_biased_overlap_by_hand() -> None:
    """Answers a c b x against the truth a b c d: hits 1, 1, 3, 3 at depths 1 to 4, p = 0.5."""
    shares = agreement(np.array([[10.0, 8, 9, 1]]), best=np.array([[10.0, 9, 8, 7]]), slack=np.zeros((1, 4)))
    assert shares.tolist() == [[1, 0.5, 1, 0.75]]
    by_hand = 0.75 * 0.5**4 + (0.5 / 0.5) * (1 * 0.5 + 0.5 * 0.25 + 1 * 0.125 + 0.75 * 0.0625)
    assert rbo(*shares[0], p=0.5) == pytest.approx(by_hand) == pytest.approx(0.84375)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.05, 0.99))
def test_rank_biased_overlap_lies_within_and_grows_with_every_agreement(shares: list[float], p: float) -> None:
    value = rbo(*shares, p=p)
    assert -1e-9 <= value <= 1 + 1e-9
    for place in range(len(shares)):
        better = [min(1, share + 0.1) if i == place else share for i, share in enumerate(shares)]
        assert rbo(*better, p=p) >= value - 1e-12


def test_a_fault_at_the_top_costs_more_than_one_at_the_bottom() -> None:
    best = np.arange(10, 0, -1.0)[None]
    top, bottom = best.copy(), best.copy()
    top[0, 0] = bottom[0, 9] = -np.inf
    at_top, at_bottom = (agreement(found, best, np.zeros((1, 10))) for found in (top, bottom))
    assert at_top[0, -1] == at_bottom[0, -1] == 0.9
    assert rank_biased_overlap(at_top)[0] < rank_biased_overlap(at_bottom)[0]


########## The interval ##########


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_mean() -> None:
    values = np.random.default_rng(0).beta(9, 1, 100)
    low, high = interval(values, seed=3)
    assert (low, high) == interval(values, seed=3)
    assert (low, high) != interval(values, seed=4)
    assert low < values.mean() < high
    normal = 1.96 * values.std(ddof=1) / 10
    assert (high - low) / 2 == pytest.approx(normal, rel=0.15)
    assert interval(np.ones(7), seed=0) == (1, 1)


########## The truth ##########


def hits(*answers: list[int], claimed: list[float] | None = None) -> Hits:
    found = [np.array(claimed or [0.0] * len(ids), np.float32) for ids in answers]
    return Hits([IdColumn.of(IdKind.U64, ids) for ids in answers], found)


def labels(ids: range | list[int]) -> Labels:
    return Labels.of(IdColumn.of(IdKind.U64, ids))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_the_truth_does_not_depend_on_batches(count: int, k: int, size: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    passing = chance.integers(0, 9, (3, count)).astype(np.float64)  # many ties
    answers = [chance.permutation(count)[:k].tolist() for _ in range(3)]
    truth = Truth(k, hits(*answers))
    for start in range(0, count, size):
        truth.add(labels(range(start, min(count, start + size))), passing[:, start : start + size])
    ids, best = truth.best()
    expected = -np.sort(-passing, axis=1)[:, :k]
    assert best.tolist() == expected.tolist()
    assert [[passing[row, int(key)] for key in keys] for row, keys in enumerate(ids)] == expected.tolist()
    for row, answer in enumerate(answers):
        right = sum(passing[row, key] >= expected[row, -1] - 1e-4 for key in answer)
        assert truth.agreements()[row, -1] == pytest.approx(right / min(k, count))


def test_ties_may_be_broken_in_any_way_and_doubles_do_not_count() -> None:
    near = np.array([[1.0, 0.5, 0.5, 0.5, 0.1]])
    for answer, overlap, short in (
        ([0, 1], 1.0, False), ([0, 3], 1.0, False), ([2, 3], 0.5, False), ([1, 0], 1.0, False),
        ([0, 4], 0.5, False), ([0, 0], 0.5, True), ([0, 99], 0.5, False), ([0], 0.5, True), ([], 0.0, True),
    ):  # fmt: skip
        truth = Truth(2, hits(answer))
        truth.add(labels(range(5)), near)
        expected = 1.0 if answer == [2, 3] else overlap  # both are as near as the second nearest
        assert truth.agreements()[0, -1] == expected, answer
        assert bool(truth.short[0]) is short


def test_a_query_with_less_to_find_than_k_is_judged_by_that() -> None:
    truth = Truth(4, hits([0, 1], [1, 2]))
    truth.add(
        labels(range(3)), np.array([[3.0, 2, 1], [3, 2, 1]]), np.array([[True, True, False], [False, True, True]])
    )
    assert truth.complete.tolist() == [2, 2]
    assert truth.agreements().tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert not truth.short.any()
    nothing = Truth(4, hits([0]))
    assert not nothing.askable.any()
    assert nothing.agreements().tolist() == [[0, 0, 0, 0]]


def test_answers_that_mix_id_kinds_come_as_text_and_count() -> None:
    named = uuid.UUID(int=7)
    truth = Truth(2, Hits([IdColumn.of(IdKind.TEXT, ["5", str(named)])], [np.ones(2, np.float32)]))
    truth.add(labels([5, 6]), np.array([[0.9, 0.1]]))
    truth.add(Labels.of(IdColumn.of(IdKind.UUID, [named])), np.array([[0.8]]))
    assert truth.agreements()[0, -1] == 1.0


def test_the_truth_needs_no_more_memory_for_more_records() -> None:
    queries, k, size = 20, 10, 500
    truth = Truth(k, hits(*[list(range(k))] * queries))
    vectors = np.random.default_rng(0).standard_normal((size, 32))
    asked = vectors[:queries]

    def pass_by(batches: int) -> int:
        tracemalloc.reset_peak()
        for number in range(batches):
            truth.add(labels(range(number * size, (number + 1) * size)), scores(Metric.DOT, asked, vectors))
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        assert pass_by(40) < 1.5 * pass_by(4)
    finally:
        tracemalloc.stop()


def test_the_truth_about_many_queries_is_small() -> None:
    """What is kept of each query are its own answers, not a score for the answers to all of them."""
    queries, k = 2000, 10
    chance = np.random.default_rng(0)
    answers = [[int(key) for key in chance.integers(0, 10**6, k)] for _ in range(queries)]
    tracemalloc.start()
    try:
        truth = Truth(k, hits(*answers))
        truth.add(labels(range(5)), np.zeros((queries, 5)))
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_many_queries_are_scored_against_few_records_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counting(metric: Metric, queries: Any, column: Any) -> Any:
        sizes.append(len(queries) * len(column))
        return scores_of(metric, queries, column)

    monkeypatch.setattr(asked, "scores_of", counting)
    monkeypatch.setattr(asked, "_FLOATS_AT_ONCE", 64)
    batch = replace(make_batch(range(50)), vanished=IdColumn.of(IdKind.U64, [99]))
    vectors = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    one = Questions(Searched(vector="", metric=Metric.DOT), None, vectors, ("",) * 8, [{}] * 8)
    found = asked.Asked(one, vector="", ask=lambda *_: hits(*[[]] * 8), k=3, filters=[])
    found.add(batch)
    assert max(sizes) <= 64
    column = batch.vectors[""]
    expected = -np.sort(-scores_of(Metric.DOT, vectors, column), axis=1)[:, :3]
    np.testing.assert_allclose(found.plain.best()[1], expected)


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN])
@pytest.mark.parametrize("length", [1e-4, 1.0, 1e4])
def test_what_is_a_tie_does_not_depend_on_the_length_of_vectors(metric: Metric, length: float) -> None:
    """With a fixed slack, all short vectors would be as near as the nearest."""
    vectors = (np.random.default_rng(0).standard_normal((50, 8)) * length).astype(np.float32)
    queries = vectors[:5]
    found = scores_of(metric, queries, Dense(vectors))
    farthest = [np.argsort(row)[:3].tolist() for row in found]
    truth = Truth(3, hits(*farthest), unit_scores(metric, queries))
    truth.add(labels(range(50)), found)
    assert truth.agreements()[:, -1].tolist() == [0] * 5


def test_units_of_sparse_vectors_and_of_several() -> None:
    sparse = Sparse(np.array([0, 2, 2]), np.array([1, 7], np.uint32), np.array([3, 4], np.float32))
    assert unit_scores(Metric.DOT, sparse).tolist() == [25, 0]
    several = Multi(np.array([0, 1, 3]), np.array([[1, 0], [0, 2], [3, 0]], np.float32))
    assert unit_scores(Metric.DOT, several).tolist() == [1, 13]
    assert unit_scores(Metric.COSINE, several).tolist() == [1, 1]


########## Scores ##########


def test_scores_of_sparse_vectors_and_of_several() -> None:
    chance = np.random.default_rng(1)
    dense = chance.standard_normal((7, 9)) * (chance.random((7, 9)) < 0.4)
    rows, columns = np.nonzero(dense)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=7))])
    sparse = Sparse(ends, columns.astype(np.uint32), dense[rows, columns].astype(np.float32))
    found = scores_of(Metric.DOT, sparse.take([0, 3]), sparse)
    products = dense[[0, 3]] @ dense.T
    np.testing.assert_allclose(found, np.where(products > 0, products, -np.inf), rtol=1e-5, atol=1e-6)
    several = Multi(np.array([0, 2, 2, 5]), chance.standard_normal((5, 3)).astype(np.float32))
    (one, two) = several.values[:2], several.values[2:]
    found = scores_of(Metric.DOT, several.take([2]), several)
    assert found[0, 0] == pytest.approx(float((two @ one.T).max(axis=1).sum()), rel=1e-5)
    assert found[0, 1] == -np.inf
    unit = two / np.linalg.norm(two, axis=1, keepdims=True)
    assert scores_of(Metric.COSINE, several.take([2]), several)[0, 2] == pytest.approx(
        float((unit @ unit.T).max(axis=1).sum()), rel=1e-5
    )


def test_bits_are_scored_as_bits() -> None:
    bits = np.array([[1, 0, 1, 0, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0, 0, 1]], np.uint8)
    packed = Packed(Element.BINARY, 8, np.packbits(bits, axis=1))
    assert scores_of(Metric.HAMMING, bits[:1].astype(np.float32), packed).tolist() == [[0, -1]]
    assert scores_of(Metric.JACCARD, bits[:1].astype(np.float32), packed).tolist() == [[1, 0.75]]


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_of_databases_are_read_by_their_convention(metric: Metric) -> None:
    vectors = np.random.default_rng(2).integers(0, 2, (6, 8)).astype(np.float32)
    ours = scores_of(metric, vectors[:1], Dense(vectors))[0]
    similar = metric in (Metric.COSINE, Metric.DOT)
    claimed = ours if similar else 1 - ours if metric is Metric.JACCARD else -ours
    np.testing.assert_allclose(nearness(metric, claimed, squared_euclidean=False), ours, atol=1e-9)
    squared = claimed**2 if metric is Metric.EUCLIDEAN else claimed
    np.testing.assert_allclose(nearness(metric, squared, squared_euclidean=True), ours, atol=1e-6)
