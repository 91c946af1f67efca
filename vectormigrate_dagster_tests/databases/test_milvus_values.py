"""A value that Milvus would alter, or keep beyond the limits of its column, is refused with its record's id."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Database, Endpoint, open_target
from vectormigrate_dagster.databases.milvus.values import misfits
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Split,
    VectorSchema,
)


def column(name: str, type: FieldType, **settings: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **({"nullable": False} | settings))


COLUMNS = (
    column("flag", FieldType.BOOL),
    column("i8", FieldType.INT8),
    column("i16", FieldType.INT16),
    column("i32", FieldType.INT32),
    column("i64", FieldType.INT64),
    column("f32", FieldType.FLOAT32),
    column("f64", FieldType.FLOAT64),
    column("text", FieldType.TEXT, max_length=20),
    column("tree", FieldType.JSON),
    column("ints", FieldType.ARRAY, element=FieldType.INT8, max_capacity=3),
    column("reals", FieldType.ARRAY, element=FieldType.FLOAT32, max_capacity=3),
    column("flags", FieldType.ARRAY, element=FieldType.BOOL, max_capacity=3),
)
GOOD: dict[str, Any] = {
    "flag": True, "i8": -128, "i16": 32_767, "i32": -(2**31), "i64": 2**63 - 1, "f32": 0.5, "f64": 1e300,
    "text": "é" * 10, "tree": {"a": [1, None]}, "ints": [-128, 0, 127], "reals": [1.5], "flags": [],
    "undeclared": [1.0, {"x": None}],
}  # fmt: skip
BAD: list[tuple[str, Any, str]] = [
    ("flag", 1, "is 1, and the column is bool"),
    ("i8", 300, "is 300, which is not within -128 to 127"),
    ("i8", True, "is True, and the column is int8"),
    ("i16", 2**15, "not within"),
    ("i32", -(2**31) - 1, "not within"),
    ("i64", 2**63, "not within"),
    ("i64", "7", "is '7', and the column is int64"),
    ("i64", 1.0, "is 1.0, and the column is int64"),
    ("f32", 1e300, r"beyond 3\.4e\+38"),
    ("f32", 1, "is 1, and the column is float32"),
    ("f64", 2**53 + 1, "and the column is float64"),
    ("f64", 10**400, "is a int, and the column is float64"),
    ("text", "x" * 21, "a text of 21 bytes, and the column holds 20"),
    ("text", "é" * 11, "a text of 22 bytes, and the column holds 20"),
    ("text", "\ud800", "half of a surrogate pair"),
    ("text", None, "is null, and the column needs a value"),
    ("tree", {"a": [math.nan]}, "is not JSON"),
    ("ints", [1, 2, 3, 4], "has 4 elements, and the column holds 3"),
    ("ints", [1, 128], "has an element that is 128, which is not within"),
    ("ints", [1, "a"], "has an element that is 'a'"),
    ("ints", [None], "has an element that is None"),
    ("ints", [True], "has an element that is True"),
    ("ints", (1,), r"is \(1,\), and the column is array"),
    ("reals", [0.5, 1e39], "has an element that is 1e"),
    ("flags", [0], "has an element that is 0"),
    ("undeclared", [math.inf], "is not JSON"),
]


@pytest.fixture(params=["embedded", "server"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "embedded":
        endpoint = Endpoint(type="milvus", path=tmp_path / "milvus", collection="values")
    else:
        endpoint = request.getfixturevalue("milvus_server").endpoint("values")
    with open_target(endpoint) as database:
        database.drop()
        vector = VectorSchema(name="v", dim=2, metric=Metric.DOT, index=IndexSpec(type="FLAT"))
        ids = IdSchema(kinds=(IdKind.I64,), field="key")
        database.create(CollectionSchema(name="values", ids=ids, vectors=(vector,), fields=COLUMNS))
        yield database
        database.drop()


def test_h13_values_that_milvus_would_alter_are_refused_one_by_one(database: Database) -> None:
    payloads = [GOOD, *(GOOD | {name: value} for name, value, _ in BAD), {k: v for k, v in GOOD.items() if k != "i8"}]
    ids = IdColumn.of(IdKind.I64, list(range(len(payloads))))
    vectors = np.ones((len(payloads), 2), dtype=np.float32)
    refusals = database.upsert(Batch(ids, None, {"v": Dense(vectors)}, payloads))
    assert [refusal.id for refusal in refusals] == [str(i) for i in range(1, len(payloads))]
    (read,) = database.scan(Split(kind=IdKind.I64))
    assert read.ids.to_pylist() == [0]
    assert repr(sorted(read.payloads[0].items())) == repr(sorted(GOOD.items()))
    for refusal, (name, _, reason) in zip(refusals, BAD, strict=False):
        assert re.search(reason, refusal.reason)
        assert f"'{name}'" in refusal.reason or "JSON" in refusal.reason
    assert refusals[-1].reason == "it lacks 'i8', and the column needs a value"


def schema(*fields: FieldSchema) -> CollectionSchema:
    return CollectionSchema(name="c", ids=IdSchema(kinds=(IdKind.I64,)), fields=fields)


def test_a_default_stands_for_an_absent_key_but_not_for_null() -> None:
    fields = (column("n", FieldType.INT64, nullable=True), column("d", FieldType.INT64, nullable=True, default=7))
    found = misfits([{"n": None, "d": 1}, {"n": 1, "d": None}, {}], schema(*fields))
    assert found == {1: "'d' is null, which the column replaces by its default"}


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.integers(-200, 200), st.floats(), st.text(max_size=8)
)


@given(st.lists(VALUES, max_size=12), st.sampled_from(COLUMNS[:8]))
def test_a_batch_is_judged_as_its_records_one_by_one(values: list[Any], field: FieldSchema) -> None:
    payloads = [{field.name: value} for value in values]
    alone = {i: found[0] for i, payload in enumerate(payloads) if (found := misfits([payload], schema(field)))}
    assert misfits(payloads, schema(field)) == alone


@given(st.lists(st.lists(VALUES, max_size=5), max_size=8), st.sampled_from(COLUMNS[9:]))
def test_arrays_are_judged_one_by_one_too(values: list[Any], field: FieldSchema) -> None:
    payloads = [{field.name: value} for value in values]
    alone = {i: found[0] for i, payload in enumerate(payloads) if (found := misfits([payload], schema(field)))}
    assert misfits(payloads, schema(field)) == alone


@given(st.integers(-(2**70), 2**70), st.sampled_from(COLUMNS[1:5]))
def test_integers_fit_where_numpy_says_so(value: int, field: FieldSchema) -> None:
    limits = np.iinfo(np.dtype(field.type.value))
    assert (misfits([{field.name: value}], schema(field)) == {}) == (limits.min <= value <= limits.max)
