"""Columns as the objects of Weaviate's gRPC requests, written as octets.

The messages are `BatchObject` and what is in it, of batch.proto and base.proto of the client. Objects within objects,
and lists of them, are written by the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.columns import array_rows
from vectormigrate_dagster.databases.entries import text_octets
from vectormigrate_dagster.databases.protobuf import FLOATS, VARINTS, sized, tag
from vectormigrate_dagster.databases.structs import struct_octets
from vectormigrate_dagster.databases.weaviate.records import matrix_octets
from vectormigrate_dagster.databases.weaviate.values import by_name, set_properties
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    FieldSchema,
    FieldType,
    Multi,
    VectorColumn,
    is_valid,
)

_OBJECTS = tag(1)
"""Of `BatchObjectsRequest`."""

_UUID, _PROPERTIES, _COLLECTION, _TENANT, _VECTOR_BYTES, _VECTORS = map(tag, (1, 3, 4, 5, 6, 23))
"""Of `BatchObject`."""

_NAME, _OCTETS, _SINGLE, _MULTI = tag(1), tag(3), b"\x20\x01", b"\x20\x02"
"""Of `Vectors`: name, octets, and the two kinds."""

_PLAIN, _EMPTY = tag(1), tag(10)
"""Of `BatchObject.Properties`: `non_ref_properties` and `empty_list_props`."""

_ENTRY = tag(1)
_VALUES, _PROP_NAME, _VALUES_BYTES = tag(1), tag(2), tag(3)
"""Of the messages for lists."""


def objects_of(batch: Batch, schema: CollectionSchema, name: str) -> list[bytes]:
    """`BatchObject` messages of records in which `values.misfit` finds nothing wrong; references are left out."""
    fields = by_name(schema.fields)
    where = _field(_COLLECTION, name.encode())
    if batch.scope:
        where += _field(_TENANT, batch.scope.encode())
    columns = [_rows(vector, column) for vector, column in batch.vectors.items()]
    objects: list[bytes] = []
    for text, payload, *vectors in zip(batch.ids.texts(), batch.payloads, *columns, strict=True):
        properties = _properties(payload, fields)
        head = _field(_UUID, text.encode()) + where + sized(_PROPERTIES, len(properties))
        objects.append(b"".join((head, properties, *(octets for vector in vectors for octets in vector))))
    return objects


def request_of(objects: Sequence[bytes], level: int) -> bytes:
    """A `BatchObjectsRequest`.

    Args:
        level: of consistency, by its number.
    """
    pieces: list[bytes] = []
    for one in objects:
        pieces += (_OBJECTS, VARINTS[len(one)], one)
    return b"".join((*pieces, b"\x10", VARINTS[level]))


def _field(before: bytes, octets: bytes) -> bytes:
    return before + VARINTS[len(octets)] + octets


def _rows(name: str, column: VectorColumn) -> Iterator[tuple[bytes | memoryview, ...]]:
    """Each record's vector as part of a `BatchObject`; nothing if it has none."""
    if isinstance(column, Multi):
        for row in array_rows(column):
            yield () if row is None else _vector(name, matrix_octets(row), _MULTI)
        return
    values = np.ascontiguousarray(column.values, dtype=FLOATS)
    size = values.shape[1] * FLOATS.itemsize
    octets = values.reshape(-1).view(np.uint8).data
    head = _vector_head(name, size, _SINGLE)
    for at, valid in enumerate(is_valid(column).tolist()):
        yield (head, octets[at * size : at * size + size]) if valid else ()


def _vector(name: str, octets: bytes, kind: bytes) -> tuple[bytes, bytes]:
    return _vector_head(name, len(octets), kind), octets


def _vector_head(name: str, size: int, kind: bytes) -> bytes:
    """What stands before the octets of a vector."""
    if not name:
        return sized(_VECTOR_BYTES, size)
    # Fields of a message may come in any order: https://protobuf.dev/programming-guides/encoding/#order
    before = _field(_NAME, name.encode()) + kind + sized(_OCTETS, size)
    return sized(_VECTORS, len(before) + size) + before


def _properties(payload: Mapping[str, Any], fields: Mapping[str, FieldSchema]) -> bytes:
    """A `BatchObject.Properties`."""
    plain: dict[str, Any] = {}
    lists: list[bytes] = []
    by_client: dict[str, Any] = {}
    for name, value in payload.items():
        kind = type(value)
        if kind is list:
            if not value:
                lists.append(_field(_EMPTY, text_octets(name)))
            elif (writer := _LISTS.get(fields[name].element or FieldType.ANY)) is None:
                by_client[name] = value
            else:
                lists.append(writer(name, value))
        elif kind is dict and fields[name].type is FieldType.OBJECT:
            by_client[name] = value
        else:
            plain[name] = value
    # An object without properties is one that has none, and not one about which nothing is said.
    octets = _field(_PLAIN, struct_octets(plain, _ENTRY)) + b"".join(lists)
    return octets + _by_client(by_client, fields) if by_client else octets


def _by_client(payload: Mapping[str, Any], fields: Mapping[str, FieldSchema]) -> bytes:
    """The properties as the official messages have them; references are left out."""
    from weaviate.proto.v1 import batch_pb2

    message = batch_pb2.BatchObject.Properties()
    set_properties(message, payload, fields)
    octets: bytes = message.SerializeToString()
    return octets


def _texts(name: str, values: Sequence[str]) -> bytes:
    pieces: list[bytes] = []
    for value in values:
        octets = text_octets(value)
        pieces += (_VALUES, VARINTS[len(octets)], octets)
    return _list(tag(6), name, b"".join(pieces))


def _ints(name: str, values: Sequence[int]) -> bytes:
    numbers = b"".join([VARINTS[value & 0xFFFF_FFFF_FFFF_FFFF] for value in values])
    return _list(tag(5), name, _field(_VALUES, numbers))


def _bools(name: str, values: Sequence[bool]) -> bytes:
    return _list(tag(7), name, _field(_VALUES, bytes(values)))


def _numbers(name: str, values: Sequence[float]) -> bytes:
    return _list(tag(4), name, _field(_VALUES_BYTES, np.asarray(values, dtype="<f8").tobytes()))


def _list(before: bytes, name: str, values: bytes) -> bytes:
    return _field(before, values + _field(_PROP_NAME, text_octets(name)))


_LISTS: dict[FieldType, Callable[[str, Any], bytes]] = {
    FieldType.TEXT: _texts,
    FieldType.DATETIME: _texts,
    FieldType.UUID: _texts,
    FieldType.INT64: _ints,
    FieldType.BOOL: _bools,
    FieldType.FLOAT64: _numbers,
}
"""By their elements; others are written by the client."""
