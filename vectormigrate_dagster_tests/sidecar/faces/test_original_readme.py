"""Checks the promise to users of the original: each JSON example of its README works, field for field.

The examples are those of "AI assistant integration" and of the curl commands. Ours may say more; what the original says
is there under the same name and with the same type of value, and a time is one that the original's clients can read.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from vectormigrate_dagster_tests.harness import ID
from vectormigrate_dagster_tests.sidecar.faces.migrated import PLANNED, UNTOUCHED
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY, Served

STATUS = json.loads("""
{
  "migration_id": "mig-123",
  "status": "in_progress",
  "progress": {
    "total_records": 10000,
    "migrated_records": 5432,
    "percentage": 54.32
  },
  "batches_processed": 54,
  "started_at": "2026-02-22T10:00:00Z",
  "ended_at": null
}""")
LIST_INPUT = json.loads("""
{
  "status": "in_progress",
  "limit": 10,
  "offset": 0,
  "sort_by": "created_at",
  "sort_order": "desc"
}""")
LIST = json.loads("""
{
  "migrations": [
    {
      "migration_id": "mig-123",
      "status": "in_progress",
      "created_at": "2026-02-22T10:00:00Z",
      "progress": {
        "total": 10000,
        "current": 5432,
        "percent": 54.32
      }
    }
  ],
  "total": 1,
  "limit": 10,
  "offset": 0
}""")
SCHEMA_INPUT = json.loads("""
{
  "source_type": "pinecone",
  "target_type": "qdrant",
  "source_schema": {
    "id": "string",
    "title": "string",
    "custom_field": "text"
  }
}""")
SCHEMA = json.loads("""
{
  "source_type": "pinecone",
  "target_type": "qdrant",
  "field_mappings": [
    {
      "source_field": "id",
      "target_field": "id",
      "confidence": 1.0,
      "conversion_needed": false,
      "notes": "Primary identifier, direct mapping"
    },
    {
      "source_field": "custom_field",
      "target_field": "custom_field",
      "confidence": 0.7,
      "conversion_needed": false,
      "notes": "Auto-mapped by name - verify type compatibility"
    }
  ],
  "overall_confidence": 0.9,
  "warnings": [
    "Pinecone flat metadata will be flattened in Qdrant with dot notation"
  ]
}""")

MOMENTS = {"started_at", "ended_at", "created_at"}


def same_shape(example: Any, found: Any, place: str = "") -> None:
    """Every field of the example is found with the same type; a moment may be null instead, where there was none."""
    if place.rsplit(".", 1)[-1] in MOMENTS:
        assert found is None or datetime.fromisoformat(found).tzinfo is not None, place
        assert found is None or found.endswith("Z"), place
    elif isinstance(example, dict):
        assert isinstance(found, dict), place
        assert example.keys() <= found.keys(), place
        for key, value in example.items():
            same_shape(value, found[key], f"{place}.{key}")
    elif isinstance(example, list):
        assert isinstance(found, list), place
        assert found, place
        for each in found:
            same_shape(example[0], each, f"{place}[]")
    else:
        assert type(found) is type(example), f"{place}: {found!r}"


def curl(served: Served, line: str) -> Any:
    """The answer to the `-d` of a curl command, sent with the headers of the original's examples."""
    answer = served.post("/", line.encode(), Authorization=f"Bearer {KEY}", **{"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_curl_status(served: Served) -> None:
    line = '{"jsonrpc":"2.0","id":1,"method":"migration_status","params":{"migration_id":"mig-123"}}'

    answer = curl(served, line.replace("mig-123", ID))

    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
    same_shape(STATUS, answer["result"])
    assert answer["result"]["status"] == "completed"
    assert answer["result"]["progress"] == {"total_records": 300, "migrated_records": 300, "percentage": 100.0}
    # As it stands, with an id that nobody has configured:
    assert curl(served, line)["error"]["code"] == -32012


def test_curl_list(served: Served) -> None:
    answer = curl(served, '{"jsonrpc":"2.0","id":2,"method":"list_migrations","params":{"limit":10}}')

    assert answer["id"] == 2
    same_shape(LIST, answer["result"])
    assert {each["migration_id"] for each in answer["result"]["migrations"]} == {ID, PLANNED, UNTOUCHED}


def test_curl_recommendation(served: Served) -> None:
    line = (
        '{"jsonrpc":"2.0","id":3,"method":"schema_recommendation",'
        '"params":{"source_type":"pinecone","target_type":"qdrant"}}'
    )

    answer = curl(served, line)

    assert answer["id"] == 3
    same_shape({**SCHEMA, "field_mappings": {}, "warnings": [""]}, {**answer["result"], "field_mappings": {}})
    assert answer["result"]["field_mappings"] == []


def test_curl_recommendation_over_several_lines(served: Served) -> None:
    answer = curl(
        served,
        """{
  "jsonrpc": "2.0",
  "id": 1,
  "method": "schema_recommendation",
  "params": {
    "source_type": "pinecone",
    "target_type": "weaviate",
    "source_schema": {
      "document_id": "string",
      "chunk_text": "text",
      "embedding": "vector",
      "metadata": "object"
    }
  }
}""",
    )

    same_shape(SCHEMA, answer["result"])
    assert [each["source_field"] for each in answer["result"]["field_mappings"]] == [
        "document_id",
        "chunk_text",
        "embedding",
        "metadata",
    ]


@pytest.mark.parametrize("id", [ID, PLANNED, UNTOUCHED])
def test_status_output(served: Served, id: str) -> None:
    found = served.call("migration_status", migration_id=id)

    same_shape(STATUS, found)
    assert found["migration_id"] == id


def test_list_input_and_output(served: Served) -> None:
    found = served.call("list_migrations", **{**LIST_INPUT, "status": "completed"})

    same_shape(LIST, found)
    assert [each["migration_id"] for each in found["migrations"]] == [ID]
    assert (found["total"], found["limit"], found["offset"]) == (1, 10, 0)
    assert found["migrations"][0]["progress"] == {"total": 300, "current": 300, "percent": 100.0}
    # And word for word; nothing is being moved just now.
    assert served.call("list_migrations", **LIST_INPUT)["migrations"] == []


def test_list_sorts_and_pages(served: Served) -> None:
    def ids(**params: Any) -> list[str]:
        return [each["migration_id"] for each in served.call("list_migrations", **params)["migrations"]]

    assert ids(sort_by="migration_id", sort_order="asc") == sorted([ID, PLANNED, UNTOUCHED])
    assert ids(sort_by="migration_id", sort_order="asc", limit=1, offset=1) == [sorted([ID, PLANNED, UNTOUCHED])[1]]
    assert ids(sort_by="created_at", sort_order="desc") == [PLANNED, ID, UNTOUCHED]
    assert ids(sort_by="status", sort_order="asc") == [ID, UNTOUCHED, PLANNED]


def test_recommendation_input_and_output(served: Served) -> None:
    found = served.call("schema_recommendation", **SCHEMA_INPUT)

    same_shape(SCHEMA, found)
    assert (found["source_type"], found["target_type"]) == ("pinecone", "qdrant")
    fields = {each["source_field"]: each for each in found["field_mappings"]}
    assert list(fields) == ["id", "title", "custom_field"]
    for example in SCHEMA["field_mappings"]:
        assert fields[example["source_field"]]["target_field"] == example["target_field"]
    # The original calls a text id a direct mapping; Qdrant has none, so ours says what becomes of it.
    assert fields["id"]["conversion_needed"]


@pytest.mark.parametrize("limit", [10, 10.0, "10", None, ""])
def test_numbers_may_be_written_in_any_way(served: Served, limit: Any) -> None:
    assert served.call("list_migrations", limit=limit, offset="0", status=None)["limit"] == 10


def test_without_a_key_nothing_is_told(served: Served) -> None:
    line = b'{"jsonrpc":"2.0","id":1,"method":"list_migrations","params":{}}'

    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        assert served.post("/", line, **headers).status_code == 401
