"""What we write, the official client reads, and the other way round; it is what applications use (H-13, H-23)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import weaviate
from weaviate.classes.config import (
    Configure,
    DataType,
    Property,
    ReferenceProperty,
    VectorDistances,
)
from weaviate.classes.data import DataObject, GeoCoordinate
from weaviate.classes.init import Auth
from weaviate.classes.tenants import Tenant

from vectormigrate_dagster.databases import Database, open_source, open_target
from vectormigrate_dagster.model import Batch, Dense, FieldType, Metric, ScopeKind, VectorKind
from vectormigrate_dagster_tests.databases.weaviate_support import (
    EVERYTHING,
    FIELDS,
    ONE_UUID,
    VECTOR,
    batch,
    endpoint,
    everything,
    ids,
    payloads_of,
    schema,
)
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateServer

NOT_ITS = {"datetime", "datetimes", "reference"}
"""It fails at a date with nanoseconds and an offset, and gives references back as objects."""

READABLE = {
    **{name: value for name, value in EVERYTHING.items() if name not in NOT_ITS},
    "datetime": "2024-02-29T23:59:59.123456Z",
    "object": {"number": -7, "Capital": "", "float64s": [1.0, -0.5], "objects": [{"flag": True}, {}]},
    "objects": [{"number": 1}],
}


@pytest.fixture
def client(weaviate_server: WeaviateServer) -> Iterator[Any]:
    """The official client, as its documentation says."""
    rest, grpc = urlsplit(weaviate_server.url), urlsplit(weaviate_server.grpc_url)
    key = weaviate_server.api_key
    with weaviate.connect_to_custom(
        http_host=rest.hostname,
        http_port=rest.port,
        http_secure=rest.scheme == "https",
        grpc_host=grpc.hostname,
        grpc_port=grpc.port,
        grpc_secure=grpc.scheme == "https",
        auth_credentials=None if key is None else Auth.api_key(key),
        skip_init_checks=True,
    ) as connected:
        connected.collections.delete("Things")
        yield connected
        connected.collections.delete("Things")


@pytest.fixture
def things(client: Any, weaviate_server: WeaviateServer) -> Iterator[Database]:
    """Opened after the client has made room for it."""
    del client
    with open_target(endpoint(weaviate_server)) as database:
        yield database


def test_an_application_finds_what_we_have_written(client: Any, things: Database) -> None:
    things.create(schema(fields=FIELDS))
    assert things.upsert(batch([1], [READABLE])) == []
    collection = client.collections.get("Things")
    config = collection.config.get()
    assert {one.name for one in config.properties} == {field.name for field in FIELDS} - {"reference"}
    assert [one.name for one in config.references] == ["reference"]
    found = collection.query.fetch_object_by_id(uuid.UUID(int=1), include_vector=True)
    assert found.vector == {"v": [2.0, 2.0]}
    assert found.properties["text"] == EVERYTHING["text"]
    assert found.properties["int64s"] == EVERYTHING["int64s"]
    assert found.properties["object"]["objects"] == [{"flag": True}, {}]
    assert found.properties["uuid"] == uuid.UUID(ONE_UUID)
    assert found.properties["datetime"] == datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)


def test_we_find_what_an_application_has_written(client: Any, things: Database) -> None:

    collection = client.collections.create(
        "things",
        properties=[
            Property(name="title", data_type=DataType.TEXT),
            Property(name="year", data_type=DataType.INT),
            Property(name="score", data_type=DataType.NUMBER),
            Property(name="at", data_type=DataType.DATE),
            Property(name="where", data_type=DataType.GEO_COORDINATES),
            Property(name="tags", data_type=DataType.TEXT_ARRAY),
            Property(name="image", data_type=DataType.BLOB),
            Property(
                name="maker",
                data_type=DataType.OBJECT,
                nested_properties=[Property(name="name", data_type=DataType.TEXT)],
            ),
        ],
        references=[ReferenceProperty(name="next", target_collection="Things")],
        vector_config=[
            Configure.Vectors.self_provided(
                name="one", vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT)
            ),
            Configure.Vectors.self_provided(name="two"),
        ],
    )
    properties = {
        "title": "a",
        "year": 2024,
        "score": 1.0,
        "at": datetime(2024, 1, 2, 3, 4, 5, 600, tzinfo=UTC),
        "where": GeoCoordinate(latitude=1.5, longitude=-2.5),
        "tags": ["x", "y"],
        "image": "AAEC",
        "maker": {"name": "m"},
    }
    first, second = uuid.UUID(int=1), uuid.UUID(int=2)
    collection.data.insert_many(
        [
            DataObject(properties=properties, uuid=first, vector={"one": [0.1, 0.2], "two": [1.0, 2.0, 3.0]}),
            DataObject(properties={"title": None, "tags": []}, uuid=second, vector={"two": [4.0, 5.0, 6.0]}),
        ]
    )
    collection.data.reference_add(from_uuid=first, from_property="next", to=second)

    described = things.describe()
    assert [(v.name, v.dim, v.metric) for v in described.vectors] == [("one", 2, Metric.DOT), ("two", 3, Metric.COSINE)]
    (part,) = everything(things)
    assert part.payloads[0] == {
        **properties,
        "at": "2024-01-02T03:04:05.0006Z",
        "where": {"latitude": 1.5, "longitude": -2.5},
        "next": [f"weaviate://localhost/Things/{second}"],
    }
    assert type(part.payloads[0]["year"]) is int
    assert type(part.payloads[0]["score"]) is float
    assert part.payloads[1] == {"tags": []}
    assert part.vectors["one"].valid.tolist() == [True, False]
    assert part.vectors["one"].values[0].tolist() == np.array([0.1, 0.2], np.float32).tolist()
    assert part.vectors["two"].values.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_collection_of_tenants_is_the_same_for_both(client: Any, things: Database) -> None:

    collection = client.collections.create("things", multi_tenancy_config=Configure.multi_tenancy(enabled=True))
    collection.tenants.create([Tenant(name="a"), Tenant(name="b")])
    collection.with_tenant("a").data.insert({}, uuid=uuid.UUID(int=1), vector=[1.0, 2.0])
    assert things.describe().scope is ScopeKind.TENANT
    assert things.scopes() == ["a", "b"]
    assert [things.count(name) for name in ("a", "b", None)] == [1, 0, 1]
    name = things.describe().vectors[0].name
    things.upsert(Batch(ids([1]), "c", {name: Dense(np.ones((1, 2), np.float32))}, [{}]))
    assert len(collection.with_tenant("c")) == 1


def test_the_client_iterates_over_what_we_scan(client: Any, things: Database) -> None:
    things.create(schema(fields=[FIELDS[1]]))
    numbers = [int(value) for value in np.random.default_rng(0).integers(0, 2**60, 120)]
    things.upsert(batch(numbers, [{FieldType.INT64.value: number % 1000} for number in numbers]))
    seen = [(one.uuid, one.properties["int64"]) for one in client.collections.get("Things").iterator(cache_size=33)]
    ours = [(uuid.UUID(int=number), payload["int64"]) for number, payload in payloads_of(things).items()]
    assert [(uuid.UUID(str(one)), value) for one, value in seen] == ours


def _in_order(value: Any) -> Any:
    """A value with the keys of its objects in order: a server says them in any."""
    if isinstance(value, dict):
        return {name: _in_order(one) for name, one in sorted(value.items())}
    return [_in_order(one) for one in value] if isinstance(value, list) else value


def test_h23_an_application_finds_its_source_as_it_was(client: Any, things: Database, weaviate_server: Any) -> None:
    things.create(schema(VECTOR, fields=FIELDS))
    things.upsert(batch([1, 2], [READABLE, {}]))
    collection = client.collections.get("Things")

    def state() -> Any:
        objects = [(one.uuid, _in_order(one.properties), one.vector, one.metadata) for one in collection.iterator(
            include_vector=True, return_metadata=["creation_time", "last_update_time"])]  # fmt: skip
        return repr(objects), repr(_in_order(collection.config.get().to_dict()))

    before = state()
    with open_source(endpoint(weaviate_server)) as source:
        source.describe()
        (split,) = source.plan_splits(10)
        assert sum(len(part) for part in source.scan(split)) == 2
        source.fetch(ids([1, 2, 3]))
        source.search(np.ones((1, 2), np.float32), 2, vector="v")
    assert state() == before


def test_multi_vectors_are_the_same_for_both(client: Any, things: Database) -> None:

    collection = client.collections.create(
        "things",
        vector_config=[Configure.MultiVectors.self_provided(name="m")],
    )
    collection.data.insert({}, uuid=uuid.UUID(int=1), vector={"m": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})
    (vector,) = things.describe().vectors
    assert (vector.name, vector.kind, vector.dim) == ("m", VectorKind.MULTI, 2)
    (part,) = everything(things)
    assert part.vectors["m"].values.tolist() == [[1, 2], [3, 4], [5, 6]]
