"""Searches by vector, which are exact: every object of the shard is compared.

Distances are those of a server: the smaller the nearer, and `dot` is negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.filters import Matches
from vectormigrate_dagster_tests.emulators.weaviate.index_config import is_multi
from vectormigrate_dagster_tests.emulators.weaviate.schema import vector_configs
from vectormigrate_dagster_tests.emulators.weaviate.shard import Shard, StoredObject

Rows = NDArray[np.float32]


def nearest(
    definition: dict[str, Any], shard: Shard, name: str, query: Rows, matches: Matches | None
) -> list[tuple[StoredObject, float]]:
    """All objects that have the vector and pass the filter, the nearest first.

    Raises:
        Refused: the query is of another form than the index.
    """
    config = vector_configs(definition)[name]
    multi = is_multi(config)
    if multi != (query.ndim == 2):
        given, held = ("regular", "multi") if multi else ("multi", "regular")
        what = "vectors" if held == "regular" else f"{held} vectors"
        raise Refused(
            f"near_vector: provided vector is a {given} vector but vector index supports "
            f"{'regular vectors' if held == 'regular' else what}"
        )
    _check_length(definition["class"], shard, name, query)
    held_objects, matrices = shard.indexed(name, multi=multi)
    if not held_objects:
        return []
    if multi:
        scores = _late_interaction(query, matrices, config["distance"])
    else:
        scores = distances(query[None, :], np.stack(matrices), config["distance"])[0]
    order = np.argsort(scores, kind="stable")
    found = ((held_objects[position], float(scores[position])) for position in order)
    return [(stored, score) for stored, score in found if matches is None or matches(stored)]


def _check_length(class_name: str, shard: Shard, name: str, query: Rows) -> None:
    expected = shard.dimensions.get(name)
    if expected is not None and query.shape[-1] != expected:
        index = class_name.lower()
        raise Refused(
            f"explorer: get class: concurrentTargetVectorSearch): explorer: get class: vector search: object vector "
            f"search at index {index}: shard {index}_{shard.name}: vector search: knn search: distance between "
            f"entrypoint and query node: {expected} vs {query.shape[-1]}: vector lengths don't match"
        )


def _late_interaction(query: Rows, matrices: list[Rows], distance: str) -> NDArray[np.float64]:
    """The sum over the query's vectors of the greatest product with one of the object's, negative.

    A server 1.39 does so whatever the distance (adapters/repos/db/vector/hnsw/index.go, multiDistancerProvider); for
    `cosine` it brings the query's vectors to length one, but not those that are stored (seen on a running server).
    """
    rows = query.astype(np.float64)
    rows = _unit(rows) if distance == "cosine" else rows
    return np.array([-(rows @ matrix.astype(np.float64).T).max(axis=1).sum() for matrix in matrices])


def distances(queries: Rows, held: Rows, distance: str) -> NDArray[np.float64]:
    """Distances of shape (queries, held)."""
    left, right = queries.astype(np.float64), held.astype(np.float64)
    match distance:
        case "cosine":
            return 1 - _unit(left) @ _unit(right).T
        case "dot":
            return -(left @ right.T)
    left, right = left[:, None, :], right[None, :, :]
    match distance:
        case "l2-squared":
            return ((left - right) ** 2).sum(axis=-1)
        case "manhattan":
            return np.abs(left - right).sum(axis=-1)
    return (left != right).sum(axis=-1).astype(np.float64)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of length one; one of length zero stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
