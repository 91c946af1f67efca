"""Checks that a whole migration (plan, load, full validation, lookup) leaves its source as it was, for each database.

The source is read before and after, by bits; a stand-in says besides that it was asked for nothing that writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from pymilvus import MilvusClient

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions, WeaviateOptions
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.lookup import lookup
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateStandIn
from vectormigrate_dagster_tests.everything import everything
from vectormigrate_dagster_tests.harness import ID, KEY_VARIABLES, Workplace
from vectormigrate_dagster_tests.matrix_runs import Origin, Side, fill, fingerprints
from vectormigrate_dagster_tests.observations import read

READS = {
    "pinecone": {"DescribeIndex", "DescribeIndexStats", "Fetch", "List", "ListIndexes", "ListNamespaces", "Query"},
    "qdrant": {
        *("ClusterStatus", "CollectionClusterInfo", "Count", "Get", "GetCollection", "HealthCheck"),
        *("ListCollectionAliases", "ListCollections", "Query", "QueryBatch", "Scroll"),
    },
    "weaviate": {"Aggregate", "GetAliases", "GetClass", "Meta", "Search", "TenantsGet"},
}
"""What a source may be asked for; anything else counts as a write."""

CLIENT_WRITES = ("insert", "upsert", "delete", "flush", "create_collection", "drop_collection", "create_index")
MODULE_WRITES = ("create", "drop", "upsert", "delete", "prepare_bulk_load", "resume_indexing", "finish_bulk_load")
"""What would write to a Milvus, which has no stand-in: methods of its client, and of our module."""


def moved(source: Endpoint, target: Endpoint, folder: Path, monkeypatch: pytest.MonkeyPatch, **mapping: object) -> int:
    """Do a whole migration; return the number of records that were moved."""
    for side in (source, target):
        if side.api_key is not None:
            monkeypatch.setenv(KEY_VARIABLES[side.type], side.api_key.get_secret_value())
    place = Workplace.make(folder, source, target)
    place.write(mapping=mapping, transfer={"workers": 1, "validate_every": 1})
    context = Context(place.migrations, place.home)
    plan(context, ID)
    status = migrate(context, ID)
    assert status.status == "completed"
    assert validate(context, ID, full=True).passed
    with databases.open_source(source) as database:
        database.probe()
        found = lookup(context, ID, str(next(iter(database.scan(database.plan_splits(100)[0]))).ids[0]))
    assert found.source.found
    assert found.target.found
    return status.progress.migrated_records


def filled(endpoint: Endpoint) -> Origin:
    """A source with everything that it can hold."""
    with databases.open_target(endpoint) as database:
        can = database.probe()
    side = Side(lambda: lambda: databases.open_target(endpoint), can)
    return fill(side, everything(can, can.id_kinds[0], divided=False))


def unchanged(origin: Origin) -> bool:
    """Whether a source is, by schema and bits, as it was filled."""
    with origin.open() as database:
        database.probe()
        return database.describe() == origin.schema and fingerprints(read(database)) == fingerprints(origin.records)


def test_h23_a_pinecone_source_is_only_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pinecone_stand_in: PineconeStandIn,
    qdrant_collections: Collections,
) -> None:
    key = SecretStr(pinecone_stand_in.api_key)
    source = Endpoint(type="pinecone", url=pinecone_stand_in.url, api_key=key, collection="things")
    origin = filled(source)
    pinecone_stand_in.clear_faults()
    assert moved(source, qdrant_collections("Things"), tmp_path, monkeypatch) == len(origin.records)
    assert pinecone_stand_in.writes() == {}
    assert set(pinecone_stand_in.calls()) <= READS["pinecone"]
    assert unchanged(origin)


def test_h23_a_qdrant_source_is_only_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qdrant_stand_in: QdrantStandIn,
    weaviate_collections: Collections,
) -> None:
    options = QdrantOptions(grpc_url=qdrant_stand_in.grpc_url)
    source = Endpoint(type="qdrant", url=qdrant_stand_in.url, collection="things", options=options)
    origin = filled(source)
    qdrant_stand_in.clear_faults()
    drop = ["vector.sparse"]
    assert moved(source, weaviate_collections("Things"), tmp_path, monkeypatch, drop=drop) == len(origin.records)
    assert set(qdrant_stand_in.calls()) <= READS["qdrant"]
    assert unchanged(origin)


def test_h23_a_weaviate_source_is_only_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weaviate_stand_in: WeaviateStandIn,
    qdrant_collections: Collections,
) -> None:
    key = SecretStr(weaviate_stand_in.api_key) if weaviate_stand_in.api_key else None
    options = WeaviateOptions(grpc_url=weaviate_stand_in.grpc_url)
    source = Endpoint(type="weaviate", url=weaviate_stand_in.url, api_key=key, collection="Things", options=options)
    origin = filled(source)
    weaviate_stand_in.clear_faults()
    assert moved(source, qdrant_collections("Things"), tmp_path, monkeypatch) == len(origin.records)
    assert set(weaviate_stand_in.calls()) <= READS["weaviate"]
    assert unchanged(origin)


def test_h23_a_milvus_source_is_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qdrant_collections: Collections
) -> None:
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection="things")
    with databases.keep_open(source):
        origin = filled(source)
        writes: list[str] = []
        for name in CLIENT_WRITES:
            monkeypatch.setattr(MilvusClient, name, noting(name, writes))
        for name in MODULE_WRITES:
            monkeypatch.setattr(Milvus, name, noting(name, writes))
        assert moved(source, qdrant_collections("Things"), tmp_path, monkeypatch) == len(origin.records)
        assert writes == []
        assert unchanged(origin)


def noting(name: str, writes: list[str]) -> Callable[..., None]:
    """A method that notes its call and does nothing."""
    return lambda *args, **options: writes.append(name)
