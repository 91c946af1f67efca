"""The documents API of Pinecone's client, for indexes with fields of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.pinecone.api import LIST_LIMIT, Answer, IdPage, IndexApi
from vectormigrate_dagster.databases.pinecone.records import Row, payload_of
from vectormigrate_dagster.model import VectorKind, VectorSchema

_ID = "_id"


class DocumentsApi(IndexApi):
    """See `IndexApi`. A document holds its vectors and its payload side by side."""

    @property
    def reserved(self) -> frozenset[str]:
        """See `IndexApi.reserved`."""
        return frozenset({_ID, "_score", *(vector.name for vector in self.vectors)})

    def list_ids(self, namespace: str, prefix: str, token: str | None) -> IdPage:
        """See `IndexApi.list_ids`."""
        listing = self.index.documents.list(
            namespace=namespace, prefix=prefix or None, limit=LIST_LIMIT, pagination_token=token
        )
        page = next(listing.pages())
        return IdPage([item.id for item in page.items], page.pagination_token or None)

    def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Row]:
        """See `IndexApi.fetch`."""
        found = self.index.documents.fetch(namespace=namespace, ids=list(ids)).documents
        return {key: self._row(key, document.to_dict()) for key, document in found.items()}

    def upsert(self, namespace: str, records: Sequence[Any]) -> int | None:
        """See `IndexApi.upsert`."""
        written = self.index.documents.upsert(namespace=namespace, documents=[self._document(row) for row in records])
        return _position(written, "lsn_committed")

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """See `IndexApi.delete`."""
        return _position(self.index.documents.delete(namespace=namespace, ids=list(ids)), "lsn_committed")

    def search(
        self,
        namespace: str,
        vector: VectorSchema,
        query: npt.NDArray[np.float32],
        k: int,
        where: Mapping[str, Any] | None = None,
    ) -> Answer:
        """See `IndexApi.search`; of a sparse vector, `query` are the weights of the first dimensions."""
        clause: dict[str, Any] = {"type": "dense_vector", "field": vector.name, "values": query.tolist()}
        if vector.kind is VectorKind.SPARSE:
            sparse = {"indices": list(range(len(query))), "values": query.tolist()}
            clause = {"type": "sparse_vector", "field": vector.name, "sparse_values": sparse}
        answer = self.index.documents.search(namespace=namespace, score_by=[clause], top_k=k, filter=where or None)
        return [(match.id, match.score) for match in answer.matches], _position(answer, "lsn_reconciled")

    def _row(self, key: str, document: dict[str, Any]) -> Row:
        vectors: dict[str, Any] = {}
        for vector in self.vectors:
            value = document.pop(vector.name, None)
            if value is not None:
                sparse = vector.kind is VectorKind.SPARSE
                vectors[vector.name] = (value["indices"], value["values"]) if sparse else value
        document.pop(_ID, None)
        return Row(key, vectors, payload_of(document))

    def _document(self, row: Row) -> dict[str, Any]:
        vectors = {
            name: {"indices": value[0], "values": value[1]} if isinstance(value, tuple) else value
            for name, value in row.vectors.items()
        }
        return {**row.payload, **vectors, _ID: row.id}


def _position(answer: Any, name: str) -> int | None:
    found: int | None = None if answer.response_info is None else getattr(answer.response_info, name)
    return found
