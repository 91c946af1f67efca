"""What tests of Pinecone share: endpoints, schemas of its kinds of index, and records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, Endpoint, Refusal, Source
from vectormigrate_dagster.databases.endpoint import PineconeOptions
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Sparse,
    Split,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster.model.compare import EXACT
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.writer import BatchWriter

QUICK = {"timeout_s": 10.0, "missing_s": 0.3, "visible_s": 5.0, "ready_s": 10.0}

DENSE = VectorSchema(name="_values", dim=2, metric=Metric.DOT)
SPARSE = VectorSchema(name="_sparse_values", kind=VectorKind.SPARSE, metric=Metric.DOT)


def endpoint(server: Any, index: str = "things", **options: Any) -> Endpoint:
    return Endpoint(
        type="pinecone",
        url=server.url,
        api_key=SecretStr(server.api_key),
        collection=index,
        options=PineconeOptions.model_validate({**QUICK, **options}),
    )


def schema(*vectors: VectorSchema, **changes: Any) -> CollectionSchema:
    ids = IdSchema(kinds=(IdKind.TEXT,))
    return CollectionSchema(name="things", ids=ids, vectors=vectors or (DENSE,), **changes)


def column(ids: Iterable[str]) -> IdColumn:
    return IdColumn.of(IdKind.TEXT, ids)


def plain(ids: Iterable[str], scope: str | None = None, *, vector: str = "_values", dim: int = 2) -> Batch:
    """Records whose payload names their id and scope, with components from 1 on."""
    texts = list(ids)
    values = np.arange(dim * len(texts), dtype=np.float32).reshape(-1, dim) + 1
    return Batch(column(texts), scope, {vector: Dense(values)}, [{"of": f"{scope}/{text}"} for text in texts])


def sparse(*rows: dict[int, float] | None) -> Sparse:
    """A sparse column; None is a record that lacks it."""
    entries = [sorted((row or {}).items()) for row in rows]
    return Sparse(
        indptr=np.cumsum([0, *map(len, entries)]).astype(np.int64),
        indices=np.array([index for row in entries for index, _ in row], dtype=np.uint32),
        values=np.array([weight for row in entries for _, weight in row], dtype=np.float32),
        valid=np.array([row is not None for row in rows]),
    )


def written(database: Database, batch: Batch) -> list[Refusal]:
    """Write a batch as a transfer does, which narrows down what the server refuses as a whole; return the refusals."""
    writer = BatchWriter(
        database, Throttle.of(), on_conflict="fail", ownership=None, tolerance=EXACT, sleep=lambda _: None
    )
    return list(writer.write(batch).refused)


def everything(database: Database | Source, splits: Sequence[Split] | None = None, page: int = 1000) -> list[Batch]:
    chosen = database.plan_splits(10**9) if splits is None else splits
    return [batch for split in chosen for batch in database.scan(split, batch_records=page)]


def ids_of(batches: Iterable[Batch]) -> list[str]:
    return [str(value) for batch in batches for value in batch.ids.to_pylist()]
