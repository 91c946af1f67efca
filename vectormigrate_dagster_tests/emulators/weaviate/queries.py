"""Queries: pages by id, by filter or by a property's order, and the nearest to a vector (usecases/traverser, 1.39)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from weaviate.proto.v1 import search_get_pb2

from vectormigrate_dagster_tests.emulators.weaviate import grpc_requests
from vectormigrate_dagster_tests.emulators.weaviate.collection import Collection
from vectormigrate_dagster_tests.emulators.weaviate.engine import Engine
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.weaviate.filters import Matches, matcher
from vectormigrate_dagster_tests.emulators.weaviate.gotext import lower_first, parse_uuid
from vectormigrate_dagster_tests.emulators.weaviate.limits import too_many
from vectormigrate_dagster_tests.emulators.weaviate.search import nearest
from vectormigrate_dagster_tests.emulators.weaviate.service import Settings
from vectormigrate_dagster_tests.emulators.weaviate.shard import StoredObject
from vectormigrate_dagster_tests.emulators.weaviate.values import find

Found = list[tuple[StoredObject, float | None]]

_NOT_PLAYED = (
    *("hybrid_search", "bm25_search", "near_object", "near_text", "near_image", "near_audio", "near_video"),
    *("near_depth", "near_thermal", "near_imu", "generative", "rerank", "group_by"),
)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for.

    Args:
        after: the id behind which a page begins; "" for the first.
        sort: properties and whether they ascend.
        vector: what is searched for, with the name of the vector and the greatest distance.
    """

    collection: str
    tenant: str = ""
    limit: int = 10
    offset: int = 0
    after: str = ""
    max_results: int = 10_000
    filters: Any = None
    sort: tuple[tuple[str, bool], ...] = ()
    near: Any = None

    @classmethod
    def of(cls, request: search_get_pb2.SearchRequest, settings: Settings) -> Self:
        """Read a request.

        Raises:
            Refused: this stand-in does not play it.
        """
        for name in _NOT_PLAYED:
            if request.HasField(name):
                raise Refused(f"the stand-in does not play {name}", Kind.INTERNAL)
        return cls(
            collection=request.collection,
            tenant=request.tenant,
            limit=request.limit or settings.default_limit,
            offset=request.offset,
            after=request.after,
            max_results=settings.max_results,
            filters=request.filters if request.HasField("filters") else None,
            sort=tuple((each.path[0], each.ascending) for each in request.sort_by),
            near=request.near_vector if request.HasField("near_vector") else None,
        )


def run(engine: Engine, query: Query) -> Found:
    """The objects that are asked for, in their order, with distances if a vector was searched for.

    Raises:
        Refused: the query is not possible.
    """
    collection = engine.collection(query.collection)
    if query.near is not None:
        return _nearest(collection, query)
    _check(collection, query)
    try:
        shard = collection.shard(query.tenant)
    except Refused as error:
        index = collection.name.lower()
        raise Refused(f"explorer: list class: search: object search at index {index}: {error}") from error
    if query.filters is None and not query.sort:
        after = str(parse_uuid(query.after)) if query.after else None
        page = shard.after(after, query.offset + query.limit)
        return [(stored, None) for stored in page[query.offset :]]
    matches = _matcher(collection, query)
    found = [stored for stored in shard if matches is None or matches(stored)]
    for name, ascending in reversed(query.sort):
        found = _sorted(collection, found, name, ascending)
    return [(stored, None) for stored in found[query.offset : query.offset + query.limit]]


def _check(collection: Collection, query: Query) -> None:
    if query.after:
        what = [("offset", query.offset), ("where", query.filters is not None), ("sort", query.sort)]
        if wrong := [name for name, given in what if given]:
            raise Refused(
                f"cursor api: invalid 'after' parameter: {','.join(wrong)} cannot be set with after and limit "
                "parameters"
            )
        try:
            parse_uuid(query.after)
        except ValueError as error:
            raise Refused(
                f"cursor api: invalid 'after' parameter: after parameter '{query.after}' is not a valid uuid: {error}"
            ) from error
    _check_total(query, "explorer: list class: search: invalid pagination params: ")
    for name, _ in query.sort:
        if name != "_id":
            find(collection.definition, lower_first(name))


def _check_total(query: Query, prefix: str) -> None:
    if query.offset + query.limit > query.max_results:
        raise Refused(f"{prefix}{too_many(query.offset, query.limit, query.max_results)}")


def _matcher(collection: Collection, query: Query) -> Matches | None:
    return None if query.filters is None else matcher(collection.definition, query.filters)


def _sorted(collection: Collection, found: list[StoredObject], name: str, ascending: bool) -> list[StoredObject]:
    """Objects by a property; those without it come first when it ascends."""
    key = lower_first(name)

    def value(stored: StoredObject) -> tuple[bool, Any]:
        held = stored.id if name == "_id" else stored.properties.get(key)
        return (held is not None, 0 if held is None else held)

    return sorted(found, key=value, reverse=not ascending)


def _nearest(collection: Collection, query: Query) -> Found:
    near = query.near
    name = grpc_requests.target(near, collection.definition)
    vector: NDArray[np.float32] = grpc_requests.query(near)
    if near.HasField("distance") and near.HasField("certainty"):
        raise Refused("near_vector: cannot provide distance and certainty")
    _check_total(
        query,
        "explorer: get class: concurrentTargetVectorSearch): explorer: get class: vector search: "
        "invalid pagination params: ",
    )
    try:
        shard = collection.shard(query.tenant)
    except Refused as error:
        raise Refused(
            "explorer: get class: concurrentTargetVectorSearch): explorer: get class: vector search: object vector "
            f"search at index {collection.name.lower()}: {error}"
        ) from error
    found = nearest(collection.definition, shard, name, vector, _matcher(collection, query))
    if near.HasField("distance"):
        found = [each for each in found if each[1] <= near.distance]
    if near.HasField("certainty"):
        found = [each for each in found if 1 - each[1] / 2 >= near.certainty]
    return list(found[query.offset : query.offset + query.limit])
