"""The REST face: the official paths, over the standard library's threaded HTTP server.

It keeps connections alive and answers each on its own thread, which is all that a stand-in needs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from vectormigrate_dagster_tests.emulators.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.http_server import Connection, Server
from vectormigrate_dagster_tests.emulators.qdrant import rest_messages as m
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.qdrant.json_path import check_path
from vectormigrate_dagster_tests.emulators.qdrant.service import Service
from vectormigrate_dagster_tests.emulators.service import CONTROL


@dataclass(frozen=True)
class Request:
    """One request: what its path names, its query string, and its body."""

    service: Service
    path: dict[str, str]
    query: dict[str, str]
    body: Any

    @property
    def name(self) -> str:
        """The collection."""
        return self.path["name"]

    @property
    def wait(self) -> bool:
        return self.query.get("wait", "false") == "true"

    def as_model(self, model: Any) -> Any:
        """The body as one of the client's models.

        Raises:
            Refused: it is none.
        """
        body = self.body
        if isinstance(body, dict) and hasattr(model, "model_fields"):
            body = {key: value for key, value in body.items() if key in model.model_fields}  # a server ignores others
        try:
            return TypeAdapter(model).validate_python(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise m.malformed(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error

    def change(self, convert: Callable[[Any], Any]) -> Any:
        [result] = self.service.engine.change(self.name, [convert(self.body)], wait=self.wait)
        return m.plain(result)


def _root(r: Request) -> Any:
    return {"title": "qdrant - vector search engine", "version": r.service.engine.version}


def _cluster(r: Request) -> Any:
    if not r.service.engine.distributed:
        return {"status": "disabled"}
    raft = {"term": 1, "commit": 1, "pending_operations": 0, "leader": 1, "role": "Leader", "is_voter": True}
    return {
        "status": "enabled",
        "peer_id": 1,
        "peers": {"1": {"uri": "http://127.0.0.1:6335/"}},
        "raft_info": raft,
        "consensus_thread_status": {"consensus_thread_status": "working", "last_update": "2026-01-01T00:00:00Z"},
        "message_send_failures": {},
    }


def _batch(r: Request) -> Any:
    operations = [m.operation_of(operation) for operation in r.body.get("operations", [])]
    return [m.plain(result) for result in r.service.engine.change(r.name, operations, wait=r.wait)]


def _fetch(r: Request) -> Any:
    request = r.as_model(models.PointRequest)
    return [m.record(row) for row in r.service.engine.fetch(r.name, request)]


def _fetch_one(r: Request) -> Any:
    asked = int(r.path["id"]) if r.path["id"].isdigit() else r.path["id"]
    rows = r.service.engine.fetch(r.name, models.PointRequest(ids=[asked], with_payload=True, with_vector=True))
    if not rows:
        raise Refused(Kind.NOT_FOUND, f"Point with id {asked} does not exists!")
    return m.record(rows[0])


def _scroll(r: Request) -> Any:
    rows, following = r.service.engine.scroll(r.name, r.as_model(models.ScrollRequest))
    return {"points": [m.record(row) for row in rows], "next_page_offset": following}


def _query(r: Request) -> Any:
    [rows] = r.service.engine.query(r.name, [r.as_model(models.QueryRequest)])
    return {"points": [m.scored(row) for row in rows]}


def _query_batch(r: Request) -> Any:
    answers = r.service.engine.query(r.name, r.as_model(models.QueryRequestBatch).searches)
    return [{"points": [m.scored(row) for row in rows]} for rows in answers]


def _search(r: Request) -> Any:
    [rows] = r.service.engine.query(r.name, [m.search_of(r.body)])
    return [m.scored(row) for row in rows]


def _search_batch(r: Request) -> Any:
    answers = r.service.engine.query(r.name, [m.search_of(one) for one in r.body.get("searches", [])])
    return [[m.scored(row) for row in rows] for rows in answers]


def _index(r: Request) -> Any:
    request = r.as_model(models.CreateFieldIndex)
    try:
        check_path(request.field_name)
    except Refused as error:
        raise m.malformed(str(error)) from error
    return m.plain(r.service.engine.create_index(r.name, request.field_name, request.field_schema))


def _aliases(r: Request) -> Any:
    aliases = r.service.engine.aliases_of(r.path.get("name"))
    return {"aliases": [{"alias_name": alias, "collection_name": name} for alias, name in aliases.items()]}


def _shard_keys(r: Request) -> Any:
    keys = r.service.engine.shard_keys(r.name)
    return {"shard_keys": [{"key": key} for key in keys]} if keys else {}


def _unimplemented(r: Request) -> Any:
    raise Refused(Kind.UNIMPLEMENTED, "the stand-in has no snapshots")


ROUTES: list[tuple[str, str, str, Callable[[Request], Any]]] = [
    ("GET", "/", "HealthCheck", _root),
    ("GET", "/cluster", "ClusterStatus", _cluster),
    ("GET", "/collections", "ListCollections", lambda r: {
        "collections": [{"name": name} for name in r.service.engine.names()]
    }),
    ("GET", "/aliases", "ListAliases", _aliases),
    ("POST", "/collections/aliases", "UpdateAliases", lambda r: r.service.engine.change_aliases(
        r.as_model(models.ChangeAliasesOperation).actions
    )),
    ("PUT", "/collections/{name}", "CreateCollection", lambda r: r.service.engine.create(
        r.name, r.as_model(models.CreateCollection)
    )),
    ("GET", "/collections/{name}", "GetCollection", lambda r: m.plain(r.service.engine.info(r.name))),
    ("PATCH", "/collections/{name}", "UpdateCollection", lambda r: r.service.engine.update_collection(
        r.name, r.as_model(models.UpdateCollection)
    )),
    ("DELETE", "/collections/{name}", "DeleteCollection", lambda r: r.service.engine.delete(r.name)),
    ("GET", "/collections/{name}/exists", "CollectionExists", lambda r: {"exists": r.service.engine.exists(r.name)}),
    ("GET", "/collections/{name}/aliases", "ListCollectionAliases", _aliases),
    ("GET", "/collections/{name}/cluster", "CollectionClusterInfo", lambda r: m.plain(
        r.service.engine.cluster_info(r.name)
    )),
    ("GET", "/collections/{name}/shards", "ListShardKeys", _shard_keys),
    ("PUT", "/collections/{name}/shards", "CreateShardKey", lambda r: r.service.engine.create_shard_key(
        r.name, r.as_model(models.CreateShardingKey).shard_key
    )),
    ("POST", "/collections/{name}/shards/delete", "DeleteShardKey", lambda r: r.service.engine.delete_shard_key(
        r.name, r.as_model(models.DropShardingKey).shard_key
    )),
    ("PUT", "/collections/{name}/index", "CreateFieldIndex", _index),
    ("DELETE", "/collections/{name}/index/{field}", "DeleteFieldIndex", lambda r: m.plain(
        r.service.engine.delete_index(r.name, r.path["field"])
    )),
    ("PUT", "/collections/{name}/points", "Upsert", lambda r: r.change(m.upsert_of)),
    ("POST", "/collections/{name}/points/delete", "Delete", lambda r: r.change(m.delete_of)),
    ("POST", "/collections/{name}/points/batch", "UpdateBatch", _batch),
    ("PUT", "/collections/{name}/points/vectors", "UpdateVectors", lambda r: r.change(m.update_vectors_of)),
    ("POST", "/collections/{name}/points/vectors/delete", "DeleteVectors", lambda r: r.change(m.delete_vectors_of)),
    ("POST", "/collections/{name}/points/payload", "SetPayload", lambda r: r.change(m.set_payload_of)),
    ("PUT", "/collections/{name}/points/payload", "OverwritePayload", lambda r: r.change(m.overwrite_payload_of)),
    ("POST", "/collections/{name}/points/payload/delete", "DeletePayload", lambda r: r.change(m.delete_payload_of)),
    ("POST", "/collections/{name}/points/payload/clear", "ClearPayload", lambda r: r.change(m.clear_payload_of)),
    ("POST", "/collections/{name}/points", "Get", _fetch),
    ("GET", "/collections/{name}/points/{id}", "Get", _fetch_one),
    ("POST", "/collections/{name}/points/scroll", "Scroll", _scroll),
    ("POST", "/collections/{name}/points/count", "Count", lambda r: {
        "count": r.service.engine.count(r.name, r.as_model(models.CountRequest))
    }),
    ("POST", "/collections/{name}/points/query", "Query", _query),
    ("POST", "/collections/{name}/points/query/batch", "QueryBatch", _query_batch),
    ("POST", "/collections/{name}/points/search", "Search", _search),
    ("POST", "/collections/{name}/points/search/batch", "SearchBatch", _search_batch),
    ("GET", "/collections/{name}/snapshots", "ListSnapshots", _unimplemented),
    ("POST", "/collections/{name}/snapshots", "CreateSnapshot", _unimplemented),
]  # fmt: skip

_PATTERNS = [
    (method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "/?$"), name, work)
    for method, path, name, work in ROUTES
]


class Handler(Connection):
    """One connection."""

    service: Service

    def _handle(self) -> None:
        start = time.perf_counter()
        try:
            body = self._body()
            path = urlsplit(self.path).path
            if path == CONTROL:
                return self._send(200, self.service.obey(self.command, body), start)
            if path in ("/healthz", "/readyz", "/livez"):
                return self.send(200, b"healthz check passed", "text/plain")
            return self._answer(path, body, start)
        except ConnectionCut:
            self.cut()
        except Refused as error:
            self._refuse(error, start)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  # the names of the standard library

    def _answer(self, path: str, body: bytes, start: float) -> None:
        for method, pattern, name, work in _PATTERNS:
            found = pattern.match(path)
            if method != self.command or found is None:
                continue
            self.service.admit(name, self._key())
            query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
            request = Request(self.service, {k: unquote(v) for k, v in found.groupdict().items()}, query, _parsed(body))
            result = self.service.call(name, lambda: work(request), _exchange)  # noqa: B023  # called at once
            if name == "HealthCheck":
                return self.send(200, orjson.dumps(result), "application/json")
            return self._send(200, {"result": result, "status": "ok"}, start)
        return self.send(404, b"", "text/plain")

    def _body(self) -> bytes:
        length = int(self.headers.get("content-length") or 0)
        if length > self.service.settings.max_request_bytes:
            self.drain(length)
            limit = self.service.settings.max_request_bytes
            raise Refused(Kind.FORMAT, f"JSON payload ({length} bytes) is larger than allowed (limit: {limit} bytes).")
        return self.rfile.read(length)

    def _key(self) -> str | None:
        key, bearer = self.headers.get("api-key"), self.headers.get("authorization") or ""
        if key is not None:
            return key
        return bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None

    def _refuse(self, error: Refused, start: float) -> None:
        status = error.kind.value.http
        if error.kind is Kind.UNAUTHENTICATED:
            return self.send(status, str(error).encode(), "text/plain; charset=utf-8")
        headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return self._send(status, {"status": {"error": str(error)}}, start, headers)

    def _send(self, status: int, answer: dict[str, Any], start: float, headers: dict[str, str] | None = None) -> None:
        content = orjson.dumps(
            {**answer, "time": time.perf_counter() - start}, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        )
        self.send(status, content, "application/json", headers)


def listening(service: Service, port: int) -> Server:
    """A server that is ready to be run."""
    handler = type("BoundHandler", (Handler,), {"service": service})
    return Server(handler, port, service.settings.certificate, service.settings.key)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise m.malformed(str(error)) from error


def _exchange(result: Any) -> None:
    """Exchange the first and the last record of a page."""
    points = result["points"]
    if len(points) > 1:
        points[0], points[-1] = points[-1], points[0]
