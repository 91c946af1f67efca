"""The REST face: the official paths. `ROUTES` gives each the name by which faults are ordered."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from vectormigrate_dagster_tests.emulators.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.http_server import Connection
from vectormigrate_dagster_tests.emulators.service import CONTROL
from vectormigrate_dagster_tests.emulators.weaviate import rest_objects, rest_schema
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Malformed, Refused
from vectormigrate_dagster_tests.emulators.weaviate.faults import Fault
from vectormigrate_dagster_tests.emulators.weaviate.gotext import JsonNumber, is_uuid
from vectormigrate_dagster_tests.emulators.weaviate.rest_request import Answer, Request
from vectormigrate_dagster_tests.emulators.weaviate.service import Service

C = "/v1/schema/{name}"
O = "/v1/objects/{name}/{id}"  # noqa: E741  # the table is read by columns

ROUTES: list[tuple[str, str, str, Callable[[Request], Answer]]] = [
    ("GET", "/v1/.well-known/live", "Live", lambda r: (200, None)),
    ("GET", "/v1/.well-known/ready", "Ready", lambda r: (200, None)),
    ("GET", "/v1/meta", "Meta", rest_schema.meta),
    ("GET", "/v1/nodes", "Nodes", rest_schema.nodes),
    ("GET", "/v1/nodes/{name}", "Nodes", rest_schema.nodes),
    ("GET", "/v1/cluster/statistics", "Statistics", rest_schema.statistics),
    ("GET", "/v1/schema", "Schema", rest_schema.schema),
    ("POST", "/v1/schema", "CreateClass", lambda r: (200, r.engine.create(r.body))),
    ("GET", C, "GetClass", rest_schema.get_class),
    ("PUT", C, "UpdateClass", lambda r: (200, r.engine.update(r.path["name"], r.body))),
    ("DELETE", C, "DropClass", rest_schema.drop_class),
    ("POST", C + "/properties", "AddProperty", lambda r: (200, r.engine.add_property(r.path["name"], r.body))),
    ("GET", C + "/shards", "Shards", rest_schema.shards),
    ("PUT", C + "/shards/{shard}", "UpdateShard", rest_schema.update_shard),
    ("GET", C + "/tenants", "GetTenants", rest_schema.tenants),
    ("GET", C + "/tenants/{tenant}", "GetTenants", rest_schema.tenant),
    ("HEAD", C + "/tenants/{tenant}", "GetTenants", lambda r: (rest_schema.tenant(r)[0], None)),
    ("POST", C + "/tenants", "AddTenants", lambda r: rest_schema.change_tenants(r, created=True)),
    ("PUT", C + "/tenants", "UpdateTenants", lambda r: rest_schema.change_tenants(r, created=False)),
    ("DELETE", C + "/tenants", "DeleteTenants", rest_schema.delete_tenants),
    ("GET", "/v1/aliases", "GetAliases", rest_schema.aliases),
    ("POST", "/v1/aliases", "CreateAlias", lambda r: (200, r.engine.create_alias(r.body["alias"], r.body["class"]))),
    ("GET", "/v1/aliases/{alias}", "GetAliases", rest_schema.alias),
    ("PUT", "/v1/aliases/{alias}", "UpdateAlias", lambda r: (
        200, r.engine.update_alias(r.path["alias"], r.body["class"])
    )),
    ("DELETE", "/v1/aliases/{alias}", "DeleteAlias", rest_schema.delete_alias),
    ("GET", "/v1/objects", "ListObjects", rest_objects.page),
    ("POST", "/v1/objects", "InsertObject", rest_objects.insert),
    ("GET", O, "GetObject", rest_objects.get),
    ("HEAD", O, "ObjectExists", rest_objects.head),
    ("PUT", O, "ReplaceObject", rest_objects.replace),
    ("PATCH", O, "MergeObject", rest_objects.merge),
    ("DELETE", O, "DeleteObject", rest_objects.delete),
    ("POST", O + "/references/{property}", "AddReference", rest_objects.add_reference),
    ("PUT", O + "/references/{property}", "ReplaceReferences", rest_objects.replace_references),
    ("DELETE", O + "/references/{property}", "DeleteReference", rest_objects.delete_reference),
    ("POST", "/v1/batch/references", "BatchReferences", rest_objects.batch_references),
]  # fmt: skip

NO_ID = "00000000-0000-0000-0000-000000000000"

OPEN = ("Live", "Ready")
"""What needs no key."""

_PATTERNS = [
    (method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "/?"), name, work)
    for method, path, name, work in ROUTES
]


class Handler(Connection):
    """One connection."""

    service: Service

    def _handle(self) -> None:
        try:
            body = self.body()
            path = urlsplit(self.path).path
            if path == CONTROL:
                return self._json(200, self.service.obey(self.command, body))
            return self._answer(path, body)
        except ConnectionCut:
            self.cut()
        except Refused as error:
            self._refuse(error)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815  # the standard library's names

    def _answer(self, path: str, body: bytes) -> None:
        methods = []
        for method, pattern, name, work in _PATTERNS:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            methods.append(method)
            if method != self.command:
                continue
            if name not in OPEN:
                self.service.admit(self.headers.get("authorization"), writes=method not in ("GET", "HEAD"))
            query = {key: each[-1] for key, each in parse_qs(urlsplit(self.path).query).items()}
            named = {key: unquote(value) for key, value in found.groupdict().items()}
            if not is_uuid(named.get("id", NO_ID)):
                raise Malformed(601, f'id in path must be of type uuid: "{named["id"]}"')
            request = Request(self.service, named, query, _parsed(body))
            status, answer = self.service.call(name, lambda faults: work(request), _leave)  # noqa: B023  # called at once
            return self._json(status, answer)
        if methods:
            text = f"method {self.command} is not allowed, but [{','.join(methods)}] are"
            return self._json(405, {"code": 405, "message": text})
        return self._json(404, {"code": 404, "message": f"path {path} was not found"})

    def _refuse(self, error: Refused) -> None:
        headers = {} if error.retry_after is None else {"retry-after": str(math.ceil(error.retry_after))}
        if error.kind in (Kind.UNAUTHENTICATED, Kind.BAD_REQUEST):
            return self._json(error.kind.http, {"code": error.kind.http, "message": str(error)})
        if isinstance(error, Malformed):
            return self._json(error.kind.http, {"code": error.code, "message": str(error)})
        return self._json(error.kind.http, {"error": [{"message": str(error)}]} if str(error) else None, headers)

    def _json(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        content = b"" if answer is None else orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        self.send(status, content, "application/json", headers)


def _parsed(body: bytes) -> Any:
    if not body:
        return {}
    try:
        return json.loads(body, parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=_no_constant)
    except ValueError as error:
        raise Refused(f'parsing body body from "" failed, because {error}', Kind.BAD_REQUEST) from error


def _no_constant(text: str) -> None:
    raise ValueError(f"invalid character '{text[0]}' looking for beginning of value")


def _leave(answer: Answer, fault: Fault) -> None:
    """Faults do nothing to a reply over REST."""
