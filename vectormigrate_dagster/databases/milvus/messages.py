"""Records out of the messages of a Milvus server.

A message holds one flat array per field. The client makes a list of floats of every vector; here the array's bytes are
taken as they came off the wire. `requests` is the way back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from vectormigrate_dagster.databases.protobuf import FLOATS, fields_of, floats_of, readable
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    IdColumn,
    Packed,
    Payload,
    Sparse,
    VectorColumn,
    VectorSchema,
)

SPARSE_ENTRY = np.dtype([("index", "<u4"), ("value", "<f4")])
"""Of a sparse vector's bytes."""

BYTES = {
    Element.BINARY: "binary_vector",
    Element.FLOAT16: "float16_vector",
    Element.BFLOAT16: "bfloat16_vector",
    Element.INT8: "int8_vector",
}
"""Element -> the field of `VectorField` that holds its bytes."""


@dataclass(frozen=True)
class Reply:
    """What a server replied to a query.

    Args:
        message: a `QueryResults`.
        floats: name of a field -> numbers that are not in the message, as they came off the wire.
        size: octets of the whole.
    """

    message: Any
    floats: Mapping[str, npt.NDArray[np.float32]]
    size: int


def reply_of(octets: bytes) -> Reply:
    """Read a `QueryResults`, without a copy of dense vectors.

    Raises:
        DatabaseError: it cannot be read.
    """
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2

    number = milvus_pb2.QueryResults.DESCRIPTOR.fields_by_name["fields_data"].number
    floats: dict[str, npt.NDArray[np.float32]] = {}
    others: list[Any] = []
    rest, behind = [], 0
    with readable("a reply of milvus"):
        for field, begins, start, end in fields_of(octets, 0, len(octets)):
            found = _floats(octets, start, end) if field == number else None
            if found is None:
                continue
            rest.append(octets[behind:begins])
            behind = end
            data = schema_pb2.FieldData.FromString(found[0])
            if data.field_name in floats:
                raise ValueError(f"field '{data.field_name}' is there twice")
            others.append(data)
            floats[data.field_name] = found[1]
        message = milvus_pb2.QueryResults.FromString(b"".join((*rest, octets[behind:])))
        message.fields_data.extend(others)
    return Reply(message, floats, len(octets))


def _floats(octets: bytes, start: int, end: int) -> tuple[bytes, npt.NDArray[np.float32]] | None:
    """A `FieldData` without its vectors, and these; None if it has none of float32, or not in the usual form."""
    from pymilvus.grpc_gen import schema_pb2

    within, cut = (start, end), (start, start)
    for message, name in (
        (schema_pb2.FieldData, "vectors"),
        (schema_pb2.VectorField, "float_vector"),
        (schema_pb2.FloatArray, "data"),
    ):
        number = message.DESCRIPTOR.fields_by_name[name].number
        counted = [field for field in fields_of(octets, *within) if field[0]]
        found = [field for field in counted if field[0] == number]
        if len(found) != 1 or (name != "vectors" and len(counted) != 1):
            return None
        if name == "vectors":
            cut = found[0][1], found[0][3]
        within = found[0][2:]
    size = within[1] - within[0]
    if size % FLOATS.itemsize:
        return None
    numbers = np.frombuffer(octets, dtype=FLOATS, count=size // FLOATS.itemsize, offset=within[0])
    return octets[start : cut[0]] + octets[cut[1] : end], numbers


def batch_of_reply(reply: Reply, schema: CollectionSchema, scope: str | None) -> Batch:
    """The records of a reply in the order in which it has them.

    Raises:
        DatabaseError: part of them is missing, or cannot be read.
    """
    with readable("records of milvus"):
        key = schema.ids.field or "id"
        fields = {field.field_name: field for field in reply.message.fields_data}
        _require_whole(fields, schema)
        ids = _values(fields.pop(key))
        vectors = {
            vector.name: _vectors(fields.pop(vector.name), vector, len(ids), reply.floats.get(vector.name))
            for vector in schema.vectors
        }
        payloads = _payloads(list(fields.values()), len(ids))
        return Batch(IdColumn.of(schema.ids.kinds[0], ids), scope, vectors, payloads)


def column_of_message(reply: Any, name: str) -> list[Any]:
    """The values of one scalar field of a `QueryResults` message.

    Raises:
        DatabaseError: the field is not there.
    """
    with readable(f"values of '{name}'"):
        for field in reply.fields_data:
            if field.field_name == name:
                return _values(field)
    raise DatabaseError(f"the server's answer lacks '{name}', which it was asked for; it is no answer to go on from")


def is_empty(reply: Any, key: str) -> bool:
    """Whether a `QueryResults` message has no record: no fields at all, or nothing in the column of ids."""
    fields = {field.field_name: field for field in reply.fields_data}
    return not fields or (key in fields and not _values(fields[key]))


def _require_whole(fields: Mapping[str, Any], schema: CollectionSchema) -> None:
    """Check that a reply to "*" has everything: from 2.5 on, "*" means the fields that are loaded.

    https://milvus.io/docs/load-and-release.md ("Load specific fields").
    """
    wanted = [schema.ids.field or "id", *(v.name for v in schema.vectors)]
    wanted += [field.name for field in schema.fields if field.declared]
    missing = [f"field '{name}'" for name in wanted if name not in fields]
    if schema.dynamic and not any(field.is_dynamic for field in fields.values()):
        missing.append("the dynamic field")
    if missing:
        raise DatabaseError(
            f"the server returned records of collection '{schema.name}' without {', '.join(missing)}, which it has not "
            "loaded; release the collection and load it with all its fields"
        )


def _payloads(fields: list[Any], count: int) -> list[Payload]:
    """One payload per record, out of its columns and of the dynamic field's objects."""
    columns = {field.field_name: _values(field) for field in fields if not field.is_dynamic}
    for name, values in columns.items():
        if len(values) != count:
            raise ValueError(f"'{name}' has {len(values)} values for {count} records")
    rows = zip(*columns.values(), strict=True) if columns else itertools.repeat((), count)
    payloads: list[Payload] = [dict(zip(columns, row, strict=True)) for row in rows]
    for field in fields:
        if field.is_dynamic:
            for payload, keys in zip(payloads, _values(field), strict=True):
                if keys:
                    payload.update(_object(keys))
    return payloads


def _object(value: Any) -> Payload:
    if not isinstance(value, dict):
        raise TypeError(f"the dynamic field holds {type(value).__name__}, and no object")
    return value


def _values(field: Any) -> list[Any]:
    """A scalar field's values; None where it has none."""
    values = _scalars(field.scalars)
    if not field.valid_data:
        return values
    return [value if valid else None for value, valid in zip(values, field.valid_data, strict=True)]


def _scalars(field: Any) -> list[Any]:
    kind = field.WhichOneof("data")
    if kind is None:  # an empty array
        return []
    data = getattr(field, kind).data
    if kind == "json_data":
        return [_json(value) if value else None for value in data]
    if kind == "array_data":
        return [_scalars(value) for value in data]
    return list(data)


def _json(octets: bytes) -> Any:
    """A value of any size and depth, its numbers as they are written.

    The quick parser keeps integers of any length and every float; it refuses some texts that Python's takes.
    """
    try:
        return from_json(octets)
    except ValueError:
        return json.loads(octets)


def _vectors(
    field: Any, vector: VectorSchema, count: int, floats: npt.NDArray[np.float32] | None = None
) -> VectorColumn:
    valid = np.fromiter(field.valid_data, dtype=np.bool_) if field.valid_data else None
    if valid is not None and len(valid) != count:
        raise ValueError(f"'{vector.name}' is said to be there or not {len(valid)} times for {count} records")
    if valid is not None and valid.all():
        valid = None
    message = field.vectors
    if message.WhichOneof("data") == "sparse_float_vector":
        return _sparse(message.sparse_float_vector.contents, valid, count)
    dim = vector.dim or message.dim
    if vector.element is Element.FLOAT32:
        floats = floats_of(message.float_vector) if floats is None else floats
        return Dense(_spread(floats.reshape(-1, dim), valid), valid)
    raw = np.frombuffer(getattr(message, BYTES[vector.element]), dtype=vector.element.dtype)
    return Packed(vector.element, dim, _spread(raw.reshape(-1, vector.element.width(dim)), valid), valid)


def _spread(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    """Rows of records that have the vector, with rows of zeros in between for those that lack it."""
    if valid is None or len(values) == len(valid):
        return values
    whole = np.zeros((len(valid), values.shape[1]), dtype=values.dtype)
    whole[valid] = values
    return whole


def _sparse(contents: Sequence[bytes], valid: npt.NDArray[np.bool_] | None, count: int) -> Sparse:
    rows = list(contents)
    if valid is not None and len(rows) != count:
        given = iter(rows)
        rows = [next(given) if there else b"" for there in valid]
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum([len(row) // SPARSE_ENTRY.itemsize for row in rows], out=indptr[1:])
    entries = np.frombuffer(b"".join(rows), dtype=SPARSE_ENTRY)
    order = np.lexsort((entries["index"], np.repeat(np.arange(count), np.diff(indptr))))
    return Sparse(indptr, entries["index"][order], entries["value"][order], valid)
