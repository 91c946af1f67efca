"""Contract: the official v4 client, used as its documentation shows, cannot tell the stand-in from a Weaviate server.

With WEAVIATE_URL the same tests run against that server, which is what keeps the two alike; they create and drop
collections whose names begin with `VectormigrateStandIn`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from weaviate import WeaviateClient
from weaviate.classes.config import Configure, DataType, Property, ReferenceProperty, VectorDistances
from weaviate.classes.data import DataObject, GeoCoordinate
from weaviate.classes.query import Filter, MetadataQuery, QueryReference, Sort
from weaviate.exceptions import (
    UnexpectedStatusCodeError,
    WeaviateInsertManyAllFailedError,
    WeaviateQueryError,
)

from vectormigrate_dagster_tests.emulators.weaviate_clients import NONE, TEXT, Create, fill, ids

########## the server


def test_says_what_it_is(weaviate_client: WeaviateClient) -> None:
    assert weaviate_client.is_ready()
    assert weaviate_client.is_live()
    meta = weaviate_client.get_meta()
    assert meta["version"].startswith("1.")
    assert int(meta["grpcMaxMessageSize"]) > 0
    assert weaviate_client.cluster.nodes()[0].status == "HEALTHY"


########## collections


def test_a_new_collection_has_all_defaults(weaviate_client: WeaviateClient, weaviate_create: Create) -> None:
    nested = [Property(name="colour", data_type=DataType.TEXT), Property(name="sizes", data_type=DataType.INT_ARRAY)]
    made = weaviate_create(
        description="all sorts",
        properties=[TEXT, Property(name="Parts", data_type=DataType.OBJECT_ARRAY, nested_properties=nested)],
        vector_config=[
            NONE(name="first", vector_index_config=Configure.VectorIndex.flat(distance_metric=VectorDistances.DOT)),
            Configure.MultiVectors.self_provided(name="second"),
        ],
    )
    config = made.config.get()
    assert config.description == "all sorts"
    assert [each.name for each in config.properties] == ["title", "parts"]
    assert config.properties[0].index_searchable
    assert config.properties[1].nested_properties is not None
    assert config.replication_config.factor == 1
    assert config.vector_config is not None
    assert config.vector_config["first"].vector_index_config.distance_metric == VectorDistances.DOT
    assert config.vector_config["second"].vector_index_config.multi_vector is not None
    assert weaviate_client.collections.exists(made.name)
    assert made.name in weaviate_client.collections.list_all(simple=False)
    assert weaviate_client.collections.export_config(made.name).name == made.name


def test_a_collection_is_made_again_from_its_definition(
    weaviate_client: WeaviateClient, weaviate_create: Create
) -> None:
    made = weaviate_create(properties=[TEXT], vector_config=[NONE(name="a"), NONE(name="b")])
    given = made.config.get().to_dict()
    weaviate_client.collections.delete(made.name)
    again = weaviate_client.collections.create_from_dict(given)
    assert again.config.get().to_dict() == given


def test_properties_are_added_and_the_description_is_changed(weaviate_create: Create) -> None:
    made = weaviate_create(properties=[TEXT])
    made.config.add_property(Property(name="Count", data_type=DataType.INT))
    made.config.update(description="new")
    config = made.config.get()
    assert config.description == "new"
    assert [each.name for each in config.properties] == ["count", "title"]  # an update sorts them
    with pytest.raises(UnexpectedStatusCodeError, match="already in use"):
        made.config.add_property(Property(name="TITLE", data_type=DataType.INT))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a b", "is not a valid property name"),
        ("é", "is not a valid property name"),
        ("$x", "is not a valid property name"),
        ("_id", "reserved property name"),
        ("of_temp", "is reserved for internal indices"),
        ("x" * 232, "should not be longer than 231"),
    ],
)
def test_names_of_properties_are_checked(weaviate_client: WeaviateClient, name: str, words: str) -> None:
    with pytest.raises(UnexpectedStatusCodeError, match=words):
        weaviate_client.collections.create(
            "VectormigrateStandInX", properties=[Property(name=name, data_type=DataType.TEXT)]
        )
    assert not weaviate_client.collections.exists("VectormigrateStandInX")


def test_names_of_collections_are_checked(weaviate_client: WeaviateClient, weaviate_create: Create) -> None:
    made = weaviate_create()
    with pytest.raises(UnexpectedStatusCodeError, match="class already exists: found similar class"):
        weaviate_client.collections.create(made.name.upper())
    with pytest.raises(UnexpectedStatusCodeError, match="is not a valid class name"):
        weaviate_client.collections.create("Vectormigrate-StandIn")


def test_aliases(weaviate_client: WeaviateClient, weaviate_create: Create) -> None:
    first, second = weaviate_create(properties=[TEXT]), weaviate_create()
    fill(first, 3)
    alias = f"{first.name}Alias"
    weaviate_client.alias.create(alias_name=alias, target_collection=first.name)
    assert len(weaviate_client.collections.use(alias)) == 3
    found = weaviate_client.alias.get(alias_name=alias)
    assert found is not None
    assert found.collection == first.name
    assert weaviate_client.alias.update(alias_name=alias, new_target_collection=second.name)
    assert alias in weaviate_client.alias.list_all(collection=second.name)
    assert weaviate_client.alias.delete(alias_name=alias)
    assert weaviate_client.alias.get(alias_name=alias) is None


########## objects


def test_the_iterator_goes_in_the_order_of_ids(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    keys = fill(collection, 250)
    seen = [each.uuid for each in collection.iterator(cache_size=40)]
    assert seen == sorted(keys, key=lambda key: key.bytes)
    assert len(collection) == 250
    assert collection.aggregate.over_all(total_count=True).total_count == 250


def test_after_is_exclusive_and_need_not_exist(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    keys = sorted(fill(collection, 20), key=lambda key: key.bytes)
    page = collection.query.fetch_objects(limit=3, after=keys[4])
    assert [each.uuid for each in page.objects] == keys[5:8]
    between = uuid.UUID(int=keys[4].int + 1)
    assert collection.query.fetch_objects(limit=1, after=between).objects[0].uuid == keys[5]


def test_what_a_cursor_cannot_go_with(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    with pytest.raises(WeaviateQueryError, match="where cannot be set with after and limit parameters"):
        collection.query.fetch_objects(after=ids(1)[0], filters=Filter.by_property("title").equal("x"))
    with pytest.raises(WeaviateQueryError, match="sort cannot be set with after and limit parameters"):
        collection.query.fetch_objects(after=ids(1)[0], sort=Sort.by_property("title"))
    with pytest.raises(WeaviateQueryError, match="QUERY_MAXIMUM_RESULTS '10000'"):
        collection.query.fetch_objects(limit=10_001)


def test_a_value_of_every_type_comes_back(weaviate_create: Create) -> None:
    kinds = {
        "text": (DataType.TEXT, "ü\n"),
        "int": (DataType.INT, 2**53),
        "number": (DataType.NUMBER, 0.1),
        "boolean": (DataType.BOOL, False),
        "date": (DataType.DATE, datetime(2024, 2, 29, 12, tzinfo=UTC)),
        "key": (DataType.UUID, uuid.UUID(int=7)),
        "texts": (DataType.TEXT_ARRAY, ["a", ""]),
        "ints": (DataType.INT_ARRAY, [1, -2]),
        "numbers": (DataType.NUMBER_ARRAY, [0.5, 1e300]),
        "booleans": (DataType.BOOL_ARRAY, [True, False]),
        "dates": (DataType.DATE_ARRAY, [datetime(1999, 1, 1, tzinfo=UTC)]),
        "keys": (DataType.UUID_ARRAY, [uuid.UUID(int=8)]),
        "none": (DataType.TEXT_ARRAY, []),
    }
    collection = weaviate_create(properties=[Property(name=name, data_type=kind) for name, (kind, _) in kinds.items()])
    given = {name: value for name, (_, value) in kinds.items()}
    [key] = collection.data.insert_many([given]).uuids.values()
    found = collection.query.fetch_object_by_id(key)
    assert found.properties == given
    assert type(found.properties["int"]) is int


def test_objects_in_objects_come_back(weaviate_create: Create) -> None:
    inner = [Property(name="n", data_type=DataType.INT), Property(name="tags", data_type=DataType.TEXT_ARRAY)]
    parts = Property(name="parts", data_type=DataType.OBJECT_ARRAY, nested_properties=inner)
    box = Property(name="box", data_type=DataType.OBJECT, nested_properties=[*inner, parts])
    collection = weaviate_create(properties=[box])
    given = {"box": {"n": 1, "tags": ["a"], "parts": [{"n": 2, "tags": []}, {"n": 3}]}}
    [key] = collection.data.insert_many([given]).uuids.values()
    found = collection.query.fetch_object_by_id(key).properties["box"]
    assert found["n"] == 1
    assert found["parts"][0] == {"n": 2, "tags": []}


def test_numbers_beyond_float64_and_coordinates_are_rounded(weaviate_create: Create) -> None:
    collection = weaviate_create(
        properties=[
            Property(name="int", data_type=DataType.INT),
            Property(name="place", data_type=DataType.GEO_COORDINATES),
        ]
    )
    place = GeoCoordinate(latitude=52.3932696, longitude=4.8374263)
    [key] = collection.data.insert_many([{"int": 2**53 + 1, "place": place}]).uuids.values()
    found = collection.query.fetch_object_by_id(key).properties
    assert found["int"] == 2**53
    assert found["place"].latitude == float(np.float32(place.latitude))
    assert found["place"].latitude != place.latitude


def test_null_is_absent_and_names_begin_in_lower_case(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT, Property(name="other", data_type=DataType.TEXT)])
    [key] = collection.data.insert_many([{"Title": "x", "other": None}]).uuids.values()
    assert collection.query.fetch_object_by_id(key).properties == {"title": "x", "other": None}


def test_blobs_and_references_come_when_asked_for(weaviate_create: Create) -> None:
    target = weaviate_create(properties=[TEXT])
    [there] = fill(target, 1)
    collection = weaviate_create(
        properties=[TEXT, Property(name="image", data_type=DataType.BLOB)],
        references=[ReferenceProperty(name="of", target_collection=target.name)],
    )
    given = DataObject(properties={"title": "x", "image": "AAAA"}, references={"of": there})
    [key] = collection.data.insert_many([given]).uuids.values()
    plain = collection.query.fetch_object_by_id(key)
    assert plain.properties == {"title": "x"}
    assert not plain.references
    asked = collection.query.fetch_object_by_id(
        key,
        return_properties=["image"],
        return_references=QueryReference(link_on="of", return_properties=["title"]),
    )
    assert asked.properties == {"image": "AAAA"}
    assert [each.uuid for each in asked.references["of"].objects] == [there]
    collection.data.reference_add(from_uuid=key, from_property="of", to=there)
    more = collection.query.fetch_object_by_id(key, return_references=QueryReference(link_on="of"))
    assert len(more.references["of"].objects) == 2
    lost = DataObject(properties={"title": "y"}, references={"of": uuid.uuid4()})
    with pytest.raises(WeaviateInsertManyAllFailedError, match="no object with id"):
        collection.data.insert_many([lost])


def test_insert_replace_update_delete(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT, Property(name="n", data_type=DataType.INT)])
    key = ids(1)[0]
    collection.data.insert({"title": "a", "n": 1}, uuid=key, vector=[1.0, 2.0])
    with pytest.raises(UnexpectedStatusCodeError, match="already exists") as error:
        collection.data.insert({"title": "a"}, uuid=key)
    assert error.value.status_code == 422
    collection.data.update(key, {"n": 2})
    found = collection.query.fetch_object_by_id(key, include_vector=True)
    assert (found.properties, found.vector) == ({"title": "a", "n": 2}, {"default": [1.0, 2.0]})
    collection.data.replace(key, {"title": "b"}, vector=[0.0, 1.0])
    assert collection.query.fetch_object_by_id(key).properties == {"title": "b", "n": None}
    assert collection.data.exists(key)
    assert collection.data.delete_by_id(key)
    assert collection.data.delete_by_id(key)  # what is not there is no error
    assert not collection.data.exists(key)


def test_a_batch_says_which_objects_it_refuses(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    good = DataObject(properties={"title": "good"}, vector=[1.0, 2.0])
    wrong_type = DataObject(properties={"title": 5}, vector=[1.0, 2.0])
    wrong_size = DataObject(properties={"title": "x"}, vector=[1.0, 2.0, 3.0])
    collection.data.insert_many([good])
    result = collection.data.insert_many([good, wrong_type, good, wrong_size])
    assert sorted(result.errors) == [1, 3]
    assert "invalid text property 'title'" in result.errors[1].message
    assert "length 3" in result.errors[3].message
    assert sorted(result.uuids) == [0, 2]


def test_the_same_id_replaces(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    for _ in range(2):
        fill(collection, 5)
    assert len(collection) == 5


def test_the_batch_of_the_client(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    with collection.batch.fixed_size(batch_size=10) as batch:
        for n, key in enumerate(ids(25)):
            batch.add_object({"title": str(n)}, uuid=key, vector=[float(n)])
    assert not collection.batch.failed_objects
    assert len(collection) == 25


def test_delete_by_filter(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    keys = fill(collection, 10)
    tried = collection.data.delete_many(Filter.by_id().contains_any(keys[:3]), dry_run=True, verbose=True)
    assert (tried.matches, len(collection)) == (3, 10)
    done = collection.data.delete_many(Filter.by_id().contains_any([*keys[:3], uuid.uuid4()]))
    assert (done.matches, done.successful, done.failed, len(collection)) == (3, 3, 0, 7)


def test_filters(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT, Property(name="n", data_type=DataType.INT)])
    collection.data.insert_many([{"title": f"The {word}", "n": n} for n, word in enumerate(["cat", "dog", "cow"])])

    def found(condition: Any) -> list[int]:
        return sorted(each.properties["n"] for each in collection.query.fetch_objects(filters=condition).objects)

    assert found(Filter.by_property("n").greater_than(0)) == [1, 2]
    assert found(Filter.by_property("n").equal(1)) == [1]
    assert found(Filter.by_property("title").equal("CAT")) == [0]  # by words, unless the property says otherwise
    assert found(Filter.by_property("title").contains_any(["cat", "dog"])) == [0, 1]
    assert found(Filter.by_property("n").less_than(2) & Filter.by_property("title").equal("dog")) == [1]
    assert collection.aggregate.over_all(filters=Filter.by_property("n").less_or_equal(1)).total_count == 2
    with pytest.raises(WeaviateQueryError, match="no such prop"):
        found(Filter.by_property("other").equal(1))


########## vectors


DISTANCES = {
    "cosine": 1 - 11 / (125 * 1.36) ** 0.5,
    "dot": -11.0,
    "l2-squared": 4**2 + 9.4**2,
    "manhattan": 4 + 9.4,
    "hamming": 2.0,
}
"""Between [5, 10] and [1, 0.6]; the smaller the nearer."""


@pytest.mark.parametrize("name", DISTANCES)
def test_distances(weaviate_create: Create, name: str) -> None:
    index = Configure.VectorIndex.hnsw(distance_metric=VectorDistances(name))
    collection = weaviate_create(properties=[TEXT], vector_config=NONE(vector_index_config=index))
    collection.data.insert_many([DataObject(properties={"title": "x"}, vector=[5.0, 10.0])])
    found = collection.query.near_vector([1.0, 0.6], limit=1, return_metadata=MetadataQuery(distance=True))
    assert found.objects[0].metadata.distance == pytest.approx(DISTANCES[name], rel=1e-5)


def test_named_vectors_may_be_missing(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT], vector_config=[NONE(name="a"), NONE(name="b")])
    both, one = (
        DataObject(vector={"a": [1.0], "b": [1.0, 2.0]}, properties={}),
        DataObject(vector={"a": [2.0]}, properties={}),
    )
    collection.data.insert_many([both, one])
    shown = [set(each.vector) for each in collection.iterator(include_vector=True)]
    assert sorted(map(len, shown)) == [1, 2]
    assert len(collection.query.near_vector([1.0, 2.0], target_vector="b").objects) == 1
    with pytest.raises(WeaviateQueryError, match="no target vectors were provided"):
        collection.query.near_vector([1.0])
    with pytest.raises(WeaviateQueryError, match="does not have named vector c configured"):
        collection.query.near_vector([1.0], target_vector="c")
    with pytest.raises(WeaviateInsertManyAllFailedError, match="does not have configuration for vector c"):
        collection.data.insert_many([DataObject(vector={"c": [1.0]}, properties={})])


def test_several_vectors_of_an_object(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT], vector_config=[Configure.MultiVectors.self_provided(name="m")])
    vectors = [[[1.0, 0.0], [0.0, 1.0]], [[3.0, 4.0]]]
    for key, rows in zip(ids(2), vectors, strict=True):
        collection.data.insert({}, uuid=key, vector={"m": rows})
    shown = {each.uuid: each.vector["m"] for each in collection.iterator(include_vector=True)}
    assert [shown[key] for key in ids(2)] == vectors
    found = collection.query.near_vector(
        [[1.0, 0.0], [0.0, 2.0]], target_vector="m", return_metadata=MetadataQuery(distance=True)
    )
    # The greatest products are added, whatever the distance; for cosine the query alone is brought to length one.
    assert [each.metadata.distance for each in found.objects] == [-7.0, -2.0]
    assert found.objects[0].uuid == ids(2)[1]
    with pytest.raises(WeaviateInsertManyAllFailedError, match="called on multivector index"):
        collection.data.insert_many([DataObject(vector={"m": [1.0, 2.0]}, properties={})])


def test_vectors_come_back_bit_for_bit(weaviate_create: Create) -> None:
    collection = weaviate_create(properties=[TEXT])
    vectors = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32) * 1e-3
    objects = [
        DataObject(properties={}, uuid=key, vector=row.tolist()) for key, row in zip(ids(50), vectors, strict=True)
    ]
    collection.data.insert_many(objects)
    shown = {each.uuid: each.vector["default"] for each in collection.iterator(include_vector=True)}
    assert all(np.array_equal(np.float32(shown[key]), row) for key, row in zip(ids(50), vectors, strict=True))
