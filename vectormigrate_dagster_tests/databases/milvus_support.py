"""What tests of a Milvus server share: a plain collection, and records for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymilvus import MilvusClient

from vectormigrate_dagster.model import (
    Batch,
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
    Split,
    VectorSchema,
)
from vectormigrate_dagster_tests.servers.milvus import Address

VECTOR = VectorSchema(name="v", dim=4, metric=Metric.EUCLIDEAN, index=IndexSpec(type="FLAT"))
PLAIN = CollectionSchema(name="any", ids=IdSchema(kinds=(IdKind.I64,), field="key"), vectors=(VECTOR,))
WHOLE = Split(kind=IdKind.I64)


def batch(ids: list[int], scope: str | None = None, **payload: Any) -> Batch:
    vectors = np.arange(len(ids) * 4, dtype=np.float32).reshape(-1, 4)
    return Batch(IdColumn.of(IdKind.I64, ids), scope, {"v": Dense(vectors)}, [{"n": i, **payload} for i in ids])


def ids_of(database: Any, split: Split = WHOLE, page: int = 1000) -> list[Id]:
    return [value for part in database.scan(split, batch_records=page) for value in part.ids.to_pylist()]


def declared(name: str, type: FieldType, **settings: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **({"nullable": False} | settings))


def with_vector(**changes: Any) -> CollectionSchema:
    return PLAIN.model_copy(update={"vectors": (VECTOR.model_copy(update=changes),)})


def with_field(type: FieldType, **settings: Any) -> CollectionSchema:
    return PLAIN.model_copy(update={"fields": (declared("f", type, **settings),)})


def client_of(server: Address) -> MilvusClient:
    """A client of the official library, which tests tell what nobody migrates with."""
    return MilvusClient(server.url, token=server.token, db_name=server.database, dedicated=True)
