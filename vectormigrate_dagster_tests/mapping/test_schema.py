"""Every thing of a source gets a row; grades and target schemas are what the databases can do."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases.milvus.capabilities import of_version, require_version
from vectormigrate_dagster.errors import ConfigurationError, SchemaMismatch
from vectormigrate_dagster.mapping.keys import KeyRules, shadow, unshadow
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    Dense,
    Element,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IndexSpec,
    Metric,
    ScopeKind,
    VectorKind,
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
    mapped,
    milvus_schema,
    qdrant_schema,
    vectors,
)

DATABASES = {"qdrant": QDRANT, "qdrant server": QDRANT_SERVER, "milvus": MILVUS, "milvus server": MILVUS_SERVER}
every_database = pytest.mark.parametrize("target", DATABASES.values(), ids=DATABASES)


def subjects(report) -> set[str]:
    return {row.subject for row in report.rows}


# --- H-14: nothing is dropped without a word ---


@every_database
def test_h14_every_thing_of_the_source_has_a_row(target: Capabilities) -> None:
    source = qdrant_schema(
        vectors=tuple(
            VectorSchema(
                name=f"v{i}", kind=kind, element=element, dim=None if kind is VectorKind.SPARSE else 8, metric=metric,
                index=IndexSpec(type="hnsw"), quantization=IndexSpec(type="scalar"), on_disk=True, modifier="idf",
            )
            for i, (kind, element, metric) in enumerate(product(VectorKind, Element, [None, *Metric]))
        ),
        fields=tuple(
            FieldSchema(name=f"f_{kind.value}", type=kind, index=IndexSpec(type="keyword"), tenant=True)
            for kind in FieldType
        ),
        scope=ScopeKind.SHARD_KEY, shards=2, replicas=2, aliases=("live", "old"),
    )  # fmt: skip
    payloads = [{"n": None, "b": True, "i": 1, "f": 1.5, "t": "x", "l": [1, "a"], "o": {"a.b": []}, "a.b": 1, "": 2}]
    records = Batch(IdColumn.of(IdKind.U64, [1]), "key", {}, payloads)
    mapping, report = mapped(source, QDRANT_SERVER, target, records)
    expected = {"id", "scope", "shards", "replicas", "alias 'live'", "alias 'old'"}
    for vector in source.vectors:
        expected.add(f"vector '{vector.name}'")
        expected |= {
            f"{what} of '{vector.name}'" for what in ("metric", "index", "quantization", "on_disk", "modifier")
        }
    for field in source.fields:
        expected |= {f"field '{field.name}'", f"index on '{field.name}'", f"tenants by '{field.name}'"}
    expected |= {f"field '{key}'" for key in payloads[0]}
    assert subjects(report) - {"vectors"} == expected
    assert {m.source for m in mapping.vectors} == {v.name for v in source.vectors}
    assert {m.source for m in mapping.fields} == {f.name for f in source.fields} | payloads[0].keys()


@pytest.mark.parametrize(
    "target", [QDRANT, QDRANT_SERVER, MILVUS_SERVER], ids=["qdrant", "qdrant server", "milvus server"]
)
@pytest.mark.parametrize("type", list(FieldType))
def test_h14_every_declared_type_is_moved_or_named(target: Capabilities, type: FieldType) -> None:
    field = FieldSchema(name="x", type=type, declared=True, nullable=False, default=1, element=FieldType.INT8)
    _, report = mapped(milvus_schema(fields=(field,)), MILVUS_SERVER, target, batch(IdKind.TEXT, ["a"], name="vector"))
    assert {"field 'x'", "default of 'x'", "requirement of 'x'"} <= subjects(report)
    assert codes(report)["field.x"] in ("exact", "widened")


def test_h15_dropped_things_are_reported_as_asked_for() -> None:
    source = qdrant_schema(vectors=(VectorSchema(name="a", dim=2, metric=Metric.DOT), VectorSchema(name="b", dim=2)))
    records = Batch(IdColumn.of(IdKind.U64, [1]), None, {}, [{"x": 1, "y": 2}])
    mapping, report = mapped(source, QDRANT, MILVUS, records, drop=("vector.b", "x"))
    assert [m.source for m in mapping.vectors] == ["a"]
    assert [m.source for m in mapping.fields] == ["y"]
    dropped = {row.subject for row in report.rows if row.target == "dropped"}
    assert dropped == {"vector 'b'", "field 'x'"}


# --- H-24: metrics ---


@every_database
@pytest.mark.parametrize("metric", list(Metric))
def test_h24_a_metric_is_kept_or_the_plan_refuses(target: Capabilities, metric: Metric) -> None:
    source = qdrant_schema(vectors=(VectorSchema(name="v", dim=DIM, metric=metric),))
    mapping, report = mapped(source, QDRANT, target, batch(IdKind.U64, [1], name="v"))
    held = metric in target.metrics[VectorKind.DENSE]
    assert codes(report)["vector.v.metric"] == ("exact" if held else "refused")
    if held:
        assert mapping.target_schema.vectors[0].metric is metric


def test_h24_another_metric_has_to_be_asked_for_and_allowed() -> None:
    source = qdrant_schema(vectors=(VectorSchema(name="v", dim=DIM, metric=Metric.MANHATTAN),))
    records = batch(IdKind.U64, [1], name="v")
    mapping, report = mapped(source, QDRANT, MILVUS, records, types={"vector.v": "euclidean"})
    assert mapping.target_schema.vectors[0].metric is Metric.EUCLIDEAN
    assert [row.code for row in report.rows if row.blocks] == ["vector.v.metric"]
    _, report = mapped(
        source, QDRANT, MILVUS, records, types={"vector.v": "euclidean"}, allow=("vector.v.metric",)
    )  # fmt: skip
    report.check()


def test_a_vector_without_a_metric_needs_one_unless_there_is_no_choice() -> None:
    sparse = VectorSchema(name="s", kind=VectorKind.SPARSE)
    source = milvus_schema(vectors=(VectorSchema(name="v", dim=2), sparse))
    mapping, report = mapped(source, MILVUS, QDRANT)
    assert codes(report)["vector.v.metric"] == "refused"
    assert mapping.target_schema.vector("s").metric is Metric.DOT


# --- H-12 and the norm ---


def cosine(values, source: Capabilities, **options):
    schema = milvus_schema(vectors=(VectorSchema(name="vector", dim=DIM, metric=Metric.COSINE),))
    records = Batch(IdColumn.of(IdKind.TEXT, ["1", "2"]), None, {"vector": Dense(values)}, [{}, {}])
    return mapped(schema, source, QDRANT, records, **options)


def test_h12_a_norm_that_gets_lost_needs_consent() -> None:
    mapping, report = cosine(vectors(2), MILVUS)
    assert codes(report)["vector.vector.norm"] == "lossy"
    assert mapping.vectors[0].unit
    mapping, report = cosine(vectors(2), MILVUS, allow=("vector.vector.norm",))
    report.check()
    assert not mapping.vectors[0].unit


def test_h12_unit_vectors_are_widened_and_stay_checked() -> None:
    values = vectors(2)
    values /= abs(values).sum(axis=1, keepdims=True)
    values = (values.T / (values**2).sum(axis=1) ** 0.5).T
    mapping, report = cosine(values, MILVUS)
    assert codes(report)["vector.vector.norm"] == "widened"
    assert mapping.vectors[0].unit
    _, report = cosine(vectors(2), QDRANT)
    assert "vector.vector.norm" not in codes(report)


# --- vectors ---


def test_the_unnamed_vector_gets_a_name_and_loses_it_on_the_way_back() -> None:
    there, _ = mapped(qdrant_schema(), QDRANT, MILVUS, batch(IdKind.U64, [1]))
    assert there.vectors[0].target == "vector"
    back, _ = mapped(there.target_schema, MILVUS, QDRANT, batch(IdKind.I64, [1], name="vector"))
    assert back.vectors[0].target == ""
    assert back.target_schema.vectors[0].name == ""


def test_names_that_no_column_may_have_are_changed_without_meeting() -> None:
    names = ("a-b", "a_b", "1", "é")
    source = qdrant_schema(vectors=tuple(VectorSchema(name=name, dim=2, metric=Metric.DOT) for name in names))
    mapping, report = mapped(source, QDRANT, MILVUS)
    assert [m.target for m in mapping.vectors] == ["a_b", "a_b_", "_1", "_"]
    assert codes(report)["vector.a-b"] == "widened"
    back, _ = mapped(mapping.target_schema, MILVUS, QDRANT)
    assert tuple(m.target for m in back.vectors) == names


@pytest.mark.parametrize(
    ("vector", "grade"),
    [
        (VectorSchema(name="v", element=Element.FLOAT16, dim=2, metric=Metric.DOT), "widened"),
        (VectorSchema(name="v", element=Element.UINT8, dim=2, metric=Metric.DOT), "widened"),
        (VectorSchema(name="v", element=Element.BINARY, dim=8, metric=Metric.DOT), "refused"),
        (VectorSchema(name="v", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT), "refused"),
        (VectorSchema(name="v", dim=40_000, metric=Metric.DOT), "refused"),
        (VectorSchema(name="v", dim=2, metric=Metric.DOT), "exact"),
    ],
)
def test_vectors_are_kept_widened_or_refused(vector: VectorSchema, grade: str) -> None:
    mapping, report = mapped(qdrant_schema(vectors=(vector,)), QDRANT, MILVUS)
    assert codes(report)["vector.v"] == grade
    if grade == "widened":
        assert mapping.target_schema.vectors[0].element is Element.FLOAT32
        assert mapping.vectors[0].conversion == "widen_f32"


def test_missing_vectors_need_consent_where_the_target_needs_all() -> None:
    records = Batch(IdColumn.of(IdKind.U64, [1, 2]), None, {"": Dense(vectors(2), vectors(2)[:, 0] > 9)}, [{}, {}])
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, records)
    assert codes(report)["vector..missing"] == "lossy"
    assert mapping.vectors[0].required
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS_SERVER, records)
    assert "vector..missing" not in codes(report)
    assert mapping.target_schema.vectors[0].optional


# --- fields ---


def indexed(**changes) -> FieldSchema:
    return FieldSchema(name="year", type=FieldType.INT64, index=IndexSpec(type="integer")).model_copy(update=changes)


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


# --- options ---


def test_wrong_options_are_named() -> None:
    named = qdrant_schema(vectors=(VectorSchema(name="emb", dim=2, metric=Metric.DOT),))
    with pytest.raises(ConfigurationError, match=r"write 'vector\.emb'"):
        mapped(named, QDRANT, MILVUS, drop=("emb",))
    with pytest.raises(ConfigurationError, match="'varchar' for 'x'"):
        mapped(named, QDRANT, MILVUS, types={"x": "varchar"})
    with pytest.raises(ConfigurationError, match="'l2' for"):
        mapped(named, QDRANT, MILVUS, types={"vector.emb": "l2"})


# --- a target that is there already ---


def test_an_existing_target_is_mapped_onto() -> None:
    existing = milvus_schema(IdKind.I64, fields=(FieldSchema(name="year", type=FieldType.INT64, declared=True),))
    mapping, report = mapped(
        qdrant_schema(), QDRANT, MILVUS, batch(IdKind.U64, [1], [{"year": "x", "other": 1}]), existing=existing
    )
    assert mapping.target_schema == existing
    assert mapping.ids.target_kinds == (IdKind.I64,)
    assert {field.source: field.conversion for field in mapping.fields} == {"year": "int64", "other": "copy"}
    assert codes(report)["field.year.type"] == "lossy"


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (VectorSchema(name="vector", dim=3, metric=Metric.DOT), "has dim 3, the source needs 4"),
        (VectorSchema(name="vector", dim=4, metric=Metric.COSINE), "has metric cosine, the source needs dot"),
        (VectorSchema(name="other", dim=4, metric=Metric.DOT), "has no vector 'vector' .it has 'other'."),
    ],
)
def test_an_existing_target_that_does_not_fit_is_refused(there: VectorSchema, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=message):
        mapped(qdrant_schema(), QDRANT, MILVUS, existing=milvus_schema(IdKind.I64, vectors=(there,)))


def test_a_closed_target_refuses_what_it_does_not_declare() -> None:
    existing = milvus_schema(dynamic=False)
    source = milvus_schema()
    _, report = mapped(source, MILVUS, MILVUS, batch(IdKind.TEXT, ["a"], [{"x": 1}], name="vector"), existing=existing)
    assert codes(report)["field.x"] == "refused"


def test_columns_that_the_source_does_not_fill_are_reported() -> None:
    columns = (
        FieldSchema(name="a", type=FieldType.INT64, declared=True),
        FieldSchema(name="b", type=FieldType.INT64, declared=True, nullable=False, default=7),
    )
    needy = FieldSchema(name="c", type=FieldType.INT64, declared=True, nullable=False)
    records = batch(IdKind.TEXT, ["x"], name="vector")
    mapping, report = mapped(milvus_schema(), MILVUS, MILVUS, records, existing=milvus_schema(fields=columns))
    assert codes(report)["column.a"] == codes(report)["column.b"] == "widened"
    done = RecordMapper(mapping).map(records)
    assert [payload for one in done.batches for payload in one.payloads] == [{"a": None, "b": 7}]
    _, report = mapped(milvus_schema(), MILVUS, MILVUS, records, existing=milvus_schema(fields=(*columns, needy)))
    assert codes(report)["column.c"] == "refused"


def test_a_nullable_column_with_a_default_holds_the_default_and_never_null() -> None:
    column = FieldSchema(name="lang", type=FieldType.TEXT, declared=True, nullable=True, default="en")
    existing = milvus_schema(IdKind.I64, fields=(column,))
    records = batch(IdKind.U64, [1])
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, records, existing=existing)
    assert next(row.target for row in report.rows if row.code == "column.lang") == "its default"
    (done,) = RecordMapper(mapping).map(records).batches
    assert list(done.payloads) == [{"lang": "en"}]

    mixed = batch(IdKind.U64, [1, 2, 3], [{"lang": "de"}, {"lang": None}, {}])
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, mixed, existing=existing)
    assert {row.code for row in report.rows if row.blocks} == {"field.lang.null", "field.lang.absent"}
    allowed = {"existing": existing, "allow": ("field.lang.null", "field.lang.absent")}
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, mixed, **allowed)
    report.check()
    result = RecordMapper(mapping).map(mixed)
    assert [payload for one in result.batches for payload in one.payloads] == [{"lang": "de"}, {"lang": "en"}]
    assert [refusal.reason for refusal in result.refused] == [
        "'lang' is null, which the column replaces by its default"
    ]


# --- scopes ---


@pytest.mark.parametrize(
    ("target", "scope_as", "rule", "folds"),
    [
        (MILVUS, "auto", "native", True),
        (QDRANT_SERVER, "auto", "native", False),
        (QDRANT, "auto", "to_field", True),
        (MILVUS, "field", "to_field", True),
        (MILVUS, "collection", "single", False),
    ],
)
def test_h17_scopes_never_merge_equal_ids(target: Capabilities, scope_as: str, rule: str, folds: bool) -> None:
    records = batch(IdKind.U64, [1], scope="a")
    mapping, report = mapped(
        qdrant_schema(scope=ScopeKind.SHARD_KEY), QDRANT_SERVER, target, records, scope_as=scope_as
    )
    assert mapping.scope.rule == rule
    assert mapping.scope.folds_ids is folds
    assert mapping.ids.keeps_original is folds
    assert "scope" in subjects(report)


def test_h17_folded_native_ids_are_refused() -> None:
    _, report = mapped(
        qdrant_schema(scope=ScopeKind.SHARD_KEY), QDRANT_SERVER, MILVUS, batch(IdKind.U64, [1], scope="a"),
        ids={"policy": "native"},
    )  # fmt: skip
    assert codes(report)["ids.scope"] == "refused"


def test_several_scopes_do_not_fit_into_one_collection() -> None:
    source = qdrant_schema(scope=ScopeKind.SHARD_KEY)
    records = [batch(IdKind.U64, [1], scope=scope) for scope in "ab"]
    with pytest.raises(ConfigurationError, match="'a', 'b'"):
        mapped(source, QDRANT_SERVER, MILVUS, *records, scope_as="collection")
    with pytest.raises(ConfigurationError, match="'a', 'b'"):
        mapped(source, QDRANT_SERVER, QDRANT, *records, scope_as="collection")


def test_scope_names_that_the_target_does_not_accept_become_values() -> None:
    source = qdrant_schema(scope=ScopeKind.SHARD_KEY)
    mapping, _ = mapped(source, QDRANT_SERVER, MILVUS, batch(IdKind.U64, [1], scope="tenant 1"))
    assert mapping.scope.rule == "to_field"


# --- the mapping as data ---


def test_h11_a_mapping_has_one_digest_in_every_process() -> None:
    code = (
        "from vectormigrate_dagster_tests.mapping.support import *\n"
        "records = batch(IdKind.U64, [1], [{'id': 1, 'vector': 2, 'b': {'c': 1}, 'a': []}])\n"
        "mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS, records, drop=('x', 'y'), rename={'q': 'r', 's': 't'})\n"
        "print(mapping.digest)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1


def test_a_mapping_survives_json_and_its_digest_ignores_counters() -> None:
    source = qdrant_schema(fields=(indexed(),), settings={"points": 1})
    mapping, report = mapped(source, QDRANT_SERVER, MILVUS, batch(IdKind.U64, [1], [{"year": 1}]))
    again = Mapping.model_validate_json(mapping.model_dump_json())
    assert again == mapping
    assert type(report).model_validate_json(report.model_dump_json()) == report
    counted = mapping.model_copy(update={"source_schema": source.model_copy(update={"settings": {"points": 2}})})
    assert counted.digest == mapping.digest
    renamed = mapping.model_copy(update={"source_schema": source.model_copy(update={"name": "other"})})
    assert renamed.digest != mapping.digest


def test_notes_that_may_not_fit_are_told_by_the_plan_and_refuse_nothing() -> None:
    target = QDRANT.but(max_marker_bytes=600)
    renamed = {f"a long key {number}": f"key{number}" for number in range(40)}
    records = batch(IdKind.U64, [1], [dict.fromkeys(renamed, 1)])
    mapping, report = mapped(qdrant_schema(), QDRANT, target, records, rename=renamed)
    (row,) = (row for row in report.rows if row.code == "marker")
    assert (row.grade.value, "600 bytes" in row.reason) == ("widened", True)
    assert mapping.target_schema.marker is not None
    _, report = mapped(qdrant_schema(), QDRANT, target, records)
    assert "marker" not in codes(report)


# --- indexes ---


def test_an_hnsw_graph_is_translated_where_both_sides_have_words_for_it() -> None:
    source = QDRANT.but(hnsw_words={"type": "hnsw", "m": "m", "ef_construct": "ef_construct"})
    target = MILVUS.but(hnsw_words={"type": "HNSW", "m": "M", "ef_construct": "efConstruction"})
    index = IndexSpec(type="hnsw", params={"m": 8, "ef_construct": 64, "on_disk": True})
    schema = qdrant_schema(vectors=(VectorSchema(name="v", dim=2, metric=Metric.DOT, index=index),))
    mapping, report = mapped(schema, source, target)
    assert mapping.target_schema.vectors[0].index == IndexSpec(type="HNSW", params={"M": 8, "efConstruction": 64})
    assert codes(report)["vector.v.index"] == "widened"
    mapping, report = mapped(schema, source, MILVUS.but(hnsw_words={}))
    assert mapping.target_schema.vectors[0].index is None
    assert codes(report)["vector.v.index"] == "widened"
    off = IndexSpec(type="hnsw", params={"m": 0})
    schema = qdrant_schema(vectors=(VectorSchema(name="v", dim=2, metric=Metric.DOT, index=off),))
    assert mapped(schema, source, target)[0].target_schema.vectors[0].index is None
