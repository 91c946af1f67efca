"""A sample of everything that a database can hold at once, for any database: ids, scopes, vectors and payloads."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Multi,
    Payload,
    ScopeKind,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests import collections_of_everything as known
from vectormigrate_dagster_tests.matrix_features import Sample

SCOPES = ("north", "South_2")

MORE_PAYLOADS: list[Payload] = [
    {"place": {"latitude": 52.5, "longitude": -13.25}},
    {"looks": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "Title": "é", "$x": 1, "title": "small"},
    {"_additional": 1, "_score": 2, "_values": "mine", "class": True, "Id": 7, "1st": "digit first"},
    {"mixed": ["a", 1, None], "ints": [1, 2], "texts": ["", "123", "é"], "floats": [0.5, -0.0], "flags": [True, False]},
    {"n": 2**53, "m": -(2**53), "o": 2**53 + 1, "p": 2**63 - 1, "big": "x" * 5000},
]

PROPERTIES = (
    FieldSchema(name="flag", type=FieldType.BOOL, declared=True),
    FieldSchema(name="whole", type=FieldType.INT64, declared=True),
    FieldSchema(name="number", type=FieldType.FLOAT64, declared=True),
    FieldSchema(name="words", type=FieldType.TEXT, declared=True),
    FieldSchema(name="moment", type=FieldType.DATETIME, declared=True),
    FieldSchema(name="ref", type=FieldType.UUID, declared=True),
    FieldSchema(name="place", type=FieldType.GEO, declared=True),
    FieldSchema(name="bytes", type=FieldType.BLOB, declared=True),
    FieldSchema(
        name="tree",
        type=FieldType.OBJECT,
        declared=True,
        fields=(
            FieldSchema(name="leaf", type=FieldType.TEXT, declared=True),
            FieldSchema(name="n", type=FieldType.INT64, declared=True),
        ),
    ),
    FieldSchema(name="texts", type=FieldType.ARRAY, element=FieldType.TEXT, declared=True),
    FieldSchema(name="wholes", type=FieldType.ARRAY, element=FieldType.INT64, declared=True),
    FieldSchema(name="numbers", type=FieldType.ARRAY, element=FieldType.FLOAT64, declared=True),
    FieldSchema(name="flags", type=FieldType.ARRAY, element=FieldType.BOOL, declared=True),
)
"""Columns of a database that keeps no others, of every type."""

PROPERTY_PAYLOADS: list[Payload] = [
    {},
    {"flag": True, "whole": 2**53, "number": 0.1, "words": "é\n\"'"},
    {"flag": False, "whole": -(2**53), "number": -0.0, "words": ""},
    {"whole": 1, "number": 1.0, "words": "123"},
    {"number": 1e300, "words": "2026-01-31", "moment": "2026-01-31T12:00:00.5Z"},
    {"words": "null", "ref": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "place": {"latitude": 1.5, "longitude": -2.0}},
    {"bytes": "aGVsbG8=", "tree": {"leaf": "", "n": 3}, "texts": ["", "é"], "wholes": [1, -2]},
    {"numbers": [1.0, 0.5], "flags": [True, False], "texts": ["123"]},
    {"texts": [], "tree": {"leaf": "only"}, "words": "{}"},
]
IDS: dict[IdKind, list[Id]] = {
    IdKind.TEXT: [*known.TEXT_IDS],
    IdKind.U64: [*known.UNSIGNED_IDS],
    IdKind.I64: [*known.NEGATIVE_IDS],
    IdKind.UUID: [*known.UUIDS],
}


def everything(can: Capabilities, kind: IdKind, *, divided: bool) -> Sample:
    """Records with every payload, awkward ids and every kind of vector, in two scopes or undivided."""
    scopes = SCOPES if divided else (None,)
    scope_kind = next((one for one in can.scope_kinds if one is not ScopeKind.FIELD), ScopeKind.NONE)
    kinds = can.id_kinds if can.mixed_id_kinds else (kind,)
    payloads = payloads_of(can)
    batches = []
    for number, scope in enumerate(scopes):
        for one in kinds:
            ids = [value for value in IDS[one] if is_id(can, value)]
            if divided and not can.ids_are_unique_per_scope:
                ids = ids[number :: len(scopes)]
            rows = [payloads[(row * len(kinds) + kinds.index(one)) % len(payloads)] for row in range(len(ids))]
            batches.append(Batch(IdColumn.of(one, ids), scope, columns(can, len(ids)), rows))
    return Sample(
        CollectionSchema(
            name="Everything",
            ids=IdSchema(
                kinds=kinds,
                field="key" if can.shared_names else None,
                max_length=512 if can.shared_names and kind is IdKind.TEXT else None,
            ),
            vectors=vectors(can),
            fields=known.FIELDS if can.shared_names else () if can.dynamic_fields else PROPERTIES,
            dynamic=can.dynamic_fields,
            scope=scope_kind if divided else ScopeKind.NONE,
        ),
        tuple(batches),
    )


def payloads_of(can: Capabilities) -> list[Payload]:
    """Every payload, without what the database cannot hold."""
    if not can.dynamic_fields:
        return PROPERTY_PAYLOADS
    limits = Limits.of(can)
    held: list[Payload] = []
    for payload in (*known.PAYLOADS, *MORE_PAYLOADS):
        held.append({k: v for k, v in payload.items() if limits.holds_key(k) and is_value(can, limits, v)})
    if can.declared_fields:
        held = [{**one, **known.COLUMNS[row % len(known.COLUMNS)]} for row, one in enumerate(held)]
    return held


def is_value(can: Capabilities, limits: Limits, value: Any) -> bool:
    """Whether a database gives a value of an undeclared key back; ints it might give back as floats do not count."""
    return limits.holds(value) and not (can.numbers_are_floats and type(value) is int)


def is_id(can: Capabilities, value: Id) -> bool:
    """Whether a database can have an id."""
    if not isinstance(value, str):
        return True
    fits = can.id_max_bytes is None or len(value.encode()) <= can.id_max_bytes
    return fits and (can.id_pattern is None or re.fullmatch(can.id_pattern, value, re.DOTALL) is not None)


def vectors(can: Capabilities) -> tuple[VectorSchema, ...]:
    """The schemas of `columns`; none of them is normalised anywhere."""
    optional = can.missing_vectors
    made = [VectorSchema(name="dotted", dim=4, metric=Metric.DOT, optional=optional)]
    if can.vector_name_is_given:
        made[0] = made[0].model_copy(update={"name": can.default_vector_name})
    else:
        made.append(VectorSchema(name="far", dim=3, metric=Metric.EUCLIDEAN, optional=optional))
    if VectorKind.SPARSE in can.vector_kinds:
        sparse = VectorSchema(name=can.default_sparse_name or "sparse", kind=VectorKind.SPARSE, metric=Metric.DOT)
        made.append(sparse.model_copy(update={"optional": optional or can.missing_sparse}))
    if VectorKind.MULTI in can.vector_kinds:
        made.append(VectorSchema(name="multi", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT, optional=optional))
    return tuple(made)


def columns(can: Capabilities, count: int) -> dict[str, VectorColumn]:
    """Un-normalised vectors; those after the first are missing in some records, where that is possible."""
    plain = known.columns_of(count, seed=count)
    there = np.arange(count) % 5 != 1
    columns: dict[str, VectorColumn] = {}
    for schema in vectors(can):
        valid = there if schema.optional and columns else None
        if schema.kind is VectorKind.MULTI:
            columns[schema.name] = _multi(count, valid)
        elif schema.kind is VectorKind.SPARSE:
            columns[schema.name] = _sparse(plain["sparse"], valid)
        else:
            dense = plain["far" if schema.name == "far" else "dotted"]
            assert isinstance(dense, Dense)
            values = dense.values if valid is None else np.where(valid[:, None], dense.values, np.float32(0))
            columns[schema.name] = Dense(values, valid)
    return columns


def _multi(count: int, valid: np.ndarray | None) -> Multi:
    sizes = np.arange(count) % 3 + 1
    sizes = sizes if valid is None else np.where(valid, sizes, 0)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    values = np.arange(2 * offsets[-1], dtype=np.float32).reshape(-1, 2) / 3
    return Multi(offsets, values, valid)


def _sparse(column: VectorColumn, valid: np.ndarray | None) -> Sparse:
    assert isinstance(column, Sparse)
    if valid is None:
        return column
    keep = np.repeat(valid, np.diff(column.indptr))
    sizes = np.where(valid, np.diff(column.indptr), 0)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    return Sparse(indptr, column.indices[keep], column.values[keep], valid)
