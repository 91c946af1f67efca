"""From a client's rows to columns and back: what every client that speaks in rows needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Fetched, Queries
from vectormigrate_dagster.databases.protobuf import FLOATS
from vectormigrate_dagster.errors import BrokenScan, DatabaseError, InvalidRecord
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    Id,
    IdColumn,
    Multi,
    Packed,
    Sparse,
    Split,
    VectorColumn,
    all_finite,
    id_text,
    is_valid,
)

SparseRow = tuple[Sequence[int], Sequence[float]]
"""Indices and weights of one sparse vector."""


def dense_column(rows: Sequence[Any], dim: int) -> Dense:
    """One float32 (n, dim) column of rows that are sequences of numbers, or None where the vector is missing."""
    values, valid = _matrix(rows, dim, np.dtype(np.float32))
    return Dense(values, valid)


def packed_dense(rows: Sequence[Any], dim: int) -> Dense:
    """One float32 (n, dim) column of rows that are octets of little-endian float32, or None.

    Raises:
        DatabaseError: one has another length.
    """
    width = dim * FLOATS.itemsize
    other = next((len(row) for row in rows if row is not None and len(row) != width), None)
    if other is not None:
        raise DatabaseError(f"a vector has {other / FLOATS.itemsize:g} components, the collection's have {dim}")
    valid = _valid(rows)
    values = np.frombuffer(b"".join(row for row in rows if row is not None), dtype=FLOATS).reshape(-1, dim)
    if valid is None:
        return Dense(values, None)
    whole = np.zeros((len(rows), dim), dtype=FLOATS)
    whole[valid] = values
    return Dense(whole, valid)


def packed_column(rows: Sequence[Any], element: Element, dim: int) -> Packed:
    """One column of `element` out of rows that are sequences of numbers or raw bytes, or None."""
    read = [np.frombuffer(row, dtype=element.dtype) if isinstance(row, bytes) else row for row in rows]
    values, valid = _matrix(read, element.width(dim), element.dtype)
    return Packed(element, dim, values, valid)


def sparse_column(rows: Sequence[SparseRow | None]) -> Sparse:
    """One CSR column; entries are put in ascending order of index, as `Sparse` demands."""
    present = [row or ((), ()) for row in rows]
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(indices) for indices, _ in present], out=indptr[1:])
    indices = np.fromiter((i for row, _ in present for i in row), dtype=np.uint32, count=int(indptr[-1]))
    values = np.fromiter((v for _, row in present for v in row), dtype=np.float32, count=int(indptr[-1]))
    order = np.lexsort((indices, np.repeat(np.arange(len(rows)), np.diff(indptr))))
    return Sparse(indptr, indices[order], values[order], _valid(rows))


def multi_column(rows: Sequence[Any], dim: int) -> Multi:
    """One column of rows that are matrices (lists of vectors), or None."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([0 if row is None else len(row) for row in rows], out=offsets[1:])
    values = np.zeros((int(offsets[-1]), dim), dtype=np.float32)
    for i, row in enumerate(rows):
        if row is not None:
            values[offsets[i] : offsets[i + 1]] = row
    return Multi(offsets, values, _valid(rows))


def sparse_rows(column: Sparse) -> Iterator[SparseRow | None]:
    """Each record's indices and weights as Python numbers, or None."""
    for i, valid in enumerate(is_valid(column)):
        part = slice(column.indptr[i], column.indptr[i + 1])
        yield (column.indices[part].tolist(), column.values[part].tolist()) if valid else None


def array_rows(column: Dense | Packed | Multi) -> Iterator[npt.NDArray[Any] | None]:
    """Each record's vector (or matrix of a `Multi`) as a view, or None."""
    for i, valid in enumerate(is_valid(column)):
        if not valid:
            yield None
        elif isinstance(column, Multi):
            yield column.values[column.offsets[i] : column.offsets[i + 1]]
        else:
            yield column.values[i]


def query_rows(queries: Queries) -> Iterator[Any]:
    """Each query: float32 (d,), float32 (m, d) of a vector of several, or indices and weights of a sparse one."""
    if isinstance(queries, Sparse):
        yield from sparse_rows(queries)
    else:
        yield from array_rows(queries) if isinstance(queries, Multi) else queries


def beginning(split: Split, after: str | None) -> Id | None:
    """The exclusive lower bound of a scan: the greater of the split's own and `after`."""
    bounds: list[Any] = [
        bound for bound in (split.lower, None if after is None else split.kind.decode(after)) if bound is not None
    ]
    return max(bounds, default=None)


def ascending(batch: Batch, after: Id | None, where: str) -> Batch:
    """The page itself, if its ids ascend strictly from `after`.

    Raises:
        BrokenScan: they do not; a scan that went on from here would lose or repeat records.
    """
    first = batch.ids[0]
    if (after is not None and not first > after) or not batch.ids.is_strictly_ascending():  # type: ignore[operator]
        start = "the start" if after is None else f"id '{id_text(after)}'"
        raise out_of_order(first, start, where)
    return batch


def out_of_order(first: Id, start: str, where: str) -> BrokenScan:
    """The error for a page, of which `first` is the first id, that does not ascend strictly from `start`."""
    return BrokenScan(
        f"{where} returned a page that does not ascend strictly from {start} "
        f"(its first id is '{id_text(first)}'); going on would lose records"
    )


def found(batch: Batch, asked: IdColumn) -> Fetched:
    """What was found, in ascending order of id, and the ids of `asked` that were not."""
    have = batch.ids.to_pylist()
    rows = np.asarray(sorted(range(len(have)), key=have.__getitem__), dtype=np.int64)
    known = set(have)
    missing = [i for i, value in enumerate(asked.to_pylist()) if value not in known]
    return Fetched(batch.take(rows), asked.take(missing))


def require_elements(batch: Batch, elements: Sequence[Element]) -> None:
    """Refuse a batch whose packed vectors the database has no type for.

    Raises:
        InvalidRecord: there is one.
    """
    for name, column in batch.vectors.items():
        if isinstance(column, Packed) and column.element not in elements:
            raise InvalidRecord(
                f"vector '{name}' holds {column.element.value} components, which this database does not store"
            )


def rows_not_finite(batch: Batch) -> list[int]:
    """Rows with a component that is NaN or infinite, ascending."""
    bad = np.zeros(len(batch), dtype=np.bool_)
    for column in batch.vectors.values():
        values = column.values
        if np.issubdtype(values.dtype, np.integer) or all_finite(values):
            continue
        bad |= _rows_with(column, ~np.isfinite(values))
    return [int(row) for row in np.flatnonzero(bad)]


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch of the records of all, which are at least one and have the same vectors and scope."""
    first = batches[0]
    if len(batches) == 1:
        return first
    ids = IdColumn.of(first.ids.kind, [value for batch in batches for value in batch.ids.to_pylist()])
    vectors = {name: joined_column([batch.vectors[name] for batch in batches]) for name in first.vectors}
    return Batch(ids, first.scope, vectors, [payload for batch in batches for payload in batch.payloads])


def pieces(ids: IdColumn, size: int) -> Iterator[IdColumn]:
    """`ids` in columns of at most `size`."""
    for start in range(0, len(ids), size):
        yield ids.slice(start, min(start + size, len(ids)))


def _rows_with(column: VectorColumn, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Records of which some component is marked: bool (n,)."""
    if isinstance(column, Dense | Packed):
        return np.asarray(marked.any(axis=1), dtype=np.bool_)
    ends = column.offsets if isinstance(column, Multi) else column.indptr
    counts = np.concatenate([[0], np.cumsum(marked.any(axis=1) if marked.ndim > 1 else marked)])
    ragged: npt.NDArray[np.bool_] = counts[ends[1:]] > counts[ends[:-1]]
    return ragged


def joined_column(columns: Sequence[Any]) -> VectorColumn:
    """One column of the rows of all, which are of one kind and dimension."""
    first = columns[0]
    values = np.concatenate([column.values for column in columns])
    mask = np.concatenate([is_valid(column) for column in columns])
    valid = None if mask.all() else mask
    if isinstance(first, Dense | Packed):
        return replace(first, values=values, valid=valid)
    ends = "indptr" if isinstance(first, Sparse) else "offsets"
    sizes = np.concatenate([np.diff(getattr(column, ends)) for column in columns])
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if isinstance(first, Sparse):
        return Sparse(bounds, np.concatenate([column.indices for column in columns]), values, valid)
    return Multi(bounds, values, valid)


def _matrix(rows: Sequence[Any], width: int, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], Any]:
    valid = _valid(rows)
    if valid is None:
        return np.asarray(rows, dtype=dtype).reshape(len(rows), width), None
    values = np.zeros((len(rows), width), dtype=dtype)
    if valid.any():
        values[valid] = np.asarray([row for row in rows if row is not None], dtype=dtype)
    return values, valid


def _valid(rows: Sequence[Any]) -> npt.NDArray[np.bool_] | None:
    valid = np.fromiter((row is not None for row in rows), dtype=np.bool_, count=len(rows))
    return None if valid.all() else valid
