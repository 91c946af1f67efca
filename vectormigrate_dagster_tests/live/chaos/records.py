"""The records of the application: every value is written once, and a vector tells which value it belongs to."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Sequence

import numpy as np

from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    ScopeKind,
    VectorSchema,
)

DIM = 4
FIELDS = ("number", "value")


def schema(can: Capabilities, name: str, scope: ScopeKind) -> CollectionSchema:
    """A collection of such records; ids of every kind that it can hold at once, or of its favourite."""
    kinds = can.id_kinds if can.mixed_id_kinds else (can.id_kinds[-1],)
    column = can.declared_fields and can.dynamic_fields
    vector = VectorSchema(
        name=can.default_vector_name or "v",
        dim=DIM,
        metric=Metric.EUCLIDEAN,
        index=IndexSpec(type="FLAT") if column else None,
    )
    fields = tuple(FieldSchema(name=key, type=FieldType.TEXT, declared=True) for key in FIELDS)
    return CollectionSchema(
        name=name,
        ids=IdSchema(kinds=kinds, field="pk" if column else None, max_length=100 if column else None),
        vectors=(vector,),
        fields=() if can.dynamic_fields else fields,
        dynamic=can.dynamic_fields,
        scope=scope,
    )


def kind_of(schema: CollectionSchema, number: int) -> IdKind:
    """The kind of a record's id: in turn where there are several."""
    kinds = schema.ids.kinds
    return kinds[number % len(kinds)]


def id_of(schema: CollectionSchema, number: int) -> Id:
    """A record's id."""
    kind = kind_of(schema, number)
    if kind is IdKind.UUID:
        return uuid.uuid5(uuid.NAMESPACE_DNS, str(number))
    return f"doc {number}" if kind is IdKind.TEXT else number


def batch(schema: CollectionSchema, scope: str | None, numbers: Sequence[int], value: str) -> Batch:
    """Records of one scope and one kind of id, all of one value."""
    return Batch(
        ids=column(schema, numbers),
        scope=scope,
        vectors={schema.vectors[0].name: Dense(np.stack([vector(value)] * len(numbers)))},
        payloads=[{"number": str(number), "value": value} for number in numbers],
    )


def column(schema: CollectionSchema, numbers: Sequence[int]) -> IdColumn:
    """The ids of records of one kind."""
    return IdColumn.of(kind_of(schema, numbers[0]), [id_of(schema, number) for number in numbers])


def vector(value: str) -> np.ndarray:
    """The vector that belongs to a value: float32 (4,)."""
    return np.random.default_rng(zlib.crc32(value.encode())).standard_normal(DIM, dtype=np.float32)
