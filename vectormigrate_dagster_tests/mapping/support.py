"""What the tests of this room share: capabilities of both databases, schemas, batches, a short way to a mapping."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import capabilities_of
from vectormigrate_dagster.mapping.loss import LossReport
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile import Profile, Profiler
from vectormigrate_dagster.mapping.schema import Mapping, map_schema
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
    Payload,
    VectorSchema,
    id_text,
    is_valid,
)

QDRANT = capabilities_of("qdrant", embedded=True)
QDRANT_SERVER = capabilities_of("qdrant")
MILVUS = capabilities_of("milvus", embedded=True)
MILVUS_SERVER = capabilities_of("milvus")
PINECONE = capabilities_of("pinecone")
WEAVIATE = capabilities_of("weaviate")
SERVERS = {one.type: one for one in (MILVUS_SERVER, PINECONE, QDRANT_SERVER, WEAVIATE)}
DIM = 4


def qdrant_schema(**changes: Any) -> CollectionSchema:
    vectors = (VectorSchema(name="", dim=DIM, metric=Metric.DOT, optional=True),)
    schema = CollectionSchema(name="films", ids=IdSchema(kinds=(IdKind.U64, IdKind.UUID)), vectors=vectors)
    return schema.model_copy(update=changes)


def milvus_schema(kind: IdKind = IdKind.TEXT, **changes: Any) -> CollectionSchema:
    vectors = (VectorSchema(name="vector", dim=DIM, metric=Metric.DOT),)
    ids = IdSchema(kinds=(kind,), field="id", max_length=512 if kind is IdKind.TEXT else None)
    return CollectionSchema(name="films", ids=ids, vectors=vectors).model_copy(update=changes)


def pinecone_schema(**changes: Any) -> CollectionSchema:
    vectors = (VectorSchema(name="_values", dim=DIM, metric=Metric.DOT),)
    schema = CollectionSchema(name="films", ids=IdSchema(kinds=(IdKind.TEXT,)), vectors=vectors)
    return schema.model_copy(update=changes)


def weaviate_schema(**changes: Any) -> CollectionSchema:
    vectors = (VectorSchema(name="", dim=DIM, metric=Metric.DOT, optional=True),)
    schema = CollectionSchema(name="Films", ids=IdSchema(kinds=(IdKind.UUID,)), vectors=vectors, dynamic=False)
    return schema.model_copy(update=changes)


def vectors(records: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((records, DIM), dtype=np.float32)


def batch(
    kind: IdKind, ids: list[Id], payloads: list[Payload] | None = None, *, name: str = "", scope: str | None = None
) -> Batch:
    column = {name: Dense(vectors(len(ids)))}
    return Batch(IdColumn.of(kind, ids), scope, column, payloads if payloads is not None else [{} for _ in ids])


def profile_of(*batches: Batch, complete: bool = True, before: Before | None = None) -> Profile:
    profiler = Profiler(before)
    for one in batches:
        profiler.add(one)
    return profiler.profile(complete=complete)


def mapped(
    source: CollectionSchema,
    source_capabilities: Capabilities,
    target: Capabilities,
    *batches: Batch,
    existing: CollectionSchema | None = None,
    complete: bool = True,
    **options: Any,
) -> tuple[Mapping, LossReport]:
    wishes = MappingConfig(**options)
    return map_schema(
        source,
        source_capabilities,
        target,
        wishes,
        profile_of(*batches, complete=complete, before=Before.of(source, wishes)),
        collection="copy",
        existing=existing,
    )


def codes(report: LossReport) -> dict[str, str]:
    """Code -> grade."""
    return {row.code: row.grade.value for row in report.rows}


def canonical(payload: Any) -> str:
    """A payload as text in which 1, 1.0 and true differ."""
    return json.dumps(payload, sort_keys=True)


def records(*batches: Batch) -> dict[tuple[str | None, IdKind, str], tuple[Any, str]]:
    """Every record: (scope, kind, id) -> (vectors as bytes, payload as text)."""
    found = {}
    for one in batches:
        for row, value in enumerate(one.ids.to_pylist()):
            present = {
                name: column.values[row].tobytes() for name, column in one.vectors.items() if is_valid(column)[row]
            }
            key = (one.scope, one.ids.kind, id_text(value))
            assert key not in found
            found[key] = (present, canonical(one.payloads[row]))
    return found


def indexed(**changes) -> FieldSchema:
    return FieldSchema(name="year", type=FieldType.INT64, index=IndexSpec(type="integer")).model_copy(update=changes)


DATABASES = {"qdrant": QDRANT, "qdrant server": QDRANT_SERVER, "milvus": MILVUS, "milvus server": MILVUS_SERVER}
every_database = pytest.mark.parametrize("target", DATABASES.values(), ids=DATABASES)
