"""A Qdrant collection's settings as a `CollectionSchema`, and back.

https://qdrant.tech/documentation/concepts/collections/
"""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster.databases.base import masked
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import (
    CollectionSchema,
    Element,
    FieldSchema,
    FieldType,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    ScopeKind,
    VectorKind,
    VectorSchema,
)

MARKER = "vectormigrate"
"""Key of `CollectionSchema.marker` in the collection's metadata."""

_DISTANCES = {
    Metric.COSINE: "Cosine",
    Metric.DOT: "Dot",
    Metric.EUCLIDEAN: "Euclid",
    Metric.MANHATTAN: "Manhattan",
}
_METRICS = {distance: metric for metric, distance in _DISTANCES.items()}

_FIELD_TYPES = {
    "keyword": FieldType.TEXT,
    "text": FieldType.TEXT,
    "integer": FieldType.INT64,
    "float": FieldType.FLOAT64,
    "bool": FieldType.BOOL,
    "geo": FieldType.GEO,
    "datetime": FieldType.DATETIME,
    "uuid": FieldType.UUID,
}
PAYLOAD_INDEXES = tuple(sorted(_FIELD_TYPES))


def read_schema(name: str, info: Any, aliases: list[str]) -> CollectionSchema:
    """What the client's `CollectionInfo` says."""
    config, params = info.config, info.config.params
    unnamed = not isinstance(params.vectors, dict)
    dense = {"": params.vectors} if unnamed and params.vectors is not None else params.vectors or {}
    vectors = [_read_dense(key, value, config) for key, value in dense.items()]
    vectors += [_read_sparse(key, value) for key, value in (params.sparse_vectors or {}).items()]
    fields = tuple(_read_field(key, value) for key, value in sorted((info.payload_schema or {}).items()))
    metadata = dict(config.metadata or {})
    return CollectionSchema(
        name=name,
        ids=IdSchema(kinds=(IdKind.U64, IdKind.UUID)),
        vectors=tuple(vectors),
        fields=fields,
        scope=_read_scope(params, fields),
        shards=params.shard_number,
        replicas=params.replication_factor,
        aliases=tuple(sorted(aliases)),
        marker=metadata.pop(MARKER, None),
        settings=masked(
            {
                "metadata": metadata,
                "on_disk_payload": params.on_disk_payload,
                "optimizer_config": _plain(config.optimizer_config),
                "strict_mode_config": _plain(config.strict_mode_config),
            }
        ),
    )


def creation(schema: CollectionSchema) -> dict[str, Any]:
    """Arguments of the client's `create_collection`.

    Raises:
        SchemaMismatch: an unnamed vector stands beside named ones.
    """
    from qdrant_client import models

    dense = {v.name: _write_dense(v) for v in schema.vectors if v.kind is not VectorKind.SPARSE}
    if "" in dense and len(dense) > 1:
        raise SchemaMismatch(
            f"Qdrant cannot hold collection '{schema.name}': an unnamed vector cannot stand beside "
            f"{', '.join(repr(name) for name in dense if name)}; give it a name"
        )
    custom = schema.scope is ScopeKind.SHARD_KEY
    return {
        "vectors_config": dense.get("", dense),
        "sparse_vectors_config": {v.name: _write_sparse(v) for v in schema.vectors if v.kind is VectorKind.SPARSE},
        "shard_number": schema.shards,
        "sharding_method": models.ShardingMethod.CUSTOM if custom else None,
        "replication_factor": schema.replicas,
        "metadata": {MARKER: schema.marker} if schema.marker is not None else None,
    }


def payload_index(field: FieldSchema) -> Any:
    """Argument `field_schema` of the client's `create_payload_index`; None if the field has no index.

    Raises:
        SchemaMismatch: Qdrant has no such index.
    """
    from qdrant_client import models

    if field.index is None:
        return None
    if field.index.type not in _FIELD_TYPES:
        raise SchemaMismatch(
            f"Qdrant has no payload index '{field.index.type}' (field '{field.name}'); "
            f"possible are {', '.join(PAYLOAD_INDEXES)}"
        )
    parameters = getattr(models, f"{field.index.type.title()}IndexParams")
    tenant = {"is_tenant": True} if field.tenant else {}
    return parameters(**{"type": field.index.type, **tenant, **field.index.params})


def _read_dense(name: str, params: Any, config: Any) -> VectorSchema:
    hnsw = {**_plain(config.hnsw_config), **_plain(params.hnsw_config)}
    quantization = _plain(params.quantization_config or config.quantization_config)
    return VectorSchema(
        name=name,
        kind=VectorKind.MULTI if params.multivector_config is not None else VectorKind.DENSE,
        element=_element(params.datatype),
        dim=params.size,
        metric=_METRICS[params.distance.value],
        optional=True,
        index=IndexSpec(type="hnsw", params=hnsw),
        quantization=next((IndexSpec(type=key, params=value) for key, value in quantization.items()), None),
        on_disk=params.on_disk,
    )


def _read_sparse(name: str, params: Any) -> VectorSchema:
    index = params.index
    return VectorSchema(
        name=name,
        kind=VectorKind.SPARSE,
        element=_element(index.datatype if index is not None else None),
        metric=Metric.DOT,
        optional=True,
        index=IndexSpec(type="sparse", params=_plain(index)) if index is not None else None,
        on_disk=index.on_disk if index is not None else None,
        modifier=params.modifier.value if params.modifier is not None else None,
    )


def _read_field(name: str, info: Any) -> FieldSchema:
    params = _plain(info.params)
    params.pop("type", None)
    return FieldSchema(
        name=name,
        type=_FIELD_TYPES.get(info.data_type.value, FieldType.ANY),
        index=IndexSpec(type=info.data_type.value, params=params),
        tenant=bool(params.get("is_tenant")),
    )


def _read_scope(params: Any, fields: tuple[FieldSchema, ...]) -> ScopeKind:
    if params.sharding_method is not None and params.sharding_method.value == "custom":
        return ScopeKind.SHARD_KEY
    return ScopeKind.FIELD if any(field.tenant for field in fields) else ScopeKind.NONE


def _write_dense(vector: VectorSchema) -> Any:
    from qdrant_client import models

    if vector.dim is None or vector.metric is None:
        raise SchemaMismatch(f"Qdrant needs a dimension and a metric for vector '{vector.name}'")
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    quantization = {vector.quantization.type: vector.quantization.params} if vector.quantization is not None else None
    hnsw = vector.index.params if vector.index is not None and vector.index.type == "hnsw" else {}
    settings = {
        "size": vector.dim,
        "distance": _DISTANCES[vector.metric],
        "datatype": None if vector.element is Element.FLOAT32 else vector.element.value,
        "on_disk": vector.on_disk,
        "multivector_config": multi if vector.kind is VectorKind.MULTI else None,
        "hnsw_config": {key: value for key, value in hnsw.items() if key in models.HnswConfigDiff.model_fields} or None,
        "quantization_config": quantization,
    }
    return models.VectorParams.model_validate(settings)


def _write_sparse(vector: VectorSchema) -> Any:
    from qdrant_client import models

    index = vector.index.params if vector.index is not None and vector.index.type == "sparse" else {}
    element = {} if vector.element is Element.FLOAT32 else {"datatype": vector.element.value}
    on_disk = {} if vector.on_disk is None else {"on_disk": vector.on_disk}
    merged = {**index, **element, **on_disk}
    return models.SparseVectorParams.model_validate({"index": merged or None, "modifier": vector.modifier})


def _element(datatype: Any) -> Element:
    """Datatypes that this version does not know (turbo4) are read as the float32 that Qdrant returns."""
    known = {"float16": Element.FLOAT16, "uint8": Element.UINT8}
    return known.get(datatype.value, Element.FLOAT32) if datatype is not None else Element.FLOAT32


def _plain(settings: Any) -> dict[str, Any]:
    return {} if settings is None else settings.model_dump(mode="json", exclude_none=True)
