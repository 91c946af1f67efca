"""Batches that tests make up and put together, and the schema that goes with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Multi,
    Packed,
    Sparse,
    VectorColumn,
    VectorSchema,
    id_text,
    is_valid,
)


def make_batch(
    ids: Sequence[Id],
    *,
    kind: IdKind = IdKind.U64,
    scope: str | None = None,
    dim: int = 4,
    seed: int = 0,
    vector: str = "",
) -> Batch:
    """Records with one dense vector and a small payload that both depend on the id and `seed`."""
    rows = [np.random.default_rng([seed, hash_text(id_text(key))]).normal(size=dim) for key in ids]
    values = np.array(rows, dtype=np.float32).reshape(len(ids), dim)
    payloads = [{"name": f"record {id_text(id)}", "n": i, "score": i / 2} for i, key in enumerate(ids)]
    return Batch(IdColumn.of(kind, ids), scope, {vector: Dense(values)}, payloads)


def hash_text(text: str) -> int:
    """A number from a text, the same in every process."""
    return int.from_bytes(text.encode()[-7:], "big")


def dense_schema(
    name: str = "memory", *, metric: Metric = Metric.COSINE, dim: int = 4, kinds: tuple[IdKind, ...] = (IdKind.U64,)
) -> CollectionSchema:
    """A schema with one unnamed dense vector."""
    return CollectionSchema(
        name=name, ids=IdSchema(kinds=kinds), vectors=(VectorSchema(name="", dim=dim, metric=metric),)
    )


def concat(batches: Sequence[Batch], ids: IdColumn, scope: str | None) -> Batch:
    """One batch out of several; a vector that a batch lacks is missing in its records."""
    names = dict.fromkeys(name for batch in batches for name in batch.vectors)
    vectors = {
        name: _concat([batch.vectors.get(name) for batch in batches], [len(batch) for batch in batches])
        for name in names
    }
    return Batch(ids, scope, vectors, [dict(payload) for batch in batches for payload in batch.payloads])


def _concat(columns: list[VectorColumn | None], lengths: list[int]) -> VectorColumn:
    like = next(column for column in columns if column is not None)
    masks = [
        np.zeros(n, np.bool_) if column is None else is_valid(column)
        for column, n in zip(columns, lengths, strict=True)
    ]
    whole = all(column is not None and column.valid is None for column in columns)
    valid = None if whole else np.concatenate(masks)
    if isinstance(like, Dense | Packed):
        empty = like.values[:0]
        parts = [
            np.zeros((n, *empty.shape[1:]), empty.dtype) if column is None else column.values  # type: ignore[union-attr]
            for column, n in zip(columns, lengths, strict=True)
        ]
        values = np.concatenate(parts)
        return Dense(values, valid) if isinstance(like, Dense) else Packed(like.element, like.dim, values, valid)
    sizes = []
    for column, n in zip(columns, lengths, strict=True):
        ends = None if column is None else column.indptr if isinstance(column, Sparse) else column.offsets  # type: ignore[union-attr]
        sizes.append(np.zeros(n, np.int64) if ends is None else np.diff(ends))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
    there = [column for column in columns if column is not None]
    values = np.concatenate([column.values for column in there])
    if isinstance(like, Sparse):
        return Sparse(offsets, np.concatenate([c.indices for c in there if isinstance(c, Sparse)]), values, valid)
    return Multi(offsets, values, valid)
