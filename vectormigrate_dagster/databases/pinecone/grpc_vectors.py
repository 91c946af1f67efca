"""The vectors API over gRPC, for all that is asked once for each page or batch of records; the rest goes over REST."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vectormigrate_dagster.databases.pinecone.api import LIST_LIMIT, IdPage
from vectormigrate_dagster.databases.pinecone.records import Row
from vectormigrate_dagster.databases.pinecone.vector_reading import declared, page_of, rows_in
from vectormigrate_dagster.databases.pinecone.vector_writing import column_octets, request_of, vector_octets
from vectormigrate_dagster.databases.pinecone.vectors import VectorsApi, on_wire
from vectormigrate_dagster.databases.pinecone.wire import Wire
from vectormigrate_dagster.model import Payload, VectorColumn, VectorSchema

_POSITIONS = ("x-pinecone-request-lsn", "x-pinecone-lsn-committed")
"""What the position of a write is called over HTTP, the newer name first. Nobody says that gRPC tells it as well."""


class GrpcVectorsApi(VectorsApi):
    """See `IndexApi`.

    Args:
        wire: to the index that `index` is the client of.
    """

    url_bytes = None
    component_bytes = 4

    def __init__(self, index: Any, vectors: tuple[VectorSchema, ...], wire: Wire, *, lists: bool = True) -> None:
        super().__init__(index, vectors, lists=lists)
        self._wire = wire

    def list_ids(self, namespace: str, prefix: str, token: str | None) -> IdPage:
        """See `IndexApi.list_ids`."""
        request = declared()["ListRequest"](
            prefix=prefix or None, limit=LIST_LIMIT, pagination_token=token, namespace=on_wire(namespace)
        )
        return page_of(self._wire.call("List", request.SerializeToString())[0])

    def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Row]:
        """See `IndexApi.fetch`."""
        request = declared()["FetchRequest"](ids=ids, namespace=on_wire(namespace))
        return rows_in(self._wire.call("Fetch", request.SerializeToString())[0])

    def forms_of(self, column: VectorColumn) -> Iterator[tuple[Any, int] | None]:
        """See `IndexApi.forms_of`."""
        return column_octets(column)

    def record(self, id: str, vectors: Mapping[str, tuple[Any, int]], payload: Payload) -> tuple[Any, int]:
        """See `IndexApi.record`."""
        octets = vector_octets(id, vectors, payload)
        return octets, len(octets)

    def upsert(self, namespace: str, records: Sequence[Any]) -> int | None:
        """See `IndexApi.upsert`."""
        _, told = self._wire.call("Upsert", request_of(records, on_wire(namespace)))
        position = next((told[name] for name in _POSITIONS if name in told), "")
        return int(position) if position.isdecimal() else None
