"""What both kinds of index have in common: the same questions to two APIs of the official client.

`VectorsApi` serves indexes with nothing but `_values` and `_sparse_values`, `DocumentsApi` all others; requests to the
wrong one are refused: https://docs.pinecone.io/guides/indexes/move-to-the-documents-api
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.pinecone.capabilities import DEFAULT_NAMESPACE
from vectormigrate_dagster.databases.pinecone.records import Row, client_forms, json_bytes
from vectormigrate_dagster.model import Payload, VectorColumn, VectorKind, VectorSchema

LIST_LIMIT = 100
"""Ids of one page; https://docs.pinecone.io/reference/api/2026-07/data-plane/list"""

FETCH_LIMIT = 1000
"""Ids of one request; https://docs.pinecone.io/reference/api/database-limits#fetch-limits"""

_ANSWER_BYTES = 4 * 10**6
"""Of an answer: the documented limit of a query's, which is not said of a fetch's."""

_PAYLOAD_BYTES = 4000
"""Of a record's metadata, as a guess; at most it is ten times as much."""


Answer = tuple[list[tuple[str, float]], int | None]
"""Ids and scores, best first; and the log position up to which a search sees writes, if the server tells."""


@dataclass(frozen=True)
class IdPage:
    """A page of ids, or of names of namespaces.

    Args:
        ids: as the server gave them.
        token: what to ask for the next page with; None if this is the last.
    """

    ids: list[str]
    token: str | None


class IndexApi(ABC):
    """One index. Every method is one request.

    Args:
        index: the official client of the index.
        vectors: what each record holds.
        lists: it lists its ids and namespaces, as all do but pod indexes.
    """

    url_bytes: int | None = None
    """Most bytes of ids in a fetch; None where they are not part of the address."""

    component_bytes = 13
    """Of a component in an answer: as text, on average at most, with its comma."""

    def __init__(self, index: Any, vectors: tuple[VectorSchema, ...], *, lists: bool = True) -> None:
        self.index = index
        self.vectors = vectors
        self.lists = lists
        components = sum(vector.dim or 500 for vector in vectors)
        fitting = _ANSWER_BYTES // (self.component_bytes * components + _PAYLOAD_BYTES)
        self._fetch_records = max(1, min(FETCH_LIMIT, fitting))

    @property
    def reserved(self) -> frozenset[str]:
        """Keys that no payload may have."""
        return frozenset()

    @property
    def required(self) -> frozenset[str]:
        """The vectors that no record may lack."""
        return frozenset(vector.name for vector in self.vectors if not vector.optional)

    def list_namespaces(self, token: str | None) -> IdPage:
        """List the names of the namespaces that were ever written to."""
        if not self.lists:
            return IdPage(list(self.counts()), None)
        page = self.index.list_namespaces_paginated(limit=LIST_LIMIT, pagination_token=token)
        following = page.pagination.next if page.pagination is not None else None
        return IdPage([described.name or DEFAULT_NAMESPACE for described in page.namespaces], following or None)

    def counts(self) -> dict[str, int]:
        """Records of each namespace, as the server counts them some time after they were written."""
        stats = self.index.describe_index_stats().namespaces
        return {name or DEFAULT_NAMESPACE: summary.vector_count for name, summary in stats.items()}

    def requests(self, ids: Sequence[str]) -> Iterator[Sequence[str]]:
        """`ids` in pieces that may be fetched at once."""
        start, size = 0, 0
        for stop, value in enumerate(ids):
            more = 0 if self.url_bytes is None else len(quote(value, safe="")) + len("&ids=")
            full = self.url_bytes is not None and size + more > self.url_bytes
            if stop > start and (full or stop - start >= self._fetch_records):
                yield ids[start:stop]
                start, size = stop, 0
            size += more
        if start < len(ids):
            yield ids[start:]

    @abstractmethod
    def list_ids(self, namespace: str, prefix: str, token: str | None) -> IdPage:
        """List ids that begin with `prefix`."""

    @abstractmethod
    def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Row]:
        """Read records; those that are not there are left out."""

    def forms_of(self, column: VectorColumn) -> Iterator[tuple[Any, int] | None]:
        """Each record's vector as `record` takes it and the bytes that it takes in a request; None if it lacks it."""
        return client_forms(column)

    def record(self, id: str, vectors: Mapping[str, tuple[Any, int]], payload: Payload) -> tuple[Any, int]:
        """One record as `upsert` takes it, and the bytes that it takes in a request.

        Args:
            vectors: by name, as `forms_of` gives them.

        Raises:
            UnfitError: the payload cannot be sent.
        """
        row = Row(id, {name: form for name, (form, _) in vectors.items()}, payload)
        return row, json_bytes(id, vectors, payload)

    @abstractmethod
    def upsert(self, namespace: str, records: Sequence[Any]) -> int | None:
        """Write records, each as `record` gives it; return the log position of the write, if the server tells it."""

    @abstractmethod
    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """Delete records; return the log position of the deletion, if the server tells it."""

    @abstractmethod
    def search(
        self,
        namespace: str,
        vector: VectorSchema,
        query: npt.NDArray[np.float32],
        k: int,
        where: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The k records nearest to a dense query, float32 (d,), with their scores; only those that pass `where`."""

    def position(self, namespace: str) -> int | None:
        """The log position up to which searches see writes, if the server tells: asked by a search for anything."""
        vector = self.vectors[0]
        dim = 1 if vector.kind is VectorKind.SPARSE else vector.dim or 1
        return self.search(namespace, vector, np.ones(dim, dtype=np.float32), 1)[1]
