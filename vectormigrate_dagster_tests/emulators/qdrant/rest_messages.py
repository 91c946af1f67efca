"""Bodies of the REST API: requests as what the engine takes, results as what orjson writes.

Points are taken as they are, without the client's models: checking each number of each vector costs far more than
the engine's own checks, and vectors go out as float32 arrays, which are written with the digits that a server writes.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import models

from vectormigrate_dagster_tests.emulators.qdrant import operations as ops
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.qdrant.points import Point, Row, Vector, named, shard_keys, valid_id


def malformed(message: str) -> Refused:
    """A body that is no request of this kind."""
    return Refused(Kind.FORMAT, f"Format error in JSON body: {message}")


def plain(model: BaseModel) -> Any:
    return model.model_dump(mode="json", exclude_none=True)


# In


def _model(model: Any, value: Any) -> Any:
    try:
        return None if value is None else TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        raise malformed(error.errors()[0]["msg"]) from error


def _keys(body: dict[str, Any]) -> Any:
    return shard_keys(_model(models.ShardKeySelector, body.get("shard_key")))


def _need(body: dict[str, Any], field: str) -> Any:
    if not isinstance(body, dict) or field not in body:
        raise malformed(f"missing field `{field}`")
    return body[field]


def _point(body: Any) -> Point:
    payload = body.get("payload") or {}
    if not isinstance(payload, dict):
        raise malformed("invalid type: payload is expected to be a map")
    return Point(valid_id(_need(body, "id")), named(_need(body, "vector")), payload)


def _columns(batch: dict[str, Any]) -> list[Point]:
    ids, vectors = _need(batch, "ids"), _need(batch, "vectors")
    columns = vectors if isinstance(vectors, dict) else {"": vectors}
    payloads = batch.get("payloads") or [None] * len(ids)
    if {len(column) for column in [*columns.values(), payloads]} != {len(ids)}:
        raise Refused(Kind.VALIDATION, "Validation error in JSON body: number of ids, vectors and payloads differ")
    return [
        Point(valid_id(each), named({name: column[i] for name, column in columns.items()}), payloads[i] or {})
        for i, each in enumerate(ids)
    ]


def upsert_of(body: dict[str, Any]) -> ops.Upsert:
    if not body.keys() & {"batch", "points"}:
        raise malformed("Invalid PointInsertOperations format")
    points = _columns(body["batch"]) if "batch" in body else [_point(point) for point in body["points"]]
    return ops.Upsert(
        points=points,
        shard_keys=_keys(body),
        update_filter=_model(models.Filter, body.get("update_filter")),
        mode=_model(models.UpdateMode, body.get("update_mode")),
    )


def _selector(body: dict[str, Any]) -> Any:
    if body.get("points") is not None:
        return [valid_id(each) for each in body["points"]]
    return _model(models.Filter, _need(body, "filter"))


def delete_of(body: dict[str, Any]) -> ops.Delete:
    return ops.Delete(selector=_selector(body), shard_keys=_keys(body))


def update_vectors_of(body: dict[str, Any]) -> ops.UpdateVectors:
    points = [Point(valid_id(_need(p, "id")), named(_need(p, "vector"))) for p in _need(body, "points")]
    condition = _model(models.Filter, body.get("update_filter"))
    return ops.UpdateVectors(points=points, shard_keys=_keys(body), update_filter=condition)


def delete_vectors_of(body: dict[str, Any]) -> ops.DeleteVectors:
    return ops.DeleteVectors(selector=_selector(body), names=_need(body, "vector"), shard_keys=_keys(body))


def set_payload_of(body: dict[str, Any]) -> ops.SetPayload:
    payload = _need(body, "payload")
    return ops.SetPayload(selector=_selector(body), payload=payload, key=body.get("key"), shard_keys=_keys(body))


def overwrite_payload_of(body: dict[str, Any]) -> ops.OverwritePayload:
    return ops.OverwritePayload(selector=_selector(body), payload=_need(body, "payload"), shard_keys=_keys(body))


def delete_payload_of(body: dict[str, Any]) -> ops.DeletePayload:
    return ops.DeletePayload(selector=_selector(body), keys=_need(body, "keys"), shard_keys=_keys(body))


def clear_payload_of(body: dict[str, Any]) -> ops.ClearPayload:
    return ops.ClearPayload(selector=_selector(body), shard_keys=_keys(body))


_IN_A_BATCH = {
    "upsert": upsert_of,
    "delete": delete_of,
    "set_payload": set_payload_of,
    "overwrite_payload": overwrite_payload_of,
    "delete_payload": delete_payload_of,
    "clear_payload": clear_payload_of,
    "update_vectors": update_vectors_of,
    "delete_vectors": delete_vectors_of,
}


def operation_of(body: dict[str, Any]) -> ops.Operation:
    """One operation of a batch."""
    for kind, convert in _IN_A_BATCH.items():
        if kind in body:
            return convert(body[kind])
    raise malformed("data did not match any variant of untagged enum UpdateOperation")


def search_of(body: dict[str, Any]) -> models.QueryRequest:
    """The search that servers had before queries."""
    vector: Any = _need(body, "vector")
    using = None
    if isinstance(vector, dict):
        using, vector = vector["name"], vector["vector"]
    fields = {key: body[key] for key in body.keys() & models.QueryRequest.model_fields.keys()}
    return _model(
        models.QueryRequest,
        {**fields, "query": vector, "using": using, "with_payload": body.get("with_payload", False)},
    )


# Out


def _vector(vector: Vector) -> Any:
    return {"indices": vector.indices, "values": vector.values} if isinstance(vector, models.SparseVector) else vector


def record(row: Row) -> dict[str, Any]:
    """A point; what was not asked for is left out."""
    result: dict[str, Any] = {"id": row.id}
    if row.payload is not None:
        result["payload"] = row.payload
    if row.vectors is not None:
        unnamed = row.vectors.keys() == {""}
        result["vector"] = _vector(row.vectors[""]) if unnamed else {n: _vector(v) for n, v in row.vectors.items()}
    if row.shard_key is not None:
        result["shard_key"] = row.shard_key
    if row.order_value is not None:
        result["order_value"] = row.order_value
    return result


def scored(row: Row) -> dict[str, Any]:
    return {**record(row), "score": row.score, "version": 0}
