"""The contract of `Database.search`: exact scores, best first; filters; queries by vectors of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    FieldSchema,
    FieldType,
    IdColumn,
    IndexSpec,
    Metric,
    Multi,
    Packed,
    Sparse,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.databases.conftest import EACH_METRIC, DatabaseCase, Opener, numbered, records

PAYLOADS = [{"even": i % 2 == 0, "third": i % 3, "name": ("dog", "cat \\ \"Tom\" 'é'")[i % 2]} for i in range(30)]
FIELDS = (
    FieldSchema(name="even", type=FieldType.BOOL, declared=True, nullable=False),
    FieldSchema(name="third", type=FieldType.INT64, declared=True, nullable=False),
    FieldSchema(
        name="name",
        type=FieldType.TEXT,
        declared=True,
        nullable=False,
        index=IndexSpec(type="inverted", params={"tokenization": "field"}),
    ),
)


def filled(case: DatabaseCase, database: Database) -> np.ndarray:
    """Thirty records of whom every payload key can be filtered by; returns their vectors."""
    schema = case.schema()
    if case.capabilities.declared_fields:
        index = {} if case.capabilities.type == "weaviate" else {"index": None}
        schema = schema.model_copy(update={"fields": tuple(f.model_copy(update=index) for f in FIELDS)})
    database.create(schema)
    values = np.random.default_rng(1).standard_normal((30, 4)).astype(np.float32)
    ids = numbered(case.kinds[0], range(30))
    assert database.upsert(Batch(ids, None, {case.vector: Dense(values)}, PAYLOADS)) == []
    database.wait_indexed()
    return values


@pytest.mark.parametrize(("case", "metric"), EACH_METRIC)
def test_h24_search_is_exact_and_best_first(case: DatabaseCase, metric: Metric, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema(metric=metric, dim=6))
    batch = records(case, list(range(80)), kind, dim=6, seed=5)
    database.upsert(batch)
    stored = batch.vectors[case.vector].values.astype(np.float64)
    queries = np.random.default_rng(6).standard_normal((5, 6)).astype(np.float32)
    hits = database.search(queries, 10, vector=case.vector, exact=True)
    assert len(hits.ids) == len(hits.scores) == 5
    for query, ids, scores in zip(queries.astype(np.float64), hits.ids, hits.scores, strict=True):
        nearest = np.argsort(distances(metric, stored, query), kind="stable")[:10].tolist()
        assert ids == numbered(kind, nearest)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, conventional(case, metric, stored[nearest], query), rtol=1e-4, atol=1e-5)


def conventional(case: DatabaseCase, metric: Metric, stored: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Scores as the database declares to give them."""
    found = distances(metric, stored, query)
    if metric is Metric.COSINE:
        return -found / np.linalg.norm(query)
    if metric is Metric.DOT:
        return -found
    return found**2 if metric is Metric.EUCLIDEAN and case.capabilities.squared_euclidean else found


def distances(metric: Metric, stored: np.ndarray, query: np.ndarray) -> np.ndarray:
    if metric is Metric.COSINE:
        return -(stored @ query) / np.linalg.norm(stored, axis=1)
    if metric is Metric.DOT:
        return -(stored @ query)
    if metric is Metric.EUCLIDEAN:
        return np.linalg.norm(stored - query, axis=1)
    return np.abs(stored - query).sum(axis=1)


CONDITIONS: list[dict[str, Any]] = [
    {"even": True},
    {"third": 2},
    {"name": PAYLOADS[1]["name"]},
    {"even": False, "third": 0},
    {"third": 7},
]


def test_a_filter_leaves_the_nearest_of_those_that_pass(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    values = filled(case, database)
    query = np.ones(4, dtype=np.float32)
    for condition in CONDITIONS:
        passing = [i for i, payload in enumerate(PAYLOADS) if condition.items() <= payload.items()]
        best = sorted(passing, key=lambda i: -float(values[i] @ query))
        for k in (3, 25):
            (found,) = database.search(query[None], k, vector=case.vector, where=condition).ids
            assert [str(value) for value in found.to_pylist()] == [
                str(value) for value in numbered(case.kinds[0], best[:k]).to_pylist()
            ]
    keys = {"qdrant": 'a"b', "milvus": 'a"b', "pinecone": "$and", "weaviate": "nowhere"}
    with pytest.raises(SchemaMismatch, match="cannot filter by"):
        database.search(query[None], 1, vector=case.vector, where={keys[case.capabilities.type]: "x"})


def other_kind(case: DatabaseCase, kind: VectorKind, opened: Opener) -> Database:
    if kind not in case.capabilities.searches or kind not in case.capabilities.vector_kinds:
        pytest.skip("it cannot be searched by such a vector")
    database = opened()
    vectors = (VectorSchema(name="other", kind=kind, dim=2 if kind is VectorKind.MULTI else None, metric=Metric.DOT),)
    if case.capabilities.type == "milvus":
        vectors += case.schema().vectors
    database.create(case.schema().model_copy(update={"vectors": vectors}))
    return database


def put(case: DatabaseCase, database: Database, column: Any, name: str = "other") -> IdColumn:
    ids = numbered(case.kinds[0], range(len(column)))
    columns = {name: column}
    if case.capabilities.type == "milvus" and case.vector != name:
        columns[case.vector] = Dense(np.ones((len(column), 4), np.float32))
    assert database.upsert(Batch(ids, None, columns, [{}] * len(column))) == []
    return ids


def test_a_sparse_vector_finds_by_the_dimensions_that_it_shares(case: DatabaseCase, opened: Opener) -> None:
    database = other_kind(case, VectorKind.SPARSE, opened)
    column = Sparse(
        np.array([0, 2, 3, 5]), np.array([1, 7, 7, 1, 9], np.uint32), np.array([1, 2, 2.5, 5, 1], np.float32)
    )
    ids = put(case, database, column)
    query = Sparse(np.array([0, 2]), np.array([1, 7], np.uint32), np.array([1, 1], np.float32))
    hits = database.search(query, 2, vector="other")
    assert hits.ids[0] == ids.take([2, 0])
    np.testing.assert_allclose(hits.scores[0], [5, 3], rtol=1e-5)


def test_a_vector_of_several_finds_by_the_sum_of_the_largest_products(case: DatabaseCase, opened: Opener) -> None:
    database = other_kind(case, VectorKind.MULTI, opened)
    column = Multi(np.array([0, 1, 3, 4]), np.array([[1, 0], [0, 2], [3, 0], [2, 2]], np.float32))
    ids = put(case, database, column)
    query = Multi(np.array([0, 2]), np.array([[1, 0], [0, 1]], np.float32))
    hits = database.search(query, 2, vector="other")
    assert hits.ids[0] == ids.take([1, 2])
    np.testing.assert_allclose(hits.scores[0], [5, 4], rtol=1e-5)


def test_bits_are_searched_by_bits(case: DatabaseCase, opened: Opener) -> None:
    if Element.BINARY not in case.capabilities.elements:
        pytest.skip("it stores no bits")
    database = opened()
    vector = VectorSchema(name="bits", dim=16, metric=Metric.HAMMING, element=Element.BINARY)
    database.create(case.schema().model_copy(update={"vectors": (vector,)}))
    bits = np.random.default_rng(3).integers(0, 2, (9, 16))
    packed = Packed(Element.BINARY, 16, np.packbits(bits.astype(np.uint8), axis=1))
    ids = numbered(case.kinds[0], range(9))
    database.upsert(Batch(ids, None, {"bits": packed}, [{}] * 9))
    hits = database.search(bits[4:5].astype(np.float32), 1, vector="bits")
    assert hits.ids[0] == ids.take([4])
    assert hits.scores[0].tolist() == [0]
