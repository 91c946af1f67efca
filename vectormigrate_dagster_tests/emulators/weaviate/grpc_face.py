"""The gRPC face: the official service, on the base class that ships in the official client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
from weaviate.proto.v1 import (
    aggregate_pb2,
    batch_delete_pb2,
    batch_pb2,
    search_get_pb2,
    tenants_pb2,
    weaviate_pb2_grpc,
)

from vectormigrate_dagster_tests.emulators.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.weaviate import grpc_replies, grpc_requests
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.weaviate.faults import Fault
from vectormigrate_dagster_tests.emulators.weaviate.filters import matcher
from vectormigrate_dagster_tests.emulators.weaviate.queries import Query, run
from vectormigrate_dagster_tests.emulators.weaviate.service import Service
from vectormigrate_dagster_tests.emulators.weaviate.shard import Shard

SERVING = b"\x08\x01"
"""HealthCheckResponse with status 1"""


def add_services(server: grpc.Server, service: Service) -> None:
    """Let a gRPC server answer as Weaviate."""
    weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Face(service), server)
    server.add_generic_rpc_handlers((_Health(),))


class _Health(grpc.GenericRpcHandler):
    """grpc.health.v1, whose messages are one field: no client version brings the same classes for them along."""

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: SERVING)


class _Face(weaviate_pb2_grpc.WeaviateServicer):
    def __init__(self, service: Service) -> None:
        self._service = service
        self._engine = service.engine

    def _answer(
        self, method: str, context: grpc.ServicerContext, work: Callable[[list[Fault]], Any], *, writes: bool = False
    ) -> Any:
        start = time.perf_counter()
        try:
            self._service.admit(dict(context.invocation_metadata()).get("authorization"), writes=writes)
            reply = self._service.call(method, work, _spoil)
        except Refused as error:
            context.abort(error.kind.grpc, str(error))
        except ConnectionCut:
            # A handler cannot end the connection; this is what a client is told when it ends.
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        reply.took = time.perf_counter() - start
        size, limit = reply.ByteSize(), self._service.settings.grpc_max_message_size
        if size > limit:
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"grpc: trying to send message larger than max ({size} vs. {limit})"
            )
        return reply

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802  # the official name
        return self._answer("Search", context, lambda faults: self._search(request))

    def _search(self, request: search_get_pb2.SearchRequest) -> search_get_pb2.SearchReply:
        with self._engine.lock:
            definition = self._engine.collection(request.collection).definition
            asked = request.properties if request.HasField("properties") else None
            chosen = grpc_replies.selection(definition, asked)
            reply = search_get_pb2.SearchReply()
            for stored, distance in run(self._engine, Query.of(request, self._service.settings)):
                shown = reply.results.add()
                shown.properties.CopyFrom(grpc_replies.result(self._engine, definition, stored, chosen, request.tenant))
                if request.HasField("metadata"):
                    shown.metadata.CopyFrom(grpc_replies.metadata(definition, stored, request.metadata))
                    if distance is not None and request.metadata.distance:
                        shown.metadata.distance, shown.metadata.distance_present = distance, True
                    if distance is not None and request.metadata.certainty and _by_cosine(definition):
                        shown.metadata.certainty, shown.metadata.certainty_present = 1 - distance / 2, True
            return reply

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("BatchObjects", context, lambda faults: self._batch(request, faults), writes=True)

    def _batch(self, request: batch_pb2.BatchObjectsRequest, faults: list[Fault]) -> batch_pb2.BatchObjectsReply:
        reply = batch_pb2.BatchObjectsReply()
        with self._engine.lock:
            for position, given in enumerate(request.objects):
                try:
                    for reason in filter(None, (fault.refusal(given.uuid) for fault in faults)):
                        raise Refused(reason)
                    found = self._engine.find(given.collection)
                    self._engine.put(grpc_requests.new_object(given, found.definition if found else None))
                except Refused as error:
                    reply.errors.add(index=position, error=str(error))
        return reply

    def BatchDelete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("BatchDelete", context, lambda faults: self._delete(request), writes=True)

    def _delete(self, request: batch_delete_pb2.BatchDeleteRequest) -> batch_delete_pb2.BatchDeleteReply:
        with self._engine.lock:
            collection = self._engine.collection(request.collection)
            if not request.HasField("filters"):
                raise Refused("batch delete params: no filters in batch delete request")
            matches = matcher(collection.definition, request.filters)
            shard = _within("batch delete: cannot find objects", lambda: collection.writable(request.tenant))
            found = [stored.id for stored in shard if matches(stored)]
            deleted = found[: self._service.settings.max_results]
            if not request.dry_run:
                for key in deleted:
                    shard.delete(key)
        reply = batch_delete_pb2.BatchDeleteReply(matches=len(found), successful=len(deleted), failed=0)
        if request.verbose:
            for key in deleted:
                reply.objects.add(uuid=uuid.UUID(key).bytes, successful=True)
        return reply

    def Aggregate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("Aggregate", context, lambda faults: self._aggregate(request))

    def _aggregate(self, request: aggregate_pb2.AggregateRequest) -> aggregate_pb2.AggregateReply:
        if request.aggregations or request.HasField("group_by") or request.WhichOneof("search"):
            raise Refused("the stand-in counts objects; it does not play other aggregations", Kind.INTERNAL)
        with self._engine.lock:
            collection = self._engine.collection(request.collection)
            shard = _within("aggregate", lambda: collection.shard(request.tenant))
            if request.HasField("filters"):
                matches = matcher(collection.definition, request.filters)
                count = sum(matches(stored) for stored in shard)
            else:
                count = len(shard)
        single = aggregate_pb2.AggregateReply.Single()
        if request.objects_count:
            single.objects_count = count
        return aggregate_pb2.AggregateReply(single_result=single)

    def TenantsGet(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("TenantsGet", context, lambda faults: self._tenants(request))

    def _tenants(self, request: tenants_pb2.TenantsGetRequest) -> tenants_pb2.TenantsGetReply:
        names = list(request.names.values) if request.HasField("names") else None
        if names == []:
            raise Refused("get tenants: must specify at least one tenant name")
        reply = tenants_pb2.TenantsGetReply()
        with self._engine.lock:
            collection = self._engine.collection(request.collection)
            if not collection.has_tenants:
                raise Refused(f'get tenants: multi-tenancy is not enabled for class "{collection.name}"')
            for name, status in collection.tenants.items():
                if names is None or name in names:
                    code = tenants_pb2.TenantActivityStatus.Value(f"TENANT_ACTIVITY_STATUS_{status}")
                    reply.tenants.add(name=name, activity_status=code)
        return reply


def _within(what: str, work: Callable[[], Shard]) -> Shard:
    try:
        return work()
    except Refused as error:
        raise Refused(f"{what}: {error}", error.kind) from error


def _by_cosine(definition: dict[str, Any]) -> bool:
    return all(config["distance"] == "cosine" for config in grpc_requests.vector_configs(definition).values())


def _spoil(reply: Any, fault: Fault) -> None:
    """Do to a page what a fault asks for."""
    if not isinstance(reply, search_get_pb2.SearchReply) or len(reply.results) < 2:
        return
    if fault.what == "short_page":
        del reply.results[-1]
    if fault.what == "wrong_order":
        first, last = reply.results[0].SerializeToString(), reply.results[-1].SerializeToString()
        reply.results[0].ParseFromString(last)
        reply.results[-1].ParseFromString(first)
