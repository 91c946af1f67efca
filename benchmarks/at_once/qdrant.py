"""Qdrant: the stand-in, but for reads and writes of points."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from qdrant_client import grpc as pb
from qdrant_client.conversions.conversion import RestToGrpc

from benchmarks.at_once.answers import serve
from benchmarks.at_once.records import Records, payload
from vectormigrate_dagster_tests.emulators.qdrant.grpc_face import add_services
from vectormigrate_dagster_tests.emulators.qdrant.rest import listening
from vectormigrate_dagster_tests.emulators.qdrant.service import Service, Settings


def qdrant(records: Records) -> tuple[Any, dict[str, str]]:
    """Start a Qdrant; return its gRPC server, which lives as long as somebody holds it, and its addresses."""
    page = cache(lambda start, limit: _page(records, start, limit))

    def scroll(request: bytes) -> bytes:
        asked = pb.ScrollPoints.FromString(request)
        return page(asked.offset.num, asked.limit)

    done = pb.PointsOperationResponse(result=pb.UpdateResult(status=pb.UpdateStatus.Completed)).SerializeToString()
    server, port = serve({"/qdrant.Points/Scroll": scroll, "/qdrant.Points/Upsert": lambda _: done})
    service = Service(Settings())
    add_services(server, service)
    server.start()
    rest = listening(service, 0)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    return server, {"url": f"http://127.0.0.1:{rest.server_port}", "grpc_url": f"http://127.0.0.1:{port}"}


def _page(records: Records, start: int, limit: int) -> bytes:
    """A `ScrollResponse`."""
    page = pb.ScrollResponse()
    stop = min(start + limit, records.count)
    for number in range(start, stop):
        point = page.result.add(id=pb.PointId(num=number), payload=RestToGrpc.convert_payload(payload(number)))
        vector = point.vectors.vectors.vectors["embedding"]
        vector.dense.data.extend(records.vectors[number].tolist())
    if stop < records.count:
        page.next_page_offset.num = stop
    return page.SerializeToString()
