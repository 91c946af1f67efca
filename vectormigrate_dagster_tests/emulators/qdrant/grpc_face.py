"""The gRPC face: the official services, each method named as in `faults.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
from qdrant_client import grpc as pb
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

from vectormigrate_dagster_tests.emulators.faults import ConnectionCut
from vectormigrate_dagster_tests.emulators.qdrant import grpc_messages as m
from vectormigrate_dagster_tests.emulators.qdrant import grpc_requests as r
from vectormigrate_dagster_tests.emulators.qdrant.errors import Refused
from vectormigrate_dagster_tests.emulators.qdrant.json_path import check_path
from vectormigrate_dagster_tests.emulators.qdrant.service import Service


def add_services(server: grpc.Server, service: Service) -> None:
    """Let a gRPC server answer as Qdrant."""
    qdrant_pb2_grpc.add_QdrantServicer_to_server(_Health(service), server)
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(_Collections(service), server)
    points_service_pb2_grpc.add_PointsServicer_to_server(_Points(service), server)


def _key(context: grpc.ServicerContext) -> str | None:
    headers = dict(context.invocation_metadata())
    if "api-key" in headers:
        return headers["api-key"]
    bearer = headers.get("authorization", "")
    return bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None


class _Face:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._engine = service.engine
        self._old = not service.engine.supports(1, 16)

    def _answer(self, method: str, request: Any, context: grpc.ServicerContext, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            self._service.admit(method, _key(context))
            reply = self._service.call(method, work, _exchange)
        except Refused as error:
            if error.retry_after is not None:
                context.set_trailing_metadata((("retry-after", str(error.retry_after)),))
            context.abort(error.kind.value.grpc, str(error).replace("error in JSON body", "error in body"))
        except ConnectionCut:
            # A handler cannot end the connection; this is what a client is told when it ends.
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        reply.time = time.perf_counter() - start
        return reply


def _exchange(reply: Any) -> None:
    """Exchange the first and the last record of a page."""
    if len(reply.result) > 1:
        first, last = reply.result[0].SerializeToString(), reply.result[-1].SerializeToString()
        reply.result[0].ParseFromString(last)
        reply.result[-1].ParseFromString(first)


class _Health(_Face, qdrant_pb2_grpc.QdrantServicer):
    def HealthCheck(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802  # the official name
        return pb.HealthCheckReply(title="qdrant - vector search engine", version=self._engine.version)


class _Collections(_Face, collections_service_pb2_grpc.CollectionsServicer):
    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            return pb.CollectionOperationResponse(
                result=self._engine.create(request.collection_name, r.creation_of(request))
            )

        return self._answer("CreateCollection", request, context, work)

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            return pb.CollectionOperationResponse(
                result=self._engine.update_collection(request.collection_name, r.change_of(request))
            )

        return self._answer("UpdateCollection", request, context, work)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            return pb.CollectionOperationResponse(result=self._engine.delete(request.collection_name))

        return self._answer("DeleteCollection", request, context, work)

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            info = self._engine.info(request.collection_name)
            return pb.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

        return self._answer("GetCollection", request, context, work)

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            names = [pb.CollectionDescription(name=name) for name in self._engine.names()]
            return pb.ListCollectionsResponse(collections=names)

        return self._answer("ListCollections", request, context, work)

    def CollectionExists(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            exists = self._engine.exists(request.collection_name)
            return pb.CollectionExistsResponse(result=pb.CollectionExists(exists=exists))

        return self._answer("CollectionExists", request, context, work)

    def UpdateAliases(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            operations = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
            return pb.CollectionOperationResponse(result=self._engine.change_aliases(operations))

        return self._answer("UpdateAliases", request, context, work)

    def ListAliases(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("ListAliases", request, context, lambda: self._aliases(None))

    def ListCollectionAliases(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("ListCollectionAliases", request, context, lambda: self._aliases(request.collection_name))

    def _aliases(self, name: str | None) -> Any:
        aliases = self._engine.aliases_of(name)
        return pb.ListAliasesResponse(
            aliases=[pb.AliasDescription(alias_name=a, collection_name=c) for a, c in aliases.items()]
        )

    def CreateShardKey(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            key = GrpcToRest.convert_shard_key(request.request.shard_key)
            return pb.CreateShardKeyResponse(result=self._engine.create_shard_key(request.collection_name, key))

        return self._answer("CreateShardKey", request, context, work)

    def DeleteShardKey(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            key = GrpcToRest.convert_shard_key(request.request.shard_key)
            return pb.DeleteShardKeyResponse(result=self._engine.delete_shard_key(request.collection_name, key))

        return self._answer("DeleteShardKey", request, context, work)

    def ListShardKeys(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            keys = self._engine.shard_keys(request.collection_name)
            return pb.ListShardKeysResponse(
                shard_keys=[pb.ShardKeyDescription(key=m.shard_key_message(key)) for key in keys]
            )

        return self._answer("ListShardKeys", request, context, work)

    def CollectionClusterInfo(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        class Timed:
            """A reply without the field `time`."""

            def __init__(self, message: Any) -> None:
                self.message = message
                self.time = 0.0

        def work() -> Any:
            info = self._engine.cluster_info(request.collection_name)
            return Timed(RestToGrpc.convert_collection_cluster_info(info))

        return self._answer("CollectionClusterInfo", request, context, work).message


class _Points(_Face, points_service_pb2_grpc.PointsServicer):
    def _change(self, method: str, request: Any, context: grpc.ServicerContext, convert: Callable[[Any], Any]) -> Any:
        def work() -> Any:
            [result] = self._engine.change(request.collection_name, [convert(request)], wait=request.wait)
            return pb.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))

        return self._answer(method, request, context, work)

    def Upsert(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("Upsert", request, context, m.upsert_of)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("Delete", request, context, m.delete_of)

    def UpdateVectors(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("UpdateVectors", request, context, m.update_vectors_of)

    def DeleteVectors(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("DeleteVectors", request, context, m.delete_vectors_of)

    def SetPayload(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("SetPayload", request, context, m.set_payload_of)

    def OverwritePayload(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("OverwritePayload", request, context, m.overwrite_payload_of)

    def DeletePayload(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("DeletePayload", request, context, m.delete_payload_of)

    def ClearPayload(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._change("ClearPayload", request, context, m.clear_payload_of)

    def UpdateBatch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            operations = [m.operation_of(operation) for operation in request.operations]
            results = self._engine.change(request.collection_name, operations, wait=request.wait)
            return pb.UpdateBatchResponse(result=[RestToGrpc.convert_update_result(each) for each in results])

        return self._answer("UpdateBatch", request, context, work)

    def CreateFieldIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            check_path(request.field_name)
            result = self._engine.create_index(request.collection_name, request.field_name, r.field_schema_of(request))
            return pb.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))

        return self._answer("CreateFieldIndex", request, context, work)

    def DeleteFieldIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            result = self._engine.delete_index(request.collection_name, request.field_name)
            return pb.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))

        return self._answer("DeleteFieldIndex", request, context, work)

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            rows = self._engine.fetch(
                request.collection_name,
                models.PointRequest.model_construct(
                    ids=[m.id_of(each) for each in request.ids],
                    shard_key=m.keys_of(request),
                    with_payload=m.payload_selector(request),
                    with_vector=m.vectors_selector(request),
                ),
            )
            return pb.GetResponse(result=[m.retrieved(row, old=self._old) for row in rows])

        return self._answer("Get", request, context, work)

    def Scroll(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            rows, following = self._engine.scroll(
                request.collection_name,
                models.ScrollRequest.model_construct(
                    offset=m.id_of(request.offset) if request.HasField("offset") else None,
                    limit=request.limit if request.HasField("limit") else None,
                    filter=m.filter_of(request),
                    shard_key=m.keys_of(request),
                    with_payload=m.payload_selector(request),
                    with_vector=m.vectors_selector(request),
                    order_by=GrpcToRest.convert_order_by(request.order_by) if request.HasField("order_by") else None,
                ),
            )
            return pb.ScrollResponse(
                result=[m.retrieved(row, old=self._old) for row in rows],
                next_page_offset=None if following is None else m.id_message(following),
            )

        return self._answer("Scroll", request, context, work)

    def Count(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            count = self._engine.count(
                request.collection_name,
                models.CountRequest.model_construct(filter=m.filter_of(request), shard_key=m.keys_of(request)),
            )
            return pb.CountResponse(result=pb.CountResult(count=count))

        return self._answer("Count", request, context, work)

    def Query(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            [rows] = self._engine.query(request.collection_name, [r.query_of(request)])
            return pb.QueryResponse(result=[m.scored(row, old=self._old) for row in rows])

        return self._answer("Query", request, context, work)

    def QueryBatch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            answers = self._engine.query(request.collection_name, [r.query_of(query) for query in request.query_points])
            return pb.QueryBatchResponse(
                result=[pb.BatchResult(result=[m.scored(row, old=self._old) for row in rows]) for rows in answers]
            )

        return self._answer("QueryBatch", request, context, work)

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            [rows] = self._engine.query(request.collection_name, [r.search_of(request)])
            return pb.SearchResponse(result=[m.scored(row, old=self._old) for row in rows])

        return self._answer("Search", request, context, work)

    def SearchBatch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def work() -> Any:
            answers = self._engine.query(request.collection_name, [r.search_of(one) for one in request.search_points])
            return pb.SearchBatchResponse(
                result=[pb.BatchResult(result=[m.scored(row, old=self._old) for row in rows]) for rows in answers]
            )

        return self._answer("SearchBatch", request, context, work)
