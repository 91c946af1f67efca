"""Pinecone: the stand-in, but for lists, fetches and writes of records, over gRPC and over REST."""

from __future__ import annotations

import threading
from bisect import bisect_left
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from google.protobuf.json_format import ParseDict

from benchmarks.at_once.answers import serve
from benchmarks.at_once.records import Records, payload
from vectormigrate_dagster_tests.emulators.http_server import Server
from vectormigrate_dagster_tests.emulators.pinecone.engine import Engine
from vectormigrate_dagster_tests.emulators.pinecone.faults import Faults
from vectormigrate_dagster_tests.emulators.pinecone.grpc_messages import MESSAGES
from vectormigrate_dagster_tests.emulators.pinecone.http_face import Handler, Service
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings

_LISTED = 100
_ID = "thing-{:09d}"


def pinecone(records: Records) -> tuple[Any, dict[str, str]]:
    """Start a Pinecone; return its gRPC server, which lives as long as somebody holds it, and its addresses."""
    page = cache(lambda prefix, start: _page(records, prefix, start))
    found = cache(lambda ids: _found(records, ids))

    def list_ids(request: bytes) -> bytes:
        asked = MESSAGES["ListRequest"].FromString(request)
        return page(asked.prefix, int(asked.pagination_token or 0))

    def fetch(request: bytes) -> bytes:
        return found(tuple(MESSAGES["FetchRequest"].FromString(request).ids))

    done = MESSAGES["UpsertResponse"](upserted_count=1).SerializeToString()
    stats = MESSAGES["DescribeIndexStatsResponse"](total_vector_count=records.count).SerializeToString()
    base = "/data/things/VectorService"
    answers = {f"{base}/List": list_ids, f"{base}/Fetch": fetch}
    answers |= {f"{base}/Upsert": lambda _: done, f"{base}/DescribeIndexStats": lambda _: stats}
    server, port = serve(answers)
    server.start()
    return server, {**_rest(records), "grpc_url": f"http://127.0.0.1:{port}"}


def rest_only(records: Records) -> tuple[Any, dict[str, str]]:
    """The same without gRPC; what is returned does nothing when it is stopped but that."""
    server, _ = serve({})
    server.start()
    return server, _rest(records)


def _rest(records: Records) -> dict[str, str]:
    service = Service(Engine(Settings()), Faults())
    handler = type("BoundHandler", (_AtOnce,), {"service": service, "answers": _Answers(records)})
    server = Server(handler, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"url": f"http://127.0.0.1:{server.server_port}", "api_key": Settings().api_key}


class _Answers:
    """What REST says of the records."""

    def __init__(self, records: Records) -> None:
        self.page = cache(lambda prefix, start: orjson.dumps(_listed(records, prefix, start)))
        self.found = cache(
            lambda ids: orjson.dumps(
                {"vectors": {each: _plain(records, each) for each in ids}, "namespace": "", "usage": {"readUnits": 1}},
                option=orjson.OPT_SERIALIZE_NUMPY,
            )
        )


class _AtOnce(Handler):
    """One connection."""

    answers: _Answers

    def _handle(self) -> None:
        address = urlsplit(self.path)
        asked = parse_qs(address.query)
        if address.path.endswith("/vectors/list"):
            self._say(self.answers.page(asked.get("prefix", [""])[0], int(asked.get("paginationToken", ["0"])[0])))
        elif address.path.endswith("/vectors/fetch"):
            self._say(self.answers.found(tuple(asked["ids"])))
        elif address.path.endswith("/vectors/upsert"):
            self.drain(int(self.headers.get("content-length") or 0))
            self._say(b'{"upsertedCount":1}')
        else:
            super()._handle()

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  # the names of the standard library

    def _say(self, content: bytes) -> None:
        self.send(200, content, "application/json", {})


def _listed(records: Records, prefix: str, start: int) -> dict[str, Any]:
    """A page of the ids with a prefix, from a number on, as REST has it."""
    numbers = range(records.count)
    start = max(start, bisect_left(numbers, prefix, key=_ID.format))
    end = bisect_left(numbers, f"{prefix}\x7f", key=_ID.format)
    stop = min(start + _LISTED, end)
    page: dict[str, Any] = {"vectors": [{"id": _ID.format(number)} for number in range(start, stop)], "namespace": ""}
    return page if stop >= end else {**page, "pagination": {"next": str(stop)}}


def _plain(records: Records, key: str) -> dict[str, Any]:
    number = int(key.removeprefix("thing-"))
    metadata = {key: float(value) if type(value) is int else value for key, value in payload(number).items()}
    return {"id": key, "values": records.vectors[number], "metadata": metadata}


def _page(records: Records, prefix: str, start: int) -> bytes:
    """A `ListResponse`."""
    octets: bytes = ParseDict(_listed(records, prefix, start), MESSAGES["ListResponse"]()).SerializeToString()
    return octets


def _found(records: Records, ids: tuple[str, ...]) -> bytes:
    """A `FetchResponse`."""
    reply = MESSAGES["FetchResponse"]()
    for each in ids:
        plain = _plain(records, each)
        vector = reply.vectors.add(key=each).value
        vector.id = each
        vector.values.extend(plain["values"].tolist())
        ParseDict(plain["metadata"], vector.metadata)
    octets: bytes = reply.SerializeToString()
    return octets
