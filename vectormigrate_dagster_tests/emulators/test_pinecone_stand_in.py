"""What Pinecone's documentation promises of indexes and of the vectors API, through its official client.

It is true of the stand-in, and of a real project if PINECONE_HOST and PINECONE_API_KEY name one (then run with -n 0:
every index takes its time).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pinecone import NotFoundError, Pinecone, ServerlessSpec
from pinecone.index import Index
from pinecone.models.indexes.schema import DenseVectorField, SparseVectorField

from vectormigrate_dagster_tests.emulators.pinecone_clients import (
    DOCUMENTS,
    FREE_TEXT,
    HYBRID,
    dense,
    eventually,
    ids_of,
    made,
    new_name,
    refused,
    upsert,
)


@pytest.fixture(scope="module")
def vectors(pinecone_client: Pinecone) -> Iterator[Index]:
    """A legacy index of dense and sparse vectors."""
    with made(pinecone_client, HYBRID) as index:
        yield index


@pytest.fixture(scope="module")
def documents(pinecone_client: Pinecone) -> Iterator[Index]:
    with made(pinecone_client, DOCUMENTS) as index:
        yield index


def vector(*head: float) -> list[float]:
    return [*head, *[0.0] * (4 - len(head))]


########################################################################
# Control plane
########################################################################


def test_an_index_as_the_quickstart_makes_it(pinecone_client: Pinecone) -> None:
    name = new_name()
    spec = ServerlessSpec(cloud="aws", region="us-east-1")
    index = pinecone_client.create_index(
        name, dimension=8, metric="euclidean", spec=spec, tags={"owner": "tests", "n": "1"}
    )
    assert index.status.ready
    assert index.host.startswith("http")
    described = pinecone_client.indexes.describe(name)
    assert described.schema.fields == {"_values": DenseVectorField(dimension=8, metric="euclidean")}
    assert (described.deployment.cloud, described.deployment.region) == ("aws", "us-east-1")
    assert (described.dimension, described.metric, described.vector_type) == (8, "euclidean", "dense")
    assert described.tags == {"owner": "tests", "n": "1"}
    assert name in [each.name for each in pinecone_client.indexes.list()]
    assert pinecone_client.indexes.exists(name)
    pinecone_client.indexes.delete(name)
    assert not pinecone_client.indexes.exists(name)
    assert name not in [each.name for each in pinecone_client.indexes.list()]


def test_tags_and_protection_are_configured(pinecone_client: Pinecone) -> None:
    name = new_name()
    pinecone_client.indexes.create(
        name=name, schema={"fields": dense()}, deletion_protection="enabled", tags={"a": "1"}
    )
    with refused(403, "Deletion protection is enabled"):
        pinecone_client.indexes.delete(name)
    configured = pinecone_client.indexes.configure(name, deletion_protection="disabled", tags={"a": "", "b": "2"})
    assert (configured.tags, configured.deletion_protection) == ({"b": "2"}, "disabled")
    pinecone_client.indexes.delete(name)


def test_names_and_schemas_that_are_impossible(pinecone_client: Pinecone) -> None:
    name = new_name()
    pinecone_client.indexes.create(name=name, schema={"fields": dense()})
    with refused(409, "already exists"):
        pinecone_client.indexes.create(name=name, schema={"fields": dense()})
    with pytest.raises(NotFoundError, match="not found"):
        pinecone_client.indexes.describe("vectormigrate-none")
    field = {"type": "dense_vector", "dimension": 2, "metric": "cosine"}
    for fields in (
        {"a": field, "b": field},
        {**dense(), "title": DOCUMENTS["title"]},
        {"a": {**field, "dimension": 20_001}},
        {"a": {**field, "metric": "manhattan"}},
        {"_a": field},
        {"$a": field},
        {"a": {"type": "float", "filterable": True}},
        {"a": {"type": "string"}},
    ):
        with refused(400):
            pinecone_client.indexes.create(name=new_name(), schema={"fields": fields}, timeout=-1)
    with refused(422):
        pinecone_client.indexes.create(name=new_name(), schema={"fields": {"a": {"type": "integer"}}}, timeout=-1)


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        (HYBRID, {"_values": DenseVectorField, "_sparse_values": SparseVectorField}),
        ({"_sparse_values": {"type": "sparse_vector"}}, {"_sparse_values": SparseVectorField}),
    ],
)
def test_schemas_say_which_api_serves_an_index(
    pinecone_client: Pinecone, fields: dict[str, Any], kinds: dict[str, Any]
) -> None:
    index = pinecone_client.indexes.create(name=new_name(), schema={"fields": fields})
    assert {name: type(field) for name, field in index.schema.fields.items()} == kinds


def test_each_index_is_served_by_one_api(vectors: Index, documents: Index, namespace: str) -> None:
    with refused(400):
        documents.upsert(vectors=[("a", [1.0, 2.0, 3.0])], namespace=namespace)
    with refused(400):
        documents.list_paginated(namespace=namespace)
    with refused(400):
        vectors.documents.upsert(documents=[{"_id": "a", "embedding": [1.0, 2.0, 3.0]}], namespace=namespace)
    with refused(400):
        vectors.documents.list(namespace=namespace).to_list()


########################################################################
# Records
########################################################################


def test_what_is_written_comes_back(vectors: Index, namespace: str) -> None:
    values = np.array([0.1, -1e-20, 3.4e38, 1 / 3], dtype=np.float32)
    metadata = {
        "text": FREE_TEXT,
        "": "an empty key",
        "schlüssel": "",
        "whole": 7,
        "large": 2**53,
        "too large": 2**53 + 1,
        "fraction": -0.1,
        "yes": True,
        "list": ["b", "a", "b", ""],
        "empty": [],
    }
    record = {"id": "a b+c/%#é"[:-1], "values": values.tolist(), "metadata": metadata}
    record["sparse_values"] = {"indices": [4294967295, 0], "values": [0.5, -0.25]}
    upsert(vectors, [record, ("bare", vector(1))], namespace)
    found = eventually(lambda: vectors.fetch(ids=[record["id"], "bare", "none"], namespace=namespace).vectors)
    assert found.keys() == {record["id"], "bare"}
    assert np.array_equal(np.array(found[record["id"]].values, dtype=np.float32), values)
    sparse = found[record["id"]].sparse_values
    assert dict(zip(sparse.indices, sparse.values, strict=True)) == {0: -0.25, 4294967295: 0.5}
    assert found[record["id"]].metadata == {**metadata, "too large": 2**53}
    assert type(found[record["id"]].metadata["yes"]) is bool
    assert (found["bare"].metadata, found["bare"].sparse_values) == (None, None)


def test_an_upsert_replaces_and_an_update_merges(vectors: Index, namespace: str) -> None:
    upsert(vectors, [{"id": "a", "values": vector(1), "metadata": {"x": 1, "y": "old"}}], namespace)
    vectors.update(id="a", set_metadata={"y": "new", "z": ["l"]}, namespace=namespace)
    vectors.update(id="none", set_metadata={"y": "new"}, namespace=namespace)
    fetch = lambda: vectors.fetch(ids=["a", "none"], namespace=namespace).vectors  # noqa: E731  # read again and again
    eventually(lambda: fetch()["a"].metadata == {"x": 1, "y": "new", "z": ["l"]})
    vectors.update(id="a", values=vector(0, 2), namespace=namespace)
    eventually(lambda: fetch()["a"].values == vector(0, 2))
    assert fetch().keys() == {"a"}
    upsert(vectors, [("a", vector(3))], namespace)
    eventually(lambda: fetch()["a"].metadata is None)


def test_lists_are_in_the_order_of_bytes_and_in_pages(vectors: Index, namespace: str) -> None:
    special = ["a", "B", "A", "a b", "Zz", "~", "_", "10", "9", "a\x7f", " x", "é".encode().hex(), "ab", "a-b"]
    everything = [*special, *(f"n/{i}" for i in range(240))]
    upsert(vectors, [(each, vector(1)) for each in everything], namespace)
    eventually(lambda: vectors.describe_index_stats().namespaces[namespace].vector_count == len(everything))
    pages = ids_of(vectors, namespace)
    assert [*itertools.chain(*pages)] == sorted(everything)
    assert [len(page) for page in pages] == [100, 100, 54]
    for prefix in ("a", "n/1", "n/", "", "zzz", "a\x7f"):
        pages = ids_of(vectors, namespace, prefix=prefix, limit=7)
        assert [*itertools.chain(*pages)] == sorted(each for each in everything if each.startswith(prefix))
        assert all(len(page) == 7 for page in pages[:-1])


def test_a_token_goes_on_where_a_page_ended(vectors: Index, namespace: str) -> None:
    upsert(vectors, [(f"{i:03}", vector(1)) for i in range(30)], namespace)
    eventually(lambda: [*itertools.chain(*ids_of(vectors, namespace))] == [f"{i:03}" for i in range(30)])
    first = vectors.list_paginated(namespace=namespace, limit=10)
    again = vectors.list_paginated(namespace=namespace, limit=10, pagination_token=first.pagination.next)
    last = vectors.list_paginated(namespace=namespace, limit=10, pagination_token=again.pagination.next)
    assert [item.id for item in last] == [f"{i:03}" for i in range(20, 30)]
    assert last.pagination is None
    with refused(400):
        vectors.list_paginated(namespace=namespace, pagination_token="nonsense")


def test_deletes_by_ids_by_filter_and_of_all(vectors: Index, namespace: str) -> None:
    records = [{"id": f"{i}", "values": vector(1), "metadata": {"n": i}} for i in range(10)]
    upsert(vectors, records, namespace)
    left = lambda: [*itertools.chain(*ids_of(vectors, namespace))]  # noqa: E731  # read again and again
    vectors.delete(ids=["0", "1", "none"], namespace=namespace)
    vectors.delete(filter={"n": {"$gte": 5}}, namespace=namespace)
    eventually(lambda: left() == ["2", "3", "4"])
    vectors.delete(delete_all=True, namespace=namespace)
    eventually(lambda: left() == [])
    with refused(404, "Namespace not found"):
        vectors.delete(ids=["0"], namespace=f"{namespace}-none")


########################################################################
# Namespaces
########################################################################


def test_the_same_id_in_several_namespaces(pinecone_client: Pinecone) -> None:
    with made(pinecone_client, dense()) as index:
        for i, name in enumerate(["b", "a", "", "B"]):
            upsert(index, [("id", vector(1, i))], name)
        index.create_namespace(name="c")
        stats = index.describe_index_stats()
        counts = {name: summary.vector_count for name, summary in stats.namespaces.items()}
        assert counts == {"a": 1, "b": 1, "B": 1, "c": 0, "__default__": 1}
        assert (stats.total_vector_count, stats.dimension, stats.metric) == (4, 4, "cosine")
        pages = list(index.list_namespaces(limit=2))
        assert [[each.name for each in page] for page in pages] == [["B", "__default__"], ["a", "b"], ["c"]]
        assert [each.name for each in index.list_namespaces_paginated(prefix="a").namespaces] == ["a"]
        assert index.fetch(ids=["id"], namespace="__default__").vectors["id"].values == vector(1, 2)
        assert index.fetch(ids=["id"], namespace="a").vectors["id"].values == vector(1, 1)
        assert index.describe_namespace(name="b").record_count == 1
        index.delete_namespace(name="b")
        with refused(404):
            index.describe_namespace(name="b")
        assert index.fetch(ids=["id"], namespace="b").vectors == {}
        assert list(index.list(namespace="b")) == []


def test_namespaces_say_which_metadata_they_index(vectors: Index, namespace: str) -> None:
    described = vectors.create_namespace(name=namespace, schema={"fields": {"year": {"filterable": True}}})
    assert described.schema.fields["year"].filterable
    assert vectors.describe_namespace(name=namespace).schema == described.schema
    with refused(409):
        vectors.create_namespace(name=namespace)


########################################################################
# Queries
########################################################################


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", {"same": 1.0, "near": 0.6, "far": 0.0}),
        ("dotproduct", {"near": 3.0, "same": 2.0, "far": 0.0}),
        ("euclidean", {"same": 1.0, "far": 17.0, "near": 20.0}),
    ],
)
def test_scores_of_each_metric_best_first(pinecone_client: Pinecone, metric: str, expected: dict[str, float]) -> None:
    records = {"same": vector(2, 0), "near": vector(3, 4), "far": vector(0, 4)}
    with made(pinecone_client, dense(metric=metric)) as index:
        upsert(index, list(records.items()), "")
        found = index.query(vector=vector(1), top_k=3, include_values=True)
    assert [match.id for match in found.matches] == list(expected)
    assert [match.score for match in found.matches] == pytest.approx(list(expected.values()), rel=2e-3, abs=2e-3)
    assert {match.id: match.values for match in found.matches} == records


def test_a_hybrid_query_adds_both_products(vectors: Index, namespace: str) -> None:
    both = {"indices": [7, 9], "values": [2.0, 1.0]}
    upsert(vectors, [{"id": "h", "values": vector(1), "sparse_values": both}, ("d", vector(3))], namespace)
    found = vectors.query(
        vector=vector(1), sparse_vector={"indices": [9, 11], "values": [5.0, 1.0]}, top_k=2, namespace=namespace
    )
    assert {match.id: match.score for match in found.matches} == {"h": 6.0, "d": 3.0}


def test_a_sparse_index_finds_what_has_a_dimension_in_common(pinecone_client: Pinecone) -> None:
    with made(pinecone_client, {"_sparse_values": {"type": "sparse_vector"}}) as index:
        lists = {"a": ([1, 2], [1.0, 2.0]), "b": ([2], [3.0]), "c": ([5], [9.0])}
        index.upsert(
            vectors=[{"id": i, "sparse_values": {"indices": at, "values": v}} for i, (at, v) in lists.items()],
            namespace="s",
        )
        query = {"sparse_vector": {"indices": [1, 2], "values": [1.0, 1.0]}, "top_k": 10, "namespace": "s"}
        found = eventually(lambda: index.query(**query).matches)
        assert [(match.id, match.score) for match in found] == [("a", 3.0), ("b", 3.0)]
        assert index.fetch(ids=["c"], namespace="s").vectors["c"].values == []
        with refused(400, "does not support dense values"):
            index.upsert(vectors=[("d", [1.0])], namespace="s")


FILTERED = {
    "x": {"n": 1, "s": "red", "l": ["a", "b"], "f": True},
    "y": {"n": 2.5, "s": "blue", "l": ["b"], "f": False},
    "z": {"s": "Red"},
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"n": 1}, "x"),
        ({"n": {"$eq": 2.5}}, "y"),
        ({"n": {"$gt": 1, "$lte": 2.5}}, "y"),
        ({"n": {"$gte": 1}}, "xy"),
        ({"n": {"$lt": 2}}, "x"),
        ({"s": {"$in": ["red", "Red"]}}, "xz"),
        ({"s": {"$nin": ["red", "Red"]}}, "y"),
        ({"s": {"$ne": "red"}}, "yz"),
        ({"l": "b"}, "xy"),
        ({"l": {"$in": ["a", "c"]}}, "x"),
        ({"f": True}, "x"),
        ({"n": {"$exists": False}}, "z"),
        ({"$or": [{"n": 1}, {"s": "Red"}]}, "xz"),
        ({"$and": [{"l": "b"}, {"f": {"$ne": True}}]}, "y"),
        ({"l": "b", "s": "blue"}, "y"),
        ({"n": "1"}, ""),
    ],
)
def test_filters(vectors: Index, condition: dict[str, Any], expected: str) -> None:
    upsert(vectors, [{"id": i, "values": vector(1), "metadata": m} for i, m in FILTERED.items()], "filters")
    found = vectors.query(vector=vector(1), top_k=10, filter=condition, namespace="filters", include_metadata=True)
    assert sorted(match.id for match in found.matches) == list(expected)
    page = vectors.fetch_by_metadata(filter=condition, namespace="filters")
    assert sorted(page.vectors) == list(expected)


@pytest.mark.parametrize(
    "condition",
    [
        {"n": {"$regex": "x"}},
        {"$not": {"n": 1}},
        {"n": {"$gt": "1"}},
        {"n": {"$in": "x"}},
        {"n": {"$eq": [1]}},
        {"$and": []},
        {"n": None},
    ],
)
def test_filters_that_are_none(vectors: Index, condition: dict[str, Any]) -> None:
    with refused(400):
        vectors.query(vector=vector(1), top_k=1, filter=condition)


def test_a_query_by_id_and_what_it_shows(vectors: Index, namespace: str) -> None:
    upsert(vectors, [{"id": "a", "values": vector(1), "metadata": {"k": "v"}}, ("b", vector(2))], namespace)
    found = vectors.query(id="a", top_k=1, namespace=namespace)
    assert [(match.id, match.values, match.metadata) for match in found.matches] == [("b", [], None)]
    assert vectors.query(id="none", top_k=1, namespace=namespace).matches == []
    assert vectors.query(vector=vector(1), top_k=1, namespace=f"{namespace}-none").matches == []
