"""Collections that hold every kind of id, vector, field and payload value that a database stores; how to read all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
    is_valid,
)

PAYLOADS: list[dict[str, Any]] = [
    {},
    {"a": None},
    {"a": ""},
    {"a": "123"},
    {"a": "true"},
    {"a": "null"},
    {"a": '{"not": "parsed"}'},
    {"a": "2024-02-29T23:59:59.999999Z"},
    {"a": "2024-02-29"},
    {"a": 1},
    {"a": 1.0},
    {"a": True},
    {"a": False},
    {"a": 0},
    {"a": -0.0},
    {"a": 2**53 + 1},
    {"a": 2**63 - 1},
    {"a": -(2**63)},
    {"a": 0.1},
    {"a": 1e300},
    {"a": 5e-324},
    {"a": []},
    {"a": {}},
    {"a": [1, "1", 1.0, None, True, [], {}, [[2**53 + 1]]]},
    {"a": ["x", "y"]},
    {"a": {"b": {"c": [{"d": None}, {}, ""]}}},
    {"a": "é日本🎉\t\n\"'\\ e\u0301"},
    {"a.b": 1, "a b": 2, "é": 3, 'qu"ote': 4, "": 5, "br[0]": 6, "a": {"b": 7}, "日本": None, "x" * 200: "long"},
]
"""Every type of value that both databases store in a payload, and keys with dots and spaces."""

TEXT_IDS = [
    *(
        "it's",
        'say "no"',
        "back\\slash",
        "new\nline",
        "tab\t",
        "é",
        "e\u0301",
        "日本🎉",
        " ",
        " padded ",
        "%",
        "' or 1=1",
    ),
    *("42", "042", "-1", "null", "a", "A", "x" * 200, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    *("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b8109dad11d180b400c04fd430c8", "{42}", "urn:x"),
    *("zz1", "zz2", "zz3", "zz4"),
]
NEGATIVE_IDS = [-(2**63), -(2**53) - 1, -42, -1, 0, 1, 42, 2**53 + 1, 2**63 - 1, *range(100, 119)]
UNSIGNED_IDS = [0, 1, 42, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, *range(100, 107)]
UUIDS = [uuid.UUID(int=0), uuid.UUID(int=42), uuid.UUID(int=2**128 - 1)] + [
    uuid.uuid5(uuid.NAMESPACE_DNS, str(number)) for number in range(11)
]

FIELDS = (
    FieldSchema(name="flag", type=FieldType.BOOL, declared=True),
    FieldSchema(name="i8", type=FieldType.INT8, declared=True),
    FieldSchema(name="i16", type=FieldType.INT16, declared=True),
    FieldSchema(name="i32", type=FieldType.INT32, declared=True),
    FieldSchema(name="i64", type=FieldType.INT64, declared=True, index=IndexSpec(type="INVERTED")),
    FieldSchema(name="f32", type=FieldType.FLOAT32, declared=True),
    FieldSchema(name="f64", type=FieldType.FLOAT64, declared=True),
    FieldSchema(name="words", type=FieldType.TEXT, declared=True, max_length=100),
    FieldSchema(name="needed", type=FieldType.TEXT, declared=True, max_length=40, nullable=False),
    FieldSchema(name="tree", type=FieldType.JSON, declared=True),
    FieldSchema(name="numbers", type=FieldType.ARRAY, declared=True, element=FieldType.INT64, max_capacity=5),
    FieldSchema(
        name="texts", type=FieldType.ARRAY, declared=True, element=FieldType.TEXT, max_length=20, max_capacity=3
    ),
)
"""Every type of column that both an embedded and a server Milvus have."""

_NULLS = {field.name: None for field in FIELDS if field.nullable}
COLUMNS: list[dict[str, Any]] = [
    {**_NULLS, "needed": ""},
    {
        "flag": True,
        "i8": 127,
        "i16": 2**15 - 1,
        "i32": 2**31 - 1,
        "i64": 2**63 - 1,
        "f32": float(np.float32(0.1)),
        "f64": 0.1,
        "words": "é\n\"'",
        "needed": "123",
        "tree": {"a": [1, 1.0, None, {"b": "1"}]},
        "numbers": [1, -2, 2**53 + 1],
        "texts": ["", "é", "123"],
    },
    {
        "flag": False,
        "i8": -128,
        "i16": -(2**15),
        "i32": -(2**31),
        "i64": -(2**63),
        "f32": 3.0,
        "f64": 1e300,
        "words": "",
        "needed": "null",
        "tree": [],
        "numbers": [],
        "texts": [],
    },
    {**_NULLS, "i64": 2**53 + 1, "needed": "key", "tree": {}},
]
"""Values of those columns: none, the greatest, the least, and something between."""

Everything = dict[tuple[str | None, str, str], tuple[str, dict[str, bytes | None]]]
"""(scope, kind of id, id) -> (payload as JSON, vectors as bytes)."""


def vectors(*, optional: bool, multi: bool = False) -> tuple[VectorSchema, ...]:
    """Several vectors, none of which a database normalises."""
    made = [
        VectorSchema(name="dotted", dim=4, metric=Metric.DOT, optional=optional),
        VectorSchema(name="far", dim=3, metric=Metric.EUCLIDEAN, optional=optional),
        VectorSchema(name="sparse", kind=VectorKind.SPARSE, metric=Metric.DOT, optional=optional),
    ]
    if multi:
        made.append(VectorSchema(name="multi", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT, optional=optional))
    return tuple(made)


def columns_of(count: int, *, seed: int = 0) -> dict[str, VectorColumn]:
    """Un-normalised values for `vectors`; the first row of `dotted` is made of awkward numbers."""
    chance = np.random.default_rng(seed)
    dotted = (chance.standard_normal((count, 4)) * 100).astype(np.float32)
    dotted[0] = [0.1, 1e-38, -1e15, 1 / 3]
    entries = chance.integers(1, 5, count)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(entries, dtype=np.int64)])
    indices = np.concatenate([np.sort(chance.choice(30_000, size, replace=False)) for size in entries])
    weights = chance.uniform(0.01, 9, len(indices)).astype(np.float32)
    return {
        "dotted": Dense(dotted),
        "far": Dense(chance.standard_normal((count, 3), dtype=np.float32) / 7),
        "sparse": Sparse(indptr, indices.astype(np.uint32), weights),
    }


def qdrant_lattice(endpoint: Endpoint, *, count: int = len(UNSIGNED_IDS)) -> None:
    """Make a collection with ids of both kinds, several vectors and every payload."""
    ids = IdSchema(kinds=(IdKind.U64, IdKind.UUID))
    schema = CollectionSchema(name=endpoint.collection, ids=ids, vectors=vectors(optional=True))
    of_kind: tuple[tuple[IdKind, Sequence[Id]], ...] = ((IdKind.U64, UNSIGNED_IDS), (IdKind.UUID, UUIDS))
    with databases.open_target(endpoint) as database:
        database.create(schema)
        for number, (kind, values) in enumerate(of_kind):
            payloads = PAYLOADS[number::2]
            batch = Batch(IdColumn.of(kind, values), None, columns_of(len(values), seed=number), payloads)
            assert database.upsert(batch.take(range(min(count, len(batch))))) == []


def milvus_lattice(endpoint: Endpoint, kind: IdKind, *, partitions: bool = False, tenant: bool = False) -> None:
    """Make a collection with columns of every type, several vectors and every payload beside the columns.

    Args:
        partitions: spread the records over two partitions and the default one.
        tenant: make `needed` the partition key.
    """
    fields = tuple(field.model_copy(update={"tenant": tenant and field.name == "needed"}) for field in FIELDS)
    schema = CollectionSchema(
        name=endpoint.collection,
        ids=IdSchema(kinds=(kind,), field="key", max_length=512 if kind is IdKind.TEXT else None),
        vectors=vectors(optional=False),
        fields=fields,
    )
    values: Sequence[Id] = TEXT_IDS if kind is IdKind.TEXT else NEGATIVE_IDS
    payloads = [{**extra, **COLUMNS[row % len(COLUMNS)]} for row, extra in enumerate(PAYLOADS)]
    whole = Batch(IdColumn.of(kind, values), None, columns_of(len(values)), payloads)
    with databases.open_target(endpoint) as database:
        database.create(schema)
        for number, scope in enumerate(("_default", "north", "south_2") if partitions else (None,)):
            rows = range(number, len(values), 3) if partitions else range(len(values))
            part = whole.take(rows)
            assert database.upsert(Batch(part.ids, scope, part.vectors, part.payloads)) == []


def read_everything(endpoint: Endpoint) -> Everything:
    """Every record of a collection by bits and by types, with no help of mapping or validation."""
    found: Everything = {}
    with databases.open_source(endpoint) as source:
        for split in source.plan_splits(10_000_000):
            for batch in source.scan(split, batch_records=1000):
                rows = {name: _rows(column) for name, column in batch.vectors.items()}
                for row, id_ in enumerate(batch.ids.to_pylist()):
                    key = (batch.scope, batch.ids.kind.value, id_text(id_))
                    assert key not in found, f"{key} came twice"
                    found[key] = (as_json(batch.payloads[row]), {name: values[row] for name, values in rows.items()})
    return found


def as_json(payload: Mapping[str, Any]) -> str:
    """A payload as text that differs for 1, 1.0 and True, and not for another order of keys."""
    return json.dumps(payload, sort_keys=True, ensure_ascii=False)


def _rows(column: VectorColumn) -> list[bytes | None]:
    rows: list[bytes | None] = []
    for row, there in enumerate(is_valid(column)):
        one = column.take([row])
        entries = one.indices.tobytes() if isinstance(one, Sparse) else b""
        rows.append(entries + one.values.tobytes() if there else None)
    return rows
