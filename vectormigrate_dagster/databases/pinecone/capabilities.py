"""What Pinecone can do.

Limits: https://docs.pinecone.io/reference/api/database-limits
"""

from __future__ import annotations

from vectormigrate_dagster.model import Capabilities, Element, IdKind, Metric, ScopeKind, VectorKind

DENSE_FIELD, SPARSE_FIELD = "_values", "_sparse_values"
"""The only fields of a vector index. An index with any other is a document index, with an API of its own."""

DEFAULT_NAMESPACE = "__default__"
"""Where records are whose namespace nobody names; https://docs.pinecone.io/guides/index-data/indexing-overview"""

MAX_ID_BYTES = 512
MAX_METADATA_BYTES = 40_960
_LARGEST_EXACT = 2**53

SERVER = Capabilities(
    type="pinecone",
    title="Pinecone",
    id_kinds=(IdKind.TEXT,),
    id_max_bytes=MAX_ID_BYTES,
    id_pattern=r"[\x01-\x7f]{1,512}",
    ids_are_unique_per_scope=True,
    # "Eventually consistent", without a bound: https://docs.pinecone.io/guides/index-data/check-data-freshness
    stale_seconds=60.0,
    metrics={
        VectorKind.DENSE: (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN),
        VectorKind.SPARSE: (Metric.DOT,),
    },
    elements=(Element.FLOAT32,),
    vector_kinds=(VectorKind.DENSE, VectorKind.SPARSE),
    default_vector_name=DENSE_FIELD,
    default_sparse_name=SPARSE_FIELD,
    vector_name_is_given=True,
    vector_name_pattern=r"(?!\$|_id\Z)[\x20-\x7e]{1,64}",
    missing_vectors=False,
    missing_sparse=True,
    max_vectors=2,
    max_per_kind=1,
    max_dim=20_000,
    max_nonzeros=2048,
    zero_vectors=False,
    declared_fields=False,
    dynamic_fields=True,
    payload_types=frozenset({"bool", "int", "float", "text", "list"}),
    list_elements=frozenset({"text"}),
    empty_lists=False,
    key_pattern=r"(?!\$)[\s\S]*",
    numbers_are_floats=True,
    negative_zero=False,
    max_payload_bytes=MAX_METADATA_BYTES,
    min_int=-_LARGEST_EXACT,
    max_int=_LARGEST_EXACT,
    scope_kinds=(ScopeKind.NAMESPACE,),
    scope_name_pattern=r"[\x01-\x7f]{1,512}",
    default_scope=DEFAULT_NAMESPACE,
    insert_only=False,
    exact_search=False,
    squared_euclidean=True,
    imports_files=True,
    aliases=False,
    max_marker_bytes=2_500,  # compressed, these fit into the tags
    collection_settings=("tags", "deletion_protection", "read_capacity"),
    max_batch_records=1000,
    costly_resume=True,  # it lists from the beginning of a prefix only
    max_batch_bytes=8 * 2**20,
    notes={
        "missing_vectors": "A sparse vector may be missing where there is a dense one; a dense one never.",
        "max_nonzeros": "Some pages of the documentation say 1,000; the server decides, record by record.",
        "key_pattern": "In document indexes no key begins with '_', and keys and vectors share one space of names.",
        "payload_types": "Numbers are float64: 1 comes back as 1.0. Null is dropped by the server.",
        "scope_kinds": "The default namespace is '__default__'; an index with no other one is not divided.",
        "payload_indexes": "All metadata can be filtered by; there is no index to create.",
        "exact_search": "Every search is approximate.",
        "marker": "Kept in the index's tags, of which there are 20 with 120 characters each.",
        "count": "Exact counts list all ids, 100 at a time.",
    },
)

DOCUMENTS = SERVER.but(
    vector_name_pattern=r"(?![$_])[\x20-\x7e]{1,64}",
    shared_names=True,
    key_pattern=r"(?![$_])[\s\S]+",
)
"""Of a document index that exists already."""
