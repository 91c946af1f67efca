"""Records between our columns and the messages of a Milvus server.

A message holds one flat array per field. The client makes a list of floats of every vector; here the array's bytes are
taken as they came off the wire, and put there as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.protobuf import floats_of, set_floats
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    IdColumn,
    Packed,
    Sparse,
    VectorColumn,
    VectorSchema,
    is_valid,
)

_SPARSE_ENTRY = np.dtype([("index", "<u4"), ("value", "<f4")])

_BYTES = {
    Element.BINARY: "binary_vector",
    Element.FLOAT16: "float16_vector",
    Element.BFLOAT16: "bfloat16_vector",
    Element.INT8: "int8_vector",
}


def batch_of_message(reply: Any, schema: CollectionSchema, scope: str | None) -> Batch:
    """The records of a `QueryResults` message in the order in which it has them.

    Raises:
        DatabaseError: part of them is missing.
    """
    key = schema.ids.field or "id"
    fields = {field.field_name: field for field in reply.fields_data}
    _require_whole(fields, schema)
    ids = _values(fields.pop(key))
    vectors = {vector.name: _vectors(fields.pop(vector.name), vector, len(ids)) for vector in schema.vectors}
    payloads: list[dict[str, Any]] = [{} for _ in ids]
    for name, field in fields.items():
        for payload, value in zip(payloads, _values(field), strict=True):
            if not field.is_dynamic:
                payload[name] = value
            elif value:
                payload.update(value)
    return Batch(IdColumn.of(schema.ids.kinds[0], ids), scope, vectors, payloads)


def column_of_message(reply: Any, name: str) -> list[Any]:
    """The values of one scalar field of a `QueryResults` message.

    Raises:
        DatabaseError: the field is not there.
    """
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


def upsert_of_rows(
    rows: list[dict[str, Any]],
    vectors: Mapping[str, VectorColumn],
    *,
    collection: str,
    partition: str | None,
    described: dict[str, Any],
) -> Any:
    """An `UpsertRequest` of ids and payloads in rows, and vectors in columns.

    Args:
        rows: id and payload of each record.
        vectors: one column per vector field, of as many rows.
        collection: its name.
        partition: its name; None is the default one, or that of each record's partition key.
        described: what the client's `describe_collection` said.

    Raises:
        pymilvus.exceptions.MilvusException: the client finds that a value does not fit its field.
    """
    from pymilvus.client.prepare import Prepare

    request = Prepare.row_upsert_param(
        collection,
        rows,
        partition or "",
        [field for field in described["fields"] if field["name"] not in vectors],
        enable_dynamic=described["enable_dynamic_field"],
        schema_timestamp=described.get("update_timestamp", 0),
    )
    fields = {field["name"]: field for field in described["fields"]}
    for name, column in vectors.items():
        field = request.fields_data.add(type=fields[name]["type"], field_name=name)
        if fields[name].get("nullable"):
            field.valid_data.extend(is_valid(column).tolist())
        _set_vectors(field, column)
    return request


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
        return [json.loads(value) if value else None for value in data]
    if kind == "array_data":
        return [_scalars(value) for value in data]
    return list(data)


def _vectors(field: Any, vector: VectorSchema, count: int) -> VectorColumn:
    valid = np.fromiter(field.valid_data, dtype=np.bool_) if field.valid_data else None
    if valid is not None and valid.all():
        valid = None
    message = field.vectors
    if message.WhichOneof("data") == "sparse_float_vector":
        return _sparse(message.sparse_float_vector.contents, valid, count)
    dim = vector.dim or message.dim
    if vector.element is Element.FLOAT32:
        return Dense(_spread(floats_of(message.float_vector).reshape(-1, dim), valid), valid)
    raw = np.frombuffer(getattr(message, _BYTES[vector.element]), dtype=vector.element.dtype)
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
    np.cumsum([len(row) // _SPARSE_ENTRY.itemsize for row in rows], out=indptr[1:])
    entries = np.frombuffer(b"".join(rows), dtype=_SPARSE_ENTRY)
    order = np.lexsort((entries["index"], np.repeat(np.arange(count), np.diff(indptr))))
    return Sparse(indptr, entries["index"][order], entries["value"][order], valid)


def _set_vectors(field: Any, column: VectorColumn) -> None:
    message, valid = field.vectors, is_valid(column)
    if isinstance(column, Sparse):
        entries = np.empty(len(column.indices), dtype=_SPARSE_ENTRY)
        entries["index"], entries["value"] = column.indices, column.values
        bounds = zip(column.indptr[:-1], column.indptr[1:], valid, strict=True)
        message.dim = int(column.indices.max(initial=0)) + 1
        message.sparse_float_vector.dim = message.dim
        message.sparse_float_vector.contents.extend(
            entries[start:stop].tobytes() for start, stop, there in bounds if there
        )
        return
    values = column.values if valid.all() else column.values[valid]
    if isinstance(column, Packed):
        message.dim = column.dim
        setattr(message, _BYTES[column.element], values.tobytes())
    else:
        message.dim = values.shape[-1]
        set_floats(message.float_vector, values)
