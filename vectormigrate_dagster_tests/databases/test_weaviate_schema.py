"""Weaviate's schemas: exact copies of a class, names, notes in the description, dimensions, versions (H-15, H-24)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from vectormigrate_dagster.config import EndpointConfig
from vectormigrate_dagster.databases import Database, capabilities_of, open_target
from vectormigrate_dagster.databases.weaviate.capabilities import at
from vectormigrate_dagster.databases.weaviate.schema import creation, read_schema
from vectormigrate_dagster.errors import DatabaseError, NotFound, SchemaMismatch
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldType,
    IndexSpec,
    Metric,
    ScopeKind,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.databases.weaviate_support import (
    FIELDS,
    VECTOR,
    batch,
    divided,
    endpoint,
    everything,
    field,
    ids,
    list_of,
    schema,
)
from vectormigrate_dagster_tests.emulators.weaviate import Settings, WeaviateServer, WeaviateStandIn

RICH: dict[str, Any] = {
    "class": "Origin",
    "description": "What the owner says.\nIn two lines.",
    "properties": [
        {"name": "title", "dataType": ["text"], "tokenization": "field", "indexSearchable": False, "description": "d"},
        {"name": "year", "dataType": ["int"], "indexFilterable": False, "indexRangeFilters": True},
        {"name": "silent", "dataType": ["text[]"], "indexFilterable": False, "indexSearchable": False},
        {
            "name": "maker",
            "dataType": ["object"],
            "nestedProperties": [
                {"name": "name", "dataType": ["text"], "tokenization": "whitespace", "indexFilterable": False},
                {"name": "parts", "dataType": ["object[]"], "nestedProperties": [{"name": "n", "dataType": ["int"]}]},
            ],
        },
        {"name": "next", "dataType": ["Origin"]},
    ],
    "vectorConfig": {
        "plain": {
            "vectorizer": {"none": {}},
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {"distance": "dot", "maxConnections": 16, "efConstruction": 99, "ef": 77},
        },
        "small": {
            "vectorizer": {"text2vec-openai": {"properties": ["title"]}},
            "vectorIndexType": "flat",
            "vectorIndexConfig": {"distance": "manhattan", "bq": {"enabled": True, "rescoreLimit": 50, "cache": True}},
        },
        "colbert": {
            "vectorizer": {"none": {}},
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {"distance": "cosine", "multivector": {"enabled": True}},
        },
    },
    "invertedIndexConfig": {"bm25": {"b": 0.5, "k1": 1.1}, "indexNullState": True, "stopwords": {"preset": "en"}},
    "multiTenancyConfig": {"enabled": False},
}


@pytest.fixture
def things(weaviate_server: WeaviateServer) -> Iterator[Database]:
    with open_target(endpoint(weaviate_server)) as database:
        database.drop()
        yield database
        database.drop()


@pytest.fixture
def origin(weaviate_server: WeaviateServer) -> Iterator[Database]:
    """The class `Origin`, made as an application makes it."""
    with open_target(endpoint(weaviate_server, "Origin")) as database:
        database.drop()
        _rest(weaviate_server, "POST", "schema", RICH)
        yield database
        database.drop()


def _rest(server: WeaviateServer, method: str, path: str, body: Any = None) -> Any:
    key = {} if server.api_key is None else {"authorization": f"Bearer {server.api_key}"}
    answer = httpx.request(method, f"{server.url}/v1/{path}", json=body, headers=key)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


########################################################################
# A copy of a class
########################################################################


def test_a_class_is_copied_exactly_but_for_who_makes_its_vectors(
    origin: Database, things: Database, weaviate_server: WeaviateServer
) -> None:
    described = origin.describe()
    dims = {"plain": 3, "small": 4, "colbert": 2}
    vectors = tuple(vector.model_copy(update={"dim": dims[vector.name]}) for vector in described.vectors)
    fields = tuple(
        one if one.type is not FieldType.REFERENCE else one.model_copy(update={"targets": ("Things",)})
        for one in described.fields
    )
    things.create(described.model_copy(update={"vectors": vectors, "fields": fields, "marker": {"m": 1}}))
    one, two = (_rest(weaviate_server, "GET", f"schema/{name}") for name in ("Origin", "Things"))
    assert two["vectorConfig"]["small"]["vectorizer"] == {"none": {}}
    assert two["description"].startswith(RICH["description"] + "\nvectormigrate: {")
    for raw in (one, two):
        raw["vectorConfig"]["small"].pop("vectorizer")
        # Where a module makes a vector, each property has settings of that module.
        raw["properties"] = [
            {**each, "moduleConfig": None, **({"dataType": None} if each["name"] == "next" else {})}
            for each in raw["properties"]
        ]
    differing = {key for key in {*one, *two} if one.get(key) != two.get(key)}
    assert differing == {"class", "description"}
    copied = things.describe()
    assert copied.marker == {"m": 1}
    assert copied.settings["description"] == RICH["description"]
    assert [(vector.name, vector.dim) for vector in copied.vectors] == [("colbert", 2), ("plain", 3), ("small", 4)]


def test_a_class_is_described_in_our_words(origin: Database) -> None:
    described = origin.describe()
    vectors = {vector.name: vector for vector in described.vectors}
    assert {name: (v.kind, v.metric, v.dim) for name, v in vectors.items()} == {
        "plain": (VectorKind.DENSE, Metric.DOT, None),
        "small": (VectorKind.DENSE, Metric.MANHATTAN, None),
        "colbert": (VectorKind.MULTI, Metric.COSINE, None),
    }
    assert vectors["small"].index is not None
    assert vectors["small"].index.type == "flat"
    assert vectors["small"].quantization == IndexSpec(type="bq", params={"rescoreLimit": 50, "cache": True})
    assert vectors["plain"].index is not None
    assert vectors["plain"].index.params["maxConnections"] == 16
    assert vectors["plain"].quantization is None
    fields = {one.name: one for one in described.fields}
    assert fields["maker"].fields[1].fields[0].type is FieldType.INT64
    assert fields["next"].targets == ("Origin",)
    assert fields["silent"].index is not None
    assert (fields["silent"].index.type, fields["title"].index.type) == ("none", "inverted")  # type: ignore[union-attr]
    made = described.settings["vectorizers"]["small"]["text2vec-openai"]
    assert (made["properties"], made["vectorizeClassName"]) == (["title"], True)
    assert (described.marker, described.dynamic, described.scope) == (None, False, ScopeKind.NONE)


def test_every_type_of_property_survives_in_the_schema(things: Database) -> None:
    things.create(schema(fields=FIELDS))
    described = {one.name: one for one in things.describe().fields}
    for wanted in FIELDS:
        found = described[wanted.name]
        assert (found.type, found.element, found.targets) == (wanted.type, wanted.element, wanted.targets)
        assert [(one.name, one.type) for one in found.fields] == [(one.name, one.type) for one in wanted.fields]


def test_a_field_without_an_index_of_its_own_is_made_as_the_server_does_it(things: Database) -> None:
    none = field("b", FieldType.TEXT, index=IndexSpec(type="none"))
    things.create(schema(fields=[field("a", FieldType.TEXT), none]))
    a, b = things.describe().fields
    assert (a.index.params["indexFilterable"], a.index.params["indexSearchable"]) == (True, True)  # type: ignore[union-attr]
    assert (b.index.params["indexFilterable"], b.index.params["indexSearchable"]) == (False, False)  # type: ignore[union-attr]


@pytest.mark.parametrize("quantizer", ["pq", "bq", "sq", "rq"])
def test_quantization_is_restored(things: Database, quantizer: str) -> None:
    spec = IndexSpec(type=quantizer)
    things.create(schema(VECTOR.model_copy(update={"index": IndexSpec(type="hnsw"), "quantization": spec})))
    (vector,) = things.describe().vectors
    assert vector.quantization is not None
    assert vector.quantization.type == quantizer


@pytest.mark.parametrize("index", ["hnsw", "flat", "hfresh"])
def test_the_unnamed_vector_is_kept_unnamed(things: Database, index: str) -> None:
    _check_unnamed(things, index)


def test_a_dynamic_index_needs_asynchronous_indexing(weaviate_stand_in: WeaviateStandIn) -> None:
    with WeaviateStandIn(Settings(async_indexing=True)) as server, open_target(endpoint(server)) as things:
        _check_unnamed(things, "dynamic")
    with (
        open_target(endpoint(weaviate_stand_in)) as things,
        pytest.raises(SchemaMismatch, match="when async indexing is enabled"),
    ):
        _check_unnamed(things, "dynamic")


def _check_unnamed(things: Database, index: str) -> None:
    things.create(schema(VectorSchema(name="", dim=2, metric=Metric.EUCLIDEAN, index=IndexSpec(type=index))))
    (vector,) = things.describe().vectors
    assert (vector.name, vector.dim, vector.metric) == ("", 2, Metric.EUCLIDEAN)
    assert vector.index is not None
    assert vector.index.type == index


def test_a_collection_may_have_no_vectors(things: Database) -> None:
    things.create(CollectionSchema(name="things", ids=schema().ids, dynamic=False))
    assert things.describe().vectors == ()
    things.upsert(Batch(ids([1]), None, {}, [{}]))
    (part,) = everything(things)
    assert part.vectors == {}


########################################################################
# What cannot be made
########################################################################

IMPOSSIBLE = {
    "both an unnamed and a named vector": (schema(VECTOR, VectorSchema(name="", dim=2)), "one unnamed vector or named"),
    "an unnamed multi-vector": (schema(VectorSchema(name="", kind=VectorKind.MULTI, dim=2)), "give the multi-vector"),
    "an unknown index": (schema(VECTOR.model_copy(update={"index": IndexSpec(type="IVF")})), "no index 'IVF'"),
    "an unknown quantizer": (
        schema(VECTOR.model_copy(update={"quantization": IndexSpec(type="int8")})),
        "no quantization 'int8'",
    ),
    "a sparse vector": (schema(VectorSchema(name="s", kind=VectorKind.SPARSE)), "'s' is sparse"),
    "a reserved name": (schema(fields=[field("id", FieldType.TEXT)]), "'id' is reserved"),
    "a capital": (schema(fields=[field("Title", FieldType.TEXT)]), "'Title' is no name for a field"),
    "a name of an index": (schema(fields=[field("a_searchable", FieldType.TEXT)]), "'a_searchable' is no name"),
    "a list of blobs": (schema(fields=[list_of(FieldType.BLOB)]), "no lists of blob"),
    "a list of anything": (schema(fields=[field("l", FieldType.ARRAY)]), "no lists of any type"),
    "coordinates in an object": (
        schema(fields=[field("o", FieldType.OBJECT, fields=(field("g", FieldType.GEO),))]),
        "no geo within an object",
    ),
    "a reference to nothing": (schema(fields=[field("r", FieldType.REFERENCE)]), "names no collection"),
    "JSON": (schema(fields=[field("j", FieldType.JSON)]), "'j' is json"),
}


@pytest.mark.parametrize(("wanted", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_made_is_refused_with_its_reason(
    things: Database, wanted: CollectionSchema, reason: str
) -> None:
    with pytest.raises(SchemaMismatch, match=re.escape(reason)):
        things.create(wanted)
    with pytest.raises(NotFound):
        things.describe()


def test_a_reference_to_a_collection_that_is_not_there_is_refused_before_anything_is_made(things: Database) -> None:
    nowhere = field("to", FieldType.REFERENCE, targets=("Nowhere", "Things"))
    with pytest.raises(SchemaMismatch, match=r"not there \('to' to 'Nowhere'\); move that collection first"):
        things.create(schema(fields=[nowhere]))
    with pytest.raises(NotFound):
        things.describe()


def test_a_name_that_is_none_is_refused_by_the_server(weaviate_server: WeaviateServer) -> None:
    with open_target(endpoint(weaviate_server, "a b")) as database, pytest.raises(SchemaMismatch, match="'a b'"):
        database.create(schema())


########################################################################
# Names
########################################################################


def test_the_first_letter_of_a_collection_may_be_of_either_case(things: Database, weaviate_server: Any) -> None:
    things.create(schema())
    things.upsert(batch([1]))
    with open_target(endpoint(weaviate_server, "Things")) as other:
        assert other.describe() == things.describe()
        assert (other.describe().name, other.count()) == ("Things", 1)
        with pytest.raises(SchemaMismatch, match="Things"):
            other.create(schema())


def test_two_spellings_of_a_collection_are_one_place() -> None:
    places = [
        EndpointConfig(type="weaviate", url=url, collection=name).place
        for url, name in (("http://localhost:8080", "things"), ("http://127.0.0.1", "Things"))
    ]
    assert places[0] == places[1]
    assert EndpointConfig(type="weaviate", url="http://localhost", collection="THings").place != places[0]


def test_an_alias_is_read_and_never_dropped(things: Database, weaviate_server: WeaviateServer) -> None:
    things.create(schema())
    things.upsert(batch([1, 2]))
    _rest(weaviate_server, "POST", "aliases", {"class": "Things", "alias": "Current"})
    try:
        assert things.describe().aliases == ("Current",)
        with open_target(endpoint(weaviate_server, "current")) as alias:
            assert alias.describe() == things.describe()
            assert alias.count() == 2
            with pytest.raises(SchemaMismatch, match="'Current' is an alias of collection 'Things'"):
                alias.drop()
        assert things.count() == 2
    finally:
        _rest(weaviate_server, "DELETE", "aliases/Current")


########################################################################
# Notes, dimensions, versions
########################################################################


@pytest.mark.parametrize(
    "text", ["", "words", "vectormigrate: ", "vectormigrate: [1]", "vectormigrate: {broken", "a\nb"]
)
def test_a_description_of_somebody_else_is_left_alone(text: str) -> None:
    described = read_schema({"class": "A", "description": text}, [])
    assert (described.marker, described.settings.get("description", "")) == (None, text)
    marked = creation(described.model_copy(update={"marker": {"é": [None]}}), "A", replication_factor=None)
    again = read_schema(marked, [])
    assert (again.marker, again.settings.get("description", "")) == ({"é": [None]}, text)


def test_dimensions_of_a_class_that_is_not_ours_come_from_its_records(
    origin: Database, weaviate_server: WeaviateServer
) -> None:
    """A class names none."""
    plain = {"plain": Dense(np.ones((251, 5), np.float32), np.arange(251) == 250)}
    small = {"small": Dense(np.ones((251, 7), np.float32))}
    assert origin.upsert(Batch(ids(range(251)), None, {**plain, **small}, [{}] * 251)) == []
    with open_target(endpoint(weaviate_server, "Origin")) as again:
        assert {vector.name: vector.dim for vector in again.describe().vectors} == {
            "plain": 5,
            "small": 7,
            "colbert": None,
        }


def test_nothing_is_embedded_by_a_class_that_was_there_before(origin: Database) -> None:
    columns = {"small": Dense(np.ones((2, 4), np.float32), np.array([False, True]))}
    for vectors, kept in ((columns, 1), ({}, 0)):
        refusals = origin.upsert(Batch(ids([1, 2]), None, vectors, [{"title": "a"}, {"title": "b"}]))
        assert len(refusals) == 2 - kept
        assert refusals[0].reason.startswith("it lacks vector 'small', which vectorizer 'text2vec-openai'")
    (part,) = everything(origin)
    assert part.vectors["small"].values.tolist() == [[1.0] * 4]


def test_a_replication_factor_may_be_asked_for() -> None:
    described = read_schema({"class": "A", "replicationConfig": {"factor": 3, "asyncEnabled": True}}, [])
    assert creation(described, "A", replication_factor=None)["replicationConfig"] == {"factor": 3, "asyncEnabled": True}
    assert creation(described, "A", replication_factor=1)["replicationConfig"] == {"factor": 1, "asyncEnabled": True}


def test_a_divided_class_keeps_how_its_tenants_are_made(things: Database) -> None:
    automatic = {"multiTenancyConfig": {"autoTenantCreation": True, "autoTenantActivation": False}}
    things.create(divided(settings=automatic))
    described = things.describe()
    assert described.scope is ScopeKind.TENANT
    assert described.settings["multiTenancyConfig"] == {**automatic["multiTenancyConfig"], "enabled": True}


def test_what_a_server_can_depends_on_its_version() -> None:
    with WeaviateStandIn(Settings(version="1.28.4")) as server, open_target(endpoint(server)) as database:
        can = database.probe()
        assert (can.title, can.aliases, can.vector_kinds) == ("Weaviate 1.28", False, (VectorKind.DENSE,))
        multi = VectorSchema(name="m", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT)
        with pytest.raises(SchemaMismatch, match="'m' is multi"):
            database.create(schema(multi))
        database.create(schema())
        database.upsert(batch([1]))
        assert database.describe().aliases == ()
        assert len(database.search(np.ones((1, 2), np.float32), 1, vector="v").ids[0]) == 1
    assert at((1, 39)).but(title="Weaviate") == capabilities_of("weaviate")


def test_a_server_that_is_too_old_is_named() -> None:
    with (
        WeaviateStandIn(Settings(version="1.24.1")) as server,
        open_target(endpoint(server)) as database,
        pytest.raises(DatabaseError, match=r"is a server 1\.24\.1; 1\.27 is the oldest"),
    ):
        database.probe()
