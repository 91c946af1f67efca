"""Qdrant's points over gRPC: the same functions as in `records`.

Records go through `point_reading` and `point_writing`, in frames that the client neither parses nor makes; its channel
carries them, with its key and its limits.
"""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster.databases.protobuf import readable
from vectormigrate_dagster.databases.qdrant.point_reading import Point, batch_of, points_of
from vectormigrate_dagster.databases.qdrant.point_writing import Points, requests
from vectormigrate_dagster.databases.qdrant.records import Page, Wanted, id_of, point_id
from vectormigrate_dagster.databases.qdrant.scopes import ShardKey
from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.model import Id, IdColumn, VectorSchema, id_text

__all__ = ["batch_of", "delete", "requests", "retrieve", "scroll", "upsert"]


def scroll(client: Any, collection: str, wanted: Wanted, *, start: Id, limit: int, key: ShardKey | None) -> Page:
    """Read a page of records that begins with `start`, or with the first id after it."""
    from qdrant_client import grpc

    request = grpc.ScrollPoints(
        collection_name=collection,
        filter=_filter(wanted.filter),
        offset=_point_id(start),
        limit=limit,
        with_payload=_payload_selector(wanted.path),
        with_vectors=grpc.WithVectorsSelector(enable=wanted.vectors is not None),
        shard_key_selector=_selector(key),
    )
    answer = _call(client, "Scroll", request.SerializeToString())
    points, more = points_of(answer, "ScrollResponse", wanted.vectors or ())
    return Page([point.id for point in points], _exact(client, collection, points, key), more)


def retrieve(
    client: Any, collection: str, vectors: tuple[VectorSchema, ...], *, ids: IdColumn, key: ShardKey | None
) -> list[Point]:
    """Read records by id."""
    from qdrant_client import grpc

    request = grpc.GetPoints(
        collection_name=collection,
        ids=[_point_id(value) for value in ids.to_pylist()],
        with_payload=grpc.WithPayloadSelector(enable=True),
        with_vectors=grpc.WithVectorsSelector(enable=True),
        shard_key_selector=_selector(key),
    )
    points, _ = points_of(_call(client, "Get", request.SerializeToString()), "GetResponse", vectors)
    return _exact(client, collection, points, key)


def upsert(client: Any, collection: str, points: Points, *, key: ShardKey | None) -> str:
    """Write records and wait; return the status of the update."""
    from qdrant_client import grpc

    request = grpc.UpsertPoints(collection_name=collection, wait=True, shard_key_selector=_selector(key))
    # Fields of a message may come in any order: https://protobuf.dev/programming-guides/encoding/#order
    return _status(_call(client, "Upsert", b"".join((request.SerializeToString(), *points))))


def delete(client: Any, collection: str, ids: IdColumn, *, key: ShardKey | None) -> str:
    """Delete records by id and wait; return the status of the update."""
    from qdrant_client import grpc

    named = grpc.PointsIdsList(ids=[_point_id(value) for value in ids.to_pylist()])
    request = grpc.DeletePoints(
        collection_name=collection,
        wait=True,
        points=grpc.PointsSelector(points=named),
        shard_key_selector=_selector(key),
    )
    return _status(_call(client, "Delete", request.SerializeToString()))


def _call(client: Any, method: str, request: bytes) -> bytes:
    """Call a method of the service `Points`, octets in and octets out, through the client's own channel."""
    remote = client._client
    remote._init_grpc_channel()
    channel = remote._grpc_channel_pool[remote._next_grpc_client()]
    answer: bytes = channel.unary_unary(f"/qdrant.Points/{method}")(request, timeout=_timeout(client))
    return answer


def _exact(client: Any, collection: str, points: list[Point], key: ShardKey | None) -> list[Point]:
    """The points, each with the payload that the collection holds.

    A message has no integers above 2^63 - 1: the server makes doubles of them (`json_to_proto` in
    lib/api/src/conversions/json.rs). Records with a number that may have been one are read once more, over REST.
    """
    doubtful = [point.id for point in points if point.rounded]
    if not doubtful:
        return points
    exact = _exact_payloads(client, collection, doubtful, key)
    return [point._replace(payload=exact.get(point.id, point.payload)) for point in points]


def _exact_payloads(client: Any, collection: str, ids: list[Id], key: ShardKey | None) -> dict[Id, dict[str, Any]]:
    """Payloads by id as REST gives them, which knows integers up to 2^64 - 1.

    Raises:
        Unavailable: a record is gone by now; reading again leaves it out.
    """
    from qdrant_client import models

    wanted = models.PointRequest(
        ids=[point_id(value) for value in ids], with_payload=True, with_vector=False, shard_key=key
    )
    answer = client.http.points_api.get_points(collection_name=collection, point_request=wanted)
    exact: dict[Id, dict[str, Any]] = {id_of(record.id): record.payload or {} for record in answer.result}
    if gone := [value for value in ids if value not in exact]:
        raise Unavailable(f"id '{id_text(gone[0])}' of qdrant collection '{collection}' went away while it was read")
    return exact


def _status(answer: bytes) -> str:
    """The status of a change, "completed" or its number: servers have statuses that the client cannot name."""
    from qdrant_client import grpc

    with readable("what became of a change"):
        status = grpc.PointsOperationResponse.FromString(answer).result.status
    return "completed" if status == grpc.UpdateStatus.Completed else str(status)


def _point_id(value: Id) -> Any:
    from qdrant_client import grpc

    return grpc.PointId(num=value) if isinstance(value, int) else grpc.PointId(uuid=id_text(value))


def _filter(wanted: Any) -> Any:
    from qdrant_client.conversions.conversion import RestToGrpc

    return None if wanted is None else RestToGrpc.convert_filter(wanted)


def _payload_selector(path: str | None) -> Any:
    from qdrant_client import grpc

    if path is None:
        return grpc.WithPayloadSelector(enable=True)
    return grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=[path]))


def _selector(key: ShardKey | None) -> Any:
    from qdrant_client.conversions.conversion import RestToGrpc

    return None if key is None else RestToGrpc.convert_shard_key_selector(key)


def _timeout(client: Any) -> int:
    """Seconds that a call may take, as the client was told when it was made."""
    return int(client._client._timeout)
