"""Weaviate and Pinecone for benchmarks: stand-ins in this process, and a source of them that is filled.

Figures of a stand-in tell how fast clients are, and nothing about servers.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.at_once.records import payload
from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import PineconeOptions, WeaviateOptions
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    VectorSchema,
)
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateStandIn
from vectormigrate_dagster_tests.harness import KEY_VARIABLES, Records

SOURCE, TARGET = f"source-{os.getpid()}", f"target-{os.getpid()}"
_AT_ONCE = 1000

FIELDS = (
    FieldSchema(name="title", type=FieldType.TEXT, declared=True),
    FieldSchema(name="count", type=FieldType.INT64, declared=True),
    FieldSchema(name="price", type=FieldType.FLOAT64, declared=True),
    FieldSchema(name="sold", type=FieldType.BOOL, declared=True),
    FieldSchema(name="tags", type=FieldType.ARRAY, element=FieldType.TEXT, declared=True),
)
"""Of `benchmarks.at_once.records.payload`."""


@dataclass(frozen=True)
class Sides:
    """Where records come from and go to.

    Args:
        servers: what they are, for people.
        source: the collection that is read.
        target: the collection that each run makes anew.
    """

    servers: str
    source: Endpoint
    target: Endpoint


@contextmanager
def weaviate(_: Path) -> Iterator[Sides]:
    """Two collections of a stand-in."""
    with WeaviateStandIn() as server:
        names = (name.replace("-", "_").capitalize() for name in (SOURCE, TARGET))
        end = Endpoint(
            type="weaviate",
            url=server.url,
            collection=next(names),
            options=WeaviateOptions(grpc_url=server.grpc_url),
        )
        yield Sides("stand-in for Weaviate", end, replace(end, collection=next(names)))


@contextmanager
def pinecone(_: Path) -> Iterator[Sides]:
    """Two indexes of a stand-in, over gRPC."""
    with PineconeStandIn(grpc=True) as server:
        os.environ[KEY_VARIABLES["pinecone"]] = server.api_key
        end = Endpoint(
            type="pinecone",
            url=server.url,
            api_key=SecretStr(server.api_key),
            collection=SOURCE,
            options=PineconeOptions(grpc_url=server.grpc_url),
        )
        yield Sides("stand-in for Pinecone", end, replace(end, collection=TARGET))


def fill(endpoint: Endpoint, records: Records) -> None:
    """Make a source with ids from 1 on."""
    with databases.open_target(endpoint) as database:
        made = collection(endpoint.collection, database.probe(), records.dim)
        database.create(made)
        for start in range(0, len(records), _AT_ONCE):
            numbers = range(start + 1, min(start + _AT_ONCE, len(records)) + 1)
            vectors = {made.vectors[0].name: Dense(records.vectors[start : start + _AT_ONCE])}
            kind = made.ids.kinds[0]
            ids = IdColumn.of(kind, [id_of(kind, number) for number in numbers])
            refused = database.upsert(Batch(ids, None, vectors, [payload(number) for number in numbers]))
            if refused:
                raise SystemExit(f"{endpoint} refuses {refused[0]}")
        database.wait_visible()


def collection(name: str, can: Capabilities, dim: int) -> CollectionSchema:
    """A collection of such records, with its fields declared where a database has such."""
    vector = can.default_vector_name if can.vector_name_is_given else "embedding"
    return CollectionSchema(
        name=name,
        ids=IdSchema(kinds=can.id_kinds),
        vectors=(VectorSchema(name=vector, dim=dim, metric=Metric.EUCLIDEAN),),
        fields=FIELDS if can.declared_fields else (),
        dynamic=can.dynamic_fields,
    )


def id_of(kind: IdKind, number: int) -> Any:
    """The id of a record."""
    return uuid.UUID(int=number) if kind is IdKind.UUID else f"thing-{number:09}"
