"""What Weaviate can do, as a server of some version."""

from __future__ import annotations

from dataclasses import replace

from vectormigrate_dagster.databases.version import Version
from vectormigrate_dagster.model import Capabilities, Element, FieldType, IdKind, Metric, ScopeKind, VectorKind

OLDEST: Version = (1, 27)
"""First of the servers that the official client talks to (weaviate/connect/v4.py)."""

MULTI_VECTORS: Version = (1, 29)
SCALAR_QUANTIZATION: Version = (1, 26)
ALIASES: Version = (1, 32)
ROTATIONAL_QUANTIZATION: Version = (1, 32)

LARGEST_INT = 2**53
"""An int is a float64 everywhere in a server (usecases/objects/validation/properties_validation.go: `intVal`)."""

DEFAULT_MESSAGE_BYTES = 104_858_000
"""Of gRPC, where a server does not say (https://docs.weaviate.io/deploy/configuration/env-vars)."""

RESERVED_SUFFIXES = ("_searchable", "_rangeable", "_temp", "__meta_count", "_propertyLength", "_nullState")
"""Names of properties that end so would be taken for parts of an index (entities/schema/validation.go)."""

SETTINGS = (
    "description",
    "invertedIndexConfig",
    "multiTenancyConfig",
    "objectTtlConfig",
    "replicationConfig",
    "shardingConfig",
)
"""Parts of a class that a new one can be created with."""

SERVER = Capabilities(
    type="weaviate",
    title="Weaviate",
    id_kinds=(IdKind.UUID,),
    ids_are_unique_per_scope=True,
    metrics={
        VectorKind.DENSE: (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN, Metric.HAMMING),
        VectorKind.MULTI: (Metric.COSINE, Metric.DOT),
    },
    elements=(Element.FLOAT32,),
    vector_kinds=(VectorKind.DENSE, VectorKind.MULTI),
    default_vector_name="",
    missing_vectors=True,
    max_dim=65_535,
    declared_fields=True,
    dynamic_fields=False,
    field_types=(
        FieldType.BOOL,
        FieldType.INT64,
        FieldType.FLOAT64,
        FieldType.TEXT,
        FieldType.DATETIME,
        FieldType.UUID,
        FieldType.GEO,
        FieldType.PHONE,
        FieldType.BLOB,
        FieldType.OBJECT,
        FieldType.ARRAY,
        FieldType.REFERENCE,
    ),
    # The server lower-cases the first letter.
    field_name_pattern=rf"(?!.*(?:{'|'.join(RESERVED_SUFFIXES)})$)[a-z_][_0-9A-Za-z]{{0,230}}",
    # "" is the one vector of a collection without named ones.
    vector_name_pattern=r"|[_A-Za-z][_0-9A-Za-z]{0,229}",
    reserved_keys=("id", "_id", "_additional"),
    payload_types=frozenset({"bool", "int", "float", "text", "list", "object"}),
    nulls_in_objects=True,
    min_int=-LARGEST_INT,
    max_int=LARGEST_INT,
    scope_kinds=(ScopeKind.TENANT,),
    scope_name_pattern=r"[A-Za-z0-9_-]{1,64}",
    exact_search=False,
    searches=(VectorKind.DENSE, VectorKind.MULTI),
    multi_cosine_as_stored=True,
    squared_euclidean=True,
    quantization=("pq", "bq", "sq", "rq"),
    payload_indexes=("inverted", "none"),
    collection_settings=SETTINGS,
    hnsw_words={"type": "hnsw", "m": "maxConnections", "ef_construct": "efConstruction"},
    max_batch_records=1000,
    max_batch_bytes=16 * 2**20,
    max_page_records=10_000,
    notes={
        "exact_search": "Exact where the index is flat and not quantized.",
        "int": "An integer is stored as a float64, so it is exact up to 2^53.",
        "null": "A null is not stored: it is a key that is not there.",
        "geo": "Coordinates are float32.",
        "dates": "A date keeps nanoseconds and its offset, but not how it was written (trailing zeros, +00:00).",
        "phone": "A telephone number keeps its text and its country; what follows from them, each server works out.",
        "reference": "A reference keeps the name and the id that it points to; the collection has to be there before.",
        "times": "When an object was created and last updated is told anew by the target.",
        "multi": "Vectors of several are compared as they are stored; cosine normalises those of the query only.",
        "embedding": "A collection is created without a vectorizer: the vectors are moved, nothing is embedded again.",
        "versions": f"Servers from {OLDEST[0]}.{OLDEST[1]} on.",
    },
)


def at(version: Version) -> Capabilities:
    """What a server of this version can do."""
    multi = version >= MULTI_VECTORS
    return replace(
        SERVER,
        title=f"Weaviate {version[0]}.{version[1]}",
        vector_kinds=SERVER.vector_kinds if multi else (VectorKind.DENSE,),
        metrics=SERVER.metrics if multi else {VectorKind.DENSE: SERVER.metrics[VectorKind.DENSE]},
        quantization=tuple(word for word in SERVER.quantization if word != "rq" or version >= ROTATIONAL_QUANTIZATION),
        aliases=version >= ALIASES,
    )
