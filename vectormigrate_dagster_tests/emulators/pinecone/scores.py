"""Brute force search: every record is scored, so the answer is exact."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from vectormigrate_dagster_tests.emulators.pinecone.filters import Predicate
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.records import Record, Sparse

Scored = tuple[Record, np.float32]


def nearest(
    namespace: Namespace,
    top_k: int,
    predicate: Predicate | None,
    dense: tuple[str, str, np.ndarray] | None,
    sparse: tuple[str, Sparse] | None,
) -> list[Scored]:
    """The best records, best first; of equal ones the one with the smaller id.

    Args:
        namespace: where.
        top_k: how many.
        predicate: condition on metadata.
        dense: field, metric and query; with `sparse` too, both products are added.
        sparse: field and query.
    """
    metric = dense[1] if dense else "dotproduct"
    scores: dict[str, float] = {}
    if dense:
        field, _, query = dense
        found, rows = namespace.dense_rows(field)
        if found:
            scores = dict(zip((r.id for r in found), _dense_scores(metric, rows, query).tolist(), strict=True))
    if sparse:
        for record, vector in namespace.sparse_rows(sparse[0]):
            product = sparse[1].dot(vector)
            if product is not None:
                scores[record.id] = scores.get(record.id, 0.0) + product
    chosen = [
        (score if metric == "euclidean" else -score, each)
        for each, score in scores.items()
        if predicate is None or predicate(namespace.records[each].metadata)
    ]
    return [(namespace.records[each], _as_float32(scores[each])) for _, each in heapq.nsmallest(top_k, chosen)]


def _dense_scores(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Scores in float32, as answers have them: the square of the distance for euclidean."""
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        difference = rows - query
        return _as_float32(np.einsum("ij,ij->i", difference, difference))
    product = rows @ query
    if metric == "cosine":
        product /= np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return _as_float32(product)


def _as_float32(scores: Any) -> Any:
    """Scores that JSON can hold: those out of range become the largest there is."""
    largest = np.finfo(np.float32).max
    return np.clip(scores, -largest, largest).astype(np.float32)
