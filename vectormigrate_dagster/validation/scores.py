"""How near vectors are to queries, by every metric, computed by us: higher is nearer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Queries
from vectormigrate_dagster.model import Dense, Element, Metric, Multi, Packed, Sparse, VectorColumn
from vectormigrate_dagster.model.vectors import slice_rows

Scores = npt.NDArray[np.float64]

_BLOCK_FLOATS = 8 * 2**20
_SIMILARITIES = (Metric.COSINE, Metric.DOT)


def components(column: VectorColumn) -> npt.NDArray[np.float64]:
    """The components of dense or packed vectors as float64 (n, dim); bits as 0 and 1.

    Raises:
        TypeError: the vectors are sparse or several per record.
    """
    if isinstance(column, Dense):
        return column.values.astype(np.float64)
    if not isinstance(column, Packed):
        raise TypeError(f"{type(column).__name__} vectors have no single row of components")
    if column.element is Element.BINARY:
        return np.unpackbits(column.values, axis=1, count=column.dim).astype(np.float64)
    if column.element is Element.BFLOAT16:
        return (column.values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return column.values.astype(np.float64)


def scores_of(metric: Metric, queries: Queries, column: VectorColumn) -> Scores:
    """Score each vector of a column for each query of the same kind, float64 (q, n); higher is nearer.

    Sparse vectors are compared by their product, vectors of several by the sum over the query's of the largest product
    with one of the record's. A sparse vector whose product is not positive, and a record without any of its several
    vectors, is none that databases find: -inf.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # a vector that is not finite has such scores
        if isinstance(queries, Sparse) and isinstance(column, Sparse):
            return _sparse(queries, column)
        if isinstance(queries, Multi) and isinstance(column, Multi):
            return _multi(metric, queries, column)
        return scores(metric, np.asarray(queries), components(column))


def unit_scores(metric: Metric, queries: Queries) -> Scores:
    """How large the scores of each query are that are not near 0, float64 (q,): of what length vectors are decides it.

    Taken from the queries alone: the product of each with itself, its length, or 1 where lengths do not count.
    """
    if metric not in (Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN):
        return np.ones(len(queries))
    if isinstance(queries, Sparse | Multi):
        ends = queries.indptr if isinstance(queries, Sparse) else queries.offsets
        values = queries.values.astype(np.float64).reshape(len(queries.values), -1)
        found = np.array([(values[a:b] ** 2).sum() for a, b in pairwise(ends)])
        return np.asarray(found if metric is Metric.DOT else np.sqrt(found))
    values = np.asarray(queries).astype(np.float64)
    if metric is Metric.MANHATTAN:
        return np.asarray(np.abs(values).sum(axis=1))
    squares = (values * values).sum(axis=1)
    return np.asarray(squares if metric is Metric.DOT else np.sqrt(squares))


def nearness(metric: Metric, claimed: npt.NDArray[Any], *, squared_euclidean: bool) -> Scores:
    """A database's own scores as we count, higher is nearer.

    Args:
        metric: what the vectors are compared by.
        claimed: scores in the convention of every database: similarities of cosine and dot, distances of all others.
        squared_euclidean: see `Capabilities.squared_euclidean`.
    """
    found = np.asarray(claimed, dtype=np.float64)
    if metric in _SIMILARITIES:
        return found
    if metric is Metric.JACCARD:
        return 1 - found
    return -np.sqrt(np.maximum(found, 0)) if metric is Metric.EUCLIDEAN and squared_euclidean else -found


def as_read(metric: Metric, score: float) -> float:
    """A score of ours as people read the metric: a distance is not negative."""
    return score if metric in (*_SIMILARITIES, Metric.JACCARD) else abs(score)


def scores(metric: Metric, queries: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> Scores:
    """Score each vector for each query, float64 (q, n); distances are negated, so that higher is nearer."""
    q, v = np.asarray(queries, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if metric is Metric.DOT:
        return np.asarray(q @ v.T)
    if metric is Metric.COSINE:
        return np.asarray(_unit(q) @ _unit(v).T)
    if metric is Metric.EUCLIDEAN:
        squares = (q * q).sum(axis=1)[:, None] + (v * v).sum(axis=1)[None, :] - 2 * (q @ v.T)
        return np.asarray(-np.sqrt(np.maximum(squares, 0)))
    if metric is Metric.JACCARD:
        q, v = (q != 0).astype(np.float64), (v != 0).astype(np.float64)
        both = q @ v.T
        either = q.sum(axis=1)[:, None] + v.sum(axis=1)[None, :] - both
        return np.asarray(np.where(either > 0, both / np.where(either > 0, either, 1), 1.0))
    return -_componentwise(metric, q, v)


def _unit(rows: Scores) -> Scores:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def _componentwise(metric: Metric, queries: Scores, vectors: Scores) -> Scores:
    """Manhattan or Hamming distance, a block of vectors at a time."""
    result = np.empty((len(queries), len(vectors)))
    step = max(1, _BLOCK_FLOATS // max(1, queries.size))
    for start in range(0, len(vectors), step):
        differences = queries[:, None, :] - vectors[None, start : start + step, :]
        if metric is Metric.HAMMING:
            result[:, start : start + step] = (differences != 0).sum(axis=2)
        else:
            result[:, start : start + step] = np.abs(differences).sum(axis=2)
    return result


def _sparse(queries: Sparse, column: Sparse) -> Scores:
    """Products of sparse vectors, over the dimensions that some query has, a block of vectors at a time."""
    dims = np.unique(queries.indices)
    wanted = _dense(queries, dims)
    result = np.zeros((len(queries), len(column)))
    step = max(1, _BLOCK_FLOATS // max(1, len(dims)))
    for start in range(0, len(column), step):
        block = slice_rows(column, start, min(len(column), start + step))
        assert isinstance(block, Sparse)  # noqa: S101  # a slice is of the kind that was cut
        result[:, start : start + step] = wanted @ _dense(block, dims).T
    return np.asarray(np.where(result > 0, result, -np.inf))


def _dense(column: Sparse, dims: npt.NDArray[np.uint32]) -> Scores:
    """The weights of sparse vectors in some ascending dimensions, float64 (n, len(dims))."""
    found = np.zeros((len(column), len(dims)))
    if len(dims):
        places = np.minimum(np.searchsorted(dims, column.indices), len(dims) - 1)
        rows = np.repeat(np.arange(len(column)), np.diff(column.indptr))
        known = dims[places] == column.indices
        found[rows[known], places[known]] = column.values[known]
    return found


def _multi(metric: Metric, queries: Multi, column: Multi) -> Scores:
    """Sums of the largest products, a record at a time; -inf where one side has no vector at all."""
    asked, given = queries.values.astype(np.float64), column.values.astype(np.float64)
    if metric is Metric.COSINE:
        asked, given = _unit(asked), _unit(given)
    result = np.full((len(queries), len(column)), -np.inf)
    filled = np.flatnonzero(np.diff(queries.offsets))
    for row, (start, stop) in enumerate(zip(column.offsets, column.offsets[1:], strict=False)):
        if stop > start and len(filled):
            largest = (asked @ given[start:stop].T).max(axis=1)
            result[filled, row] = np.add.reduceat(largest, queries.offsets[filled])
    return result
