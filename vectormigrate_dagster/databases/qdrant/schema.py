"""A Qdrant collection's settings as a `CollectionSchema`, and back.

https://qdrant.tech/documentation/concepts/collections/
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vectormigrate_dagster.databases.schema_check import masked
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

_PARAMS = ("write_consistency_factor", "read_fan_out_factor", "read_fan_out_delay_ms", "on_disk_payload", "payload")
_LATER_PARAMS = ("read_fan_out_factor", "read_fan_out_delay_ms")
"""Parameters that a collection cannot be created with, but can be given afterwards."""

_DIFFS = {"hnsw_config": "HnswConfigDiff", "optimizer_config": "OptimizersConfigDiff", "wal_config": "WalConfigDiff"}
_VECTOR_STORAGE = ("memory", "datatype")
SETTINGS = (
    *_PARAMS,
    *_DIFFS,
    "id_tracker",
    "metadata",
    "quantization_config",
    "strict_mode_config",
    "vector_storage",
)
"""Keys of `CollectionSchema.settings`: what `read_schema` reports is what `creation` and `later` restore."""


def read_schema(name: str, info: Any, aliases: list[str]) -> CollectionSchema:
    """What the client's `CollectionInfo` says."""
    config, params = info.config, info.config.params
    unnamed = not isinstance(params.vectors, dict)
    dense = {"": params.vectors} if unnamed and params.vectors is not None else params.vectors or {}
    # By name: over gRPC they come in any order, and a plan must not depend on it.
    vectors = [_read_dense(key, value, config) for key, value in sorted(dense.items())]
    vectors += [_read_sparse(key, value) for key, value in sorted((params.sparse_vectors or {}).items())]
    fields = tuple(_read_field(key, value) for key, value in sorted((info.payload_schema or {}).items()))
    metadata = dict(config.metadata or {})
    marker = metadata.pop(MARKER, None)
    return CollectionSchema(
        name=name,
        ids=IdSchema(kinds=(IdKind.U64, IdKind.UUID)),
        vectors=tuple(vectors),
        fields=fields,
        scope=_read_scope(params, fields),
        shards=params.shard_number,
        replicas=params.replication_factor,
        aliases=tuple(sorted(aliases)),
        marker=marker,
        settings=masked(_read_settings(config, dense, metadata)),
    )


def _read_settings(config: Any, dense: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    plain = {name: _plain(getattr(config, name, None)) for name in _DIFFS}
    plain["quantization_config"] = _quantization(config.quantization_config)
    plain |= {name: _plain(getattr(config.params, name, None)) for name in (*_PARAMS, "id_tracker")}
    storage = {
        name: {key: value for key, value in _plain(params).items() if key in _VECTOR_STORAGE}
        for name, params in dense.items()
        if _stored_otherwise(params)
    }
    return {
        **{name: value for name, value in plain.items() if value not in (None, {})},
        "metadata": metadata,
        "strict_mode_config": _plain(config.strict_mode_config),
        **({"vector_storage": storage} if storage else {}),
    }


def creation(schema: CollectionSchema) -> dict[str, Any]:
    """Arguments of the client's `create_collection`.

    Raises:
        SchemaMismatch: an unnamed vector stands beside named ones, or a setting is none that Qdrant knows.
    """
    from pydantic import ValidationError
    from qdrant_client import models

    dense = {v.name: _write_dense(v, schema.settings) for v in schema.vectors if v.kind is not VectorKind.SPARSE}
    if "" in dense and len(dense) > 1:
        raise SchemaMismatch(
            f"Qdrant cannot hold collection '{schema.name}': an unnamed vector cannot stand beside "
            f"{', '.join(repr(name) for name in dense if name)}; give it a name"
        )
    custom = schema.scope is ScopeKind.SHARD_KEY
    try:
        settings = _write_settings(schema.settings)
    except ValidationError as error:
        raise SchemaMismatch(f"Qdrant does not know these settings of collection '{schema.name}': {error}") from error
    metadata = {**schema.settings.get("metadata", {}), **({MARKER: schema.marker} if schema.marker is not None else {})}
    return {
        **settings,
        "vectors_config": dense.get("", dense),
        "sparse_vectors_config": {v.name: _write_sparse(v) for v in schema.vectors if v.kind is VectorKind.SPARSE},
        "shard_number": schema.shards,
        "sharding_method": models.ShardingMethod.CUSTOM if custom else None,
        "replication_factor": schema.replicas,
        "metadata": metadata or None,
    }


def _write_settings(settings: dict[str, Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from qdrant_client import models

    written: dict[str, Any] = {}
    for name, diff in _DIFFS.items():
        if settings.get(name):
            model = getattr(models, diff)
            known = {key: value for key, value in settings[name].items() if key in model.model_fields}
            written[name.replace("optimizer_", "optimizers_")] = model.model_validate(known)
    typed = {
        "quantization_config": models.QuantizationConfig,
        "strict_mode_config": models.StrictModeConfig,
        "payload": models.PayloadStorageParams,
        "id_tracker": models.IdTrackerParams,
    }
    for name, model in typed.items():
        if settings.get(name):
            written[name] = TypeAdapter(model).validate_python(settings[name])
    for name in ("write_consistency_factor", "on_disk_payload"):
        if settings.get(name) is not None:
            written[name] = settings[name]
    return written


def later(schema: CollectionSchema) -> Any:
    """The client's `CollectionParamsDiff` that completes what `creation` made; None if nothing is missing."""
    from qdrant_client import models

    params = {name: schema.settings[name] for name in _LATER_PARAMS if schema.settings.get(name) is not None}
    return models.CollectionParamsDiff(**params) if params else None


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
    quantization = _quantization(params.quantization_config or config.quantization_config)
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


def _stored_otherwise(params: Any) -> bool:
    """Whether a vector is stored in a way that `VectorSchema` has no word for."""
    datatype = None if params.datatype is None else params.datatype.value
    return getattr(params, "memory", None) is not None or datatype not in (None, *(e.value for e in Element))


def _write_dense(vector: VectorSchema, settings: dict[str, Any]) -> Any:
    """A vector's own settings: what it shares with the collection is left to the collection."""
    from qdrant_client import models

    if vector.dim is None or vector.metric is None:
        raise SchemaMismatch(f"Qdrant needs a dimension and a metric for vector '{vector.name}'")
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    quantization = {vector.quantization.type: vector.quantization.params} if vector.quantization is not None else None
    if quantization == settings.get("quantization_config"):
        quantization = None
    shared = settings.get("hnsw_config", {})
    hnsw = vector.index.params if vector.index is not None and vector.index.type == "hnsw" else {}
    own = {
        key: value
        for key, value in hnsw.items()
        if key in models.HnswConfigDiff.model_fields and shared.get(key) != value
    }
    written = {
        "size": vector.dim,
        "distance": _DISTANCES[vector.metric],
        "datatype": None if vector.element is Element.FLOAT32 else vector.element.value,
        "on_disk": vector.on_disk,
        "multivector_config": multi if vector.kind is VectorKind.MULTI else None,
        "hnsw_config": own or None,
        "quantization_config": quantization,
        **settings.get("vector_storage", {}).get(vector.name, {}),
    }
    return models.VectorParams.model_validate(written)


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


def _quantization(settings: Any) -> dict[str, dict[str, Any]]:
    """Quantization by its kind. A quantile is a float32, which gRPC shows with more digits than REST."""
    plain: dict[str, dict[str, Any]] = _plain(settings)
    return {
        kind: {key: float(str(np.float32(value))) if key == "quantile" else value for key, value in params.items()}
        for kind, params in plain.items()
    }


def _plain(settings: Any) -> Any:
    """A model of the client as JSON; {} for none, and a plain value as it is."""
    if settings is None:
        return {}
    return settings.model_dump(mode="json", exclude_none=True) if hasattr(settings, "model_dump") else settings
