"""Recommendations have the shape that assistants rely on, speak of all four databases, and connect to nothing."""

from __future__ import annotations

import json
from itertools import product

import pytest

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.mapping.recommend import KNOWN_TYPES, recommend_schema

FIELDS = {
    "id": "string",
    "title": "string",
    "custom_field": "text",
    "embedding": "vector",
    "terms": "sparse_vector",
    "meta": "object",
    "year": "int64",
    "$meta": "string",
    "vector": "string",
    "a b": "string[]",
    "Title": "string",
    "odd": "who knows",
}


def test_all_four_databases_are_known() -> None:
    assert set(KNOWN_TYPES) == {"pinecone", "qdrant", "weaviate", "milvus"}


@pytest.mark.parametrize(("source", "target"), list(product(KNOWN_TYPES, repeat=2)))
def test_the_shape_is_that_of_the_original(source: str, target: str) -> None:
    document = json.loads(recommend_schema(source, target, FIELDS).model_dump_json())
    assert document.keys() >= {"source_type", "target_type", "field_mappings", "overall_confidence", "warnings"}
    assert (document["source_type"], document["target_type"]) == (source, target)
    assert [mapping["source_field"] for mapping in document["field_mappings"]] == list(FIELDS)
    targets = [mapping["target_field"] for mapping in document["field_mappings"]]
    assert len(set(targets)) == len(targets)
    for mapping in document["field_mappings"]:
        assert mapping.keys() >= {"source_field", "target_field", "confidence", "conversion_needed", "notes"}
        assert 0 <= mapping["confidence"] <= 1
        assert mapping["notes"]
        if mapping["target_field"] != mapping["source_field"]:
            assert mapping["conversion_needed"]
    assert 0 <= document["overall_confidence"] <= 1
    assert all(isinstance(warning, str) for warning in document["warnings"])


def found(source: str, target: str, name: str, type: str):
    return recommend_schema(source, target, {name: type}).field_mappings[0]


def test_advice_depends_on_the_pair() -> None:
    assert found("pinecone", "milvus", "id", "string").confidence == 1.0
    assert found("pinecone", "qdrant", "id", "string").conversion_needed
    assert found("qdrant", "pinecone", "id", "string").target_type == "text"
    assert "UUIDv5" in found("pinecone", "weaviate", "id", "string").notes
    assert found("qdrant", "pinecone", "meta", "object").target_type == "text"
    assert not found("qdrant", "milvus", "meta", "object").conversion_needed
    assert found("qdrant", "weaviate", "terms", "sparse_vector").confidence < 0.5
    assert found("qdrant", "weaviate", "Title", "string").target_field == "title"
    assert found("qdrant", "milvus", "$meta", "string").target_field == "$meta_"
    assert "2^53" in found("milvus", "pinecone", "n", "int64").notes
    assert found("pinecone", "qdrant", "odd", "who knows").notes.startswith("Auto-mapped by name")


def test_warnings_speak_of_the_target() -> None:
    warnings = " ".join(recommend_schema("milvus", "qdrant").warnings)
    assert "norm is lost" in warnings
    warnings = " ".join(recommend_schema("qdrant", "pinecone").warnings)
    assert all(word in warnings for word in ("flat", "null", "2^53"))
    assert recommend_schema("qdrant", "qdrant").warnings == ()


def test_an_unknown_database_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'redis'.*milvus, pinecone, qdrant, weaviate"):
        recommend_schema("redis", "qdrant")
