"""Checks the audit: a line for each call and each refusal, masked, and nothing that a caller sent."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vectormigrate_dagster.sidecar.audit import LOGGER, log_to, note_call
from vectormigrate_dagster.sidecar.guards import guards
from vectormigrate_dagster.sidecar.settings import Limits
from vectormigrate_dagster_tests.harness import ID
from vectormigrate_dagster_tests.sidecar.guards.asking import HOST, Asker, Clock, running
from vectormigrate_dagster_tests.sidecar.guards.guarded import READER, READER_KEY, WRITER, telling, with_key

SECRETS = ("s3cret-in-path", "s3cret-in-body", "s3cret-in-header", "s3cret-method", "guessed-key")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the audit has written."""
    logger = logging.getLogger(LOGGER)
    before = (logger.handlers[:], logger.level, logger.propagate)
    stream = io.StringIO()
    log_to(stream)
    yield stream
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_call_is_told_with_the_masked_key(log: io.StringIO) -> None:
    with running(telling(with_key())) as ask:
        found = ask(key=READER, body=b"{}")

    (line,) = lines(log)
    assert line["principal"] == f"ada:{READER_KEY.digest[:4]}"
    assert line["request"] == found.headers["x-request-id"]
    assert (line["call"], line["migration"], line["outcome"]) == ("migration_status", "things", "ok")
    assert (line["status"], line["route"], line["method"], line["peer"]) == (200, "/", "POST", "127.0.0.1")
    assert line["refused"] is None
    assert line["at"].endswith("Z")


def test_each_refusal_is_told_with_its_reason(log: io.StringIO) -> None:
    limits = Limits(requests_per_minute=1, failures_per_minute=1, body_bytes=50, depth=3, batch=2)
    with running(telling(with_key(limits=limits))) as ask:
        ask(path="/mcp", peer="203.0.113.1")
        ask(key="wrong", peer="203.0.113.2")
        ask(key="wrong", peer="203.0.113.2")
        ask(headers=[(b"host", b"evil.example")])
        ask(headers=[HOST, (b"origin", b"http://evil.example")])
        ask(key=READER, body=b"x" * 51)
        ask(key=READER, body=b"[[[[")
        ask(key=READER, body=b"[1,2,3]")
        ask(key=READER)
        ask(key=READER)

    told = [(line["refused"], line["status"], line["principal"] is not None) for line in lines(log)]
    assert told == [
        ("no_key", 401, False),
        ("wrong_key", 401, False),
        ("guessing", 429, False),
        ("host", 421, False),
        ("origin", 403, False),
        ("body", 413, True),
        ("depth", 400, True),
        ("batch", 400, True),
        (None, 200, True),
        ("rate", 429, True),
    ]


def test_a_batch_is_told_call_by_call(log: io.StringIO) -> None:
    async def two(request: Request) -> Response:
        note_call(request.scope, "migration_status", migration_id="things")
        note_call(request.scope, "stop_migration", outcome="-32011", run_id="of-a-run")
        return JSONResponse([])

    app = Starlette(routes=[Route("/", two, methods=["POST"])], middleware=guards(with_key()))
    with running(app) as ask:
        ask(key=WRITER, body=b"[]")

    first, second = lines(log)
    assert first["request"] == second["request"]
    assert (first["call"], first["migration"], first["outcome"]) == ("migration_status", "things", "ok")
    assert (second["call"], second["outcome"], second["run"]) == ("stop_migration", "-32011", "of-a-run")
    assert "migration" not in second


def test_nothing_that_a_caller_sends_stands_in_a_line(log: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(telling(with_key(), Clock())) as ask:
        for key in (READER, "guessed-key", None):
            ask(
                "S3CRET-METHOD",
                "/s3cret-in-path",
                key=key,
                headers=[HOST, (b"x-s3cret", b"s3cret-in-header"), (b"user-agent", b"s3cret-in-header")],
                body=b"s3cret-in-body",
            )
        ask(path="/fall", key=READER, body=b"s3cret-in-body")
        ask(path="/s3cret-in-path", headers=[(b"host", b"s3cret-in-header")])

    assert len(lines(log)) == 5
    shown = (log.getvalue() + caplog.text).lower()
    for secret in (*SECRETS, READER.lower(), READER_KEY.digest, "hunter2"):
        assert secret not in shown


def test_probes_are_told_only_when_they_are_refused(log: io.StringIO) -> None:
    with running(telling(with_key())) as ask:
        for path in ("/healthz", "/readyz", "/metrics"):
            ask("GET", path, key=READER)
        assert lines(log) == []
        ask("GET", "/metrics", peer="203.0.113.9")
    assert [line["refused"] for line in lines(log)] == ["no_key"]


def test_the_products_calls_are_told(log: io.StringIO, product: Asker) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "migration_status", "params": {"migration_id": ID}}
    unknown = {**body, "params": {"migration_id": "s3cret-in-body"}}
    assert product(key=READER, body=json.dumps([body, unknown]).encode()).status == 200

    told = [(line["call"], line.get("migration"), line["outcome"]) for line in lines(log)]
    assert told == [("migration_status", ID, "ok"), ("migration_status", None, "-32012")]
    assert "s3cret-in-body" not in log.getvalue()


@pytest.mark.parametrize("path", ["/", "/mcp"])
def test_what_is_said_to_the_product_stands_in_no_log(
    log: io.StringIO, product: Asker, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """At the level that `serve` sets; whoever wants to see more of the SDK may ask for it."""
    caplog.set_level(logging.INFO)
    secret = "s3cret-in-body"
    accept = [(b"accept", b"application/json, text/event-stream"), (b"content-type", b"application/json")]
    call = {"jsonrpc": "2.0", "id": secret, "method": "tools/call", "params": {"name": secret, "arguments": {}}}
    for said in (
        call,
        {**call, "params": {"name": "migration_status", "arguments": {"migration_id": secret, secret: secret}}},
        {**call, "params": secret},
        {**call, "method": secret},
        {**call, "method": "resources/read", "params": {"uri": f"migration://{secret}"}},
        {**call, "method": "migration_status", "params": {"migration_id": secret}},
        {**call, "method": "list_migrations", "params": {"limit": secret}},
        [secret],
        secret,
    ):
        answer = product(path=path, key=READER, headers=[HOST, *accept], body=json.dumps(said).encode())
        assert answer.status < 500
    product(path=path, key=READER, headers=[HOST, *accept], body=f'{{"{secret}'.encode())

    assert secret not in log.getvalue()
    assert secret not in caplog.text
