"""The vectors API of Pinecone's client, for indexes with `_values`, `_sparse_values` or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.pinecone.api import LIST_LIMIT, Answer, IdPage, IndexApi
from vectormigrate_dagster.databases.pinecone.capabilities import DEFAULT_NAMESPACE, DENSE_FIELD, SPARSE_FIELD
from vectormigrate_dagster.databases.pinecone.records import Row, payload_of
from vectormigrate_dagster.model import VectorKind, VectorSchema


class VectorsApi(IndexApi):
    """See `IndexApi`."""

    url_bytes: int | None = 6000
    """Servers and what stands between take addresses of 8 KB: https://www.rfc-editor.org/rfc/rfc9110#section-4.1-5"""

    def list_ids(self, namespace: str, prefix: str, token: str | None) -> IdPage:
        """See `IndexApi.list_ids`."""
        page = self.index.list_paginated(
            namespace=on_wire(namespace), prefix=prefix or None, limit=LIST_LIMIT, pagination_token=token
        )
        following = page.pagination.next if page.pagination is not None else None
        return IdPage([item.id for item in page.vectors], following or None)

    def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Row]:
        """See `IndexApi.fetch`."""
        found = self.index.fetch(ids=list(ids), namespace=on_wire(namespace)).vectors
        return {key: Row(key, _vectors(vector), payload_of(vector.metadata or {})) for key, vector in found.items()}

    def upsert(self, namespace: str, records: Sequence[Any]) -> int | None:
        """See `IndexApi.upsert`."""
        from pinecone import SparseValues, Vector

        vectors = []
        for row in records:
            sparse = row.vectors.get(SPARSE_FIELD)
            vectors.append(
                Vector(
                    id=row.id,
                    values=row.vectors.get(DENSE_FIELD, []),
                    sparse_values=None if sparse is None else SparseValues(indices=sparse[0], values=sparse[1]),
                    metadata=row.payload or None,
                )
            )
        written = self.index.upsert(vectors=vectors, namespace=on_wire(namespace))
        return _committed(written)

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """See `IndexApi.delete`; the client keeps the answer to itself."""
        self.index.delete(ids=list(ids), namespace=on_wire(namespace))
        return None

    def search(
        self,
        namespace: str,
        vector: VectorSchema,
        query: npt.NDArray[np.float32],
        k: int,
        where: Mapping[str, Any] | None = None,
    ) -> Answer:
        """See `IndexApi.search`; of a sparse vector, `query` are the weights of the first dimensions."""
        values: dict[str, Any] = {"vector": query.tolist()}
        if vector.kind is VectorKind.SPARSE:
            values = {"sparse_vector": {"indices": list(range(len(query))), "values": query.tolist()}}
        answer = self.index.query(
            namespace=on_wire(namespace),
            top_k=k,
            filter=where or None,
            include_values=False,
            include_metadata=False,
            **values,
        )
        position = None if answer.response_info is None else answer.response_info.lsn_reconciled
        return [(match.id, match.score) for match in answer.matches], position


def on_wire(namespace: str) -> str:
    """A namespace as pod indexes know it, too: they have no name for the default one."""
    return "" if namespace == DEFAULT_NAMESPACE else namespace


def _committed(answer: Any) -> int | None:
    position: int | None = None if answer.response_info is None else answer.response_info.lsn_committed
    return position


def _vectors(vector: Any) -> dict[str, Any]:
    """A record's vectors; the server gives an empty list for a dense vector that is not there."""
    found: dict[str, Any] = {}
    if vector.values:
        found[DENSE_FIELD] = vector.values
    if vector.sparse_values is not None:
        found[SPARSE_FIELD] = (vector.sparse_values.indices, vector.sparse_values.values)
    return found
