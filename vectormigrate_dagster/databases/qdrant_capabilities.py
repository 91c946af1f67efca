"""What Qdrant can do, as a server and in a folder."""

from __future__ import annotations

from vectormigrate_dagster.databases.qdrant_schema import PAYLOAD_INDEXES
from vectormigrate_dagster.model import Capabilities, Element, IdKind, Metric, ScopeKind, VectorKind

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
    quantization=("scalar", "product", "binary"),
    payload_indexes=PAYLOAD_INDEXES,
    hnsw_words={"type": "hnsw", "m": "m", "ef_construct": "ef_construct"},
    max_page_records=10_000,
    notes={
        "normalises_cosine": "Cosine vectors are stored with unit norm; their original norm is lost.",
        "insert_only": "Since server 1.16.",
    },
)
EMBEDDED = SERVER.but(
    title="Qdrant (embedded)",
    single_process=True,
    ids_are_unique_per_scope=False,
    scope_kinds=(),
    quantization=(),
    payload_indexes=(),
    notes={
        **SERVER.notes,
        "quantization": "Settings of indexes and quantization are kept but have no effect; search is exact.",
        "elements": "float16 and uint8 are not rounded when they are written.",
    },
)
