"""What Milvus can do, as a server and in a folder."""

from __future__ import annotations

from vectormigrate_dagster.databases.milvus_schema import MAX_TEXT_BYTES
from vectormigrate_dagster.model import Capabilities, Element, FieldType, IdKind, Metric, ScopeKind, VectorKind

SERVER = Capabilities(
    type="milvus",
    title="Milvus",
    id_kinds=(IdKind.I64, IdKind.TEXT),
    id_max_bytes=MAX_TEXT_BYTES,
    metrics={
        VectorKind.DENSE: (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN, Metric.HAMMING, Metric.JACCARD),
        VectorKind.SPARSE: (Metric.DOT,),
    },
    elements=(Element.FLOAT32, Element.FLOAT16, Element.BFLOAT16, Element.INT8, Element.BINARY),
    vector_kinds=(VectorKind.DENSE, VectorKind.SPARSE),
    default_vector_name="vector",
    missing_vectors=True,
    max_vectors=4,
    max_dim=32_768,
    sparse_non_negative=True,
    declared_fields=True,
    field_types=(
        FieldType.BOOL,
        FieldType.INT8,
        FieldType.INT16,
        FieldType.INT32,
        FieldType.INT64,
        FieldType.FLOAT32,
        FieldType.FLOAT64,
        FieldType.TEXT,
        FieldType.JSON,
        FieldType.ARRAY,
    ),
    field_name_pattern=r"[A-Za-z_][A-Za-z0-9_]{0,254}",
    reserved_keys=("$meta",),
    max_text_bytes=MAX_TEXT_BYTES,
    max_payload_bytes=65_536,
    scope_kinds=(ScopeKind.PARTITION, ScopeKind.FIELD),
    exact_search=False,
    quantization=("scalar", "product", "binary"),
    hnsw_words={"type": "HNSW", "m": "M", "ef_construct": "efConstruction"},
    payload_indexes=("AUTOINDEX", "INVERTED", "BITMAP", "STL_SORT", "TRIE"),
    max_batch_records=5000,
    max_batch_bytes=32 * 2**20,
    max_page_records=16_384,
    notes={
        "missing_vectors": "Since server 2.6; an older one refuses to create such a collection.",
        "exact_search": "Exact where the index is FLAT.",
        "field_types": "TIMESTAMPTZ and GEOMETRY need server 2.6; older ones crash on them, so none is created.",
    },
)
EMBEDDED = SERVER.but(
    title="Milvus Lite",
    single_process=True,
    metrics={
        VectorKind.DENSE: (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN),
        VectorKind.SPARSE: (Metric.DOT,),
    },
    elements=(Element.FLOAT32,),
    missing_vectors=False,
    accepts_nan=True,
    field_types=(*SERVER.field_types, FieldType.DATETIME, FieldType.GEO),
    quantization=(),
    notes={
        "missing_vectors": "A null vector is stored as zeros and cannot be told from one.",
        "index": "Settings of indexes have an effect but cannot be read back.",
        "json": "A JSON field keeps objects and lists; a text, number or boolean by itself is refused.",
    },
)
