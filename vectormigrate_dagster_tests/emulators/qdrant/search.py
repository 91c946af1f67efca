"""Queries: each shard is asked by Qdrant's in-memory engine, which scores exactly; the answers are merged."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from typing import Any

from qdrant_client import models
from qdrant_client.local.qdrant_local import QdrantLocal

from vectormigrate_dagster_tests.emulators.qdrant.collection import Collection, local_errors
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused, bad_input
from vectormigrate_dagster_tests.emulators.qdrant.points import Row, place, shard_keys, valid_id
from vectormigrate_dagster_tests.emulators.qdrant.shard import Shard

_NOT_ABOUT_VECTORS = (
    models.SampleQuery, models.OrderByQuery, models.FusionQuery, models.RrfQuery, models.FormulaQuery
)  # fmt: skip
_LOWER_IS_BETTER = (models.Distance.EUCLID, models.Distance.MANHATTAN)


def query(collection: Collection, request: models.QueryRequest) -> list[Row]:
    """The best points of all shards that the request names, best first."""
    limit, offset = (10 if request.limit is None else request.limit), request.offset or 0
    shards = collection.to_read(shard_keys(request.shard_key))
    _check(collection, shards.values(), request)
    rows: list[Row] = []
    with local_errors():
        for key, shard in shards.items():
            for point in _ask(shard, request, limit + offset):
                row = shard.row(point.id, request.with_payload, request.with_vector)
                row.shard_key, row.score, row.order_value = key, point.score, getattr(point, "order_value", None)
                rows.append(row)
    if len(shards) > 1:
        rows = _merged(rows, collection, request)
    return rows[offset : offset + limit]


def _check(collection: Collection, shards: Iterable[Shard], request: models.QueryRequest) -> None:
    """Refuse a query by a vector or a point that does not fit, in a server's words."""
    query = request.query.nearest if isinstance(request.query, models.NearestQuery) else request.query
    using, dense = request.using or "", collection.settings.vectors()
    if query is not None and using not in dense and using not in (collection.settings.params.sparse_vectors or {}):
        if not isinstance(query, _NOT_ABOUT_VECTORS):
            raise bad_input(f"Not existing vector name error: {using}")
    elif isinstance(query, list) and query and not isinstance(query[0], list) and using in dense:
        if len(query) != dense[using].size:
            raise bad_input(f"Vector dimension error: expected dim: {dense[using].size}, got {len(query)}")
    elif isinstance(query, int | str) and all(shard.live(valid_id(query)) is None for shard in shards):
        raise Refused(Kind.NOT_FOUND, f"No point with id {query} found")


def scroll_by_value(collection: Collection, request: models.ScrollRequest, limit: int) -> list[Row]:
    """A page in the order of a payload field; there is no next one."""
    if request.offset is not None:
        raise bad_input("Cannot use an `offset` when using `order_by`")
    order = request.order_by if isinstance(request.order_by, models.OrderBy) else models.OrderBy(key=request.order_by)
    if order.key not in collection.indexes:
        raise bad_input(
            f"No range index for `order_by` key: `{order.key}`. Please create one to use `order_by`. Check "
            "https://qdrant.tech/documentation/concepts/indexing/#payload-index to see which payload schemas support "
            "Range conditions"
        )
    rows: list[Row] = []
    with local_errors():
        for key, shard in collection.to_read(shard_keys(request.shard_key)).items():
            for point in shard.scroll(scroll_filter=request.filter, order_by=order, limit=limit, with_payload=False)[0]:
                row = shard.row(
                    point.id, True if request.with_payload is None else request.with_payload, request.with_vector
                )
                row.shard_key, row.order_value = key, point.order_value
                rows.append(row)
    descending = order.direction is models.Direction.DESC
    rows.sort(key=lambda row: (row.order_value, place(row.id)), reverse=descending)
    return rows[:limit]


def _merged(rows: list[Row], collection: Collection, request: models.QueryRequest) -> list[Row]:
    if isinstance(request.query, models.SampleQuery):
        random.shuffle(rows)
    else:
        params = collection.settings.vectors().get(request.using or "")
        nearest = not isinstance(request.query, models.FusionQuery | models.FormulaQuery | models.RrfQuery)
        ascending = nearest and params is not None and params.distance in _LOWER_IS_BETTER
        rows.sort(key=lambda row: row.score if ascending else -row.score)
    return list({row.id: row for row in reversed(rows)}.values())[::-1]


def _ask(shard: Shard, request: models.QueryRequest, limit: int) -> list[Any]:
    local = QdrantLocal(":memory:")
    local.collections["shard"] = shard
    # The in-memory engine divides vectors of a Cosine collection by their length once more, in place.
    kept = {name: rows.copy() for name, rows in shard.vectors.items()}
    kept_multi = {name: [rows.copy() for rows in multi] for name, multi in shard.multivectors.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # settings of approximate search, which is exact here
            return local.query_points(
                "shard",
                query=request.query,
                using=request.using,
                prefetch=request.prefetch,
                query_filter=request.filter,
                search_params=request.params,
                limit=limit,
                with_payload=False,
                with_vectors=False,
                score_threshold=request.score_threshold,
                lookup_from=request.lookup_from,
            ).points
    finally:
        shard.vectors, shard.multivectors = kept, kept_multi
