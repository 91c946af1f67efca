"""The methods of the data plane that move records, over gRPC: the same work as over HTTP, in the service's messages.

A real index is told by the host of its address. Here the host is that of all, so a path before the method names the
index, as it does over HTTP; without one it is the only index that there is.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict

from vectormigrate_dagster_tests.emulators.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.pinecone import routes
from vectormigrate_dagster_tests.emulators.pinecone.errors import Refused
from vectormigrate_dagster_tests.emulators.pinecone.grpc_messages import MESSAGES
from vectormigrate_dagster_tests.emulators.pinecone.http_face import DATA, Service
from vectormigrate_dagster_tests.emulators.pinecone.request import Answer, Request
from vectormigrate_dagster_tests.emulators.pinecone.settings import VERSION

_SERVICE = "VectorService"
_SIZES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def listening(service: Service, port: int) -> tuple[grpc.Server, int]:
    """A server that runs, and its port."""
    server = grpc.server(ThreadPoolExecutor(8), options=[*_SIZES, ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_Methods(service)])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Finds the work of a method."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def service(self, details: Any) -> Any:
        """The handler of a call; None if there is no such method."""
        path, _, method = details.method.rpartition("/")
        at, _, name = path.rpartition("/")
        known = _METHODS.get(method)
        if name != _SERVICE or known is None:
            return None
        index = at.removeprefix(f"{DATA}/").strip("/")
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._answer(index, method, known, body, context)
        )

    def _answer(self, index: str, method: str, known: _Method, body: bytes, context: Any) -> bytes:
        service = self._service
        ordered = service.faults.of_call(method, f"gRPC {method}")
        try:
            _admit(service, context)
            limit = service.engine.settings.max_request_bytes
            if len(body) > limit:
                text = f"Error, message length too large: found {len(body)} bytes, the limit is: {limit} bytes"
                context.abort(grpc.StatusCode.OUT_OF_RANGE, text)
            ordered.before()
            asked = known.request.FromString(body)
            with service.engine.lock:
                at = index or next(each.name for each in service.engine.all())
                service.rates.spend(at, method)
                request = Request(
                    engine=service.engine,
                    at=at,
                    path={},
                    query=known.query(asked),
                    body=known.body(asked),
                    ordered=ordered,
                    host="",
                )
                answer = known.work(request)
            ordered.after()
        except Refused as error:
            if error.retry_after is not None:
                context.set_trailing_metadata((("retry-after", f"{error.retry_after:g}"),))
            context.abort(_STATUSES[error.kind.value.code], str(error))
        except ConnectionCut:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Connection reset by peer")
        context.send_initial_metadata(tuple(answer.headers.items()))
        octets: bytes = known.reply(answer).SerializeToString()
        return octets


_STATUSES = {status.value[0]: status for status in grpc.StatusCode}


def _admit(service: Service, context: Any) -> None:
    told = dict(context.invocation_metadata())
    if not hmac.compare_digest(str(told.get("api-key", "")), service.engine.settings.api_key):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API Key")
    if told.get("x-pinecone-api-version") != VERSION:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"X-Pinecone-Api-Version must be {VERSION}")


class _Method:
    """How a method's messages stand for a request over HTTP, and an answer of it for a message.

    Args:
        verb, path: of the same method over HTTP.
    """

    def __init__(
        self,
        verb: str,
        path: str,
        request: str,
        reply: Callable[[Answer], Any],
        *,
        query: Callable[[Any], dict[str, list[str]]] = lambda _: {},
        body: Callable[[Any], dict[str, Any]] = lambda _: {},
    ) -> None:
        found = routes.found(verb, path, data=True)
        assert found is not None, path
        self.work = found[3]
        self.request = MESSAGES[request]
        self.reply, self.query, self.body = reply, query, body


def _vector(given: Any) -> dict[str, Any]:
    """A `Vector` as HTTP has it."""
    vector: dict[str, Any] = {"id": given.id, "values": list(given.values)}
    if given.HasField("sparse_values"):
        vector["sparseValues"] = {
            "indices": list(given.sparse_values.indices),
            "values": list(given.sparse_values.values),
        }
    if given.HasField("metadata"):
        vector["metadata"] = MessageToDict(given.metadata)
    return vector


def _fetched(answer: Answer) -> Any:
    reply = MESSAGES["FetchResponse"](namespace=answer.body["namespace"], usage=MESSAGES["Usage"](read_units=1))
    for key, plain in answer.body["vectors"].items():
        vector = reply.vectors.add(key=key).value
        vector.id = key
        vector.values.extend(np.asarray(plain.get("values", ()), dtype=np.float32).tolist())
        if (sparse := plain.get("sparseValues")) is not None:
            vector.sparse_values.indices.extend(sparse["indices"].tolist())
            vector.sparse_values.values.extend(sparse["values"].tolist())
        if metadata := plain.get("metadata"):
            ParseDict(metadata, vector.metadata)
    return reply


def _listed(answer: Answer) -> Any:
    items = [MESSAGES["ListItem"](**item) for item in answer.body["vectors"]]
    reply = MESSAGES["ListResponse"](vectors=items, namespace=answer.body["namespace"])
    if token := answer.body.get("pagination", {}).get("next"):
        reply.pagination.next = token
    return reply


def _list_query(asked: Any) -> dict[str, list[str]]:
    query = {"namespace": [asked.namespace]}
    if asked.HasField("limit"):
        query["limit"] = [str(asked.limit)]
    for name, key in (("prefix", "prefix"), ("pagination_token", "paginationToken")):
        if asked.HasField(name):
            query[key] = [getattr(asked, name)]
    return query


_METHODS = {
    "Fetch": _Method(
        "GET",
        "/vectors/fetch",
        "FetchRequest",
        _fetched,
        query=lambda asked: {"ids": list(asked.ids), "namespace": [asked.namespace]},
    ),
    "List": _Method("GET", "/vectors/list", "ListRequest", _listed, query=_list_query),
    "Upsert": _Method(
        "POST",
        "/vectors/upsert",
        "UpsertRequest",
        lambda answer: MESSAGES["UpsertResponse"](upserted_count=answer.body["upsertedCount"]),
        body=lambda asked: {"vectors": [_vector(one) for one in asked.vectors], "namespace": asked.namespace},
    ),
    "DescribeIndexStats": _Method(
        "POST",
        "/describe_index_stats",
        "DescribeIndexStatsRequest",
        lambda answer: MESSAGES["DescribeIndexStatsResponse"](total_vector_count=answer.body["totalVectorCount"]),
    ),
}
