"""Qdrant's points as columns, and back, in the form of the client's gRPC messages.

The same functions as in `records`. Vectors go from arrays into messages and back as bytes, see `protobuf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.columns import (
    array_rows,
    dense_column,
    multi_column,
    packed_column,
    sparse_column,
    sparse_rows,
)
from vectormigrate_dagster.databases.protobuf import floats_of, set_floats
from vectormigrate_dagster.databases.qdrant.records import Page, id_of, point_id
from vectormigrate_dagster.databases.qdrant.scopes import ShardKey
from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.model import (
    Batch,
    Element,
    Id,
    IdColumn,
    IdKind,
    Multi,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
)

_UNSIGNED = (2.0**63, 2.0**64)
"""Least and largest double that an integer from 2^63 to 2^64 - 1 may have become."""


@dataclass(frozen=True)
class _Point:
    """A record as it was read: its message, and its payload in Python's terms."""

    message: Any
    payload: dict[str, Any]


def scroll(client: Any, collection: str, *, start: Id, limit: int, key: ShardKey | None) -> Page:
    """Read a page of records that begins with `start`, or with the first id after it."""
    from qdrant_client import grpc

    answer = client.grpc_points.Scroll(
        grpc.ScrollPoints(
            collection_name=collection,
            offset=_point_id(start),
            limit=limit,
            with_payload=grpc.WithPayloadSelector(enable=True),
            with_vectors=grpc.WithVectorsSelector(enable=True),
            shard_key_selector=_selector(key),
        ),
        timeout=_timeout(client),
    )
    points = _points(client, collection, answer.result, key)
    return Page([_id(point.id) for point in answer.result], points, answer.HasField("next_page_offset"))


def retrieve(client: Any, collection: str, *, ids: IdColumn, key: ShardKey | None) -> list[_Point]:
    """Read records by id."""
    from qdrant_client import grpc

    answer = client.grpc_points.Get(
        grpc.GetPoints(
            collection_name=collection,
            ids=[_point_id(value) for value in ids.to_pylist()],
            with_payload=grpc.WithPayloadSelector(enable=True),
            with_vectors=grpc.WithVectorsSelector(enable=True),
            shard_key_selector=_selector(key),
        ),
        timeout=_timeout(client),
    )
    return _points(client, collection, answer.result, key)


def upsert(client: Any, collection: str, batch: Batch, *, key: ShardKey | None) -> str:
    """Write records and wait; return the status of the update."""
    from qdrant_client import grpc
    from qdrant_client.conversions.conversion import RestToGrpc

    request = grpc.UpsertPoints(collection_name=collection, wait=True, shard_key_selector=_selector(key))
    columns = {name: _writers(column) for name, column in batch.vectors.items()}
    for value, payload in zip(batch.ids.to_pylist(), batch.payloads, strict=True):
        point = request.points.add(id=_point_id(value), payload=RestToGrpc.convert_payload(payload))
        vectors = point.vectors.vectors.vectors
        for name, writers in columns.items():
            if (write := next(writers)) is not None:
                write(vectors[name])
        point.vectors.vectors.SetInParent()  # a record may lack all of them
    return _status(client.grpc_points.Upsert(request, timeout=_timeout(client)))


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
    return _status(client.grpc_points.Delete(request, timeout=_timeout(client)))


def batch_of(points: Sequence[_Point], kind: IdKind, scope: str | None, vectors: tuple[VectorSchema, ...]) -> Batch:
    """Records that were read here, which are all of `kind`."""
    return Batch(
        ids=IdColumn.of(kind, [_id(point.message.id) for point in points]),
        scope=scope,
        vectors={v.name: _column(v, [_vector(point.message, v.name) for point in points]) for v in vectors},
        payloads=[point.payload for point in points],
    )


def _points(client: Any, collection: str, messages: Sequence[Any], key: ShardKey | None) -> list[_Point]:
    """The records of an answer, each with the payload that the collection holds.

    A message has no integers above 2^63 - 1: the server makes doubles of them (`json_to_proto` in
    lib/api/src/conversions/json.rs). Records with a number that may have been one are read once more, over REST.
    """
    from qdrant_client.conversions.conversion import grpc_to_payload

    payloads = [grpc_to_payload(message.payload) for message in messages]
    doubtful = [i for i, payload in enumerate(payloads) if _may_be_rounded(payload)]
    if doubtful:
        exact = _exact_payloads(client, collection, [_id(messages[i].id) for i in doubtful], key)
        for i in doubtful:
            payloads[i] = exact[_id(messages[i].id)]
    return [_Point(message, payload) for message, payload in zip(messages, payloads, strict=True)]


def _may_be_rounded(value: Any) -> bool:
    """Whether a payload holds a float that an integer above 2^63 - 1 may have become."""
    if type(value) is float:
        return _UNSIGNED[0] <= value <= _UNSIGNED[1]
    if type(value) is dict:
        return any(map(_may_be_rounded, value.values()))
    return type(value) is list and any(map(_may_be_rounded, value))


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


def _vector(point: Any, name: str) -> Any:
    """A record's vector of that name as a message, or None."""
    which = point.vectors.WhichOneof("vectors_options")
    if which == "vector":
        return point.vectors.vector if name == "" else None
    if which == "vectors" and name in point.vectors.vectors.vectors:
        return point.vectors.vectors.vectors[name]
    return None


def _column(vector: VectorSchema, messages: list[Any]) -> VectorColumn:
    dim = vector.dim or 0
    if vector.kind is VectorKind.SPARSE:
        return sparse_column([None if message is None else _sparse(message) for message in messages])
    if vector.kind is VectorKind.MULTI:
        return multi_column([None if message is None else _multi(message, dim) for message in messages], dim)
    rows = [None if message is None else _dense(message) for message in messages]
    if vector.element is Element.FLOAT32:
        return dense_column(rows, dim)
    return packed_column(rows, vector.element, dim)


# Servers before 1.16 fill the flat fields `data`, `indices` and `vectors_count`, later ones the typed vector.


def _dense(message: Any) -> Any:
    if message.WhichOneof("vector") == "dense":
        return floats_of(message.dense)
    return _flat(message)


def _sparse(message: Any) -> tuple[Sequence[int], Sequence[float]]:
    if message.WhichOneof("vector") == "sparse":
        return message.sparse.indices, message.sparse.values
    return message.indices.data, message.data


def _multi(message: Any, dim: int) -> Any:
    if message.WhichOneof("vector") == "multi_dense":
        return np.array([floats_of(row) for row in message.multi_dense.vectors], dtype=np.float32).reshape(-1, dim)
    return _flat(message).reshape(-1, dim)


def _flat(message: Any) -> Any:
    return np.fromiter(message.data, dtype=np.float32, count=len(message.data))


def _writers(column: VectorColumn) -> Iterator[Callable[[Any], None] | None]:
    """For each record what writes its vector into a `Vector`; None if it has none."""
    if isinstance(column, Sparse):
        for entries in sparse_rows(column):
            yield None if entries is None else partial(_write_sparse, entries)
        return
    write = _write_multi if isinstance(column, Multi) else _write_dense
    for row in array_rows(column):
        yield None if row is None else partial(write, row)


def _write_sparse(entries: tuple[Sequence[int], Sequence[float]], vector: Any) -> None:
    vector.sparse.indices.extend(entries[0])
    vector.sparse.values.extend(entries[1])
    vector.sparse.SetInParent()  # it may be empty


def _write_multi(rows: Any, vector: Any) -> None:
    vector.multi_dense.SetInParent()
    for row in rows:
        set_floats(vector.multi_dense.vectors.add(), row)


def _write_dense(row: Any, vector: Any) -> None:
    set_floats(vector.dense, row)


def _status(answer: Any) -> str:
    """The status of a change, "completed" or its number: servers have statuses that the client cannot name."""
    from qdrant_client import grpc

    status = answer.result.status
    return "completed" if status == grpc.UpdateStatus.Completed else str(status)


def _id(message: Any) -> Id:
    return id_of(message.uuid if message.WhichOneof("point_id_options") == "uuid" else message.num)


def _point_id(value: Id) -> Any:
    from qdrant_client import grpc

    return grpc.PointId(num=value) if isinstance(value, int) else grpc.PointId(uuid=id_text(value))


def _selector(key: ShardKey | None) -> Any:
    from qdrant_client.conversions.conversion import RestToGrpc

    return None if key is None else RestToGrpc.convert_shard_key_selector(key)


def _timeout(client: Any) -> int:
    """Seconds that a call may take, as the client was told when it was made."""
    return int(client._client._timeout)
