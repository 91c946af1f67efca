"""Points as protobuf messages, and requests as the models that the engine takes; the rest is `qdrant_client`'s own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from qdrant_client import grpc as pb
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, grpc_to_payload, json_to_value

from vectormigrate_dagster_tests.emulators.qdrant import operations as ops
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.qdrant.points import Point, PointId, Row, Vector, valid_id

INT64 = range(-(2**63), 2**63)


def invalid(message: str) -> Refused:
    """A request that the server cannot make sense of."""
    return Refused(Kind.FORMAT, message)


# In


def id_of(message: Any) -> PointId:
    kind = message.WhichOneof("point_id_options")
    if kind is None:
        raise invalid("Malformed payload: missing id")
    if kind == "num":
        return message.num
    try:
        return valid_id(message.uuid)
    except Refused as error:
        raise invalid(f"Unable to parse UUID: {message.uuid}") from error


def vector_of(message: Any) -> Vector:
    """A vector; the old form has its numbers in `data`."""
    kind = message.WhichOneof("vector")
    if kind == "dense":
        return np.asarray(message.dense.data, dtype=np.float32)
    if kind == "sparse":
        return _sparse(message.sparse.indices, message.sparse.values)
    if kind == "multi_dense":
        rows = [np.asarray(row.data, dtype=np.float32) for row in message.multi_dense.vectors]
        if len({len(row) for row in rows}) > 1:
            raise Refused(Kind.VALIDATION, "Validation error in body: [data: all vectors must have the same dimension]")
        return np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)
    if kind is not None:
        raise Refused(Kind.UNIMPLEMENTED, "the stand-in has no inference")
    if message.HasField("indices"):
        return _sparse(message.indices.data, message.data)
    data = np.asarray(message.data, dtype=np.float32)
    return data.reshape(message.vectors_count, -1) if message.HasField("vectors_count") else data


def _sparse(indices: Iterable[int], values: Iterable[float]) -> models.SparseVector:
    return models.SparseVector.model_construct(indices=list(indices), values=list(values))


def vectors_of(message: Any) -> dict[str, Vector]:
    kind = message.WhichOneof("vectors_options")
    if kind == "vector":
        return {"": vector_of(message.vector)}
    return {name: vector_of(vector) for name, vector in message.vectors.vectors.items()}


def points_of(messages: Iterable[Any]) -> list[Point]:
    """`PointStruct` or `PointVectors` messages."""
    return [
        Point(id_of(m.id), vectors_of(m.vectors), grpc_to_payload(m.payload) if hasattr(m, "payload") else {})
        for m in messages
    ]


def keys_of(message: Any) -> list[int | str] | None:
    """The shard keys of a request that has a selector."""
    if not message.HasField("shard_key_selector"):
        return None
    return [GrpcToRest.convert_shard_key(key) for key in message.shard_key_selector.shard_keys]


def filter_of(message: Any, field: str = "filter") -> models.Filter | None:
    if not message.HasField(field):
        return None
    try:
        return GrpcToRest.convert_filter(getattr(message, field))
    except (ValueError, TypeError) as error:
        raise invalid(f"Malformed filter: {error}") from error


def selector_of(message: Any, field: str) -> list[PointId] | models.Filter:
    """The points of a change."""
    if not message.HasField(field):
        raise invalid("Missing points selector")
    selector = getattr(message, field)
    kind = selector.WhichOneof("points_selector_one_of")
    if kind is None:
        raise invalid("Malformed PointsSelector type")
    return [id_of(each) for each in selector.points.ids] if kind == "points" else filter_of(selector)


def payload_selector(message: Any) -> Any:
    """What a read wants of payloads; None if it does not say."""
    if not message.HasField("with_payload"):
        return None
    return GrpcToRest.convert_with_payload_selector(message.with_payload)


def vectors_selector(message: Any) -> bool | list[str]:
    if not message.HasField("with_vectors"):
        return False
    return GrpcToRest.convert_with_vectors_selector(message.with_vectors)


def mode_of(message: Any) -> models.UpdateMode | None:
    return GrpcToRest.convert_update_mode(message.update_mode) if message.HasField("update_mode") else None


def upsert_of(message: Any) -> ops.Upsert:
    """`UpsertPoints`, or the same inside a batch."""
    condition = filter_of(message, "update_filter")
    return ops.Upsert(
        points=points_of(message.points), shard_keys=keys_of(message), update_filter=condition, mode=mode_of(message)
    )


def update_vectors_of(message: Any) -> ops.UpdateVectors:
    condition = filter_of(message, "update_filter")
    return ops.UpdateVectors(points=points_of(message.points), shard_keys=keys_of(message), update_filter=condition)


def delete_vectors_of(message: Any) -> ops.DeleteVectors:
    selector, names = selector_of(message, "points_selector"), list(message.vectors.names)
    return ops.DeleteVectors(selector=selector, names=names, shard_keys=keys_of(message))


def set_payload_of(message: Any) -> ops.SetPayload:
    return ops.SetPayload(
        selector=selector_of(message, "points_selector"),
        payload=grpc_to_payload(message.payload),
        key=message.key if message.HasField("key") else None,
        shard_keys=keys_of(message),
    )


def overwrite_payload_of(message: Any) -> ops.OverwritePayload:
    selector, payload = selector_of(message, "points_selector"), grpc_to_payload(message.payload)
    return ops.OverwritePayload(selector=selector, payload=payload, shard_keys=keys_of(message))


def delete_payload_of(message: Any) -> ops.DeletePayload:
    selector, keys = selector_of(message, "points_selector"), list(message.keys)
    return ops.DeletePayload(selector=selector, keys=keys, shard_keys=keys_of(message))


def delete_of(message: Any) -> ops.Delete:
    return ops.Delete(selector=selector_of(message, "points"), shard_keys=keys_of(message))


def clear_payload_of(message: Any) -> ops.ClearPayload:
    return ops.ClearPayload(selector=selector_of(message, "points"), shard_keys=keys_of(message))


_IN_A_BATCH = {
    "upsert": upsert_of,
    "set_payload": set_payload_of,
    "overwrite_payload": overwrite_payload_of,
    "delete_payload": delete_payload_of,
    "update_vectors": update_vectors_of,
    "delete_vectors": delete_vectors_of,
    "delete_points": delete_of,
    "clear_payload": clear_payload_of,
}


def operation_of(message: Any) -> ops.Operation:
    """One operation of a batch."""
    kind = message.WhichOneof("operation")
    if kind not in _IN_A_BATCH:
        raise invalid("Operation is missing")
    return _IN_A_BATCH[kind](getattr(message, kind))


# Out


def id_message(id: PointId) -> Any:
    return pb.PointId(num=id) if isinstance(id, int) else pb.PointId(uuid=id)


def shard_key_message(key: int | str | None) -> Any:
    if key is None:
        return None
    return pb.ShardKey(number=key) if isinstance(key, int) else pb.ShardKey(keyword=key)


def payload_message(payload: dict[str, Any] | None) -> dict[str, Any]:
    return {key: json_to_value(_int64(value)) for key, value in (payload or {}).items()}


def _int64(value: Any) -> Any:
    """A number that is no signed 64-bit one becomes a float (lib/api/src/conversions/json.rs)."""
    if type(value) is int:
        return value if value in INT64 else float(value)
    if isinstance(value, list):
        return [_int64(v) for v in value]
    return {k: _int64(v) for k, v in value.items()} if isinstance(value, dict) else value


def vector_message(vector: Vector, *, old: bool) -> Any:
    """A vector as servers before 1.16 send it (`old`), or as later ones do."""
    if isinstance(vector, models.SparseVector):
        if old:
            return pb.VectorOutput(data=vector.values, indices=pb.SparseIndices(data=vector.indices))
        return pb.VectorOutput(sparse=pb.SparseVector(values=vector.values, indices=vector.indices))
    if vector.ndim == 2:
        if old:
            return pb.VectorOutput(data=vector.ravel().tolist(), vectors_count=len(vector))
        rows = [pb.DenseVector(data=row) for row in vector.tolist()]
        return pb.VectorOutput(multi_dense=pb.MultiDenseVector(vectors=rows))
    values = vector.tolist()
    return pb.VectorOutput(data=values) if old else pb.VectorOutput(dense=pb.DenseVector(data=values))


def vectors_message(vectors: dict[str, Vector] | None, *, old: bool) -> Any:
    if vectors is None:
        return None
    if vectors.keys() == {""}:
        return pb.VectorsOutput(vector=vector_message(vectors[""], old=old))
    named = {name: vector_message(vector, old=old) for name, vector in vectors.items()}
    return pb.VectorsOutput(vectors=pb.NamedVectorsOutput(vectors=named))


def retrieved(row: Row, *, old: bool = False) -> Any:
    return pb.RetrievedPoint(
        id=id_message(row.id),
        payload=payload_message(row.payload),
        vectors=vectors_message(row.vectors, old=old),
        shard_key=shard_key_message(row.shard_key),
        order_value=_order_value(row.order_value),
    )


def scored(row: Row, *, old: bool = False) -> Any:
    return pb.ScoredPoint(
        id=id_message(row.id),
        payload=payload_message(row.payload),
        score=row.score,
        version=0,
        vectors=vectors_message(row.vectors, old=old),
        shard_key=shard_key_message(row.shard_key),
        order_value=_order_value(row.order_value),
    )


def _order_value(value: int | float | None) -> Any:
    if value is None:
        return None
    return pb.OrderValue(int=value) if isinstance(value, int) else pb.OrderValue(float=value)
