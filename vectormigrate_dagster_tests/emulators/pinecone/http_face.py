"""The server over HTTP: control plane at /indexes, the data plane of an index below the path that its host names."""

from __future__ import annotations

import hmac
import itertools
import math
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from vectormigrate_dagster_tests.emulators.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.http_server import Connection, Server
from vectormigrate_dagster_tests.emulators.pinecone import routes
from vectormigrate_dagster_tests.emulators.pinecone.engine import Engine
from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.faults import Faults
from vectormigrate_dagster_tests.emulators.pinecone.rates import Rates
from vectormigrate_dagster_tests.emulators.pinecone.request import Answer, Request
from vectormigrate_dagster_tests.emulators.pinecone.settings import VERSION

DATA = "/data"
"""Path below which the data planes are; a real index has a host of its own."""

_JSON = "application/json"


class Service:
    """One server: its indexes, its faults and its rates."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self.engine = engine
        self.faults = faults
        self.rates = Rates(engine.settings)
        self.request_ids = itertools.count(1)


class Handler(Connection):
    """One connection."""

    service: Service

    def _handle(self) -> None:
        address = urlsplit(self.path)
        data = address.path.startswith(f"{DATA}/")
        try:
            body = self._body()
            answer = self._answer(address.path, address.query, body, data)
            content = b"" if answer.body is None else orjson.dumps(answer.body, option=orjson.OPT_SERIALIZE_NUMPY)
            if answer.limit is not None and len(content) > answer.limit:
                raise invalid(
                    f"The result of {len(content)} bytes exceeds the limit of {answer.limit} bytes: choose a lower topK"
                )
            self._send(answer.status, content, _JSON, answer.headers)
        except ConnectionCut:
            self.cut()
        except Refused as error:
            self._refuse(error, data=data)

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  # the names of the standard library

    def _answer(self, path: str, query: str, body: bytes, data: bool) -> Answer:
        service, settings = self.service, self.service.engine.settings
        at, _, rest = path.removeprefix(f"{DATA}/").partition("/") if data else ("", "", path)
        path = f"/{rest}" if data else rest
        found = routes.found(self.command, path, data=data)
        if found is None:
            raise Refused(Kind.NOT_FOUND, "Not Found")
        variables, template, method, work = found
        ordered = service.faults.of_call(method, template)
        self._admit()
        if len(self.path) > settings.max_address_bytes:
            raise Refused(Kind.LONG_ADDRESS, "URI Too Long")
        ordered.before()
        request = Request(
            engine=service.engine,
            at=at,
            path={key: unquote(value) for key, value in variables.items()},
            query=parse_qs(query, keep_blank_values=True),
            body=_parsed(body),
            ordered=ordered,
            host=f"http://{self.headers.get('host')}{DATA}",
        )
        with service.engine.lock:
            service.rates.spend(at, method)
            answer = work(request)
        ordered.after()
        return answer

    def _admit(self) -> None:
        """Let a caller in.

        Raises:
            Refused: there is no key or it is wrong, or the version of the API is another.
        """
        key = self.headers.get("api-key")
        if key is None or not hmac.compare_digest(key.encode(), self.service.engine.settings.api_key.encode()):
            raise Refused(Kind.UNAUTHENTICATED, "Invalid API Key")
        version = self.headers.get("x-pinecone-api-version")
        if version != VERSION:
            raise invalid(f"Header X-Pinecone-Api-Version must be {VERSION}, got {version}")

    def _body(self) -> bytes:
        length, limit = int(self.headers.get("content-length") or 0), self.service.engine.settings.max_request_bytes
        if length > limit:
            self.drain(length)
            raise Refused(
                Kind.TOO_LARGE, f"Error, message length too large: found {length} bytes, the limit is: {limit} bytes"
            )
        return self.rfile.read(length)

    def _refuse(self, error: Refused, *, data: bool) -> None:
        headers = {} if error.retry_after is None else {"retry-after": str(math.ceil(error.retry_after))}
        if error.kind in (Kind.UNPROCESSABLE, Kind.LONG_ADDRESS):
            return self._send(error.http, str(error).encode(), "text/plain; charset=utf-8", headers)
        answer: Any = error.of_data() if data else error.of_control()
        return self._send(error.http, orjson.dumps(answer), _JSON, headers)

    def _send(self, status: int, content: bytes, type: str, headers: dict[str, str]) -> None:
        self.send(status, content, type, {"x-pinecone-request-id": str(next(self.service.request_ids)), **headers})


def listening(service: Service, port: int) -> Server:
    """A server that is ready to be run."""
    return Server(type("BoundHandler", (Handler,), {"service": service}), port)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise invalid(f"malformed JSON: {error}") from error
