"""Milvus's rows as columns, and back; its filters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.columns import array_rows, dense_column, packed_column, sparse_column, sparse_rows
from vectormigrate_dagster.databases.milvus.values import misfits
from vectormigrate_dagster.errors import InvalidRecord
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Element,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    Multi,
    Packed,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
    is_valid,
)

_SMALLEST = -(2**63)
"""A number that server 2.3 cannot read in a filter: it reads the digits before it sees the sign."""

UNREADABLE = 2**63 - 1
"""An id that a server accepts and counts, but that no query returns."""

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
    return " and ".join(_compared(field, sign, value) for sign, value in bounds if value is not None)


def _compared(field: str, sign: str, value: Id) -> str:
    if value != _SMALLEST:
        return f"{field} {sign} {literal(value)}"
    return f"{field} {'<' if sign == '<=' else '>='} {_SMALLEST + 1}"


def among(field: str, ids: Sequence[Id]) -> str:
    """Filter for records with one of these ids."""
    named = [literal(value) for value in ids if value != _SMALLEST]
    smallest = f" or {_compared(field, '<=', _SMALLEST)}" if len(named) < len(ids) else ""
    return f"{field} in [{', '.join(named)}]{smallest}"


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
    batch: Batch, schema: CollectionSchema, *, missing_vectors: bool, embedded: bool
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Whole rows for the client, and the records that this collection cannot hold; see `payload_rows`."""
    kept, rows, refusals = payload_rows(batch, schema, missing_vectors=missing_vectors, embedded=embedded)
    for name, column in kept.vectors.items():
        for row, vector in zip(rows, _vectors(column), strict=True):
            row[name] = vector
    return rows, refusals


def payload_rows(
    batch: Batch, schema: CollectionSchema, *, missing_vectors: bool, embedded: bool = False
) -> tuple[Batch, list[dict[str, Any]], list[Refusal]]:
    """The records that this collection can hold, their ids and payloads for the client, and the other records.

    Args:
        batch: the records.
        schema: the collection's.
        missing_vectors: a vector field that may be null can be left out.
        embedded: it is in a folder of Milvus Lite.
    """
    key = schema.ids.field or "id"
    optional = {vector.name for vector in schema.vectors if vector.optional and missing_vectors}
    needed = {name: is_valid(column) for name, column in batch.vectors.items() if name not in optional}
    absent = [v.name for v in schema.vectors if v.name not in batch.vectors and v.name not in optional]
    taken = {key, "$meta", *(vector.name for vector in schema.vectors)}
    json_fields = [field.name for field in schema.fields if field.type is FieldType.JSON]
    unfit = misfits(batch.payloads, schema)
    rows, refusals, kept = [], [], []
    for i, value in enumerate(batch.ids.to_pylist()):
        payload = dict(batch.payloads[i])
        lacks = [*absent, *(name for name, valid in needed.items() if not valid[i])]
        reason = _reason(payload, lacks, taken, json_fields if embedded else ()) or unfit.get(i)
        if value == UNREADABLE and not embedded:
            reason = f"Milvus stores id {UNREADABLE}, and counts it, but never returns it"
        if reason:
            refusals.append(Refusal(id_text(value), reason, batch.scope))
            continue
        for name in json_fields:
            # The client takes a text for JSON that is already written.
            if isinstance(payload.get(name), str):
                payload[name] = json.dumps(payload[name], ensure_ascii=False)
        rows.append({key: value if isinstance(value, int) else id_text(value), **payload})
        kept.append(i)
    return batch.take(kept) if refusals else batch, rows, refusals


def require_fit(batch: Batch, schema: CollectionSchema) -> None:
    """Check that vectors have the shape of their fields; a server says less clearly what is wrong.

    Raises:
        InvalidRecord: one does not, or there is no such field.
    """
    fields = {vector.name: vector for vector in schema.vectors}
    for name, column in batch.vectors.items():
        field = fields.get(name)
        if field is None:
            raise InvalidRecord(f"there is no vector field '{name}', but {', '.join(fields) or 'none'}")
        kind = VectorKind.SPARSE if isinstance(column, Sparse) else VectorKind.DENSE
        element = column.element if isinstance(column, Packed) else Element.FLOAT32
        dim = None if isinstance(column, Sparse) else getattr(column, "dim", column.values.shape[-1])
        if isinstance(column, Multi) or (kind, element) != (field.kind, field.element):
            raise InvalidRecord(f"vector field '{name}' takes {field.kind.value} vectors of {field.element.value}")
        if dim is not None and dim != field.dim:
            raise InvalidRecord(f"vector field '{name}' takes {field.dim} dimensions, and these have {dim}")


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
