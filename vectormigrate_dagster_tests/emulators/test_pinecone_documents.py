"""What Pinecone's documentation promises of document indexes, through its official client.

It is true of the stand-in, and of a real project if PINECONE_HOST and PINECONE_API_KEY name one (then run with -n 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pinecone import Pinecone, SparseValues
from pinecone.index import Index

from vectormigrate_dagster_tests.emulators.pinecone_clients import DOCUMENTS, FREE_TEXT, eventually, made, refused


@pytest.fixture(scope="module")
def documents(pinecone_client: Pinecone) -> Iterator[Index]:
    with made(pinecone_client, DOCUMENTS) as index:
        yield index


def test_documents_come_back_whole(documents: Index, namespace: str) -> None:
    given = {"_id": "a/b c", "embedding": [0.1, 0.2, 0.3], "title": FREE_TEXT, "n": 7, "tags": ["x", ""], "ok": False}
    sparse = {"_id": "s", "embedding": [1.0, 2.0, 3.0], "keywords": SparseValues(indices=[9, 3], values=[0.5, 0.25])}
    written = documents.documents.upsert(namespace=namespace, documents=[given, sparse])
    assert written.upserted_count == 2
    fetch = lambda **more: documents.documents.fetch(namespace=namespace, ids=["a/b c", "s", "none"], **more)  # noqa: E731
    found = eventually(lambda: fetch().documents)
    assert found.keys() == {"a/b c", "s"}
    assert found["a/b c"].to_dict() == given
    keywords = found["s"].get("keywords")
    assert dict(zip(keywords["indices"], keywords["values"], strict=True)) == {9: 0.5, 3: 0.25}
    assert fetch(include_fields=["n"]).documents["a/b c"].to_dict() == {"_id": "a/b c", "n": 7}
    by_filter = documents.documents.fetch(namespace=namespace, filter={"tags": "x"})
    assert by_filter.documents.keys() == {"a/b c"}


def test_documents_are_listed_in_the_order_of_bytes(documents: Index, namespace: str) -> None:
    everything = [*"aBA_~ ", *(f"n{i}" for i in range(130))]
    documents.documents.upsert(
        namespace=namespace, documents=[{"_id": each, "embedding": [1.0, 0.0, 0.0]} for each in everything]
    )
    pages = eventually(lambda: [page.items for page in documents.documents.list(namespace=namespace).pages()])
    assert [[each.id for each in page] for page in pages] == [sorted(everything)[:100], sorted(everything)[100:]]
    some = documents.documents.list(namespace=namespace, prefix="n1", limit=9).to_list()
    assert [each.id for each in some] == sorted(each for each in everything if each.startswith("n1"))


def test_documents_are_searched_changed_and_deleted(documents: Index, namespace: str) -> None:
    given = [{"_id": f"{i}", "embedding": [1.0, float(i), 0.0], "n": i, "old": "x"} for i in range(6)]
    given[5]["keywords"] = {"indices": [4], "values": [2.0]}
    api, at = documents.documents, {"namespace": namespace}
    lsn = api.upsert(documents=given, **at).response_info.lsn_committed
    by = [{"type": "dense_vector", "field": "embedding", "values": [1.0, 3.0, 0.0]}]
    eventually(lambda: api.search(score_by=by, top_k=1, **at).response_info.is_reconciled(lsn))
    found = api.search(score_by=by, top_k=2, filter={"n": {"$gt": 3}}, include_fields=["n"], **at).matches
    assert [each.to_dict() for each in found] == [{"_id": "4", "_score": 1, "n": 4}, {"_id": "5", "_score": 4, "n": 5}]
    of_keywords = [{"type": "sparse_vector", "field": "keywords", "sparse_values": {"indices": [4], "values": [3.0]}}]
    found = api.search(score_by=of_keywords, top_k=5, **at).matches
    assert [each.to_dict() for each in found] == [{"_id": "5", "_score": 6}]
    patches = [{"_id": "0", "n": 10, "_remove_fields": ["old"]}, {"_id": "none", "n": 1}]
    api.update(documents=patches, **at)
    assert api.update(filter={"n": {"$lt": 3}}, set_fields={"low": True}, **at).matched_records == 2
    fetched = eventually(lambda: api.fetch(filter={"low": True}, **at).documents)
    assert fetched.keys() == {"1", "2"}
    assert api.fetch(ids=["0", "none"], **at).documents["0"].to_dict() == {
        "_id": "0",
        "embedding": [1.0, 0.0, 0.0],
        "n": 10,
    }
    assert api.delete(filter={"low": True}, **at).matched_records == 2
    api.delete(ids=["0", "none"], **at)
    eventually(lambda: [each.id for each in api.list(**at)] == ["3", "4", "5"])
    assert documents.describe_index_stats().namespaces[namespace].vector_count == 3
    api.delete(delete_all=True, **at)
    eventually(lambda: api.list(**at).to_list() == [])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"embedding": [1.0, 2.0]},
        {"embedding": [0.0, 0.0, 0.0]},
        {"embedding": [1.0, 2.0, 3.0], "_private": 1},
        {"embedding": [1.0, 2.0, 3.0], "$private": 1},
        {"embedding": [1.0, 2.0, 3.0], "k" * 65: 1},
        {"embedding": [1.0, 2.0, 3.0], "x": None},
        {"embedding": [1.0, 2.0, 3.0], "x": {"nested": 1}},
        {"embedding": [1.0, 2.0, 3.0], "x": [1, 2]},
        {"embedding": [1.0, 2.0, 3.0], "title": 5},
        {"embedding": [1.0, 2.0, 3.0], "keywords": [1.0]},
    ],
)
def test_documents_that_do_not_fit(documents: Index, namespace: str, fields: dict[str, Any]) -> None:
    good = {"_id": "good", "embedding": [1.0, 2.0, 3.0]}
    with refused(400):
        documents.documents.upsert(namespace=namespace, documents=[good, {"_id": "bad", **fields}])
    assert documents.documents.list(namespace=namespace).to_list() == []
