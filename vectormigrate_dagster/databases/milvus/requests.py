"""Upserts as the messages that a Milvus server takes: one flat array per field.

The client goes through rows value by value; a column whose values are all of its own type is put there as a whole
here. Any other column (nulls, defaults, arrays of another type) is left to the client. The numbers of dense vectors
are sent as they are: their bytes join the frame behind what the message has of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.milvus.messages import BYTES, SPARSE_ENTRY
from vectormigrate_dagster.databases.milvus.values import json_text
from vectormigrate_dagster.databases.protobuf import FLOATS, sized, tag
from vectormigrate_dagster.model import Batch, Dense, Packed, Payload, Sparse, VectorColumn, id_text, is_valid

Octets = bytes | memoryview

_DYNAMIC = "$meta"

_PLAIN: dict[str, tuple[type, str]] = {
    "BOOL": (bool, "bool_data"),
    "INT8": (int, "int_data"),
    "INT16": (int, "int_data"),
    "INT32": (int, "int_data"),
    "INT64": (int, "long_data"),
    "FLOAT": (float, "float_data"),
    "DOUBLE": (float, "double_data"),
    "VARCHAR": (str, "string_data"),
    "ARRAY": (list, "array_data"),
}
"""Type of a field -> type of a value that is stored as it is, and where."""


def upsert_of(
    batch: Batch, dynamic: Sequence[str], *, collection: str, partition: str | None, described: Mapping[str, Any]
) -> list[Octets]:
    """An `UpsertRequest` in octets, in pieces that follow each other.

    Args:
        batch: records that the collection can hold.
        dynamic: what the dynamic field gets of each record, as JSON; empty if there is none.
        collection: its name.
        partition: its name; None is the default one, or that of each record's partition key.
        described: what the client's `describe_collection` said.

    Raises:
        pymilvus.exceptions.MilvusException: the client finds that a value does not fit its field.
    """
    from pymilvus import DataType
    from pymilvus.grpc_gen import milvus_pb2

    request = milvus_pb2.UpsertRequest(
        collection_name=collection,
        partition_name=partition or "",
        num_rows=len(batch),
        schema_timestamp=described.get("update_timestamp", 0),
    )
    frames: list[Octets] = []
    for field in described["fields"]:
        name = field["name"]
        if field.get("is_function_output"):
            continue
        if name in batch.vectors:
            frames += _vector_frames(request, field, batch.vectors[name])
        elif field.get("is_primary"):
            ids = [value if isinstance(value, int) else id_text(value) for value in batch.ids.to_pylist()]
            _add_column(request, field, [{name: value} for value in ids])
        else:
            _add_column(request, field, batch.payloads)
    if described["enable_dynamic_field"]:
        meta = request.fields_data.add(field_name=_DYNAMIC, is_dynamic=True, type=DataType.JSON)
        meta.scalars.json_data.data.extend(map(str.encode, dynamic))
    # Fields of a message may come in any order: https://protobuf.dev/programming-guides/encoding/#order
    return [request.SerializeToString(), *frames]


def _add_column(request: Any, field: Mapping[str, Any], rows: Sequence[Payload]) -> None:
    """Add a scalar field; `rows` have its values under its name, or nothing."""
    from pymilvus import DataType

    name = field["name"]
    plain = _PLAIN.get(DataType(field["type"]).name)
    values = [row.get(name) for row in rows]
    if plain is None or set(map(type, values)) != {plain[0]}:
        request.fields_data.extend(_by_client(field, rows))
        return
    column = request.fields_data.add(type=field["type"], field_name=name)
    if field.get("nullable") or field.get("default_value"):
        column.valid_data.extend([True] * len(values))
    data = getattr(column.scalars, plain[1]).data
    if plain[0] is not list:
        data.extend(values)
        return
    kind = _PLAIN[DataType(field["element_type"]).name][1]
    for value in values:
        getattr(data.add(), kind).data.extend(value)


def _by_client(field: Mapping[str, Any], rows: Sequence[Payload]) -> Any:
    """A scalar field as the client writes it, which knows of nulls and defaults."""
    from pymilvus import DataType
    from pymilvus.client.prepare import Prepare

    name = field["name"]
    given = [{name: row[name]} if name in row else {} for row in rows]
    if field["type"] == DataType.JSON:
        # It takes a text for JSON that is already written.
        given = [{key: json_text(value) for key, value in row.items() if value is not None} for row in given]
    return Prepare.row_upsert_param("", given, "", [field]).fields_data


def _vector_frames(request: Any, field: Mapping[str, Any], column: VectorColumn) -> list[Octets]:
    """Add a vector field, or return the octets of one."""
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2

    valid = is_valid(column)
    message = schema_pb2.FieldData(type=field["type"], field_name=field["name"])
    if field.get("nullable"):
        message.valid_data.extend(valid.tolist())
    if not isinstance(column, Dense):
        _set_vectors(message.vectors, column)
        request.fields_data.append(message)
        return []
    values = np.ascontiguousarray(column.values if valid.all() else column.values[valid], dtype=FLOATS)
    numbers = values.reshape(-1).view(np.uint8).data
    # `vectors { float_vector { data } }`, of which each stands before the octets of the next.
    head = message.SerializeToString()
    dim = schema_pb2.VectorField(dim=values.shape[1]).SerializeToString()
    data = sized(_tag(schema_pb2.FloatArray, "data"), len(numbers))
    floats = dim + sized(_tag(schema_pb2.VectorField, "float_vector"), len(data) + len(numbers)) + data
    vectors = head + sized(_tag(schema_pb2.FieldData, "vectors"), len(floats) + len(numbers)) + floats
    fields = sized(_tag(milvus_pb2.UpsertRequest, "fields_data"), len(vectors) + len(numbers))
    return [fields + vectors, numbers]


def _tag(message: Any, field: str) -> bytes:
    return tag(message.DESCRIPTOR.fields_by_name[field].number)


def _set_vectors(message: Any, column: VectorColumn) -> None:
    valid = is_valid(column)
    if isinstance(column, Sparse):
        entries = np.empty(len(column.indices), dtype=SPARSE_ENTRY)
        entries["index"], entries["value"] = column.indices, column.values
        bounds = zip(column.indptr[:-1], column.indptr[1:], valid, strict=True)
        message.dim = int(column.indices.max(initial=0)) + 1
        message.sparse_float_vector.dim = message.dim
        message.sparse_float_vector.contents.extend(
            entries[start:stop].tobytes() for start, stop, there in bounds if there
        )
    elif isinstance(column, Packed):
        message.dim = column.dim
        setattr(message, BYTES[column.element], (column.values if valid.all() else column.values[valid]).tobytes())
