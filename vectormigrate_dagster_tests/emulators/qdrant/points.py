"""Points on their way in and out, between the two faces and the engine; vectors are numpy float32 arrays."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import models

from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused

PointId = int | str
"""An unsigned 64-bit number, or a UUID in its usual spelling."""

Vector = Any
"""A float32 array of one dimension (dense) or two (multi), or a `models.SparseVector`."""


@dataclass(frozen=True)
class Point:
    """A point that a client sends; an unnamed vector has the name ""."""

    id: PointId
    vectors: dict[str, Vector]
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """A point that the server sends; `vectors` is None if they were not asked for."""

    id: PointId
    payload: dict[str, Any] | None
    vectors: dict[str, Vector] | None
    shard_key: int | str | None = None
    order_value: int | float | None = None
    score: float | None = None


def valid_id(value: Any) -> PointId:
    """An id as the server spells it.

    Raises:
        Refused: it is neither an unsigned 64-bit number nor a UUID.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise Refused(
        Kind.FORMAT,
        f"Format error in JSON body: value {value} is not a valid point ID, "
        "valid values are either an unsigned integer or a UUID",
    )


def place(value: PointId) -> tuple[int, int]:
    """Where an id stands in the server's order: numbers first, then UUIDs by their bytes."""
    return (0, value) if isinstance(value, int) else (1, uuid.UUID(value).int)


def dense(values: Any) -> Vector:
    """A dense or a multi vector out of numbers or rows of numbers.

    Raises:
        Refused: rows are of different lengths, or empty.
    """
    try:
        array = np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise Refused(
            Kind.VALIDATION, "Validation error in JSON body: [data: all vectors must have the same dimension]"
        ) from error
    if array.ndim not in (1, 2):
        raise Refused(
            Kind.FORMAT, "Format error in JSON body: data did not match any variant of untagged enum VectorStruct"
        )
    return array


def check_form(points: Sequence[Point]) -> None:
    """Check the form of vectors, which a server does before it accepts a change; it lets NaN pass.

    lib/api/src/rest/schema.rs, lib/common/common/src/validation.rs, lib/sparse/src/common/sparse_vector.rs

    Raises:
        Refused: a vector is empty, or an index of a sparse vector stands there twice.
    """
    for i, point in enumerate(points):
        for vector in point.vectors.values():
            wrong = _malformed(vector)
            if wrong is not None:
                raise Refused(Kind.VALIDATION, f"Validation error in JSON body: [points[{i}].vector.{wrong}]")


def _malformed(vector: Vector) -> str | None:
    if isinstance(vector, models.SparseVector):
        if len(vector.indices) != len(vector.values):
            return "values: must be the same length as indices"
        return "indices: must be unique" if len(set(vector.indices)) != len(vector.indices) else None
    if vector.ndim == 1:
        return "vector: dense vector must not be empty" if vector.size == 0 else None
    if len(vector) == 0:
        return "data: multi vector must not be empty"
    return "data: all vectors must be non-empty" if vector.shape[1] == 0 else None


def from_json(value: Any) -> Vector:
    """A vector in the form of the REST API."""
    if isinstance(value, dict):
        if value.keys() != {"indices", "values"}:
            raise Refused(
                Kind.FORMAT, "Format error in JSON body: data did not match any variant of untagged enum Vector"
            )
        return models.SparseVector.model_construct(indices=value["indices"], values=value["values"])
    array = dense(value)
    if np.isnan(array).any():  # JSON has no NaN; this was a null, which is what clients make of it
        raise Refused(
            Kind.FORMAT, "Format error in JSON body: data did not match any variant of untagged enum VectorStruct"
        )
    return array


def named(vector: Any) -> dict[str, Vector]:
    """A point's vectors in the form of the REST API, by name."""
    if vector is None:
        return {}
    if isinstance(vector, dict):
        return {name: from_json(value) for name, value in vector.items()}
    return {"": from_json(vector)}


def shard_keys(selector: Any) -> Sequence[int | str] | None:
    """The keys that a selector names; None for none. A fallback is only asked where the target has no replica."""
    if selector is None:
        return None
    if isinstance(selector, models.ShardKeyWithFallback):
        return [selector.target]
    return selector if isinstance(selector, list) else [selector]
