"""Weaviate: the stand-in, but for reads and writes of objects."""

from __future__ import annotations

import threading
import uuid
from functools import cache
from typing import Any

import numpy as np
from weaviate.proto.v1 import batch_pb2, search_get_pb2

from benchmarks.at_once.answers import serve
from benchmarks.at_once.records import COLLECTION, Records, payload
from vectormigrate_dagster_tests.emulators.http_server import Server
from vectormigrate_dagster_tests.emulators.weaviate.grpc_face import add_services
from vectormigrate_dagster_tests.emulators.weaviate.rest import Handler
from vectormigrate_dagster_tests.emulators.weaviate.service import Service, Settings


def weaviate(records: Records) -> tuple[Any, dict[str, str]]:
    """Start a Weaviate; return its gRPC server, which lives as long as somebody holds it, and its addresses."""
    page = cache(lambda start, limit: _page(records, start, limit))

    def search(request: bytes) -> bytes:
        asked = search_get_pb2.SearchRequest.FromString(request)
        return page(uuid.UUID(asked.after).int + 1 if asked.after else 0, asked.limit)

    done = batch_pb2.BatchObjectsReply(took=0.001).SerializeToString()
    base = "/weaviate.v1.Weaviate"
    server, port = serve({f"{base}/Search": search, f"{base}/BatchObjects": lambda _: done})
    service = Service(Settings())
    add_services(server, service)
    server.start()
    rest = Server(type("BoundHandler", (Handler,), {"service": service}), 0)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    return server, {"url": f"http://127.0.0.1:{rest.server_port}", "grpc_url": f"http://127.0.0.1:{port}"}


def _page(records: Records, start: int, limit: int) -> bytes:
    """A `SearchReply`."""
    page = search_get_pb2.SearchReply(took=0.001)
    for number in range(start, min(start + limit, records.count)):
        found = page.results.add()
        key = uuid.UUID(int=number)
        found.metadata.id, found.metadata.id_as_bytes = str(key), key.bytes
        octets = np.ascontiguousarray(records.vectors[number], dtype="<f4").tobytes()
        found.metadata.vectors.add(name="embedding", vector_bytes=octets)
        found.properties.target_collection = COLLECTION.capitalize()
        values, fields = payload(number), found.properties.non_ref_props.fields
        fields["title"].text_value = values["title"]
        fields["count"].int_value = values["count"]
        fields["price"].number_value = values["price"]
        fields["sold"].bool_value = values["sold"]
        fields["tags"].list_value.text_values.values.extend(values["tags"])
    return page.SerializeToString()
