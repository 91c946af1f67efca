"""Checks `POST /` against the JSON-RPC 2.0 specification, and what is told and not told of errors."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from vectormigrate_dagster.sidecar import tools
from vectormigrate_dagster.sidecar.problems import clean
from vectormigrate_dagster_tests.harness import ID
from vectormigrate_dagster_tests.sidecar.faces.serving import Served

LIST = {"jsonrpc": "2.0", "method": "list_migrations", "params": {"limit": 1}}


def error_of(served: Served, body: Any) -> tuple[int, Any, int]:
    """HTTP status, id and code of an error."""
    answer = served.post("/", body)
    document = answer.json()
    assert document["jsonrpc"] == "2.0"
    assert "result" not in document
    assert document["error"]["message"]
    return answer.status_code, document["id"], document["error"]["code"]


@pytest.mark.parametrize("id", [0, 1, -5, 1.5, "", "a", "ä\n", None])
def test_the_id_comes_back_as_it_was(served: Served, id: Any) -> None:
    answer = served.post("/", {**LIST, "id": id}).json()

    assert answer["id"] == id
    assert type(answer["id"]) is type(id)
    assert answer["result"]["limit"] == 1


def test_a_notification_gets_no_answer(served: Served) -> None:
    for method in ("list_migrations", "nothing of that name"):
        answer = served.post("/", {"jsonrpc": "2.0", "method": method})
        assert (answer.status_code, answer.content) == (202, b"")


def test_a_batch_is_answered_one_by_one_in_order(served: Served) -> None:
    batch = [
        {**LIST, "id": 1},
        LIST,
        {**LIST, "id": "two", "method": "unknown"},
        1,
        {**LIST, "id": 3, "params": {"limit": "x"}},
    ]

    answers = served.post("/", batch).json()

    assert [answer["id"] for answer in answers] == [1, "two", None, 3]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32601, -32600, -32602]


def test_a_batch_of_notifications_gets_no_answer(served: Served) -> None:
    answer = served.post("/", [LIST, LIST])

    assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":NaN}', -32700),
        (b'"\\ud800"', -32700),
        (b"\xff", -32700),
        (b"[]", -32600),
        (b"1", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"list_migrations"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"list_migrations"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"list_migrations"}', -32600),
    ],
)
def test_what_is_no_request(served: Served, body: bytes, code: int) -> None:
    assert error_of(served, body)[0::2] == (400, code)


def test_unknown_methods_are_told_the_known_ones_or_where_mcp_is(served: Served) -> None:
    known = served.error("migration-status")
    assert (known["code"], known["data"]["methods"]) == (
        -32601,
        ["list_migrations", "migration_status", "schema_recommendation"],
    )
    for method in ("tools/list", "initialize", "server/discover"):
        assert served.error(method)["data"] == {"endpoint": "/mcp"}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("list_migrations", [1]),
        ("list_migrations", "x"),
        ("list_migrations", {"limit": 10.5}),
        ("list_migrations", {"limit": 0}),
        ("list_migrations", {"limit": 10**30}),
        ("list_migrations", {"limit": [1]}),
        ("list_migrations", {"limit": True, "offset": {}}),
        ("list_migrations", {"status": "broken"}),
        ("list_migrations", {"sort_by": "secret"}),
        ("list_migrations", {"dry_run": True}),
        ("migration_status", {}),
        ("migration_status", None),
        ("migration_status", {"migration_id": "../../etc/passwd"}),
        ("migration_status", {"migration_id": "a\u0000b"}),
        ("migration_status", {"migration_id": "x" * 1000}),
        ("schema_recommendation", {"source_type": "oracle", "target_type": "qdrant"}),
        ("schema_recommendation", {"source_type": "qdrant", "target_type": "milvus", "source_schema": ["a"]}),
    ],
)
def test_wrong_parameters(served: Served, method: str, params: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}

    assert error_of(served, body) == (200, 7, -32602)


def test_an_error_does_not_repeat_what_was_sent(served: Served) -> None:
    secret = "sk-very-secret"

    told = json.dumps(served.error("list_migrations", limit=secret, sort_by=secret, status=[secret]))

    assert "limit" in told
    assert secret not in told


def test_an_unknown_migration_has_a_code_of_its_own_and_a_hint(served: Served) -> None:
    error = served.error("migration_status", migration_id=f"{ID}x")

    assert error["code"] == -32012
    assert f"did you mean '{ID}'?" in error["message"]


def test_a_defect_is_told_by_nothing_but_its_code(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: Any, **__: Any) -> BaseModel:
        raise RuntimeError("http://user:password@host")

    monkeypatch.setattr(tools, "recommend", defect)
    with caplog.at_level(logging.ERROR):
        error = served.error("schema_recommendation", source_type="qdrant", target_type="milvus")

    assert error["code"] == -32603
    assert "password" not in json.dumps(error) + caplog.text
    assert "RuntimeError" in caplog.text


def test_texts_of_others_are_shortened_and_hold_no_control_characters(served: Served) -> None:
    (broken,) = served.call("list_migrations")["broken"]

    assert "\x1b" not in broken["error"]
    assert clean({"a\x00": ["b\x1b[31m", "c\nd", 1, None, "e" * 5000, "\u2028"]}) == {
        "a\N{REPLACEMENT CHARACTER}": [
            "b\N{REPLACEMENT CHARACTER}[31m",
            "c\nd",
            1,
            None,
            "e" * 2000 + "… (shortened)",
            "\N{REPLACEMENT CHARACTER}",
        ]
    }


def test_a_get_is_refused(served: Served) -> None:
    for path in ("/", "/mcp"):
        assert httpx.get(f"{served.url}{path}", headers=served.headers, timeout=60).status_code == 405
