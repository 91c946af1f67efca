"""Qdrant's points as columns, and back, in the form of the client's models (REST and the embedded mode).

`grpc` has the same functions for gRPC: `scroll`, `retrieve`, `batch_of`, `requests`, `upsert`, `delete`.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vectormigrate_dagster.databases.columns import (
    array_rows,
    dense_column,
    multi_column,
    out_of_order,
    packed_column,
    sparse_column,
    sparse_rows,
)
from vectormigrate_dagster.databases.qdrant.limits import Limits, pieces_of, require_storable
from vectormigrate_dagster.databases.qdrant.scopes import ShardKey
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


def id_of(point: int | str) -> Id:
    """The id that the client calls so."""
    return point if isinstance(point, int) else uuid.UUID(point)


def point_id(value: Id) -> int | str:
    """What the client calls the id."""
    return value if isinstance(value, int) else id_text(value)


def kind_of(value: Id) -> IdKind:
    """The kind of an id that came from Qdrant."""
    return IdKind.U64 if isinstance(value, int) else IdKind.UUID


def belongs(value: Id, split: Split) -> bool:
    """Whether an id that came from Qdrant is in a split."""
    return kind_of(value) is split.kind and split.contains(value)


def check_order(page: Sequence[Id], start: Id, where: str) -> None:
    """Check that a page begins at `start` or after it and ascends.

    Raises:
        BrokenScan: it does not.
    """
    # Values of one type are compared as they are; both types are seldom on one page.
    places = page if len(set(map(type, page))) == 1 else [_place(value) for value in page]
    if page and (_place(page[0]) < _place(start) or any(map(operator.ge, places, places[1:]))):
        raise out_of_order(page[0], f"id '{id_text(start)}'", where)


def _place(value: Id) -> tuple[bool, Id]:
    """Where an id stands in Qdrant's order; what is compared is of one type."""
    return isinstance(value, uuid.UUID), value


def id_column(ids: list[Id]) -> IdColumn:
    """A column of their kind, or of their texts if there are several kinds."""
    kinds = {kind_of(value) for value in ids} or {IdKind.U64}
    if len(kinds) == 1:
        return IdColumn.of(kinds.pop(), ids)
    return IdColumn.of(IdKind.TEXT, [id_text(value) for value in ids])


@dataclass(frozen=True)
class Wanted:
    """What a scroll asks for.

    Args:
        vectors: those of the collection, all of which come; None leaves them out.
        path: of the only key of payloads that comes; None is all.
        filter: which records come; None is all.
    """

    vectors: tuple[VectorSchema, ...] | None
    path: str | None = None
    filter: Any = None


@dataclass(frozen=True)
class Page:
    """One page of a scroll.

    Args:
        ids: the ids of `points`.
        points: in the client's own form; see `batch_of`.
        more: whether the collection goes on after it.
    """

    ids: list[Id]
    points: list[Any]
    more: bool


def scroll(client: Any, collection: str, wanted: Wanted, *, start: Id, limit: int, key: ShardKey | None) -> Page:
    """Read a page of records that begins with `start`, or with the first id after it."""
    points, following = client.scroll(
        collection,
        scroll_filter=wanted.filter,
        limit=limit,
        offset=point_id(start),
        with_payload=True if wanted.path is None else [wanted.path],
        with_vectors=wanted.vectors is not None,
        shard_key_selector=key,
    )
    return Page([id_of(point.id) for point in points], points, following is not None)


def retrieve(
    client: Any, collection: str, vectors: tuple[VectorSchema, ...], *, ids: IdColumn, key: ShardKey | None
) -> list[Any]:
    """Read records by id."""
    del vectors  # models say what they hold
    wanted = [point_id(value) for value in ids.to_pylist()]
    points: list[Any] = client.retrieve(
        collection, ids=wanted, with_payload=True, with_vectors=True, shard_key_selector=key
    )
    return points


def requests(batch: Batch, limits: Limits, where: str) -> Iterator[Batch]:
    """The batch in pieces, each of which fits into one request.

    Raises:
        InvalidRecord: records would be stored as something else, or cannot be sent; it names them.
    """
    batch = batch.decoded()  # payloads are looked at several times from here on
    require_storable(batch, where)
    return pieces_of(batch, limits)


def upsert(client: Any, collection: str, batch: Batch, *, key: ShardKey | None) -> str:
    """Write records and wait; return the status of the update."""
    from qdrant_client import models

    rows = zip(batch.ids.to_pylist(), vector_rows(batch), batch.payloads, strict=True)
    points = [models.PointStruct(id=point_id(i), vector=vectors, payload=row) for i, vectors, row in rows]
    result = client.upsert(collection, points=points, wait=True, shard_key_selector=key)
    return str(result.status.value)


def delete(client: Any, collection: str, ids: IdColumn, *, key: ShardKey | None) -> str:
    """Delete records by id and wait; return the status of the update."""
    from qdrant_client import models

    selector = models.PointIdsList(points=[point_id(value) for value in ids.to_pylist()])
    result = client.delete(collection, points_selector=selector, wait=True, shard_key_selector=key)
    return str(result.status.value)


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
