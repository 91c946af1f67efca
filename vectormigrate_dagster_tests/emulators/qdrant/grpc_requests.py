"""Requests over gRPC that are about collections and queries, as the models that the engine takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client import grpc as pb
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest

from vectormigrate_dagster_tests.emulators.qdrant import grpc_messages as m


def _optional(message: Any, field: str, convert: Callable[[Any], Any]) -> Any:
    return convert(getattr(message, field)) if message.HasField(field) else None


def _value(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def creation_of(request: Any) -> models.CreateCollection:
    c = GrpcToRest
    sparse = _optional(request, "sparse_vectors_config", c.convert_sparse_vector_config)
    return models.CreateCollection.model_construct(
        vectors=_optional(request, "vectors_config", c.convert_vectors_config),
        sparse_vectors=sparse,
        shard_number=_value(request, "shard_number"),
        sharding_method=_optional(request, "sharding_method", c.convert_sharding_method),
        replication_factor=_value(request, "replication_factor"),
        write_consistency_factor=_value(request, "write_consistency_factor"),
        on_disk_payload=_value(request, "on_disk_payload"),
        payload=_optional(request, "payload", c.convert_payload_storage_params),
        id_tracker=None,
        hnsw_config=_optional(request, "hnsw_config", c.convert_hnsw_config_diff),
        wal_config=_optional(request, "wal_config", c.convert_wal_config_diff),
        optimizers_config=_optional(request, "optimizers_config", c.convert_optimizers_config_diff),
        quantization_config=_optional(request, "quantization_config", c.convert_quantization_config),
        strict_mode_config=_optional(request, "strict_mode_config", c.convert_strict_mode_config),
        metadata=c.convert_payload(request.metadata) if request.metadata else None,
    )


def change_of(request: Any) -> models.UpdateCollection:
    c = GrpcToRest
    return models.UpdateCollection.model_construct(
        vectors=_optional(request, "vectors_config", c.convert_vectors_config_diff),
        sparse_vectors=_optional(request, "sparse_vectors_config", c.convert_sparse_vector_config),
        params=_optional(request, "params", c.convert_collection_params_diff),
        hnsw_config=_optional(request, "hnsw_config", c.convert_hnsw_config_diff),
        optimizers_config=_optional(request, "optimizers_config", c.convert_optimizers_config_diff),
        quantization_config=_optional(request, "quantization_config", c.convert_quantization_config_diff),
        strict_mode_config=_optional(request, "strict_mode_config", c.convert_strict_mode_config),
        metadata=c.convert_payload(request.metadata) if request.metadata else None,
    )


def field_schema_of(request: Any) -> Any:
    if request.HasField("field_index_params"):
        return GrpcToRest.convert_payload_schema_params(request.field_index_params)
    if not request.HasField("field_type"):
        return None
    name = pb.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
    return models.PayloadSchemaType(name)


def query_of(request: Any) -> models.QueryRequest:
    c = GrpcToRest
    return models.QueryRequest.model_construct(
        shard_key=m.keys_of(request),
        prefetch=[c.convert_prefetch_query(prefetch) for prefetch in request.prefetch] or None,
        query=_optional(request, "query", c.convert_query),
        using=_value(request, "using"),
        filter=m.filter_of(request),
        params=_optional(request, "params", c.convert_search_params),
        score_threshold=_value(request, "score_threshold"),
        limit=_value(request, "limit"),
        offset=_value(request, "offset"),
        with_vector=m.vectors_selector(request),
        with_payload=m.payload_selector(request),
        lookup_from=_optional(request, "lookup_from", c.convert_lookup_location),
    )


def search_of(request: Any) -> models.QueryRequest:
    vector: Any = list(request.vector)
    if request.HasField("sparse_indices"):
        vector = models.SparseVector(indices=list(request.sparse_indices.data), values=vector)
    return models.QueryRequest.model_construct(
        shard_key=m.keys_of(request),
        prefetch=None,
        query=vector,
        using=request.vector_name or None,
        filter=m.filter_of(request),
        params=_optional(request, "params", GrpcToRest.convert_search_params),
        score_threshold=_value(request, "score_threshold"),
        limit=request.limit,
        offset=_value(request, "offset"),
        with_vector=m.vectors_selector(request),
        with_payload=m.payload_selector(request),
        lookup_from=None,
    )
