"""Records as Pinecone's gRPC answers hold them, read from the octets themselves.

The messages are `FetchResponse` and `Vector` of db_data_2026-07.proto. A record of the usual form, each part of it once
and in octets that are counted, is read where it lies; any other by messages that protobuf makes from the same
declaration.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.entries import FIRST, MORE, SECOND, UnusualError, counted, number, parts
from vectormigrate_dagster.databases.pinecone.api import IdPage
from vectormigrate_dagster.databases.pinecone.capabilities import DENSE_FIELD, SPARSE_FIELD
from vectormigrate_dagster.databases.pinecone.records import Row
from vectormigrate_dagster.databases.protobuf import FLOATS, fields_of, messages, number_at, readable
from vectormigrate_dagster.databases.structs import struct_of

_ID, _VALUES, _METADATA = 0x0A, 0x12, 0x1A
"""The tags of a `Vector`, but for its sparse values."""


@cache
def declared() -> dict[str, Any]:
    """The messages of the service, by name. A map is its entries on the wire."""
    from google.protobuf import struct_pb2

    return messages(
        "vectormigrate.pinecone",
        {
            "SparseValues": {"indices": "repeated uint32 = 1", "values": "repeated float = 2"},
            "Vector": {
                "id": "string = 1",
                "values": "repeated float = 2",
                "metadata": "google.protobuf.Struct = 3",
                "sparse_values": "SparseValues = 4",
            },
            "Entry": {"key": "string = 1", "value": "Vector = 2"},
            "Usage": {"read_units": "uint32 = 1", "egress_bytes": "uint32 = 2"},
            "FetchRequest": {"ids": "repeated string = 1", "namespace": "string = 2"},
            "FetchResponse": {"vectors": "repeated Entry = 1", "namespace": "string = 2", "usage": "Usage = 3"},
            "UpsertRequest": {"vectors": "repeated Vector = 1", "namespace": "string = 2"},
            "UpsertResponse": {"upserted_count": "uint32 = 1"},
            "ListRequest": {
                "prefix": "string = 1",
                "limit": "uint32 = 2",
                "pagination_token": "string = 3",
                "namespace": "string = 4",
            },
            "ListItem": {"id": "string = 1"},
            "Pagination": {"next": "string = 1"},
            "ListResponse": {
                "vectors": "repeated ListItem = 1",
                "pagination": "Pagination = 2",
                "namespace": "string = 3",
                "usage": "Usage = 4",
            },
        },
        struct_pb2.DESCRIPTOR,
    )


def page_of(answer: bytes) -> IdPage:
    """The ids of a `ListResponse`.

    Raises:
        DatabaseError: it cannot be read.
    """
    with readable("ids of pinecone"):
        page = declared()["ListResponse"].FromString(answer)
        return IdPage([item.id for item in page.vectors], page.pagination.next or None)


def rows_in(answer: bytes) -> dict[str, Row]:
    """The records of a `FetchResponse`, by id; a dense vector is its float32 octets.

    Raises:
        DatabaseError: it cannot be read.
    """
    with readable("records of pinecone"):
        view = memoryview(answer)
        rows: dict[str, Row] = {}
        rest: list[bytes] = []
        at, whole = 0, len(answer)
        while at < whole:
            if answer[at] != FIRST:  # what is said beside records comes before or behind all of them
                _, begins, _, at = next(fields_of(answer, at, whole))
                rest.append(answer[begins:at])
                continue
            size, start = number_at(answer, at + 1, whole)
            at = start + size
            if at > whole:
                raise ValueError("a record is longer than the answer")
            try:
                row = _row(answer, view, start, at)
            except (UnusualError, IndexError):
                row = _row_by_protobuf(answer[start:at])
            rows[row.id] = row
        if declared()["FetchResponse"].FromString(b"".join(rest)).vectors:
            raise ValueError("a record begins in a way in which nobody writes one")
        return rows


def _row(answer: bytes, view: memoryview, start: int, end: int) -> Row:
    """A record whose entry lies between two places.

    Raises:
        UnusualError: it is not of the usual form.
    """
    size = answer[start + 1]
    at = start + 2 + size
    if answer[start] != FIRST or size >= MORE or answer[at] != SECOND:
        raise UnusualError
    key = answer[start + 2 : at]
    at = counted(answer, at + 1, end)
    values: memoryview | None = None
    metadata: list[bytes] = []
    seen = 0
    while at < end:
        tag = answer[at]
        if tag <= seen:
            raise UnusualError  # a part that is there twice, or in another order
        seen = tag
        size, start = number(answer, at + 1)
        at = start + size
        if at > end:
            raise UnusualError
        if tag == _VALUES:
            values = view[start:at]
        elif tag == _METADATA:
            metadata = [answer[first:last] for first, last in parts(answer, start, at)]
        elif tag != _ID or answer[start:at] != key:
            raise UnusualError
    if values is not None and len(values) % FLOATS.itemsize:
        raise UnusualError
    return Row(key.decode(), {DENSE_FIELD: values} if values else {}, struct_of(metadata))


def _row_by_protobuf(octets: bytes) -> Row:
    """The same of an entry of any form."""
    entry = declared()["Entry"].FromString(octets)
    if entry.value.id not in ("", entry.key):
        raise ValueError(f"record '{entry.value.id}' stands under id '{entry.key}'")
    vectors: dict[str, Any] = {}
    if entry.value.values:
        vectors[DENSE_FIELD] = np.asarray(entry.value.values, dtype=FLOATS).tobytes()
    if entry.value.HasField("sparse_values"):
        sparse = entry.value.sparse_values
        if len(sparse.indices) != len(sparse.values):
            raise ValueError(f"a sparse vector has {len(sparse.indices)} indices for {len(sparse.values)} values")
        vectors[SPARSE_FIELD] = (list(sparse.indices), list(sparse.values))
    octets = entry.value.metadata.SerializeToString()
    return Row(entry.key, vectors, struct_of([octets[start:stop] for start, stop in parts(octets, 0, len(octets))]))
