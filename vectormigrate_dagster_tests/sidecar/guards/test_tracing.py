"""Checks traces: sent where the environment says and nowhere else, with the call's name and without what was said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.sidecar.tracing import traced
from vectormigrate_dagster_tests.harness import Workplace

CALL = """
import json, sys
from pathlib import Path
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.tracing import traced
from vectormigrate_dagster_tests.sidecar.guards.asking import HOST, running
from vectormigrate_dagster_tests.sidecar.guards.guarded import READER, with_key

migrations, home, body = sys.argv[1:]
headers = [HOST, (b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
with traced(), running(create_app(Context(Path(migrations), Path(home)), with_key())) as ask:
    assert ask(path="/mcp", key=READER, headers=headers, body=body.encode()).status == 200
"""


class Collector(HTTPServer):
    """Takes spans over OTLP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), self._handler())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        return Handler


def test_spans_name_the_call_and_hold_nothing_of_it(unmoved: Workplace) -> None:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        arguments = {"migration_id": "s3cret-argument"}
        params = {"name": "migration_status", "arguments": arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        command = [sys.executable, "-c", CALL, str(unmoved.migrations), str(unmoved.home), body]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()

    sent = [ExportTraceServiceRequest.FromString(body) for body in collector.bodies]
    resources = [resource for request in sent for resource in request.resource_spans]
    names = {span.name for resource in resources for scope in resource.scope_spans for span in scope.spans}
    about = {each.key: each.value.string_value for each in resources[0].resource.attributes}
    assert "tools/call migration_status" in names
    assert about["service.name"] == "vectormigrate-sidecar"
    assert all(b"s3cret-argument" not in body for body in collector.bodies)


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = (
        "import sys; from vectormigrate_dagster.sidecar.tracing import traced\n"
        "with traced({}): pass\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with (
        pytest.raises(ConfigurationError, match=r"install 'vectormigrate-dagster\[otel\]'"),
        traced({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}),
    ):
        raise AssertionError("was let through")
