"""What the stand-in promises: the official client cannot tell it from a server in what it does, keeps and returns.

With QDRANT_URL (and QDRANT_GRPC_URL, QDRANT_API_KEY) the tests that use the fixture `client` run against that server.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from vectormigrate_dagster_tests.emulators.conftest import NAME
from vectormigrate_dagster_tests.emulators.qdrant_clients import REFUSALS, UUIDS, ids, point, refused, version

########################################################################
# As the documentation shows it
########################################################################


def test_a_tour_of_the_documentation(things: QdrantClient) -> None:
    result = things.upsert(
        NAME, [point(i, (1.0, 0.0, 0.0, float(i)), city="Berlin", n=i) for i in range(1, 7)], wait=True
    )
    assert result.status is models.UpdateStatus.COMPLETED
    things.upsert(NAME, models.Batch(ids=[7, 8], vectors=[[0.0] * 4] * 2, payloads=[{"n": 7}, {}]), wait=True)
    berlin = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))])
    assert things.count(NAME, exact=True).count == 8
    assert things.count(NAME, count_filter=berlin, exact=True).count == 6
    assert ids(things.query_points(NAME, query=[0.0, 0.0, 0.0, 1.0], limit=3).points) == [6, 5, 4]
    assert ids(
        things.query_points(NAME, query=[0.0, 0.0, 0.0, 1.0], query_filter=berlin, limit=2, offset=1).points
    ) == [5, 4]
    things.set_payload(NAME, payload={"city": "Rome"}, points=[1])
    things.overwrite_payload(NAME, payload={"only": True}, points=[2])
    things.delete_payload(NAME, keys=["city"], points=[3])
    things.clear_payload(NAME, points_selector=models.PointIdsList(points=[4]))
    payloads = {record.id: record.payload for record in things.retrieve(NAME, [1, 2, 3, 4, 8, 99])}
    assert payloads == {1: {"city": "Rome", "n": 1}, 2: {"only": True}, 3: {"n": 3}, 4: {}, 8: {}}
    things.update_vectors(NAME, points=[models.PointVectors(id=1, vector=[9.0, 9.0, 9.0, 9.0])])
    assert things.retrieve(NAME, [1], with_vectors=True)[0].vector == [9.0] * 4
    things.delete(NAME, points_selector=models.PointIdsList(points=[1, 99]))
    things.delete(NAME, points_selector=models.FilterSelector(filter=berlin))
    assert ids(things.scroll(NAME)[0]) == [2, 3, 4, 7, 8]


def test_operations_of_a_batch_are_carried_out_in_order(things: QdrantClient) -> None:
    operations = [
        models.UpsertOperation(upsert=models.PointsList(points=[point(1, a=1), point(2)])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": 2}, points=[1])),
        models.DeleteOperation(delete=models.PointIdsList(points=[2])),
    ]
    results = things.batch_update_points(NAME, update_operations=operations, wait=True)
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 3
    [record] = things.scroll(NAME)[0]
    assert (record.id, record.payload) == (1, {"a": 1, "b": 2})


def test_pages_have_numbers_before_uuids_and_start_with_the_offset(things: QdrantClient) -> None:
    everything = [0, 5, 7, 2**63, 2**64 - 1, *UUIDS]
    things.upsert(NAME, [point(each) for each in reversed(everything)], wait=True)
    pages, offset = [], None
    while True:
        records, offset = things.scroll(NAME, limit=3, offset=offset)
        pages.append(ids(records))
        if offset is None:
            break
    assert pages == [everything[:3], everything[3:6], everything[6:]]
    assert ids(things.scroll(NAME, offset=6, limit=2)[0]) == [7, 2**63]
    assert things.scroll(NAME, offset=UUIDS[1], limit=1) == (things.retrieve(NAME, [UUIDS[1]]), UUIDS[2])


def test_payloads_come_back_as_they_were(things: QdrantClient) -> None:
    payload = {"é": "日本語\u2028\x01", "n": [1, -(2**63), 2**63 - 1, 0.1, True, None], "deep": {"a": [{"b": {}}, []]}}
    things.upsert(NAME, [point(1, **payload)], wait=True)
    assert things.retrieve(NAME, [1])[0].payload == payload
    assert things.scroll(NAME, with_payload=["deep"])[0][0].payload == {"deep": payload["deep"]}
    assert things.scroll(NAME, with_payload=False)[0][0].payload in (None, {})


def test_named_sparse_and_multi_vectors(client: QdrantClient) -> None:
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        NAME,
        vectors_config={
            "image": models.VectorParams(size=2, distance=models.Distance.EUCLID),
            "tokens": models.VectorParams(size=2, distance=models.Distance.DOT, multivector_config=multi),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    words = models.SparseVector(indices=[7, 3], values=[1.0, 2.0])
    vectors = {"image": [1.0, 2.0], "tokens": [[1.0, 0.0], [0.0, 1.0]], "words": words}
    client.upsert(NAME, [point(1, vectors), point(2, {"image": [5.0, 5.0]}), point(3, {})], wait=True)
    first, second, third = client.retrieve(NAME, [1, 2, 3], with_vectors=True)
    assert first.vector["image"] == [1.0, 2.0]
    assert first.vector["tokens"] == [[1.0, 0.0], [0.0, 1.0]]
    assert dict(zip(first.vector["words"].indices, first.vector["words"].values, strict=True)) == {3: 2.0, 7: 1.0}
    assert second.vector == {"image": [5.0, 5.0]}
    assert third.vector == {}
    assert client.retrieve(NAME, [1], with_vectors=["image"])[0].vector == {"image": [1.0, 2.0]}
    assert ids(client.query_points(NAME, query=[5.0, 5.0], using="image").points) == [2, 1]
    assert ids(client.query_points(NAME, query=words, using="words").points) == [1]
    client.delete_vectors(NAME, vectors=["words"], points=[1])
    assert client.retrieve(NAME, [1], with_vectors=True)[0].vector.keys() == {"image", "tokens"}


def test_cosine_vectors_are_stored_with_unit_length_and_left_alone_by_searches(client: QdrantClient) -> None:
    client.create_collection(NAME, vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    rows = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    client.upsert(NAME, [point(i, row.tolist()) for i, row in enumerate(rows)], wait=True)
    client.upsert(NAME, [point(99, [0.0] * 8)], wait=True)

    def stored() -> np.ndarray:
        return np.asarray([r.vector for r in client.scroll(NAME, limit=50, with_vectors=True)[0]], dtype=np.float32)

    first = stored()
    np.testing.assert_allclose(first[:20], rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6)
    assert not first[20].any()
    client.upsert(NAME, [point(i, row.tolist()) for i, row in enumerate(first[:20])], wait=True)
    client.query_points(NAME, query=rows[3].tolist(), limit=5)
    assert stored().tobytes() == first.tobytes()


@pytest.mark.parametrize(
    ("datatype", "expected"),
    [(models.Datatype.FLOAT16, [0.0999755859375, 2.5, 255.875, 1.0]), (models.Datatype.UINT8, [0.0, 2.0, 255.0, 1.0])],
)
def test_numbers_are_rounded_to_the_element_type(
    client: QdrantClient, datatype: models.Datatype, expected: list[float]
) -> None:
    params = models.VectorParams(size=4, distance=models.Distance.DOT, datatype=datatype)
    client.create_collection(NAME, vectors_config=params)
    client.upsert(NAME, [point(1, (0.1, 2.5, 255.9, 1.0))], wait=True)
    stored = np.asarray(client.retrieve(NAME, [1], with_vectors=True)[0].vector, dtype=np.float32)
    assert stored.tolist() == expected


def test_update_modes_and_filters(things: QdrantClient) -> None:
    things.upsert(NAME, [point(1, v=1), point(2, v=2)], wait=True)
    newer = [point(1, v=10), point(3, v=30)]
    things.upsert(NAME, newer, wait=True, update_mode=models.UpdateMode.INSERT_ONLY)
    things.upsert(NAME, [point(2, v=20), point(4, v=40)], wait=True, update_mode=models.UpdateMode.UPDATE_ONLY)
    small = models.Filter(must=[models.FieldCondition(key="v", range=models.Range(lt=5))])
    things.upsert(NAME, [point(1, v=11), point(2, v=21), point(5, v=51)], wait=True, update_filter=small)
    assert {r.id: r.payload["v"] for r in things.scroll(NAME)[0]} == {1: 11, 2: 20, 3: 30, 5: 51}


def test_slices_are_disjoint_and_complete(things: QdrantClient) -> None:
    if version(things) < (1, 19):
        pytest.skip("the server has no slices")
    everything = [*range(200), *UUIDS]
    things.upsert(NAME, [point(each) for each in everything], wait=True)
    slices = [models.Filter(must=[models.SliceCondition(slice=models.Slice(total=4, index=i))]) for i in range(4)]
    parts = [ids(things.scroll(NAME, scroll_filter=each, limit=500)[0]) for each in slices]
    assert sorted(itertools.chain(*parts), key=str) == sorted(everything, key=str)
    assert all(20 < len(part) < 90 for part in parts)


########################################################################
# Settings
########################################################################


def test_settings_are_stored_and_returned(client: QdrantClient) -> None:
    client.create_collection(
        NAME,
        vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE, on_disk=True),
        hnsw_config=models.HnswConfigDiff(m=8),
        quantization_config=models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8")),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
        metadata={"owner": "tests", "n": 1, "é": None},
        on_disk_payload=False,
    )
    config = client.get_collection(NAME).config
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (8, 100)
    assert config.quantization_config.scalar.type.value == "int8"
    assert config.optimizer_config.indexing_threshold == 0
    assert (config.params.vectors.on_disk, config.params.on_disk_payload) == (True, False)
    assert config.metadata["owner"] == "tests"
    client.update_collection(
        NAME, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=500), metadata={"n": 2}
    )
    config = client.get_collection(NAME).config
    assert config.optimizer_config.indexing_threshold == 500
    assert config.metadata == {"owner": "tests", "n": 2, "é": None}
    client.update_collection(NAME, metadata={"n": None})
    assert client.get_collection(NAME).config.metadata == {"owner": "tests", "é": None}


def test_the_optimizer_indexes_what_is_above_its_threshold_and_nothing_at_0(client: QdrantClient) -> None:
    off = models.OptimizersConfigDiff(indexing_threshold=0)
    vectors = models.VectorParams(size=256, distance=models.Distance.DOT)
    client.create_collection(NAME, vectors_config=vectors, optimizers_config=off)
    points = [models.PointStruct(id=number, vector=[1.0] * 256) for number in range(20)]
    client.upsert(NAME, points=points, wait=True)
    assert looks(client, 2) == [("green", 0), ("green", 0)]
    client.update_collection(NAME, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=10))
    assert looks(client, 3) == [("yellow", 0), ("green", 20), ("green", 20)]
    client.update_collection(NAME, optimizers_config=off)
    client.upsert(
        NAME, points=[models.PointStruct(id=number, vector=[1.0] * 256) for number in range(20, 60)], wait=True
    )
    assert looks(client, 2) == [("green", 20), ("green", 20)]


def looks(client: QdrantClient, times: int) -> list[tuple[str, int | None]]:
    """The status, and how many points are indexed, at each of several looks."""
    infos = [client.get_collection(NAME) for _ in range(times)]
    return [(info.status.value, info.indexed_vectors_count) for info in infos]


def test_payload_indexes_count_points(things: QdrantClient) -> None:
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    things.create_payload_index(NAME, "who", field_schema=tenant, wait=True)
    things.create_payload_index(NAME, "n", field_schema=models.PayloadSchemaType.INTEGER, wait=True)
    things.upsert(NAME, [point(1, who="a", n=1), point(2, who="b"), point(3)], wait=True)
    schema = things.get_collection(NAME).payload_schema
    assert {name: (field.data_type.value, field.points) for name, field in schema.items()} == {
        "who": ("keyword", 2),
        "n": ("integer", 1),
    }
    assert schema["who"].params.is_tenant
    records, following = things.scroll(NAME, order_by="n")
    assert (ids(records), following) == ([1], None)
    things.delete_payload_index(NAME, "n", wait=True)
    assert things.get_collection(NAME).payload_schema.keys() == {"who"}


@pytest.mark.parametrize("name", ["", "a b", "a.", "a..b", "a[x]", "[0]", "a]", "$a"])
def test_a_payload_index_needs_a_path(things: QdrantClient, name: str) -> None:
    with refused(400, "INVALID_ARGUMENT", f"Invalid json path: '{name}'"):
        things.create_payload_index(NAME, name, field_schema=models.PayloadSchemaType.KEYWORD, wait=True)
    assert things.get_collection(NAME).payload_schema == {}


def test_payload_indexes_of_paths(things: QdrantClient) -> None:
    payload = {"a b": "x", "é-1": {"_c": ["x"]}}
    things.upsert(NAME, [models.PointStruct(id=1, vector=[1, 2, 3, 4], payload=payload)], wait=True)
    for name in ('"a b"', "é-1._c[]", "é-1._c[0]"):
        things.create_payload_index(NAME, name, field_schema=models.PayloadSchemaType.KEYWORD, wait=True)
    schema = things.get_collection(NAME).payload_schema
    assert {name: field.points for name, field in schema.items()} == {'"a b"': 1, "é-1._c[]": 1, "é-1._c[0]": 1}


def test_aliases_are_changed_up_to_the_first_refusal(things: QdrantClient) -> None:
    alias = models.CreateAlias(collection_name=NAME, alias_name="vectormigrate_alias")
    things.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    assert [a.alias_name for a in things.get_collection_aliases(NAME).aliases] == ["vectormigrate_alias"]
    things.upsert("vectormigrate_alias", [point(1)], wait=True)
    assert things.count(NAME).count == 1
    away = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="vectormigrate_alias"))
    broken = models.CreateAlias(collection_name="vectormigrate_none", alias_name="x")
    with refused(404, "NOT_FOUND", "Collection `vectormigrate_none` doesn't exist!"):
        things.update_collection_aliases([away, models.CreateAliasOperation(create_alias=broken)])
    assert things.get_collection_aliases(NAME).aliases == []


########################################################################
# Shard keys
########################################################################


@pytest.fixture
def sharded(client: QdrantClient) -> QdrantClient:
    client.create_collection(
        NAME,
        vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT),
        sharding_method=models.ShardingMethod.CUSTOM,
    )
    try:
        for key in ("cats", 7):
            client.create_shard_key(NAME, key)
    except REFUSALS:
        pytest.skip("the server is no cluster")
    return client


def test_a_point_may_be_in_several_shards(sharded: QdrantClient) -> None:
    sharded.upsert(NAME, [point(1, where="cats"), point(2)], wait=True, shard_key_selector="cats")
    sharded.upsert(NAME, [point(1, where="7"), point(3)], wait=True, shard_key_selector=7)
    assert ids(sharded.scroll(NAME)[0]) == [1, 2, 3]
    assert ids(sharded.scroll(NAME, shard_key_selector="cats")[0]) == [1, 2]
    [record] = sharded.retrieve(NAME, [1], shard_key_selector=7)
    assert (record.payload["where"], record.shard_key) == ("7", 7)
    assert [sharded.count(NAME, shard_key_selector=key).count for key in ("cats", 7, None)] == [2, 2, 4]
    assert {each.key for each in sharded.list_shard_keys(NAME).shard_keys} == {"cats", 7}
    sharded.delete(NAME, models.PointIdsList(points=[1]), shard_key_selector=7)
    assert ids(sharded.scroll(NAME, shard_key_selector="cats")[0]) == [1, 2]
    sharded.delete_shard_key(NAME, "cats")
    assert ids(sharded.scroll(NAME)[0]) == [3]


def test_pages_over_several_shards_are_in_order(sharded: QdrantClient) -> None:
    for key, start in (("cats", 0), (7, 1)):
        sharded.upsert(NAME, [point(i) for i in range(start, 20, 2)], wait=True, shard_key_selector=key)
    records, following = sharded.scroll(NAME, limit=7, offset=3)
    assert (ids(records), following) == ([*range(3, 10)], 10)
    assert {record.shard_key for record in records} == {"cats", 7}


def test_shard_keys_that_are_wrong(sharded: QdrantClient) -> None:
    with refused(400, "INVALID_ARGUMENT", "Shard key not specified"):
        sharded.upsert(NAME, [point(1)], wait=True)
    with refused(400, "INVALID_ARGUMENT", "dogs"):
        sharded.upsert(NAME, [point(1)], wait=True, shard_key_selector="dogs")
    with refused(400, "INVALID_ARGUMENT", "already exists"):
        sharded.create_shard_key(NAME, "cats")


########################################################################
# Many at once
########################################################################


def test_writers_at_once_lose_nothing(things: QdrantClient) -> None:
    def write(part: int) -> None:
        for start in range(0, 200, 50):
            things.upsert(NAME, [point(1000 * part + start + i) for i in range(50)], wait=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert things.count(NAME).count == 800
    assert len(things.scroll(NAME, limit=1000)[0]) == 800
