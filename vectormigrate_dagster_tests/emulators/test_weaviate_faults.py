"""Contract: the Weaviate stand-in fails as it is told to, in the forms that the official client sees of a server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import httpx
import pytest
from weaviate import WeaviateClient
from weaviate.classes.data import DataObject
from weaviate.classes.query import MetadataQuery
from weaviate.collections import Collection
from weaviate.exceptions import (
    UnexpectedStatusCodeError,
    WeaviateBatchError,
    WeaviateInsertManyAllFailedError,
    WeaviateQueryError,
)
from weaviate.proto.v1 import search_get_pb2, weaviate_pb2_grpc

from vectormigrate_dagster_tests.emulators.weaviate import Settings, WeaviateStandIn
from vectormigrate_dagster_tests.emulators.weaviate_clients import NONE, TEXT, connected, fill, ids


@pytest.fixture
def client(weaviate_stand_in: WeaviateStandIn) -> Iterator[WeaviateClient]:
    with connected(weaviate_stand_in) as client:
        yield client


@pytest.fixture
def things(client: WeaviateClient) -> Collection:
    return client.collections.create("Thing", vector_config=NONE(), properties=[TEXT])


def test_throttled(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    weaviate_stand_in.fault("throttle", "BatchObjects", nth=2)
    weaviate_stand_in.fault("throttle", "InsertObject", retry_after=1.5)
    fill(things, 2)
    with pytest.raises(WeaviateBatchError, match="429"):
        fill(things, 2)
    fill(things, 3)
    with pytest.raises(UnexpectedStatusCodeError) as error:
        things.data.insert({"title": "x"})
    assert error.value.status_code == 429
    assert weaviate_stand_in.calls()["BatchObjects"] == 3
    weaviate_stand_in.fault("throttle", "Meta", retry_after=1.5)
    assert httpx.get(f"{weaviate_stand_in.url}/v1/meta").headers["retry-after"] == "2"


def test_unavailable(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    """The client would repeat for a minute, so the wire is asked."""
    fill(things, 2)
    weaviate_stand_in.fault("unavailable", "Search")
    with grpc.insecure_channel(f"127.0.0.1:{weaviate_stand_in.grpc_port}") as channel:
        stub = weaviate_pb2_grpc.WeaviateStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.Search(search_get_pb2.SearchRequest(collection="Thing"))
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(stub.Search(search_get_pb2.SearchRequest(collection="Thing")).results) == 2
    weaviate_stand_in.fault("unavailable", "Meta")
    assert httpx.get(f"{weaviate_stand_in.url}/v1/meta").status_code == 503


def test_the_connection_ends_after_the_work(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    weaviate_stand_in.fault("reset_after", "InsertObject")
    with pytest.raises(httpx.ReadError):
        things.data.insert({"title": "x"}, uuid=ids(1)[0])
    assert len(things) == 1
    weaviate_stand_in.fault("reset_before", "InsertObject")
    with pytest.raises(httpx.ReadError):
        things.data.insert({"title": "x"}, uuid=ids(2)[1])
    assert len(things) == 1


def test_a_batch_is_repeated_after_its_connection_ended(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    weaviate_stand_in.fault("reset_after", "BatchObjects")
    fill(things, 3)  # the client repeats by itself, a second later
    assert weaviate_stand_in.calls()["BatchObjects"] == 2
    assert len(things) == 3


def test_delayed(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    weaviate_stand_in.fault("delay", "Search", seconds=0.2)
    start = time.monotonic()
    things.query.fetch_objects()
    assert time.monotonic() - start >= 0.2


def test_pages_that_are_wrong(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    keys = sorted(fill(things, 3), key=lambda key: key.bytes)
    weaviate_stand_in.fault("short_page", "Search")
    assert [each.uuid for each in things.query.fetch_objects().objects] == keys[:2]
    weaviate_stand_in.fault("wrong_order", "Search")
    assert [each.uuid for each in things.query.fetch_objects().objects] == keys[::-1]
    assert [each.uuid for each in things.query.fetch_objects().objects] == keys


def test_chosen_objects_are_refused(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    keys = ids(4)
    weaviate_stand_in.fault("refuse", "BatchObjects", ids=(str(keys[1]), str(keys[3])), message="no room for it")
    result = things.data.insert_many([DataObject(properties={"title": "x"}, uuid=key) for key in keys])
    assert {n: error.message for n, error in result.errors.items()} == {1: "no room for it", 3: "no room for it"}
    assert {each.uuid for each in things.iterator()} == {keys[0], keys[2]}


def test_a_shard_that_cannot_be_written(
    weaviate_stand_in: WeaviateStandIn, client: WeaviateClient, things: Collection
) -> None:
    fill(things, 1)
    weaviate_stand_in.fault("read_only", "BatchObjects")
    with pytest.raises(WeaviateInsertManyAllFailedError, match="store is read-only due to: disk usage too high"):
        things.data.insert_many([{"title": "x"}])
    [shard] = things.config.get_shards()
    things.config.update_shards("READONLY", shard_names=shard.name)
    assert things.config.get_shards()[0].status == "READONLY"
    with pytest.raises(WeaviateInsertManyAllFailedError, match="store is read-only due to"):
        things.data.insert_many([{"title": "x"}])
    assert len(things) == 1
    things.config.update_shards("READY")
    assert not things.data.insert_many([{"title": "x"}]).has_errors


def test_the_vector_index_comes_later() -> None:
    with WeaviateStandIn(Settings(index_after=3600)) as server, connected(server) as client:
        things = client.collections.create("Thing", vector_config=NONE(), properties=[TEXT])
        fill(things, 5)
        assert len(list(things.iterator())) == 5
        assert things.query.near_vector([1.0, 1.0, 1.0], return_metadata=MetadataQuery(distance=True)).objects == []
        [shard] = things.config.get_shards()
        assert (shard.status, shard.vector_queue_size) == ("INDEXING", 5)
        [node] = client.cluster.nodes(output="verbose")
        assert [(each.object_count, each.vector_queue_length) for each in node.shards] == [(5, 5)]


def test_data_outlive_a_restart(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    fill(things, 3)
    weaviate_stand_in.restart()
    with connected(weaviate_stand_in) as client:
        assert len(client.collections.use("Thing")) == 3


def test_faults_are_forgotten(weaviate_stand_in: WeaviateStandIn, things: Collection) -> None:
    weaviate_stand_in.fault("throttle", times=None)
    with pytest.raises(WeaviateQueryError):
        things.query.fetch_objects()
    weaviate_stand_in.clear_faults()
    assert things.query.fetch_objects().objects == []
    assert weaviate_stand_in.calls() == {"Search": 1}
