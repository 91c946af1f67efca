"""What tests of a Weaviate server share: a collection of every type, records, endpoints."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, Endpoint
from vectormigrate_dagster.databases.endpoint import WeaviateOptions
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    ScopeKind,
    VectorSchema,
)

IDS = IdSchema(kinds=(IdKind.UUID,))
VECTOR = VectorSchema(name="v", dim=2, metric=Metric.COSINE)
LISTS = (FieldType.TEXT, FieldType.INT64, FieldType.FLOAT64, FieldType.BOOL, FieldType.DATETIME, FieldType.UUID)
PLAIN = (*LISTS, FieldType.GEO, FieldType.PHONE, FieldType.BLOB)
ONE_UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
DATE = "2024-02-29T23:59:59.123456789+05:30"


def field(name: str, type: FieldType, **more: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **more)


def list_of(element: FieldType, **more: Any) -> FieldSchema:
    return field(f"{element.value}s", FieldType.ARRAY, element=element, **more)


INNER = (
    field("number", FieldType.INT64),
    field("Capital", FieldType.TEXT),
    list_of(FieldType.FLOAT64),
    field("deeper", FieldType.OBJECT, fields=(field("when", FieldType.DATETIME), list_of(FieldType.TEXT))),
    list_of(FieldType.OBJECT, fields=(field("flag", FieldType.BOOL),)),
)
FIELDS = (
    *(field(one.value, one) for one in PLAIN),
    *(list_of(one) for one in LISTS),
    field("object", FieldType.OBJECT, fields=INNER),
    list_of(FieldType.OBJECT, fields=INNER),
    field("file", FieldType.OBJECT, fields=(field("data", FieldType.BLOB), field("name", FieldType.TEXT))),
    field("reference", FieldType.REFERENCE, targets=("Things",)),
)
"""A property of every type that Weaviate has."""

INSIDE = {
    "number": -7,
    "Capital": "",
    "float64s": [1.0, -0.5],
    "deeper": {"when": DATE, "texts": ["a", ""]},
    "objects": [{"flag": True}, {}, {"flag": None}],
}
EVERYTHING = {
    "text": 'é日本🎉\x00\n"\\',
    "int64": 2**53,
    "float64": 0.1,
    "bool": False,
    "datetime": DATE,
    "uuid": ONE_UUID,
    "geo": {"latitude": 52.5, "longitude": float(np.float32(4.8952))},
    "phone": {"input": "020 1234567", "defaultCountry": "NL"},
    "blob": "AAECAw==",
    "texts": ["123", "true", "null", "2024-01-01T00:00:00Z", ""],
    "int64s": [0, -(2**53)],
    "float64s": [1.0, 1e300, 5e-324, -0.0],
    "bools": [True, False],
    "datetimes": ["2024-01-01T00:00:00Z"],
    "uuids": [ONE_UUID],
    "object": INSIDE,
    "objects": [INSIDE, {}],
    "file": {"data": "AAECAw==", "name": "n"},
    "reference": [f"weaviate://localhost/Things/{uuid.UUID(int=n)}" for n in (9, 3, 77)],
}
"""A value of every property."""


def schema(*vectors: VectorSchema, fields: Sequence[FieldSchema] = (), **changes: Any) -> CollectionSchema:
    return CollectionSchema(
        name="things", ids=IDS, vectors=vectors or (VECTOR,), fields=tuple(fields), dynamic=False, **changes
    )


def divided(**changes: Any) -> CollectionSchema:
    return schema(scope=ScopeKind.TENANT, **changes)


def endpoint(server: Any, collection: str = "things", **options: Any) -> Endpoint:
    key = None if server.api_key is None else SecretStr(server.api_key)
    settings = WeaviateOptions(grpc_url=server.grpc_url, **{"timeout_s": 10.0, **options})
    return Endpoint(type="weaviate", url=server.url, api_key=key, collection=collection, options=settings)


def ids(numbers: Sequence[int]) -> IdColumn:
    return IdColumn.of(IdKind.UUID, [uuid.UUID(int=number) for number in numbers])


def batch(numbers: Sequence[int], payloads: Sequence[dict[str, Any]] | None = None, scope: str | None = None) -> Batch:
    values = np.asarray(numbers, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32) + 1
    return Batch(ids(numbers), scope, {"v": Dense(values)}, [{} for _ in numbers] if payloads is None else payloads)


def everything(database: Database, page: int = 1000, per_split: int = 10**9) -> list[Batch]:
    return [part for split in database.plan_splits(per_split) for part in database.scan(split, batch_records=page)]


def payloads_of(database: Database) -> dict[int, dict[str, Any]]:
    """Number of the id -> payload."""
    return {
        value.int: payload  # type: ignore[union-attr]  # ids are UUIDs
        for part in everything(database)
        for value, payload in zip(part.ids.to_pylist(), part.payloads, strict=True)
    }
