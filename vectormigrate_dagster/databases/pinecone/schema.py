"""An index's description as a `CollectionSchema`, and back.

https://docs.pinecone.io/reference/api/2026-07/control-plane/describe_index
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectormigrate_dagster.databases.pinecone.capabilities import DENSE_FIELD, SPARSE_FIELD
from vectormigrate_dagster.databases.pinecone.tags import marker_of, tags_of
from vectormigrate_dagster.databases.schema_check import masked
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import (
    CollectionSchema,
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

METRICS = {"cosine": Metric.COSINE, "dotproduct": Metric.DOT, "euclidean": Metric.EUCLIDEAN}
"""Pinecone's names of what dense vectors are compared by."""

_WORDS = {metric: word for word, metric in METRICS.items()}
_SERVER_EMBEDS = ("embed", "sparse_embed")
_FIELD_TYPES = {
    "string": FieldType.TEXT,
    "string_list": FieldType.ARRAY,
    "boolean": FieldType.BOOL,
    "integer": FieldType.FLOAT64,
    "float": FieldType.FLOAT64,
}


def is_document_index(model: Any) -> bool:
    """Whether an index is served by the documents API: it has a field beside the two reserved ones.

    https://docs.pinecone.io/guides/indexes/move-to-the-documents-api
    """
    fields = _fields(model)
    searched = {name for name, settings in fields.items() if settings.get("type") in ("dense_vector", "sparse_vector")}
    searched |= {name for name, settings in fields.items() if _is_searched_text(settings)}
    return bool(searched - {DENSE_FIELD, SPARSE_FIELD})


def vectors_of(model: Any) -> tuple[VectorSchema, ...]:
    """The vectors of an index, dense ones first, each kind by name."""
    fields = sorted(_fields(model).items())
    dense = [
        VectorSchema(name=name, dim=settings["dimension"], metric=METRICS.get(settings["metric"]))
        for name, settings in fields
        if settings.get("type") == "dense_vector"
    ]
    sparse = [
        VectorSchema(name=name, kind=VectorKind.SPARSE, metric=Metric.DOT, optional=bool(dense))
        for name, settings in fields
        if settings.get("type") == "sparse_vector"
    ]
    return (*dense, *sparse)


def is_pod_index(model: Any) -> bool:
    """Whether an index is on pods, which list neither ids nor namespaces."""
    return str(model.to_dict()["deployment"].get("deployment_type")) == "pod"


def embeds_in_the_old_way(model: Any) -> bool:
    """Whether an index was made for a model (`create_for_model`): a vector index whose schema does not say its vectors.

    https://docs.pinecone.io/guides/index-data/indexing-overview#integrated-embedding
    """
    return any(settings.get("type") == "semantic_text" for settings in _fields(model).values())


def vectors_in(stats: Any) -> tuple[VectorSchema, ...]:
    """The vectors of a vector index by what it says of itself (the client's `DescribeIndexStatsResponse`)."""
    if stats.vector_type == "sparse":
        return (VectorSchema(name=SPARSE_FIELD, kind=VectorKind.SPARSE, metric=Metric.DOT),)
    metric = METRICS.get(stats.metric or "")
    dense = VectorSchema(name=DENSE_FIELD, dim=stats.dimension, metric=metric)
    if metric is not Metric.DOT:
        return (dense,)
    # A record may have sparse values besides; nobody says whether some do.
    return dense, VectorSchema(name=SPARSE_FIELD, kind=VectorKind.SPARSE, metric=metric, optional=True)


def read_schema(
    name: str, model: Any, vectors: tuple[VectorSchema, ...], namespaces: Sequence[str]
) -> CollectionSchema:
    """What the client's `IndexModel` says.

    Args:
        name: the index.
        model: as the control plane describes it; None if it was not asked.
        vectors: the index's vectors.
        namespaces: those that divide it; see `Pinecone.scopes`.

    Raises:
        SchemaMismatch: Pinecone makes vectors out of the documents' texts itself, so there are none to move.
    """
    scope = ScopeKind.NAMESPACE if namespaces else ScopeKind.NONE
    schema = CollectionSchema(name=name, ids=IdSchema(kinds=(IdKind.TEXT,)), vectors=vectors, scope=scope)
    if model is None:
        return schema
    described = model.to_dict()
    marker, tags = marker_of(described.get("tags") or {})
    fields = _fields(model)
    embedded = [key for key, value in fields.items() if any(value.get(word) is not None for word in _SERVER_EMBEDS)]
    if embedded:
        raise SchemaMismatch(
            f"index '{name}' makes vectors of the texts in '{embedded[0]}' by itself and does not give them away; only "
            "vectors that were written can be moved"
        )
    settings = {
        "deployment": described["deployment"],
        "read_capacity": _read_capacity(described.get("read_capacity") or {}),
        "deletion_protection": described["deletion_protection"].replace("disabled", "") or None,
        "tags": tags,
    }
    return schema.model_copy(
        update={
            "fields": tuple(_read_field(key, value) for key, value in sorted(fields.items()) if not _is_vector(value)),
            "marker": marker,
            "settings": masked({key: value for key, value in settings.items() if value not in (None, {})}),
        }
    )


def creation(schema: CollectionSchema, *, cloud: str, region: str) -> dict[str, Any]:
    """Arguments of the client's `indexes.create`.

    Raises:
        SchemaMismatch: Pinecone has no such index.
    """
    names = {vector.name for vector in schema.vectors}
    if names & {DENSE_FIELD, SPARSE_FIELD} and names - {DENSE_FIELD, SPARSE_FIELD}:
        raise SchemaMismatch(
            f"Pinecone cannot hold collection '{schema.name}': '{DENSE_FIELD}' and '{SPARSE_FIELD}' stand in an index "
            "of their own; give every vector another name"
        )
    tags = tags_of(schema.marker, schema.settings.get("tags") or {})
    kept = {key: schema.settings[key] for key in ("deletion_protection", "read_capacity") if schema.settings.get(key)}
    return {
        "schema": {"fields": {vector.name: _write_vector(vector, schema.name) for vector in schema.vectors}},
        "deployment": {"deployment_type": "managed", "cloud": cloud, "region": region},
        **kept,
        **({"tags": tags} if tags else {}),
    }


def _read_capacity(described: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, without how it stands with it; nothing if that is the default."""
    kept = {key: value for key, value in described.items() if key != "status" and value is not None}
    return {} if kept == {"mode": "OnDemand"} else kept


def _write_vector(vector: VectorSchema, collection: str) -> dict[str, Any]:
    if (vector.name == SPARSE_FIELD) != (vector.kind is VectorKind.SPARSE) and vector.name in (
        DENSE_FIELD,
        SPARSE_FIELD,
    ):
        raise SchemaMismatch(
            f"Pinecone cannot hold collection '{collection}': '{vector.name}' is no name of a {vector.kind.value} "
            "vector"
        )
    if vector.kind is VectorKind.SPARSE:
        return {"type": "sparse_vector"}
    if vector.dim is None or vector.metric is None:
        raise SchemaMismatch(f"Pinecone needs a dimension and a metric for vector '{vector.name}'")
    return {"type": "dense_vector", "dimension": vector.dim, "metric": _WORDS[vector.metric]}


def _read_field(name: str, settings: dict[str, Any]) -> FieldSchema:
    search = settings.get("full_text_search")
    index = None
    if search is not None:
        index = IndexSpec(type="full_text", params={key: value for key, value in search.items() if value is not None})
    elif settings.get("filterable"):
        index = IndexSpec(type="filterable")
    kind = _FIELD_TYPES.get(settings.get("type", ""), FieldType.ANY)
    return FieldSchema(name=name, type=kind, element=FieldType.TEXT if kind is FieldType.ARRAY else None, index=index)


def _fields(model: Any) -> dict[str, dict[str, Any]]:
    fields: dict[str, dict[str, Any]] = model.schema.to_dict()["fields"]
    return fields


def _is_vector(settings: dict[str, Any]) -> bool:
    return settings.get("type") in ("dense_vector", "sparse_vector")


def _is_searched_text(settings: dict[str, Any]) -> bool:
    return settings.get("type") == "string" and any(
        settings.get(key) is not None for key in ("full_text_search", *_SERVER_EMBEDS)
    )
