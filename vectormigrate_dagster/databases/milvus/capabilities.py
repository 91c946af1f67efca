"""What Milvus can do, as a server of some version and in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vectormigrate_dagster.databases.milvus.schema import MAX_TEXT_BYTES
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import (
    Capabilities,
    CollectionSchema,
    Element,
    FieldType,
    IdKind,
    Metric,
    ScopeKind,
    VectorKind,
)

Version = tuple[int, ...]
"""Of a server, as numbers: (2, 3, 5)."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
"""Of a field or partition: https://milvus.io/docs/limitations.md"""

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
        FieldType.DATETIME,
        FieldType.GEO,
    ),
    field_name_pattern=_NAME,
    shared_names=True,
    reserved_keys=("$meta",),
    max_text_bytes=MAX_TEXT_BYTES,
    max_payload_bytes=65_536,
    scope_kinds=(ScopeKind.PARTITION, ScopeKind.FIELD),
    scope_name_pattern=_NAME,
    imports_files=True,
    exact_search=False,
    searches=(VectorKind.DENSE, VectorKind.SPARSE),
    squared_euclidean=True,
    quantization=("scalar", "product", "binary"),
    hnsw_words={"type": "HNSW", "m": "M", "ef_construct": "efConstruction"},
    search_effort="search_ef",
    payload_indexes=("AUTOINDEX", "INVERTED", "BITMAP", "STL_SORT", "TRIE"),
    max_batch_records=5000,
    max_batch_bytes=32 * 2**20,
    max_page_records=16_384,
    notes={
        "exact_search": "Exact where the index is FLAT.",
        "versions": "Older servers can do less; the server is asked for its version before anything is made.",
    },
)
EMBEDDED = SERVER.but(
    title="Milvus Lite",
    imports_files=False,
    single_process=True,
    metrics={
        VectorKind.DENSE: (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN),
        VectorKind.SPARSE: (Metric.DOT,),
    },
    elements=(Element.FLOAT32,),
    missing_vectors=False,
    accepts_nan=True,
    quantization=(),
    notes={
        "missing_vectors": "A null vector is stored as zeros and cannot be told from one.",
        "index": "Settings of indexes have an effect but cannot be read back.",
        "json": "A JSON field keeps objects and lists; a text, number or boolean by itself is refused.",
    },
)

VECTORS_SINCE: dict[Element | VectorKind, Version] = {
    Element.FLOAT16: (2, 4),
    Element.BFLOAT16: (2, 4),
    Element.INT8: (2, 6),
    VectorKind.SPARSE: (2, 4),
}
FIELDS_SINCE: dict[FieldType, Version] = {FieldType.GEO: (2, 6, 4), FieldType.DATETIME: (2, 6, 6)}
"""First version of a server that knows a type. An older one may abort on it, for good: 2.3.5 aborts on GEOMETRY.

https://milvus.io/docs/release_notes.md and the pages of each type ("Compatible with Milvus 2.6.6+").
"""

_INDEXES_SINCE: dict[str, Version] = {"AUTOINDEX": (2, 4), "INVERTED": (2, 4), "BITMAP": (2, 5)}
"""First version with a kind of index for columns of any plain type; 2.3.5 takes only that of the column's type.

https://milvus.io/docs/release_notes.md (v2.4.0, v2.5.0)
"""

SEVERAL_VECTORS: Version = (2, 4)
NULL_FIELDS: Version = (2, 5)
"""Fields that may be null or have a default: https://milvus.io/docs/nullable-and-default.md"""

MISSING_VECTORS: Version = (3, 0)
"""Late releases of 2.6 have them too, but nothing tells those from earlier ones."""


OLDEST: Version = (2, 3, 0)
"""First of the servers that are supported."""


def version_of(text: str) -> Version:
    """The numbers of a version as servers give it ("v2.3.5-lite"); the oldest we know where there are none."""
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    # A build of its own is named after its branch or commit; a server may abort on what it does not know, for good.
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else OLDEST


def of_version(version: Version) -> Capabilities:
    """What a server of this version can do."""
    return SERVER.but(
        title=f"Milvus {name(version)}",
        elements=tuple(one for one in SERVER.elements if version >= VECTORS_SINCE.get(one, ())),
        vector_kinds=tuple(one for one in SERVER.vector_kinds if version >= VECTORS_SINCE.get(one, ())),
        field_types=tuple(one for one in SERVER.field_types if version >= FIELDS_SINCE.get(one, ())),
        max_vectors=SERVER.max_vectors if version >= SEVERAL_VECTORS else 1,
        null_fields=version >= NULL_FIELDS,
        payload_indexes=tuple(kind for kind in SERVER.payload_indexes if version >= _INDEXES_SINCE.get(kind, ())),
        missing_vectors=version >= MISSING_VECTORS,
    )


def require_version(schema: CollectionSchema, version: Version) -> None:
    """Check that a server of this version knows every type in `schema`, before it is asked to make it.

    Raises:
        SchemaMismatch: it does not; every reason is named.
    """
    if problems := list(_problems(schema, version)):
        raise SchemaMismatch(
            f"this Milvus server is {name(version)} and cannot hold collection '{schema.name}': {'; '.join(problems)}; "
            "use a newer server, or give these another type under mapping.types or leave them out under mapping.drop"
        )


def name(version: Version) -> str:
    """A version for people."""
    return ".".join(str(number) for number in version)


def _problems(schema: CollectionSchema, version: Version) -> Iterator[str]:
    if len(schema.vectors) > 1 and version < SEVERAL_VECTORS:
        yield f"{len(schema.vectors)} vectors in a record need {name(SEVERAL_VECTORS)}"
    for vector in schema.vectors:
        for kind in (vector.kind, vector.element):
            if version < VECTORS_SINCE.get(kind, ()):
                yield f"vector '{vector.name}' is {kind.value}, which needs {name(VECTORS_SINCE[kind])}"
        if vector.optional and version < MISSING_VECTORS:
            yield f"vector '{vector.name}' may be missing, which needs {name(MISSING_VECTORS)}"
    for field in schema.fields:
        for known in (field.type, field.element):
            if known is not None and version < FIELDS_SINCE.get(known, ()):
                yield f"field '{field.name}' is {known.value}, which needs {name(FIELDS_SINCE[known])}"
        if field.nullable and not field.tenant and version < NULL_FIELDS:
            yield f"field '{field.name}' may be null, which needs {name(NULL_FIELDS)}"
        if field.default is not None and version < NULL_FIELDS:
            yield f"field '{field.name}' has a default, which needs {name(NULL_FIELDS)}"
