"""What tests of a Qdrant server share: a plain and a rich collection, records, endpoints."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import SecretStr

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    ScopeKind,
    VectorKind,
    VectorSchema,
)

IDS = IdSchema(kinds=(IdKind.U64, IdKind.UUID))
PLAIN = VectorSchema(name="", dim=2, metric=Metric.DOT)
TRANSPORTS = ("rest", "grpc")

Opener = Callable[..., Any]


def schema(*vectors: VectorSchema, **changes: Any) -> CollectionSchema:
    return CollectionSchema(name="things", ids=IDS, vectors=vectors or (PLAIN,), **changes)


def plain(ids: Any, scope: str | None = None, payload: dict[str, Any] | None = None, dim: int = 2) -> Batch:
    numbers = list(ids)
    kind = IdKind.UUID if numbers and isinstance(numbers[0], uuid.UUID) else IdKind.U64
    vectors = Dense(np.arange(dim * len(numbers), dtype=np.float32).reshape(-1, dim) + 1)
    return Batch(IdColumn.of(kind, numbers), scope, {"": vectors}, [dict(payload or {}) for _ in numbers])


def endpoint(server: Any, transport: str, collection: str, **options: Any) -> Endpoint:
    grpc = server.grpc_url if transport == "grpc" else None
    key = None if server.api_key is None else SecretStr(server.api_key)
    settings = QdrantOptions(grpc_url=grpc, **{"timeout_s": 10.0, **options})
    return Endpoint(type="qdrant", url=server.url, api_key=key, collection=collection, options=settings)


def everything(database: Any, page: int = 1000, per_split: int = 10**9) -> list[Batch]:
    return [batch for split in database.plan_splits(per_split) for batch in database.scan(split, batch_records=page)]


def ids_of(batches: list[Batch]) -> list[Any]:
    return [value for batch in batches for value in batch.ids.to_pylist()]


RICH = schema(
    VectorSchema(
        name="dense",
        dim=4,
        metric=Metric.COSINE,
        optional=True,
        index=IndexSpec(type="hnsw", params={"m": 24, "ef_construct": 77}),
        quantization=IndexSpec(type="scalar", params={"type": "int8", "quantile": 0.99, "always_ram": True}),
        on_disk=True,
    ),
    VectorSchema(
        name="halves",
        dim=3,
        element=Element.FLOAT16,
        metric=Metric.DOT,
        optional=True,
        quantization=IndexSpec(type="binary", params={"always_ram": False}),
    ),
    VectorSchema(
        name="bytes",
        dim=2,
        element=Element.UINT8,
        metric=Metric.EUCLIDEAN,
        optional=True,
        quantization=IndexSpec(type="product", params={"compression": "x16"}),
    ),
    VectorSchema(name="tokens", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT, optional=True),
    VectorSchema(
        name="words",
        kind=VectorKind.SPARSE,
        metric=Metric.DOT,
        optional=True,
        modifier="idf",
        index=IndexSpec(type="sparse", params={"full_scan_threshold": 1234}),
    ),
    fields=(
        FieldSchema(name="body", type=FieldType.TEXT, index=IndexSpec(type="text", params={"tokenizer": "word"})),
        FieldSchema(name="city", type=FieldType.TEXT, index=IndexSpec(type="keyword"), tenant=True),
        FieldSchema(name="n", type=FieldType.INT64, index=IndexSpec(type="integer", params={"range": True})),
        FieldSchema(name="when", type=FieldType.DATETIME, index=IndexSpec(type="datetime")),
        FieldSchema(name="where", type=FieldType.GEO, index=IndexSpec(type="geo")),
    ),
    shards=2,
    scope=ScopeKind.FIELD,
    marker={"mapping": {"version": 1}},
    settings={
        "hnsw_config": {"m": 20, "ef_construct": 90, "full_scan_threshold": 12_000},
        "optimizer_config": {"indexing_threshold": 15_000, "default_segment_number": 3, "flush_interval_sec": 7},
        "wal_config": {"wal_capacity_mb": 16, "wal_segments_ahead": 1},
        "on_disk_payload": False,
        "write_consistency_factor": 1,
        "metadata": {"owner": "team é", "n": 3},
        "strict_mode_config": {"enabled": True, "max_query_limit": 500, "upsert_max_batchsize": 300},
    },
)
