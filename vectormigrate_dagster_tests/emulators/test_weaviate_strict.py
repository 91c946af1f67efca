"""Contract: the Weaviate stand-in can be set up as a server can: auto-schema, modules, keys, sizes, a process."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from weaviate.classes.config import Configure, DataType, Property
from weaviate.classes.data import DataObject
from weaviate.exceptions import (
    InsufficientPermissionsError,
    UnexpectedStatusCodeError,
    WeaviateInsertManyAllFailedError,
    WeaviateQueryError,
)

from vectormigrate_dagster_tests.emulators.weaviate import Settings, WeaviateServer, WeaviateStandIn
from vectormigrate_dagster_tests.emulators.weaviate.vectors import EMBEDDED
from vectormigrate_dagster_tests.emulators.weaviate_clients import NONE, TEXT, Wire, connected, fill, ids

KEY = str(ids(1)[0])


def test_it_can_be_switched_off() -> None:
    with WeaviateStandIn(Settings(auto_schema=False)) as server, Wire(server) as wire:
        assert wire.put(KEY, {}) == [f"class '{wire.name}' not present in schema"]
        wire.declare(field="text")
        [error] = wire.put(KEY, {"other": "x"})
        assert error.startswith(f"no such prop with name 'other' found in class '{wire.name}' in the schema")


def test_a_module_embeds_what_comes_without_a_vector(weaviate_stand_in: WeaviateStandIn) -> None:
    with connected(weaviate_stand_in) as client:
        things = client.collections.create(
            "Thing", vector_config=Configure.Vectors.text2vec_openai(name="a"), properties=[TEXT]
        )
        given, made = ids(2)
        things.data.insert_many([
            DataObject(properties={}, uuid=given, vector={"a": [1.0, 2.0]}),
            DataObject(properties={}, uuid=made),
        ])  # fmt: skip
        shown = {each.uuid: each.vector["a"] for each in things.iterator(include_vector=True)}
        assert shown == {given: [1.0, 2.0], made: [EMBEDDED, EMBEDDED]}
    with WeaviateStandIn(Settings(embeds=False)) as server, connected(server) as client:
        things = client.collections.create("Thing", vector_config=Configure.Vectors.text2vec_openai())
        with pytest.raises(WeaviateInsertManyAllFailedError, match="no api key found"):
            things.data.insert_many([{"title": "x"}])


########## keys and sizes


@pytest.fixture
def locked() -> Iterator[WeaviateStandIn]:
    with WeaviateStandIn(
        Settings(api_key="secret", read_only_api_key="reader", grpc_max_message_size=50_000)
    ) as server:
        yield server


def test_keys(locked: WeaviateStandIn) -> None:
    with Wire(WeaviateServer(locked.url, locked.grpc_url)) as wire:
        assert wire.rest("GET", "/meta").status_code == 401
        assert "anonymous access not enabled" in wire.rest("GET", "/meta").json()["message"]
        assert wire.rest("GET", "/meta", authorization="Bearer wrong").status_code == 401
        assert wire.rest("GET", "/.well-known/ready").status_code == 200
        with pytest.raises(grpc.RpcError) as error:
            wire.search()
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with connected(locked) as client:
        fill(client.collections.create("Thing", vector_config=NONE(), properties=[TEXT]), 3)
    with connected(locked, "reader") as client:
        assert len(client.collections.use("Thing")) == 3
        with pytest.raises(InsufficientPermissionsError):
            client.collections.use("Thing").data.insert_many([{"title": "x"}])
        with pytest.raises(InsufficientPermissionsError):
            client.collections.delete("Thing")


def test_the_size_of_messages_is_limited(locked: WeaviateStandIn) -> None:
    with connected(locked) as client:
        things = client.collections.create("Thing", vector_config=NONE(), properties=[TEXT])
        for _ in range(3):
            things.data.insert_many([{"title": "x" * 2000} for _ in range(20)])
        with pytest.raises(WeaviateQueryError, match="larger than max"):
            things.query.fetch_objects(limit=60)
        assert len(things.query.fetch_objects(limit=20).objects) == 20


def test_a_process_of_its_own() -> None:
    with WeaviateStandIn(child=True) as server, connected(server) as client:
        fill(client.collections.create("Thing", vector_config=NONE(), properties=[TEXT]), 3)
        server.fault("throttle", "Search")
        with pytest.raises(WeaviateQueryError):
            client.collections.use("Thing").query.fetch_objects()
        assert server.calls()["Search"] == 1


def test_offloaded_tenants(weaviate_stand_in: WeaviateStandIn) -> None:
    with connected(weaviate_stand_in) as client:
        tenancy = Configure.multi_tenancy(enabled=True)
        name = Property(name="title", data_type=DataType.TEXT)
        things = client.collections.create(
            "Thing", multi_tenancy_config=tenancy, vector_config=NONE(), properties=[name]
        )
        things.tenants.create(["a"])
        fill(things.with_tenant("a"), 2)
        things.tenants.offload("a")
        with pytest.raises(WeaviateQueryError, match="tenant not active"):
            things.with_tenant("a").query.fetch_objects()
        things.tenants.activate("a")
        assert len(things.with_tenant("a")) == 2
        with pytest.raises(UnexpectedStatusCodeError, match="shard not found"):
            things.tenants.activate("b")
