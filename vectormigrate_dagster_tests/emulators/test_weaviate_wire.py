"""Contract: on the raw wire the stand-in accepts, refuses, stores and shows what a Weaviate server does.

With WEAVIATE_URL the same tests run against that server.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from weaviate.proto.v1 import base_pb2, search_get_pb2

from vectormigrate_dagster_tests.emulators.weaviate import WeaviateServer
from vectormigrate_dagster_tests.emulators.weaviate_clients import Wire, ids

KEY = str(ids(1)[0])


@pytest.fixture
def wire(weaviate_server: WeaviateServer) -> Iterator[Wire]:
    """The wire of the server that tests share, with the name of a class that is not there yet."""
    with Wire(weaviate_server) as wire:
        yield wire


########## values


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("text", 1.0, "not a string, but float64"),
        ("int", 1.5, "requires an integer, the given value is '1.5'"),
        ("int", "1", "requires an integer, the given value is '1'"),
        ("number", True, "requires a float, the given value is 'true'"),
        ("number", math.nan, "requires a float, the given value is 'NaN'"),
        ("boolean", 0.0, "not a bool, but float64"),
        ("date", "2024-01-01", "requires a string with a RFC3339 formatted date"),
        ("date", "2024-01-01T00:00:00", "requires a string with a RFC3339 formatted date"),
        ("date", "2023-02-29T00:00:00Z", "requires a string with a RFC3339 formatted date"),
        ("uuid", "x", "requires a string of UUID format"),
        ("blob", "", "not a valid blob base64 string"),
        ("blob", "AAA", "not a valid blob base64 string"),
        ("geoCoordinates", {"latitude": 1.0}, "missing required field 'longitude'"),
        ("phoneNumber", {"input": "123"}, "invalid phone number"),
        ("text[]", "a", "not a text array, but string"),
    ],
)
def test_a_value_of_another_type_is_refused(wire: Wire, kind: str, value: Any, words: str) -> None:
    wire.declare(field=kind)
    [error] = wire.put(KEY, {"field": value})
    assert words in error
    assert f"'field' on class '{wire.name}'" in error


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("date", "2024-01-01T10:00:00.1200+00:00", "2024-01-01T10:00:00.12Z"),
        ("date", "2024-01-01T10:00:00.1234567891-03:30", "2024-01-01T10:00:00.123456789-03:30"),
        ("uuid", "{0000000A-0000-0000-0000-000000000001}", "0000000a-0000-0000-0000-000000000001"),
        ("int", 2.0**60, 1152921504606847000),
        ("number", 1e21, 1e21),
        ("text", math.inf, "Infinity"),
    ],
)
def test_what_is_stored_is_not_always_what_came(wire: Wire, kind: str, given: Any, stored: Any) -> None:
    wire.declare(field=kind)
    assert wire.put(KEY, {"field": given}) == []
    assert wire.stored(KEY) == {"field": stored}


@pytest.mark.parametrize(("number", "words"), [("1.0", "could not be converted to an int"), ("1e400", "could not be")])
def test_numbers_of_json_are_read_by_their_digits(wire: Wire, number: str, words: str) -> None:
    wire.declare(field="int")
    answer = wire.rest("POST", "/objects", f'{{"class": "{wire.name}", "properties": {{"field": {number}}}}}')
    assert answer.status_code == 422
    assert words in answer.json()["error"][0]["message"]


def test_coordinates_in_an_object_spoil_every_read(wire: Wire) -> None:
    nested = [{"name": name, "dataType": ["number"]} for name in ("latitude", "longitude")]
    box = {"name": "box", "dataType": ["object"], "nestedProperties": nested}
    wire.rest("POST", "/schema", {"class": wire.name, "properties": [box]})
    assert wire.put(KEY, {"box": {"latitude": 1.0}}) == []
    assert len(wire.search().results) == 1
    assert wire.put(KEY, {"box": {"latitude": 1.0, "longitude": 2.0}}) == []
    with pytest.raises(grpc.RpcError, match="GeoCoordinates expected map"):
        wire.search()


def test_null_stays_in_an_object_only(wire: Wire) -> None:
    nested = [{"name": "n", "dataType": ["int"]}]
    box = {"name": "box", "dataType": ["object"], "nestedProperties": nested}
    wire.rest("POST", "/schema", {"class": wire.name, "properties": [box]})
    wire.put(KEY, {"box": {"n": None}})
    assert wire.stored(KEY) == {"box": {"n": None}}
    wire.put(KEY, {"box": None})
    assert wire.stored(KEY) == {}


########## what the server declares by itself


def test_undeclared_keys_become_properties(wire: Wire) -> None:
    assert (
        wire.put(
            KEY,
            {
                "Day": "2024-01-01T00:00:00Z",
                "key": KEY,
                "n": 1.0,
                "ok": True,
                "none": None,
                "at": {"latitude": 1.0, "longitude": 2.0},
            },
        )
        == []
    )
    definition = wire.rest("GET", f"/schema/{wire.name}").json()
    kinds = {each["name"]: each["dataType"] for each in definition["properties"]}
    assert kinds == {
        "day": ["date"],
        "key": ["uuid"],
        "n": ["number"],
        "ok": ["boolean"],
        "none": ["text"],
        "at": ["geoCoordinates"],
    }
    assert definition["vectorizer"] == "none"
    [error] = wire.put(KEY, {"day": "tomorrow"})
    assert "RFC3339" in error


########## vectors


def test_a_class_without_named_vectors(wire: Wire) -> None:
    wire.declare(field="text")
    vector = np.array([1.0, 2.0], "<f4").tobytes()
    assert wire.put(KEY, {}, vector_bytes=vector) == []
    named = [base_pb2.Vectors(name="default", vector_bytes=vector, type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32)]
    assert wire.put(KEY, {}, vectors=named) == []
    [result] = wire.search(metadata=search_get_pb2.MetadataRequest(uuid=True, vector=True)).results
    assert (result.metadata.vector_bytes, result.metadata.id) == (vector, KEY)
    assert not result.metadata.vectors
    named[0].name = "other"
    [error] = wire.put(KEY, {}, vectors=named)
    assert "does not have configuration for vector other" in error


def test_vectors_have_a_greatest_length(wire: Wire) -> None:
    wire.declare(field="text")
    [error] = wire.put(KEY, {}, vector_bytes=bytes(4 * 65536))
    assert error.endswith("could not marshal 'vector' max length exceeded (65536/65535)")
    assert wire.put(KEY, {}, vector_bytes=bytes(4 * 65535)) == []


########## REST


def test_only_references_refer(wire: Wire) -> None:
    wire.declare(field="text")
    assert wire.put(KEY, {}) == []
    beacon = {"beacon": f"weaviate://localhost/{wire.name}/{KEY}"}
    answer = wire.rest("POST", f"/objects/{wire.name}/{KEY}/references/field", beacon)
    assert answer.status_code == 422
    assert "property 'field' is not a reference-type" in answer.json()["error"][0]["message"]
    answer = wire.rest("POST", f"/schema/{wire.name}/properties", {"name": "of", "dataType": ["Nowhere"]})
    assert answer.status_code == 422
    assert "reference property to nonexistent class" in answer.json()["error"][0]["message"]


def test_errors_over_rest(wire: Wire) -> None:
    assert wire.rest("GET", "/schema/Nothing").status_code == 404
    assert wire.rest("GET", "/schema/Nothing").content == b""
    assert wire.rest("DELETE", "/schema/Nothing").status_code == 200
    assert wire.rest("GET", "/nothing").json() == {"code": 404, "message": "path /v1/nothing was not found"}
    assert wire.rest("PUT", "/meta").status_code == 405
    assert wire.rest("POST", "/schema", "{").status_code == 400
    wire.declare(field="text")
    assert wire.rest("HEAD", f"/objects/{wire.name}/{KEY}").status_code == 404
    assert wire.rest("PATCH", f"/objects/{wire.name}/{KEY}", {"properties": {"field": "x"}}).status_code == 404
    answer = wire.rest("POST", "/objects", {"class": wire.name, "id": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, 601)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": "Other"}, "class name is immutable"),
        ({"vectorIndexType": "flat"}, "vector index type is immutable"),
        ({"vectorIndexConfig": {"distance": "dot"}}, "distance is immutable"),
        ({"multiTenancyConfig": {"enabled": True}}, "enabling multi-tenancy for an existing class is not supported"),
        ({"properties": []}, "property fields other than description cannot be updated"),
    ],
)
def test_what_an_update_cannot_change(wire: Wire, change: dict[str, Any], words: str) -> None:
    wire.declare(field="text")
    definition = wire.rest("GET", f"/schema/{wire.name}").json()
    if "multiTenancyConfig" in change:
        definition.pop("shardingConfig")
    answer = wire.rest("PUT", f"/schema/{wire.name}", {**definition, **change})
    assert answer.status_code == 422
    assert words in answer.json()["error"][0]["message"]


def test_pages_and_references_over_rest(wire: Wire) -> None:
    wire.declare(field="text")
    wire.rest("POST", f"/schema/{wire.name}/properties", {"name": "of", "dataType": [wire.name]})
    keys = sorted(str(key) for key in ids(5))
    for key in keys:
        wire.rest("POST", "/objects", {"class": wire.name, "id": key, "vector": [1, 2.5]})
    page = wire.rest("GET", f"/objects?class={wire.name}&limit=2&after={keys[1]}&include=vector").json()["objects"]
    assert [(each["id"], each["vector"]) for each in page] == [(keys[2], [1, 2.5]), (keys[3], [1, 2.5])]
    beacon = {"beacon": f"weaviate://localhost/{keys[1]}"}
    assert wire.rest("POST", f"/objects/{wire.name}/{keys[0]}/references/of", beacon).status_code == 200
    shown = wire.rest("GET", f"/objects/{wire.name}/{keys[0]}").json()["properties"]["of"]
    assert shown == [
        {"beacon": f"weaviate://localhost/{wire.name}/{keys[1]}", "href": f"/v1/objects/{wire.name}/{keys[1]}"}
    ]
    nowhere = f"weaviate://localhost/{wire.name}/{uuid.uuid4()}"
    batch = [{"from": f"weaviate://localhost/{wire.name}/{keys[2]}/of", "to": nowhere}]
    assert wire.rest("POST", "/batch/references", batch).json()[0]["result"]["status"] == "SUCCESS"
    assert wire.rest("POST", f"/objects/{wire.name}/{keys[0]}/references/of", {"beacon": nowhere}).status_code == 422
