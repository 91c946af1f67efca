"""A Milvus collection's settings as a `CollectionSchema`, and back.

https://milvus.io/docs/schema.md; the metric is a setting of the index, not of the field.
"""

from __future__ import annotations

import json
from typing import Any

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

MARKER = "vectormigrate.marker"
"""Key of `CollectionSchema.marker`, as JSON text, in the collection's properties."""

DEFAULT_PARTITION = "_default"
MAX_TEXT_BYTES = 65_535
MAX_ARRAY = 4096

METRICS = {
    Metric.COSINE: "COSINE",
    Metric.DOT: "IP",
    Metric.EUCLIDEAN: "L2",
    Metric.HAMMING: "HAMMING",
    Metric.JACCARD: "JACCARD",
}
_METRICS_BACK = {name: metric for metric, name in METRICS.items()}

_VECTORS = {
    (VectorKind.DENSE, Element.FLOAT32): "FLOAT_VECTOR",
    (VectorKind.DENSE, Element.FLOAT16): "FLOAT16_VECTOR",
    (VectorKind.DENSE, Element.BFLOAT16): "BFLOAT16_VECTOR",
    (VectorKind.DENSE, Element.INT8): "INT8_VECTOR",
    (VectorKind.DENSE, Element.BINARY): "BINARY_VECTOR",
    (VectorKind.SPARSE, Element.FLOAT32): "SPARSE_FLOAT_VECTOR",
}
_VECTORS_BACK = {name: key for key, name in _VECTORS.items()}

_TYPES = {
    FieldType.BOOL: "BOOL",
    FieldType.INT8: "INT8",
    FieldType.INT16: "INT16",
    FieldType.INT32: "INT32",
    FieldType.INT64: "INT64",
    FieldType.FLOAT32: "FLOAT",
    FieldType.FLOAT64: "DOUBLE",
    FieldType.TEXT: "VARCHAR",
    FieldType.JSON: "JSON",
    FieldType.ARRAY: "ARRAY",
    FieldType.DATETIME: "TIMESTAMPTZ",
    FieldType.GEO: "GEOMETRY",
}
_TYPES_BACK = {name: known for known, name in _TYPES.items()}

_QUANTIZED = {"SQ": "scalar", "PQ": "product", "RABITQ": "binary"}
_STATE_OF_INDEX = {
    "index_type",
    "metric_type",
    "field_name",
    "index_name",
    "total_rows",
    "indexed_rows",
    "pending_index_rows",
    "state",
}


def read_schema(
    name: str, described: dict[str, Any], indexes: list[dict[str, Any]], partitions: list[str], aliases: list[str]
) -> CollectionSchema:
    """What the client's `describe_collection`, `describe_index`, `list_partitions` and `list_aliases` say.

    Raises:
        SchemaMismatch: a field has a type that this version cannot move.
    """
    by_field = {index["field_name"]: index for index in indexes}
    key = next(field for field in described["fields"] if field.get("is_primary"))
    # What a function computes (BM25) can be neither read nor written.
    others = [f for f in described["fields"] if f is not key and not f.get("is_function_output")]
    vectors = tuple(_read_vector(f, by_field.get(f["name"])) for f in others if _type(f) in _VECTORS_BACK)
    fields = tuple(_read_field(f, by_field.get(f["name"])) for f in others if _type(f) not in _VECTORS_BACK)
    properties = dict(described.get("properties") or {})
    marker = properties.pop(MARKER, None)
    return CollectionSchema(
        name=name,
        ids=IdSchema(
            kinds=(IdKind.I64 if _type(key) == "INT64" else IdKind.TEXT,),
            field=key["name"],
            max_length=_number(key, "max_length"),
            auto=bool(described.get("auto_id")),
        ),
        vectors=vectors,
        fields=fields,
        dynamic=bool(described.get("enable_dynamic_field")),
        scope=_read_scope(fields, partitions),
        shards=described.get("num_shards"),
        aliases=tuple(sorted(aliases)),
        marker=None if marker is None else json.loads(marker),
        settings=masked(
            {
                "consistency_level": described.get("consistency_level_name"),
                "description": described.get("description"),
                "functions": [str(function.get("name")) for function in described.get("functions") or []],
                "properties": properties,
                # Of a partition key; other partitions are scopes.
                "num_partitions": described.get("num_partitions") if any(field.tenant for field in fields) else None,
            }
        ),
    )


def creation(schema: CollectionSchema) -> tuple[dict[str, Any], Any]:
    """Arguments of the client's `create_collection`, and the indexes for its `create_index`.

    Raises:
        SchemaMismatch: a field has no type in Milvus.
    """
    from pymilvus import DataType, MilvusClient

    if len(schema.ids.kinds) != 1:
        raise SchemaMismatch(f"Milvus cannot hold collection '{schema.name}': its ids are of several kinds")
    made = MilvusClient.create_schema(
        auto_id=schema.ids.auto,
        enable_dynamic_field=schema.dynamic,
        description=schema.settings.get("description") or "",
    )
    text = {} if schema.ids.kinds[0] is IdKind.I64 else {"max_length": schema.ids.max_length or MAX_TEXT_BYTES}
    kind = DataType.VARCHAR if text else DataType.INT64
    made.add_field(schema.ids.field or "id", kind, is_primary=True, **text)
    indexes = MilvusClient.prepare_index_params()
    for vector in schema.vectors:
        dim = {} if vector.dim is None else {"dim": vector.dim}
        stored = DataType[_VECTORS[vector.kind, vector.element]]
        made.add_field(vector.name, stored, nullable=vector.optional, **dim)
        if vector.metric is not None or vector.kind is VectorKind.SPARSE:
            _add_index(indexes, vector.name, vector.index or _default_index(vector), vector.metric or Metric.DOT)
    for field in schema.fields:
        made.add_field(field.name, DataType[_TYPES[field.type]], **_field_settings(field))
        if field.index is not None:
            indexes.add_index(field_name=field.name, index_type=field.index.type, params=field.index.params)
    arguments: dict[str, Any] = {"schema": made}
    arguments |= {
        name: schema.settings[name]
        for name in ("consistency_level", "num_partitions", "properties")
        if schema.settings.get(name)
    }
    if schema.marker is not None:
        arguments["properties"] = {**arguments.get("properties", {}), MARKER: json.dumps(schema.marker)}
    if schema.shards is not None:
        arguments["num_shards"] = schema.shards
    return arguments, indexes


def _read_vector(field: dict[str, Any], index: dict[str, Any] | None) -> VectorSchema:
    kind, element = _VECTORS_BACK[_type(field)]
    spec = _read_index(index)
    quantized = next((word for part, word in _QUANTIZED.items() if spec is not None and part in spec.type), None)
    return VectorSchema(
        name=field["name"],
        kind=kind,
        element=element,
        dim=_number(field, "dim"),
        metric=None if index is None else _METRICS_BACK.get(index["metric_type"]),
        optional=bool(field.get("nullable")),
        index=spec,
        quantization=None if quantized is None else IndexSpec(type=quantized),
    )


def _read_field(field: dict[str, Any], index: dict[str, Any] | None) -> FieldSchema:
    if _type(field) not in _TYPES_BACK:
        raise SchemaMismatch(
            f"field '{field['name']}' has type {_type(field)}, which this version cannot move; "
            f"possible are {', '.join(sorted(_TYPES_BACK) + sorted(_VECTORS_BACK))}"
        )
    element = field.get("element_type")
    default = field.get("default_value")
    chosen = default.WhichOneof("data") if default is not None else None
    return FieldSchema(
        name=field["name"],
        type=_TYPES_BACK[_type(field)],
        declared=True,
        nullable=bool(field.get("nullable")),
        element=_TYPES_BACK[_data_type(element)] if element else None,
        max_length=_number(field, "max_length"),
        max_capacity=_number(field, "max_capacity"),
        index=_read_index(index),
        tenant=bool(field.get("is_partition_key")),
        default=getattr(default, chosen) if chosen else None,
    )


def _read_index(index: dict[str, Any] | None) -> IndexSpec | None:
    if index is None:
        return None
    params = {key: _plain_number(value) for key, value in index.items() if key not in _STATE_OF_INDEX}
    return IndexSpec(type=index["index_type"], params=params)


def _read_scope(fields: tuple[FieldSchema, ...], partitions: list[str]) -> ScopeKind:
    # A partition key makes partitions of its own, which cannot be named.
    if any(field.tenant for field in fields):
        return ScopeKind.FIELD
    return ScopeKind.NONE if partitions == [DEFAULT_PARTITION] else ScopeKind.PARTITION


def _field_settings(field: FieldSchema) -> dict[str, Any]:
    from pymilvus import DataType

    # A partition key and its default are never null: https://milvus.io/docs/use-partition-key.md
    settings: dict[str, Any] = {"is_partition_key": True} if field.tenant else {"nullable": field.nullable}
    if FieldType.TEXT in (field.type, field.element):
        settings["max_length"] = field.max_length or MAX_TEXT_BYTES
    if field.type is FieldType.ARRAY:
        if field.element is None:
            raise SchemaMismatch(f"array field '{field.name}' needs a type of its elements")
        settings |= {"element_type": DataType[_TYPES[field.element]], "max_capacity": field.max_capacity or MAX_ARRAY}
    if field.default is not None:
        settings["default_value"] = field.default
    return settings


def _add_index(indexes: Any, name: str, index: IndexSpec, metric: Metric) -> None:
    indexes.add_index(field_name=name, index_type=index.type, metric_type=METRICS[metric], params=index.params)


def _default_index(vector: VectorSchema) -> IndexSpec:
    return IndexSpec(type="SPARSE_INVERTED_INDEX" if vector.kind is VectorKind.SPARSE else "AUTOINDEX")


def _type(field: dict[str, Any]) -> str:
    return _data_type(field["type"])


def _data_type(value: Any) -> str:
    from pymilvus import DataType

    return str(DataType(value).name)


def _number(field: dict[str, Any], name: str) -> int | None:
    value = (field.get("params") or {}).get(name)
    return None if value is None else int(value)


def _plain_number(value: Any) -> Any:
    """Servers report settings of indexes as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value
