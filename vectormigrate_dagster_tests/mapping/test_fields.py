"""What becomes of payload keys and declared fields, and of the options that speak of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases.milvus.capabilities import of_version, require_version
from vectormigrate_dagster.mapping.keys import KeyRules, shadow, unshadow
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IndexSpec,
    Metric,
    VectorSchema,
)
from vectormigrate_dagster_tests.mapping.support import (
    DIM,
    MILVUS,
    MILVUS_SERVER,
    QDRANT,
    QDRANT_SERVER,
    batch,
    codes,
    indexed,
    mapped,
    milvus_schema,
    qdrant_schema,
    vectors,
)

# --- fields ---


@pytest.mark.parametrize(
    ("payloads", "complete", "declared"),
    [
        ([{"year": 1}, {"year": 2}], True, True),
        ([{"year": 1}, {"year": None}], True, True),
        ([{"year": 1}, {"year": 2}], False, False),
        ([{"year": 1}, {}], True, False),
        ([{"year": 1}, {"year": "x"}], True, False),
        ([{"year": 1}, {"year": 1.0}], True, False),
        ([{"year": 1}, {"year": 2**63}], True, False),
        ([{}, {}], True, False),
    ],
)
def test_a_column_is_declared_only_if_it_is_proven_exact(payloads, complete: bool, declared: bool) -> None:
    source = qdrant_schema(fields=(indexed(),))
    mapping, report = mapped(source, QDRANT_SERVER, MILVUS, batch(IdKind.U64, [1, 2], payloads), complete=complete)
    assert [field.name for field in mapping.target_schema.fields] == (["year"] if declared else [])
    assert codes(report)["field.year"] == "exact"
    assert codes(report)["field.year.index"] == "widened"


def test_a_key_without_an_index_stays_undeclared() -> None:
    mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS, batch(IdKind.U64, [1], [{"year": 1}]))
    assert mapping.target_schema.fields == ()
    assert mapping.target_schema.dynamic


def test_an_asked_for_column_reports_what_it_would_alter() -> None:
    payloads = [{"x": 0.1}, {"x": None}, {}, {"x": "text"}]
    records = batch(IdKind.U64, [1, 2, 3, 4], payloads)
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, records, types={"x": "float32"})
    assert {row.code for row in report.rows if row.blocks} == {"field.x.absent", "field.x.float32", "field.x.type"}
    assert mapping.fields[0].conversion == "float32"
    assert not mapping.fields[0].absent_as_null
    mapping, _ = mapped(
        qdrant_schema(), QDRANT, MILVUS, records, types={"x": "float32"}, allow=("field.x.absent", "field.x.float32")
    )  # fmt: skip
    assert mapping.fields[0].absent_as_null
    assert mapping.fields[0].rounds


def test_ints_that_the_target_cannot_hold_are_counted() -> None:
    records = batch(IdKind.U64, [1, 2, 3], [{"n": 2**63}, {"n": 5}, {"n": [-(2**63) - 1]}])
    _, report = mapped(qdrant_schema(), QDRANT, MILVUS, records)
    row = next(row for row in report.rows if row.code == "field.n.int_range")
    assert row.reason.startswith("2 values of 'n' are beyond int64")
    records = batch(IdKind.U64, [1, 2], [{"n": 2**53 + 1}, {"n": 2**53}])
    _, report = mapped(qdrant_schema(), QDRANT, MILVUS.but(max_int=2**53, min_int=-(2**53)), records, complete=False)
    row = next(row for row in report.rows if row.code == "field.n.int_precision")
    assert row.reason.startswith("1 sampled values of 'n' are beyond 2^53")


def test_declared_fields_keep_their_declaration_and_indexes() -> None:
    column = FieldSchema(
        name="tag", type=FieldType.TEXT, declared=True, nullable=True, max_length=9, index=IndexSpec(type="TRIE")
    )
    source = milvus_schema(fields=(column,), dynamic=False)
    records = batch(IdKind.TEXT, ["a"], [{"tag": "x"}], name="vector")
    same, report = mapped(source, MILVUS, MILVUS, records)
    assert same.target_schema.fields == (column,)
    assert not same.target_schema.dynamic
    assert {row.grade.value for row in report.rows} == {"exact"}
    other, report = mapped(source, MILVUS_SERVER, QDRANT_SERVER, records)
    assert other.target_schema.fields == (
        FieldSchema(name="tag", type=FieldType.TEXT, index=IndexSpec(type="keyword")),
    )
    assert codes(report)["field.tag.index"] == "widened"


OLD_MILVUS = of_version((2, 3, 5))
"""Before 2.5: no column may be null or have a default."""


def milvus_column(**settings: Any) -> FieldSchema:
    known = {"nullable": True, "index": IndexSpec(type="INVERTED")} | settings
    return FieldSchema(name="n", type=FieldType.INT64, declared=True, **known)


def planned_for_old_milvus(column: FieldSchema, payloads: list[dict[str, Any]], **options: Any):
    """A plan that the old server accepts, and its report."""
    source = milvus_schema(fields=(column,), dynamic=False)
    records = batch(IdKind.TEXT, [str(i) for i in range(len(payloads))], payloads, name="vector")
    mapping, report = mapped(source, MILVUS_SERVER, OLD_MILVUS, records, **options)
    require_version(mapping.target_schema, (2, 3, 5))
    report.check()
    mapped_batches = RecordMapper(mapping).map(records)
    return mapping, codes(report), mapped_batches


def test_a_column_that_may_be_null_becomes_a_key_where_columns_may_not() -> None:
    payloads = [{"n": 1}, {"n": None}]
    mapping, grades, out = planned_for_old_milvus(milvus_column(), payloads)
    assert mapping.target_schema.fields == ()
    assert mapping.target_schema.dynamic
    assert (grades["field.n"], grades["field.n.index"]) == ("widened", "widened")
    assert not out.refused
    assert out.batches[0].payloads == payloads


def test_a_column_without_a_null_in_any_record_becomes_a_required_one() -> None:
    payloads = [{"n": 1}, {"n": 2}]
    mapping, grades, out = planned_for_old_milvus(milvus_column(), payloads)
    assert mapping.target_schema.fields == (milvus_column(nullable=False),)
    assert grades["field.n"] == "exact"
    assert out.batches[0].payloads == payloads
    mapping, grades, _ = planned_for_old_milvus(milvus_column(), payloads, complete=False)
    assert mapping.target_schema.fields == ()  # a sample proves nothing
    assert grades["field.n"] == "widened"


def test_a_default_of_a_required_column_is_left_behind_where_there_are_none() -> None:
    column = milvus_column(nullable=False, default=7)
    mapping, grades, out = planned_for_old_milvus(column, [{"n": 7}], complete=False)
    assert mapping.target_schema.fields == (milvus_column(nullable=False),)
    assert grades["field.n.default"] == "widened"
    assert not out.refused


def test_an_indexed_key_is_a_column_only_if_no_record_has_null() -> None:
    field = FieldSchema(name="n", type=FieldType.INT64, index=IndexSpec(type="integer"))
    for payloads, columns in (([{"n": 1}, {"n": None}], []), ([{"n": 1}, {"n": 2}], [False])):
        records = batch(IdKind.U64, [1, 2], payloads)
        mapping, report = mapped(qdrant_schema(fields=(field,)), QDRANT, OLD_MILVUS, records)
        assert [field.nullable for field in mapping.target_schema.fields] == columns
        require_version(mapping.target_schema, (2, 3, 5))
        report.check()
        assert RecordMapper(mapping).map(records).batches[0].payloads == payloads


def test_a_column_that_was_asked_for_says_which_nulls_it_refuses() -> None:
    records = batch(IdKind.U64, [1, 2, 3], [{"n": 1}, {"n": None}, {}])
    mapping, report = mapped(qdrant_schema(), QDRANT, OLD_MILVUS, records, types={"n": "int64"})
    require_version(mapping.target_schema, (2, 3, 5))
    assert (codes(report)["field.n.null"], codes(report)["field.n.absent"]) == ("lossy", "lossy")
    assert [refusal.id for refusal in RecordMapper(mapping).map(records).refused] == ["2", "3"]


def test_a_rename_that_meets_another_key_is_refused() -> None:
    records = batch(IdKind.U64, [1], [{"a": 1, "b": 2}])
    _, report = mapped(qdrant_schema(), QDRANT, MILVUS, records, rename={"a": "b"})
    assert codes(report)["field.b.rename"] == "refused"


@settings(max_examples=300, deadline=None)
@given(
    names=st.frozensets(st.text("ab_", min_size=1, max_size=3), max_size=4),
    keys=st.frozensets(st.text("ab_", max_size=5), max_size=30),
)
def test_shadowed_keys_move_aside_and_come_back(names: frozenset[str], keys: frozenset[str]) -> None:
    moved = {key: shadow(key, names) for key in keys}
    assert not set(moved.values()) & names
    assert len(set(moved.values())) == len(keys)
    assert all(unshadow(target, names) == key for key, target in moved.items())


def test_a_payload_key_that_looks_like_a_vector_option_is_a_key() -> None:
    rules = KeyRules(rename={"vector.x": "y"})
    assert rules.target_of("vector.x") == "y"
    mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS, batch(IdKind.U64, [1], [{"vector.x": 1}]))
    assert mapping.fields[0].target == "vector.x"


def test_an_option_for_a_vector_leaves_a_payload_key_of_that_name_alone() -> None:
    two = tuple(VectorSchema(name=name, dim=DIM, metric=Metric.DOT) for name in ("v", "x"))
    records = Batch(
        IdColumn.of(IdKind.U64, [1]), None, {name: Dense(vectors(1)) for name in ("v", "x")}, [{"vector.x": 1}]
    )
    source = qdrant_schema(vectors=two)
    mapping, _ = mapped(source, QDRANT, QDRANT, records, drop=("vector.x",))
    (done,) = RecordMapper(mapping).map(records).batches
    assert list(done.vectors) == ["v"]
    assert list(done.payloads) == [{"vector.x": 1}]
    other, _ = mapped(source, QDRANT, MILVUS, records, types={"vector.x": "cosine"}, rename={"vector.x": "y"})
    (done,) = RecordMapper(other).map(records).batches
    assert list(done.payloads) == [{"vector.x": 1}]
