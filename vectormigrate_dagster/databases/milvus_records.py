"""Milvus's rows as columns, and back; its filters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.columns import (
    array_rows,
    dense_column,
    packed_column,
    sparse_column,
    sparse_rows,
)
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Element,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
)

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


def literal(value: Id) -> str:
    """An id in a filter.

    Only these four characters need an escape, and embedded Milvus does not know all those of JSON:
    https://github.com/milvus-io/milvus/blob/master/internal/parser/planparserv2/Plan.g4
    """
    return str(value) if isinstance(value, int) else f'"{id_text(value).translate(_ESCAPES)}"'


def between(field: str, after: Id | None, last: Id | None) -> str:
    """Filter for ids > `after` and <= `last`; empty if both are open."""
    bounds = ((">", after), ("<=", last))
    return " and ".join(f"{field} {sign} {literal(value)}" for sign, value in bounds if value is not None)


def among(field: str, ids: Sequence[Id]) -> str:
    """Filter for records with one of these ids."""
    return f"{field} in [{', '.join(literal(value) for value in ids)}]"


def anything(field: str, kind: IdKind) -> str:
    """Filter that every record passes: embedded Milvus counts one partition only if there is a filter."""
    return f'{field} >= ""' if kind is IdKind.TEXT else f"({field} >= 0 or {field} < 0)"


def batch_of(rows: Sequence[dict[str, Any]], schema: CollectionSchema, scope: str | None) -> Batch:
    """Rows that the client read."""
    key = schema.ids.field or "id"
    apart = {key, *(vector.name for vector in schema.vectors)}
    return Batch(
        ids=IdColumn.of(schema.ids.kinds[0], [row[key] for row in rows]),
        scope=scope,
        vectors={v.name: _column(v, [row.get(v.name) for row in rows]) for v in schema.vectors},
        payloads=[{name: value for name, value in row.items() if name not in apart} for row in rows],
    )


def rows_of(
    batch: Batch, schema: CollectionSchema, *, missing_vectors: bool, json_scalars: bool
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Rows for the client, and the records that this collection cannot hold.

    Args:
        batch: the records.
        schema: the collection's.
        missing_vectors: a vector field that may be null can be left out.
        json_scalars: a JSON field can hold a text, number or boolean by itself.
    """
    key = schema.ids.field or "id"
    optional = {vector.name for vector in schema.vectors if vector.optional and missing_vectors}
    taken = {key, "$meta", *(vector.name for vector in schema.vectors)}
    json_fields = [field.name for field in schema.fields if field.type is FieldType.JSON]
    rows, refusals = [], []
    columns = zip(*(_vectors(column) for column in batch.vectors.values()), strict=True)
    for i, value in enumerate(batch.ids.to_pylist()):
        vectors = dict(zip(batch.vectors, next(columns, ()), strict=True))
        payload = dict(batch.payloads[i])
        lacks = [name for name, vector in vectors.items() if vector is None and name not in optional]
        if reason := _reason(payload, lacks, taken, () if json_scalars else json_fields):
            refusals.append(Refusal(id_text(value), reason, batch.scope))
            continue
        for name in json_fields:
            # The client takes a text for JSON that is already written.
            if isinstance(payload.get(name), str):
                payload[name] = json.dumps(payload[name], ensure_ascii=False)
        rows.append({key: value if isinstance(value, int) else id_text(value), **payload, **vectors})
    return rows, refusals


def _reason(payload: dict[str, Any], lacks: Sequence[str], taken: set[str], containers: Sequence[str]) -> str | None:
    if lacks:
        return f"it lacks vector '{lacks[0]}', which this collection demands"
    for name in payload:
        if name in taken:
            return f"its payload has a key '{name}', which is the name of the id, a vector or a reserved field"
    for name in containers:
        if payload.get(name) is not None and not isinstance(payload[name], dict | list):
            return f"JSON field '{name}' of embedded Milvus keeps objects and lists, but not {payload[name]!r}"
    return None


def _column(vector: VectorSchema, rows: list[Any]) -> VectorColumn:
    if vector.kind is VectorKind.SPARSE:
        return sparse_column([None if row is None else (list(row), list(row.values())) for row in rows])
    dim = vector.dim or 0
    if vector.element is Element.FLOAT32:
        return dense_column(rows, dim)
    # The client wraps the bytes of one vector in a list of one.
    return packed_column([row[0] if isinstance(row, list) else row for row in rows], vector.element, dim)


def _vectors(column: VectorColumn) -> Iterator[Any]:
    if isinstance(column, Sparse):
        return (None if row is None else dict(zip(*row, strict=True)) for row in sparse_rows(column))
    rows = array_rows(column)
    if column.values.dtype.kind == "f" and column.values.dtype.itemsize == 4:
        return rows
    return (None if row is None else row.tobytes() for row in rows)
