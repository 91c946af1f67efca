"""Indexes of payload fields are there before the first record: a collection that is loaded builds on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.model import (
    CollectionSchema,
    FieldSchema,
    FieldType,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    VectorSchema,
)
from vectormigrate_dagster_tests.conftest import Collections

INDEXES = {
    "milvus": (IdKind.I64, "STL_SORT"),
    "qdrant": (IdKind.U64, "integer"),
    "weaviate": (IdKind.UUID, "inverted"),
}
"""A kind of id, and an index of integers."""


@pytest.fixture(params=INDEXES)
def made(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A collection with an index on field `number`, just made."""
    kind, index = INDEXES[request.param]
    can = databases.capabilities_of(request.param)
    collections: Collections = request.getfixturevalue(f"{request.param}_collections")
    endpoint = collections("indexed")
    field = FieldSchema(
        name="number", type=FieldType.INT64, declared=can.declared_fields, nullable=False, index=IndexSpec(type=index)
    )
    schema = CollectionSchema(
        name=endpoint.collection,
        ids=IdSchema(kinds=(kind,)),
        vectors=(VectorSchema(name="embedding", dim=4, metric=Metric.COSINE),),
        fields=(field,),
    )
    with databases.open_target(endpoint) as database:
        database.create(schema)
        yield database
        database.drop()


def test_payload_indexes_are_there_before_any_record(made: Database) -> None:
    (field,) = [field for field in made.describe().fields if field.name == "number"]
    assert field.index is not None
    assert field.index.type == INDEXES[made.endpoint.type][1]
    assert made.count() == 0


def test_an_empty_collection_has_nothing_to_wait_for(made: Database) -> None:
    settings = made.index_settings()
    assert (settings is not None) == made.capabilities.defers_indexing
    made.prepare_bulk_load()
    if settings is not None:
        made.resume_indexing(settings)
    made.finish_bulk_load()
    made.wait_indexed()
    assert made.index_settings() == settings
