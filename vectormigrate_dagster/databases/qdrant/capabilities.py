"""What Qdrant can do, as a server of some version and in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vectormigrate_dagster.databases.qdrant.schema import PAYLOAD_INDEXES, SETTINGS
from vectormigrate_dagster.databases.version import Version
from vectormigrate_dagster.model import Capabilities, CollectionSchema, Element, IdKind, Metric, ScopeKind, VectorKind

_SPARSE_WEIGHTS = (Metric.DOT,)
_DISTANCES = (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN)

SERVER = Capabilities(
    type="qdrant",
    title="Qdrant",
    id_kinds=(IdKind.U64, IdKind.UUID),
    mixed_id_kinds=True,
    ids_are_unique_per_scope=True,
    metrics={VectorKind.DENSE: _DISTANCES, VectorKind.MULTI: _DISTANCES, VectorKind.SPARSE: _SPARSE_WEIGHTS},
    elements=(Element.FLOAT32, Element.FLOAT16, Element.UINT8),
    vector_kinds=(VectorKind.DENSE, VectorKind.SPARSE, VectorKind.MULTI),
    default_vector_name="",
    missing_vectors=True,
    max_dim=65_536,
    normalises_cosine=True,
    scope_kinds=(ScopeKind.SHARD_KEY, ScopeKind.FIELD),
    insert_only=True,
    searches=(VectorKind.DENSE, VectorKind.SPARSE, VectorKind.MULTI),
    defers_indexing=True,
    quantization=("scalar", "product", "binary", "turbo"),
    payload_indexes=PAYLOAD_INDEXES,
    collection_settings=SETTINGS,
    hnsw_words={"type": "hnsw", "m": "m", "ef_construct": "ef_construct"},
    max_page_records=10_000,
    notes={
        "normalises_cosine": "Cosine vectors are stored with unit norm; their original norm is lost.",
        "insert_only": "Since server 1.17.",
        "scope_kinds": "Shard keys need a server in cluster mode.",
        "marker": "Kept as metadata of the collection since server 1.16; an older one keeps none.",
    },
)
EMBEDDED = SERVER.but(
    title="Qdrant (embedded)",
    single_process=True,
    ids_are_unique_per_scope=False,
    scope_kinds=(),
    defers_indexing=False,
    quantization=(),
    payload_indexes=(),
    collection_settings=("metadata",),
    notes={
        "normalises_cosine": SERVER.notes["normalises_cosine"],
        "quantization": "Settings of indexes and quantization are kept but have no effect; search is exact.",
        "elements": "float16 and uint8 are not rounded when they are written.",
    },
)

# Since which server version there is what: found in the OpenAPI documents of the releases
# (https://github.com/qdrant/qdrant/tree/master/docs/redoc).
_VECTOR_KINDS: dict[VectorKind, Version] = {VectorKind.SPARSE: (1, 7), VectorKind.MULTI: (1, 10)}
_ELEMENTS: dict[Element, Version] = {Element.UINT8: (1, 9), Element.FLOAT16: (1, 10)}
_PAYLOAD_INDEXES: dict[str, Version] = {"uuid": (1, 11)}
_QUANTIZATION: dict[str, Version] = {"turbo": (1, 18)}
_SETTINGS: dict[str, Version] = {
    "strict_mode_config": (1, 13),
    "metadata": (1, 16),
    "payload": (1, 19),
    "id_tracker": (1, 20),
}
_PARAMETERS: dict[str, Version] = {
    "modifier": (1, 10),
    "is_tenant": (1, 11),
    "is_principal": (1, 11),
    "inline_storage": (1, 16),
    "wal_retain_closed": (1, 16),
    "prevent_unoptimized": (1, 17),
    "enable_hnsw": (1, 17),
    "memory": (1, 19),
}
"""Settings by their own name, wherever they stand."""

METADATA: Version = _SETTINGS["metadata"]
SAMPLES: Version = (1, 11)
LISTS_SHARD_KEYS: Version = (1, 17)
SLICES: Version = (1, 19)
INSERT_ONLY: Version = (1, 17)


def at(version: Version, *, clustered: bool) -> Capabilities:
    """What a server of this version can do.

    Args:
        version: of the server.
        clustered: it runs in cluster mode, without which there are no shard keys.
    """
    scope_kinds = SERVER.scope_kinds if clustered else (ScopeKind.FIELD,)
    return replace(
        SERVER,
        vector_kinds=tuple(kind for kind in SERVER.vector_kinds if _VECTOR_KINDS.get(kind, version) <= version),
        elements=tuple(element for element in SERVER.elements if _ELEMENTS.get(element, version) <= version),
        quantization=tuple(word for word in SERVER.quantization if _QUANTIZATION.get(word, version) <= version),
        payload_indexes=tuple(
            word for word in SERVER.payload_indexes if _PAYLOAD_INDEXES.get(word, version) <= version
        ),
        collection_settings=tuple(
            name for name in SERVER.collection_settings if _SETTINGS.get(name, version) <= version
        ),
        keeps_marker=version >= METADATA,
        scope_kinds=scope_kinds,
        insert_only=version >= INSERT_ONLY,
    )


def missing(schema: CollectionSchema, version: Version, *, clustered: bool) -> list[str]:
    """What the schema asks of a server that one of this version or mode does not have, for people to read."""
    lacks = [f"{what} needs server {_text(since)}" for what, since in _asked(schema) if since > version]
    if schema.scope is ScopeKind.SHARD_KEY and not clustered:
        lacks.append("shard keys need a server in cluster mode (cluster.enabled)")
    return list(dict.fromkeys(lacks))


def _asked(schema: CollectionSchema) -> Iterator[tuple[str, Version]]:
    """What the schema asks for, and since when it is there."""
    nothing: Version = (0, 0)
    for vector in schema.vectors:
        name = f"vector '{vector.name}'"
        yield f"{name} ({vector.kind.value})", _VECTOR_KINDS.get(vector.kind, nothing)
        yield f"{name} ({vector.element.value})", _ELEMENTS.get(vector.element, nothing)
        if vector.quantization is not None:
            what = f"{vector.quantization.type} quantization of {name}"
            yield what, _QUANTIZATION.get(vector.quantization.type, nothing)
            yield from _parameters(vector.quantization.params, what)
        if vector.modifier is not None:
            yield f"modifier of {name}", _PARAMETERS["modifier"]
        if vector.index is not None:
            yield from _parameters(vector.index.params, f"index of {name}")
    for field in schema.fields:
        if field.index is not None:
            what = f"index on field '{field.name}'"
            yield f"{field.index.type} {what}", _PAYLOAD_INDEXES.get(field.index.type, nothing)
            yield from _parameters(field.index.params, what)
        if field.tenant:
            yield f"tenants by field '{field.name}'", _PARAMETERS["is_tenant"]
    for name, value in schema.settings.items():
        if value:
            yield f"setting '{name}'", _SETTINGS.get(name, nothing)
            yield from _parameters(value, f"setting '{name}'")


def _parameters(settings: Any, where: str) -> Iterator[tuple[str, Version]]:
    """Every parameter in a tree of settings that came in some version."""
    if not isinstance(settings, dict) or where == "setting 'metadata'":
        return
    for key, value in settings.items():
        if key in _PARAMETERS and value not in (None, False):
            yield f"'{key}' of the {where}", _PARAMETERS[key]
        yield from _parameters(value, where)


def _text(version: Version) -> str:
    return ".".join(map(str, version))
