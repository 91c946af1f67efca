"""How near vectors are to queries, by every metric, computed by us: higher is nearer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model import Dense, Element, Metric, Packed, VectorColumn

Scores = npt.NDArray[np.float64]

_BLOCK_FLOATS = 8 * 2**20


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


def scores(metric: Metric, queries: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> Scores:
    """Score each vector for each query, float64 (q, n); distances are negated, so that higher is nearer."""
    q, v = queries.astype(np.float64), vectors.astype(np.float64)
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
