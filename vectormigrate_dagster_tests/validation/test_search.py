"""Contract of the search tier: what must fail fails and is named; what is not searched is said, never passed."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Hits
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind, IndexSpec, Metric, Multi, Sparse, VectorKind
from vectormigrate_dagster.model.schema import VectorSchema
from vectormigrate_dagster.validation import Searched, SearchSettings
from vectormigrate_dagster.validation.search.questions import questions
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.validation.searches import Answer, bend, coloured, searched
from vectormigrate_dagster_tests.validation.support import change_vector, copies, full

########## What must fail ##########


def test_h32_the_index_is_waited_for_before_the_first_question() -> None:
    source, target = copies()
    order: list[str] = []
    target.on_call = order.append
    assert searched(source, target).passed
    assert order.index("wait_indexed") < order.index("search")
    assert not source.calls["wait_indexed"]


def test_h22_ids_that_were_shuffled_in_the_index() -> None:
    source, target = copies()

    def shuffled(search: Answer) -> Answer:
        def answer(*args: Any, **named: Any) -> Hits:
            hits = search(*args, **named)
            return Hits(
                [IdColumn.of(ids.kind, [(key + 1) % 200 for key in ids.to_pylist()]) for ids in hits.ids], hits.scores
            )

        return answer

    bend(target, shuffled)
    result = searched(source, target)
    assert not result.passed
    assert result.measures["overlap"] < 0.5
    assert result.groups[0].compared == "worse"
    worst = result.worst_queries[0]
    truth = {answer.id for answer in worst.truth}
    assert {answer.id for answer in worst.source} == truth != {answer.id for answer in worst.target}
    assert [answer.right for answer in worst.source] == [True] * 5
    assert not all(answer.right for answer in worst.target)
    assert worst.query in {str(number) for number in range(200)}


def test_h22_vectors_that_are_not_in_the_index() -> None:
    source, target = copies()
    rest = MemoryDatabase("rest", schema=target.schema)
    rest.put(make_batch(range(180)))
    bend(target, lambda search: rest.search)
    assert not searched(source, target, min_overlap=0.99).passed
    target.capabilities = target.capabilities.but(search_effort="search_ef")
    assert "target.options.search_ef" in searched(source, target, min_overlap=0.99).statement
    assert "search_ef" not in searched(source, target, min_overlap=0.0).statement


@pytest.mark.parametrize("k", [1, 5, 10])
def test_h22_fewer_answers_than_asked_for_are_never_enough(k: int) -> None:
    source, target = copies()

    def short(search: Answer) -> Answer:
        return lambda vectors, k, **named: search(vectors, k - 1, **named) if k > 1 else no_answers(vectors)

    bend(target, short)
    result = searched(source, target, k=k, min_overlap=0.0)
    assert not result.passed
    assert "40 queries got too few answers" in result.statement


def no_answers(vectors: Any) -> Hits:
    return Hits([IdColumn.of(IdKind.U64, [])] * len(vectors), [np.zeros(0, np.float32)] * len(vectors))


def test_h24_scores_of_another_metric_fail_though_the_order_is_the_same() -> None:
    """Vectors of length one have the same neighbours by every metric, but not the same scores."""
    source, target = copies(metric=Metric.DOT)
    for database in (source, target):
        for key in range(200):
            change_vector(database, key, lambda values: values / np.linalg.norm(values))
    target.metric = Metric.EUCLIDEAN
    result = searched(source, target, metric=Metric.DOT)
    assert result.groups[0].target.overlap == 1.0
    assert not result.passed
    assert "of the scores for vector '' are those of dot" in result.statement
    rounded = target.schema.vectors[0].model_copy(update={"index": IndexSpec(type="IVF_PQ")})
    target.schema = target.schema.model_copy(update={"vectors": (rounded,)})
    assert searched(source, target, metric=Metric.DOT).passed


@pytest.mark.parametrize(("filter", "passed"), [("auto", True), ("colour", False)])
def test_a_filter_of_our_own_choice_fails_only_beyond_chance(filter: str, passed: bool) -> None:
    source, target = coloured()

    def sometimes(search: Answer) -> Answer:
        def answer(vectors: Any, k: int, *, where: Any = None, **named: Any) -> Hits:
            hits = search(vectors, k, where=where, **named)
            if where is None:
                return hits
            answers = [ids.to_pylist() for ids in hits.ids]
            for found in answers[::4]:
                found[-1] = 10**6  # which no record has
            return Hits([IdColumn.of(IdKind.U64, found) for found in answers], hits.scores)

        return answer

    bend(target, sometimes)
    group = searched(source, target, filter=filter).groups[1].target
    assert group.overlap < 0.96 <= group.high
    assert searched(source, target, filter=filter, min_overlap=0.96).passed is passed


########## The source as the baseline ##########


def test_a_source_that_approximates_is_the_baseline() -> None:
    source, target = copies()
    half = MemoryDatabase("half", schema=source.schema)
    half.put(make_batch(range(0, 200, 2)))
    bend(source, lambda search: half.search)
    result = searched(source, target)
    assert result.passed
    assert result.groups[0].compared == "better"
    assert result.measures["source_overlap"] < 0.8
    assert "better than the source's own" in result.statement
    alike = searched(*copies())
    assert (alike.groups[0].compared, alike.groups[0].target) == ("alike", alike.groups[0].source)


def test_the_same_seed_gives_the_same_result() -> None:
    source, target = coloured()
    half = MemoryDatabase("half", schema=source.schema)
    half.put(make_batch(range(0, 200, 2)))
    bend(target, lambda search: half.search)
    first, second = (searched(source, target, filter=None).model_dump(exclude={"seconds"}) for _ in range(2))
    assert first == second
    other = searched(source, target, filter=None, seed=1).model_dump(exclude={"seconds"})
    assert other["groups"] != first["groups"]


########## Several vectors ##########

VECTORS = (
    VectorSchema(name="dense", dim=4, metric=Metric.EUCLIDEAN),
    VectorSchema(name="sparse", kind=VectorKind.SPARSE, metric=Metric.DOT),
    VectorSchema(name="multi", kind=VectorKind.MULTI, dim=3, metric=Metric.DOT),
)


def several() -> tuple[MemoryDatabase, MemoryDatabase, SearchSettings]:
    chance = np.random.default_rng(5)
    plain = make_batch(range(60))
    vectors = {
        "dense": plain.vectors[""],
        "sparse": Sparse(
            np.arange(61) * 3,
            np.sort(np.argsort(chance.random((60, 9)), axis=1)[:, :3], axis=1).ravel().astype(np.uint32),
            chance.random(180).astype(np.float32),
        ),
        "multi": Multi(np.arange(61) * 2, chance.standard_normal((120, 3)).astype(np.float32)),
    }
    databases = []
    for name in ("source", "target"):
        database = MemoryDatabase(name, schema=dense_schema(name).model_copy(update={"vectors": VECTORS}))
        database.put(Batch(plain.ids, None, vectors, plain.payloads))
        databases.append(database)
    chosen = tuple(Searched(vector=v.name, source_vector=v.name, metric=v.metric or Metric.DOT) for v in VECTORS)
    return databases[0], databases[1], SearchSettings(vectors=chosen, k=5, queries=20)


def test_every_vector_is_searched_and_a_broken_index_is_named() -> None:
    source, target, settings = several()
    right = full(source, target, search=settings).tier("search")
    assert right.passed, right.statement
    assert [group.vector for group in right.groups] == ["dense", "sparse", "multi"]
    search = target.search

    def swapped(queries: Any, k: int, *, vector: str = "", **named: Any) -> Hits:
        asked = queries.take(range(len(queries) - 1, -1, -1)) if vector == "multi" else queries
        return search(asked, k, vector=vector, **named)

    target.search = swapped  # type: ignore[method-assign]
    wrong = full(source, target, search=settings).tier("search")
    assert not wrong.passed
    assert "for vector 'multi' is" in wrong.statement


def test_a_vector_that_no_record_has_is_named() -> None:
    source, target, settings = several()
    extra = VectorSchema(name="none", dim=2, metric=Metric.DOT, optional=True)
    target.schema = target.schema.model_copy(update={"vectors": (*VECTORS, extra)})
    asked = replace(settings, vectors=(*settings.vectors, Searched(vector="none", metric=Metric.DOT)))
    result = full(source, target, search=asked).tier("search")
    assert result.passed
    assert "vector 'none' was not searched because no sampled record has it" in result.skipped


@pytest.mark.parametrize("name", ["dense", "sparse", "multi"])
def test_queries_come_from_records_of_every_kind_of_id(name: str) -> None:
    source, _, settings = several()
    whole = source._batch(IdKind.U64, sorted(source.ids()), None)  # type: ignore[type-var]
    named = IdColumn.of(IdKind.UUID, [uuid.UUID(int=number) for number in range(30)])
    parts = [whole.take(range(30)), replace(whole.take(range(30, 60)), ids=named)]
    chosen = next(searched for searched in settings.vectors if searched.vector == name)
    (asked,) = questions(replace(settings, queries=60), chosen, parts)
    assert len(asked.vectors) == len(asked.payloads) == 60
    assert set(asked.names) == {*map(str, range(30)), *map(str, named.to_pylist())}


########## The picture ##########


def test_the_picture_shows_what_is_turned_and_what_is_missing() -> None:
    source, target = copies()
    right = searched(source, target)
    assert right.histograms[0].counts == (200, 0, 0, 0, 0, 0, 0, 0, 0)
    assert right.projection is not None
    assert len(right.projection.points) == 200
    assert all(a == c and b == d for a, b, c, d in right.projection.points)
    change_vector(target, 3, lambda values: -values)
    change_vector(target, 4, lambda values: values * 2)
    target.delete(IdColumn.of(IdKind.U64, [5]))
    wrong = searched(source, target)
    assert dict(zip(wrong.histograms[0].labels, wrong.histograms[0].counts, strict=True)) == {
        "bit-equal": 197, "< 1e-12": 1, "< 1e-9": 0, "< 1e-6": 0, "< 1e-4": 0, "< 1e-2": 0, "< 1": 0,
        "opposite": 1, "missing": 1,
    }  # fmt: skip
    assert isinstance(target.get(3).vectors[""], Dense)


def test_the_picture_bears_values_that_are_not_finite() -> None:
    source, target = copies()
    finite, _ = copies()
    for database in (source, target):
        bend(database, lambda _: finite.search)
        change_vector(database, 3, lambda values: values * np.float32("nan"))
    change_vector(target, 4, lambda values: values * np.float32("inf"))
    change_vector(target, 5, lambda values: values * np.float32(1e30))
    result = searched(source, target)
    assert sum(result.histograms[0].counts) == 200
    assert result.histograms[0].counts[0] == 198
    assert result.projection is not None
    assert all(abs(value) <= 1 for point in result.projection.points for value in point)
    assert max(abs(x) for x, _, _, _ in result.projection.points) > 0.5
