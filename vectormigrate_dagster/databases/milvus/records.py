"""Milvus's rows as columns, and back; its filters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.columns import array_rows, dense_column, packed_column, sparse_column, sparse_rows
from vectormigrate_dagster.databases.milvus.values import dynamic_texts, misfits
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


@dataclass(frozen=True)
class Storable:
    """What a collection can hold of a batch.

    Args:
        batch: those records.
        dynamic: what the dynamic field gets of each, as JSON; empty if there is none.
        refusals: the other records.
    """

    batch: Batch
    dynamic: list[str]
    refusals: list[Refusal]


def rows_of(
    batch: Batch, schema: CollectionSchema, *, missing_vectors: bool, embedded: bool
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Whole rows for the client, and the records that this collection cannot hold; see `storable`."""
    fit = storable(batch, schema, missing_vectors=missing_vectors, embedded=embedded)
    key = schema.ids.field or "id"
    json_fields = [field.name for field in schema.fields if field.type is FieldType.JSON]
    rows = []
    for value, payload in zip(fit.batch.ids.to_pylist(), fit.batch.payloads, strict=True):
        row = {key: value if isinstance(value, int) else id_text(value), **payload}
        for name in json_fields:
            # The client takes a text for JSON that is already written.
            if isinstance(row.get(name), str):
                row[name] = json.dumps(row[name], ensure_ascii=False)
        rows.append(row)
    for name, column in fit.batch.vectors.items():
        for row, vector in zip(rows, _vectors(column), strict=True):
            row[name] = vector
    return rows, fit.refusals


def storable(batch: Batch, schema: CollectionSchema, *, missing_vectors: bool, embedded: bool = False) -> Storable:
    """Find the records that this collection can hold.

    Args:
        batch: the records.
        schema: the collection's.
        missing_vectors: a vector field that may be null can be left out.
        embedded: it is in a folder of Milvus Lite.
    """
    reasons = {} if embedded else _unreadable_ids(batch)
    for row, reason in itertools.chain(
        _lacking_vectors(batch, schema, missing_vectors=missing_vectors),
        _taken_keys(batch, schema),
        _no_containers(batch, schema) if embedded else (),
    ):
        reasons.setdefault(row, reason)
    nowhere, dynamic = dynamic_texts(batch.payloads, schema)
    reasons = nowhere | misfits(batch.payloads, schema) | reasons
    if not reasons:
        return Storable(batch, dynamic, [])
    ids = batch.ids.to_pylist()
    refusals = [Refusal(id_text(ids[row]), reasons[row], batch.scope) for row in sorted(reasons)]
    kept = [row for row in range(len(batch)) if row not in reasons]
    return Storable(batch.take(kept), [dynamic[row] for row in kept] if dynamic else [], refusals)


Reasons = Iterator[tuple[int, str]]
"""Rows, and why the collection cannot hold them."""


def _unreadable_ids(batch: Batch) -> dict[int, str]:
    if batch.ids.kind is IdKind.TEXT or UNREADABLE not in (ids := batch.ids.to_pylist()):
        return {}
    return {ids.index(UNREADABLE): f"Milvus stores id {UNREADABLE}, and counts it, but never returns it"}


def _lacking_vectors(batch: Batch, schema: CollectionSchema, *, missing_vectors: bool) -> Reasons:
    optional = {vector.name for vector in schema.vectors if vector.optional and missing_vectors}
    absent = [v.name for v in schema.vectors if v.name not in batch.vectors and v.name not in optional]
    for name in absent[:1]:
        for row in range(len(batch)):
            yield row, f"it lacks vector '{name}', which this collection demands"
    for name, column in batch.vectors.items():
        if name not in optional and not (valid := is_valid(column)).all():
            for row in np.flatnonzero(~valid).tolist():
                yield row, f"it lacks vector '{name}', which this collection demands"


def _taken_keys(batch: Batch, schema: CollectionSchema) -> Reasons:
    taken = {schema.ids.field or "id", "$meta", *(vector.name for vector in schema.vectors)}
    for row, payload in enumerate(batch.payloads):
        if not taken.isdisjoint(payload):
            name = next(key for key in payload if key in taken)
            yield row, f"its payload has a key '{name}', which is the name of the id, a vector or a reserved field"


def _no_containers(batch: Batch, schema: CollectionSchema) -> Reasons:
    for name in (field.name for field in schema.fields if field.type is FieldType.JSON):
        for row, payload in enumerate(batch.payloads):
            if payload.get(name) is not None and not isinstance(payload[name], dict | list):
                yield row, f"JSON field '{name}' of embedded Milvus keeps objects and lists, but not {payload[name]!r}"


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
