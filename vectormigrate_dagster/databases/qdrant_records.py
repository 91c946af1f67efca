"""Qdrant's points as columns, and back."""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from vectormigrate_dagster.databases.columns import (
    array_rows,
    dense_column,
    multi_column,
    packed_column,
    sparse_column,
    sparse_rows,
)
from vectormigrate_dagster.model import (
    Batch,
    Element,
    Id,
    IdColumn,
    IdKind,
    Sparse,
    Split,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
    tile,
)


def first_after(kind: IdKind, after: Id | None) -> Id | None:
    """The first id that may follow `after`; None if there can be none."""
    if kind is IdKind.U64:
        number = 0 if after is None else int(after) + 1
        return number if number < 2**64 else None
    if kind is IdKind.UUID:
        number = 0 if after is None else after.int + 1  # type: ignore[union-attr]
        return uuid.UUID(int=number) if number < 2**128 else None
    raise ValueError(f"Qdrant has no {kind.value} ids")


def cut(kind: IdKind, ids: list[Any], weight: float, target_records: int, scope: str | None) -> list[Split]:
    """Splits of about `target_records`, cut at quantiles of sorted `ids`, each of which stands for `weight` records."""
    parts = max(1, min(len(ids), math.ceil(len(ids) * weight / target_records)))
    edges = [len(ids) * i // parts for i in range(parts + 1)]
    sizes = [round((high - low) * weight) for low, high in itertools.pairwise(edges)]
    return tile(kind, [ids[edge - 1] for edge in edges[1:-1]], scope=scope, records=sizes)


def id_of(point: int | str) -> Id:
    """The id that the client calls so."""
    return point if isinstance(point, int) else uuid.UUID(point)


def point_id(value: Id) -> int | str:
    """What the client calls the id."""
    return value if isinstance(value, int) else id_text(value)


def kind_of(value: Id) -> IdKind:
    """The kind of an id that came from Qdrant."""
    return IdKind.U64 if isinstance(value, int) else IdKind.UUID


def id_column(ids: list[Id]) -> IdColumn:
    """A column of their kind, or of their texts if there are several kinds."""
    kinds = {kind_of(value) for value in ids} or {IdKind.U64}
    if len(kinds) == 1:
        return IdColumn.of(kinds.pop(), ids)
    return IdColumn.of(IdKind.TEXT, [id_text(value) for value in ids])


def batch_of(points: Sequence[Any], kind: IdKind, scope: str | None, vectors: tuple[VectorSchema, ...]) -> Batch:
    """Records that the client read, which are all of `kind`."""
    named = [p.vector if isinstance(p.vector, dict) else {"": p.vector} for p in points]
    return Batch(
        ids=IdColumn.of(kind, [id_of(p.id) for p in points]),
        scope=scope,
        vectors={v.name: _column(v, [row.get(v.name) for row in named]) for v in vectors},
        payloads=[p.payload or {} for p in points],
    )


def _column(vector: VectorSchema, rows: list[Any]) -> VectorColumn:
    if vector.kind is VectorKind.SPARSE:
        return sparse_column([None if row is None else (row.indices, row.values) for row in rows])
    dim = vector.dim or 0
    if vector.kind is VectorKind.MULTI:
        return multi_column(rows, dim)
    if vector.element is Element.FLOAT32:
        return dense_column(rows, dim)
    return packed_column(rows, vector.element, dim)


def vector_rows(batch: Batch) -> Iterator[dict[str, Any]]:
    """Each record's vectors in the client's form; those that are missing are left out."""
    from qdrant_client import models

    columns: list[Iterator[Any]] = []
    for column in batch.vectors.values():
        if isinstance(column, Sparse):
            rows = sparse_rows(column)
            columns.append(r if r is None else models.SparseVector(indices=r[0], values=r[1]) for r in rows)
        else:
            columns.append(None if row is None else row.tolist() for row in array_rows(column))
    for _ in range(len(batch)):
        row = {name: next(column) for name, column in zip(batch.vectors, columns, strict=True)}
        yield {name: value for name, value in row.items() if value is not None}
