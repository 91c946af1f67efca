"""Features of a source whose fate the matrix tells; each builds a small collection that has it, where one can."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.scopes import may_be_named
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    Element,
    FieldSchema,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Multi,
    Packed,
    Payload,
    ScopeKind,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
)

DIM = 8


@dataclass(frozen=True)
class Sample:
    """A collection of the source with records that have a feature."""

    schema: CollectionSchema
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class Feature:
    """One row of the matrix.

    Args:
        group: payload value, id, vector, metric or scope.
        codes: how the codes of the loss report begin that speak of it.
        build: makes a sample in a database; None where it cannot have the feature.
    """

    group: str
    name: str
    codes: tuple[str, ...]
    build: Callable[[Capabilities], Sample | None] = field(compare=False)


def features() -> Iterator[Feature]:
    """Every feature, group by group."""
    yield from _payload_features()
    yield from _id_features()
    yield from _vector_features()
    yield from _metric_features()
    yield from _scope_features()


########################################################################
# What any sample is made of
########################################################################


def natural_ids(can: Capabilities, records: int) -> IdColumn:
    """Ids as a database has them."""
    kind = can.id_kinds[0]
    made: dict[IdKind, list[Id]] = {
        IdKind.UUID: [uuid.uuid5(uuid.NAMESPACE_OID, str(i)) for i in range(records)],
        IdKind.TEXT: [f"doc {i}" for i in range(records)],
    }
    return IdColumn.of(kind, made.get(kind) or list(range(1, records + 1)))


def collection(can: Capabilities, **changes: Any) -> CollectionSchema:
    """A collection with one unnamed vector."""
    declared = can.declared_fields and can.shared_names
    kinds = can.id_kinds if can.mixed_id_kinds else (can.id_kinds[0],)
    ids = IdSchema(kinds=kinds, field="pk" if declared else None)
    vector = VectorSchema(name=can.default_vector_name, dim=DIM, metric=Metric.DOT, optional=can.missing_vectors)
    return CollectionSchema(name="Matrix", ids=ids, vectors=(vector,), dynamic=can.dynamic_fields, **changes)


def dense(records: int, dim: int = DIM) -> Dense:
    """Vectors of norm 1."""
    values = np.random.default_rng(7).standard_normal((records, dim))
    return Dense((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32))


def _sample(can: Capabilities, payloads: list[Payload], **changes: Any) -> Sample:
    ids = natural_ids(can, len(payloads))
    vectors = {can.default_vector_name: dense(len(payloads))}
    return Sample(collection(can, **changes), (Batch(ids, None, vectors, payloads),))


########################################################################
# Payload values
########################################################################

_ARRAY = FieldType.ARRAY


def _payload_features() -> Iterator[Feature]:
    plain: list[tuple[str, str, list[Any], FieldSchema | None]] = [
        ("null", "x", [None, "a"], None),
        ("boolean", "x", [True, False], _declared(FieldType.BOOL)),
        ("int", "x", [1, -5], _declared(FieldType.INT64)),
        ("int beyond 2^53", "x", [2**53 + 1, 1], None),
        ("float", "x", [1.5, 2.0], _declared(FieldType.FLOAT64)),
        ("-0.0", "x", [-0.0, 1.5], _declared(FieldType.FLOAT64)),
        ("1 and 1.0 under one key", "x", [1, 1.0], None),
        ("text", "x", ["a", "é"], _declared(FieldType.TEXT)),
        ("empty text", "x", ["", "a"], _declared(FieldType.TEXT)),
        ("text that reads like JSON", "x", ["123", "null", '{"a":1}'], _declared(FieldType.TEXT)),
        ("list of texts", "x", [["a", "b"], ["c"]], _declared(_ARRAY, FieldType.TEXT)),
        ("list of ints", "x", [[1, 2], [3]], _declared(_ARRAY, FieldType.INT64)),
        ("list of floats", "x", [[1.5], [2.0]], _declared(_ARRAY, FieldType.FLOAT64)),
        ("list of booleans", "x", [[True], [False]], _declared(_ARRAY, FieldType.BOOL)),
        ("empty list", "x", [[], ["a"]], _declared(_ARRAY, FieldType.TEXT)),
        ("mixed list", "x", [[1, "a", None], ["a"]], None),
        ("list of lists", "x", [[[1], [2]]], None),
        ("object", "x", [{"a": 1}], _nested("a", FieldType.INT64)),
        ("nested objects with null", "x", [{"a": {"b": [None, 1.0]}}], None),
        ("values of several types under one key", "x", [1, "a", [True]], None),
        ("absent from some records", "x", ["a", ...], _declared(FieldType.TEXT)),
        ("key with dots", "a.b", ["a"], None),
        ("key outside ASCII", "é", ["a"], None),
        ("key beginning with a capital", "Title", ["a"], None),
        ("key beginning with $", "$x", ["a"], None),
        ("empty key", "", ["a"], None),
        ("key of 300 characters", "k" * 300, ["a"], None),
        ("key 'id'", "id", ["a"], None),
        ("key '_id'", "_id", ["a"], None),
        ("key 'vector'", "vector", ["a"], None),
        ("date", "x", ["2026-01-31T12:00:00Z"], _declared(FieldType.DATETIME)),
        ("UUID", "x", [str(uuid.UUID(int=7))], _declared(FieldType.UUID)),
        ("coordinates", "x", [{"latitude": 1.5, "longitude": -2.0}], _declared(FieldType.GEO)),
        ("telephone number", "x", [{"input": "+49 30 1234567"}], _declared(FieldType.PHONE)),
        ("bytes in base64", "x", ["aGVsbG8="], _declared(FieldType.BLOB)),
    ]
    for name, key, values, declared in plain:
        yield Feature("payload value", name, (f"field.{key}",), _payload_builder(key, values, declared))


def _payload_builder(
    key: str, values: list[Any], declared: FieldSchema | None
) -> Callable[[Capabilities], Sample | None]:
    def build(can: Capabilities) -> Sample | None:
        payloads = [{} if value is ... else {key: value} for value in values]
        if can.dynamic_fields:
            named = not (can.declared_fields and key in ("id", "vector", "pk")) and key not in can.reserved_keys
            held = named and _held(can, key, values)
            return _sample(can, payloads) if held else None
        if declared is None or not {declared.type, declared.element or declared.type} <= set(can.field_types):
            return None
        return _sample(can, payloads, fields=(declared,))

    return build


def _held(can: Capabilities, key: str, values: list[Any]) -> bool:
    """Whether an undeclared key may have these values in a database."""
    limits = Limits.of(can)
    floats = can.numbers_are_floats and any(type(value) is int for value in values)
    return limits.holds_key(key) and not floats and all(limits.holds(value) for value in values if value is not ...)


def _declared(type: FieldType, element: FieldType | None = None) -> FieldSchema:
    return FieldSchema(name="x", type=type, declared=True, element=element)


def _nested(name: str, type: FieldType) -> FieldSchema:
    inner = FieldSchema(name=name, type=type, declared=True)
    return FieldSchema(name="x", type=FieldType.OBJECT, declared=True, fields=(inner,))


########################################################################
# Ids
########################################################################


def _id_features() -> Iterator[Feature]:
    one = uuid.UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
    ids: list[tuple[str, IdKind, list[Id]]] = [
        ("text", IdKind.TEXT, ["doc#1", "b c"]),
        ("text outside ASCII", IdKind.TEXT, ["é", "a"]),
        ("text of 600 bytes", IdKind.TEXT, ["x" * 600, "a"]),
        ("text of numbers", IdKind.TEXT, ["1", "42"]),
        ("text of UUIDs", IdKind.TEXT, [str(one)]),
        ("text of UUIDs in capitals", IdKind.TEXT, [str(one).upper()]),
        ("number", IdKind.U64, [1, 2]),
        ("number beyond 2^63", IdKind.U64, [2**63, 2**64 - 1]),
        ("signed number", IdKind.I64, [1, 2]),
        ("number below 0", IdKind.I64, [-1, 2]),
        ("UUID", IdKind.UUID, [one]),
        ("numbers and UUIDs mixed", IdKind.U64, [1, one]),
    ]
    for name, kind, values in ids:
        yield Feature("id", name, ("ids",), _id_builder(kind, values))
    yield Feature("id", "the same in two scopes", ("ids", "scope"), _same_in_two_scopes)


def _id_builder(kind: IdKind, values: list[Id]) -> Callable[[Capabilities], Sample | None]:
    def build(can: Capabilities) -> Sample | None:
        kinds = {IdKind.UUID if isinstance(value, uuid.UUID) else kind for value in values}
        texts = [value for value in values if isinstance(value, str)]
        spelt = not (can.id_max_bytes and any(len(text.encode()) > can.id_max_bytes for text in texts))
        if can.id_pattern is not None:
            spelt = spelt and all(text.isascii() for text in texts)
        if not kinds <= set(can.id_kinds) or (len(kinds) > 1 and not can.mixed_id_kinds) or not spelt:
            return None
        whole = collection(can)
        schema = whole if can.mixed_id_kinds else whole.model_copy(
            update={"ids": whole.ids.model_copy(update={"kinds": (kind,)})}
        )  # fmt: skip
        batches = []
        for one in sorted(kinds):
            own = [value for value in values if isinstance(value, uuid.UUID) is (one is IdKind.UUID)]
            column = {can.default_vector_name: dense(len(own))}
            batches.append(Batch(IdColumn.of(one, own), None, column, [{} for _ in own]))
        return Sample(schema, tuple(batches))

    return build


def _same_in_two_scopes(can: Capabilities) -> Sample | None:
    if not can.ids_are_unique_per_scope:
        return None
    return _scoped(can, ("a", "b"))


########################################################################
# Vectors
########################################################################


def _vector_features() -> Iterator[Feature]:
    def feature(name: str, *vectors: tuple[VectorSchema, VectorColumn]) -> Feature:
        return Feature("vector", name, ("vector.", "vectors"), _vector_builder(vectors))

    unit = dense(2)
    one = VectorSchema(name="emb", dim=DIM, metric=Metric.DOT)
    cosine = one.model_copy(update={"metric": Metric.COSINE})
    missing = np.array([True, False])
    sparse = Sparse(
        np.array([0, 2, 3]), np.array([1, 7, 3], dtype=np.uint32), np.array([0.5, 1.5, 2.0], dtype=np.float32)
    )
    negative = Sparse(sparse.indptr, sparse.indices, -sparse.values)
    terms = VectorSchema(name="terms", kind=VectorKind.SPARSE, metric=Metric.DOT)
    multi = Multi(np.array([0, 1, 2]), unit.values)
    yield Feature("vector", "dense, unnamed", ("vector.", "vectors"), lambda can: _sample(can, [{}, {}]))
    yield feature("dense, named", (one, unit))
    yield feature("two dense", (one, unit), (one.model_copy(update={"name": "other"}), unit))
    yield feature("dense, missing in some records", (one, Dense(np.where(missing[:, None], unit.values, 0), missing)))
    yield feature("dense, zeros only", (one, Dense(np.zeros((2, DIM), dtype=np.float32))))
    yield feature("dense cosine, norm 1", (cosine, unit))
    yield feature("dense cosine, any norm", (cosine, Dense(unit.values * np.float32(3))))
    yield feature("dense, 20,001 components", (one.model_copy(update={"dim": 20_001}), dense(2, 20_001)))
    yield feature("dense, 40,000 components", (one.model_copy(update={"dim": 40_000}), dense(2, 40_000)))
    for element in (Element.FLOAT16, Element.BFLOAT16, Element.INT8, Element.UINT8, Element.BINARY):
        yield feature(element.value, _packed(element))
    yield feature("sparse", (terms, sparse))
    yield feature("dense and sparse", (one, unit), (terms, sparse))
    yield feature("sparse, weights below zero", (terms, negative))
    yield feature("multi", (VectorSchema(name="late", kind=VectorKind.MULTI, dim=DIM, metric=Metric.DOT), multi))


def _packed(element: Element) -> tuple[VectorSchema, VectorColumn]:
    metric = Metric.HAMMING if element is Element.BINARY else Metric.DOT
    schema = VectorSchema(name="emb", element=element, dim=DIM, metric=metric)
    bits = np.random.default_rng(3).integers(1, 60, (2, element.width(DIM)), dtype=np.uint8)
    values = bits.astype(np.float16) if element is Element.FLOAT16 else bits.astype(element.dtype)
    return schema, Packed(element, DIM, values << 7 if element is Element.BFLOAT16 else values)


def _vector_builder(vectors: tuple[tuple[VectorSchema, VectorColumn], ...]) -> Callable[[Capabilities], Sample | None]:
    def build(can: Capabilities) -> Sample | None:
        if can.vector_name_is_given and any(schema.name == "other" for schema, _ in vectors):
            return None
        given = can.default_sparse_name, can.default_vector_name
        named = [
            (schema.model_copy(update={"name": given[schema.kind is not VectorKind.SPARSE]}), column)
            if can.vector_name_is_given
            else (schema, column)
            for schema, column in vectors
        ]
        if not all(_has_vector(can, schema, column) for schema, column in named):
            return None
        optional = [schema.model_copy(update={"optional": can.missing_vectors}) for schema, _ in named]
        schema = collection(can).model_copy(update={"vectors": tuple(optional)})
        columns = {schema.name: column for schema, column in named}
        return Sample(schema, (Batch(natural_ids(can, 2), None, columns, [{}, {}]),))

    return build


def _has_vector(can: Capabilities, schema: VectorSchema, column: VectorColumn) -> bool:
    """Whether a database can hold such vectors as a source."""
    if schema.kind not in can.vector_kinds or schema.element not in can.elements or (schema.dim or 1) > can.max_dim:
        return False
    if schema.metric not in can.metrics[schema.kind]:
        return False
    if isinstance(column, Sparse):
        return not (can.sparse_non_negative and bool((column.values < 0).any()))
    missing = column.valid is not None and not column.valid.all()
    zero = isinstance(column, Dense) and not column.values.any()
    stored = not (can.normalises_cosine and schema.metric is Metric.COSINE and isinstance(column, Dense)) or bool(
        np.allclose(np.linalg.norm(column.values, axis=1), 1, atol=1e-6)
    )
    return stored and not (missing and not can.missing_vectors) and not (zero and not can.zero_vectors)


########################################################################
# Metrics and scopes
########################################################################


def _metric_features() -> Iterator[Feature]:
    for metric in Metric:
        element = Element.BINARY if metric in (Metric.HAMMING, Metric.JACCARD) else Element.FLOAT32
        yield Feature("metric", f"{metric.value} of dense vectors", ("vector.",), _metric_builder(metric, element))


def _metric_builder(metric: Metric, element: Element) -> Callable[[Capabilities], Sample | None]:
    def build(can: Capabilities) -> Sample | None:
        packed = element is Element.BINARY and Element.BINARY in can.elements
        schema = VectorSchema(name="emb", dim=DIM, metric=metric, element=Element.BINARY if packed else Element.FLOAT32)
        column = _packed(Element.BINARY)[1] if packed else dense(2)
        return _vector_builder(((schema, column),))(can)

    return build


def _scope_features() -> Iterator[Feature]:
    yield Feature("scope", "none", ("scope",), lambda can: _sample(can, [{}]))
    yield Feature("scope", "several, plain names", ("scope", "ids.scope"), lambda can: _scoped(can, ("a", "b")))
    yield Feature("scope", "several, names with a dot", ("scope", "ids.scope"), lambda can: _scoped(can, ("a.b", "c")))
    yield Feature("scope", "a payload field", ("scope", "field.tenant"), _by_field)


def _scoped(can: Capabilities, names: tuple[str, ...]) -> Sample | None:
    kinds = [kind for kind in can.scope_kinds if kind is not ScopeKind.FIELD]
    if not kinds or not all(may_be_named(name, can) for name in names):
        return None
    vectors = {can.default_vector_name: dense(1)}
    ids = natural_ids(can, len(names))
    batches = [
        Batch(ids.slice(0, 1) if can.ids_are_unique_per_scope else ids.slice(i, i + 1), name, vectors, [{}])
        for i, name in enumerate(names)
    ]
    return Sample(collection(can, scope=kinds[0]), tuple(batches))


def _by_field(can: Capabilities) -> Sample | None:
    if ScopeKind.FIELD not in can.scope_kinds or not can.dynamic_fields:
        return None
    tenant = FieldSchema(
        name="tenant",
        type=FieldType.TEXT,
        declared=can.declared_fields,
        nullable=False,
        tenant=True,
        max_length=64,
        # A key that no column declares divides a collection by its index.
        index=None if can.declared_fields else IndexSpec(type="keyword"),
    )
    return _sample(can, [{"tenant": "a"}, {"tenant": "b"}], fields=(tenant,), scope=ScopeKind.FIELD)
