"""What the tests of the Pinecone stand-in share: the official client, and indexes of both kinds."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from pinecone import ApiError, Pinecone
from pinecone.index import Index

from vectormigrate_dagster_tests.emulators.pinecone import PineconeServer, PineconeStandIn

PREFIX = "vectormigrate-stand-in-"
"""Of the names of indexes that tests make and delete."""
HYBRID = {
    "_values": {"type": "dense_vector", "dimension": 4, "metric": "dotproduct"},
    "_sparse_values": {"type": "sparse_vector"},
}
DOCUMENTS = {
    "embedding": {"type": "dense_vector", "dimension": 3, "metric": "euclidean"},
    "keywords": {"type": "sparse_vector"},
    "title": {"type": "string", "full_text_search": {}},
}


FREE_TEXT = 'é\n"\\ 漢字 \U0001f600'


def client_of(server: PineconeServer | PineconeStandIn) -> Pinecone:
    """The official client; where there is no TLS it is spared the reading of certificates, which takes long."""
    return Pinecone(api_key=server.api_key, host=server.url, ssl_verify=server.url.startswith("https"))


def new_name() -> str:
    return f"{PREFIX}{uuid.uuid4().hex[:8]}"


def made(client: Pinecone, fields: dict[str, Any], **more: Any) -> Index:
    """The client of a new index."""
    index = client.indexes.create(name=new_name(), schema={"fields": fields}, **more)
    return client.index(host=index.host)


def dense(dimension: int = 4, metric: str = "cosine") -> dict[str, Any]:
    """The schema of a legacy vector index."""
    return {"_values": {"type": "dense_vector", "dimension": dimension, "metric": metric}}


def upsert(index: Index, vectors: list[Any], namespace: str) -> None:
    """Write vectors, and wait until queries see them, as the documentation tells to."""
    lsn = index.upsert(vectors=vectors, namespace=namespace).response_info.lsn_committed
    probe = {"vector": [1.0, 0.0, 0.0, 0.0], "top_k": 1, "namespace": namespace}
    eventually(lambda: index.query(**probe).response_info.is_reconciled(lsn))


def eventually(what: Callable[[], Any]) -> Any:
    """What becomes true after a while, on a real server; its value."""
    deadline = time.monotonic() + 60
    while not (value := what()) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert value
    return value


@contextmanager
def refused(status: int, words: str | None = None) -> Any:
    """Expect a refusal."""
    with pytest.raises(ApiError, match=words) as caught:
        yield caught
    assert caught.value.status_code == status


def ids_of(index: Index, namespace: str, **more: Any) -> list[list[str]]:
    """All pages of a list, ids only."""
    return [[item.id for item in page] for page in index.list(namespace=namespace, **more)]
