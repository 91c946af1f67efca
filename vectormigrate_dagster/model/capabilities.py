"""What a database can do, declared once, so that nothing else asks for its name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from vectormigrate_dagster.model.id_kinds import IdKind
from vectormigrate_dagster.model.schema import FieldType, Metric, ScopeKind, VectorKind
from vectormigrate_dagster.model.vectors import Element

_JSON_TYPES = 7
"""null, bool, int, float, text, list, object."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Limits and abilities of one database in one mode (embedded or server).

    Args:
        type: the database's name in a migration file.
        title: its name for people.
        single_process: a folder that one process at a time may open.
        id_kinds: kinds of id it stores natively.
        mixed_id_kinds: one collection may hold several kinds at once (Qdrant).
        id_max_bytes: longest text id in UTF-8 bytes.
        id_pattern: regular expression that a whole text id has to match; None is any text.
        ids_are_unique_per_scope: the same id may occur in two scopes.
        metrics: per vector kind, what it can compare with.
        elements: what components of dense vectors it stores.
        vector_kinds: dense, sparse, multi.
        default_vector_name: what an unnamed vector is called here ("" where it may stay unnamed).
        default_sparse_name: what the only sparse vector is called here; None where it has no name of the database's.
        vector_name_is_given: the default names are the database's own words and nobody's choice (Pinecone's
            "_values"), so that they mean an unnamed vector elsewhere.
        vector_name_pattern: regular expression of a vector's name; None is any, or that of a declared field.
        missing_vectors: a record may lack a vector.
        missing_sparse: a record may lack a sparse vector, though not a dense one, if it has a dense one (Pinecone).
        max_vectors: vectors per record; None is unlimited.
        max_per_kind: vectors of one kind per record; None is unlimited.
        max_dim: components of a dense vector.
        max_nonzeros: entries of a sparse vector; None is unlimited.
        zero_vectors: a dense vector of zeros only is stored rather than refused.
        normalises_cosine: cosine vectors come back with unit norm; the original norm is lost.
        sparse_non_negative: sparse weights below zero are refused.
        accepts_nan: a NaN or infinite component is stored rather than refused.
        declared_fields: fields are columns that must be declared (Milvus, Weaviate).
        null_fields: a declared field may be null or have a default.
        dynamic_fields: keys that no field declares are kept.
        field_types: types a declared field may have.
        field_name_pattern: regular expression of a declared field's name; None is any.
        shared_names: vectors and payload keys, and the id where it is a field, share one space of names.
        reserved_keys: payload keys that cannot be stored under that name.
        payload_types: JSON types a payload value may have (null, bool, int, float, text, list, object).
        list_elements: JSON types that the elements of a list may have; None is any, in any mixture.
        nulls_in_objects: a key within a declared object may be null, though a payload's own may not.
        empty_lists: an empty list is stored and comes back as one.
        key_pattern: regular expression that the whole key of an undeclared value has to match; None is any.
        numbers_are_floats: ints come back as floats (Pinecone); without it, 1 and 1.0 stay apart.
        negative_zero: -0.0 keeps its sign.
        max_text_bytes: longest text value.
        max_payload_bytes: whole payload of a record.
        min_int, max_int: integers that survive exactly.
        scope_kinds: how it can divide a collection.
        scope_name_pattern: regular expression of a whole scope's name; None is any.
        default_scope: the scope of records that were given none (Pinecone's default namespace), as `scopes` names it.
        insert_only: it can write only where no record exists.
        exact_search: it can search without an index's approximation.
        searches: kinds of vector that `Database.search` can be asked by.
        multi_cosine_as_stored: vectors of several are not normalised when they are compared by cosine.
        squared_euclidean: the scores of a euclidean search are squared distances.
        defers_indexing: it can load a collection without indexing it, and index it afterwards.
        imports_files: it has a bulk import of Parquet files of its own.
        aliases, quantization, payload_indexes: it has them.
        collection_settings: keys of `CollectionSchema.settings` that `create` gives to the new collection.
        keeps_marker: a collection can carry what we write into it at creation (`CollectionSchema.marker`).
        max_marker_bytes: longest marker as JSON; None is any.
        hnsw_words: its own words for an HNSW index, under the keys "type", "m" and "ef_construct"; empty where
            the graph cannot be set.
        search_effort: the option of an endpoint that says how hard a search tries; None where that is kept with the
            collection.
        max_batch_records, max_batch_bytes: limits of one write.
        max_page_records: limit of one read.
        stale_seconds: how old what a read by id or a listing tells may be; 0 where reads see every acknowledged write.
        costly_resume: a scan that begins after an id costs many calls before its first page. It is not begun anew for
            larger pages, nor to ask twice whether it is at its end, which such a database says in so many words.
    """

    type: str
    title: str
    single_process: bool = False
    id_kinds: tuple[IdKind, ...]
    mixed_id_kinds: bool = False
    id_max_bytes: int | None = None
    id_pattern: str | None = None
    ids_are_unique_per_scope: bool = False
    metrics: dict[VectorKind, tuple[Metric, ...]]
    elements: tuple[Element, ...]
    vector_kinds: tuple[VectorKind, ...]
    default_vector_name: str
    default_sparse_name: str | None = None
    vector_name_is_given: bool = False
    vector_name_pattern: str | None = None
    missing_vectors: bool
    missing_sparse: bool = False
    max_vectors: int | None = None
    max_per_kind: int | None = None
    max_dim: int
    max_nonzeros: int | None = None
    zero_vectors: bool = True
    normalises_cosine: bool = False
    sparse_non_negative: bool = False
    accepts_nan: bool = False
    declared_fields: bool = False
    null_fields: bool = True
    dynamic_fields: bool = True
    field_types: tuple[FieldType, ...] = ()
    field_name_pattern: str | None = None
    shared_names: bool = False
    reserved_keys: tuple[str, ...] = ()
    payload_types: frozenset[str] = frozenset({"null", "bool", "int", "float", "text", "list", "object"})
    list_elements: frozenset[str] | None = None
    nulls_in_objects: bool = False
    empty_lists: bool = True
    key_pattern: str | None = None
    numbers_are_floats: bool = False
    negative_zero: bool = True
    max_text_bytes: int | None = None
    max_payload_bytes: int | None = None
    min_int: int = -(2**63)
    max_int: int = 2**63 - 1
    scope_kinds: tuple[ScopeKind, ...] = ()
    scope_name_pattern: str | None = None
    default_scope: str | None = None
    insert_only: bool = False
    exact_search: bool = True
    searches: tuple[VectorKind, ...] = (VectorKind.DENSE,)
    multi_cosine_as_stored: bool = False
    squared_euclidean: bool = False
    defers_indexing: bool = False
    imports_files: bool = False
    aliases: bool = True
    quantization: tuple[str, ...] = ()
    payload_indexes: tuple[str, ...] = ()
    collection_settings: tuple[str, ...] = ()
    keeps_marker: bool = True
    max_marker_bytes: int | None = None
    hnsw_words: dict[str, str] = field(default_factory=dict)
    search_effort: str | None = None
    max_batch_records: int = 1000
    max_batch_bytes: int = 16 * 2**20
    max_page_records: int = 1000
    stale_seconds: float = 0.0
    costly_resume: bool = False
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def holds_any_json(self) -> bool:
        """Whether any JSON value may stand under any key; numbers aside, which have limits of their own."""
        anything = len(self.payload_types) == _JSON_TYPES and self.list_elements is None and self.empty_lists
        return self.dynamic_fields and anything and self.key_pattern is None

    def but(self, **changes: Any) -> Capabilities:
        """The same database in another mode."""
        return replace(self, **changes)
