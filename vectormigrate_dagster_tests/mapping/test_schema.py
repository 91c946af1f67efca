"""Every thing of a source gets a row; grades and target schemas are what the databases can do."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest

from vectormigrate_dagster.errors import ConfigurationError, SchemaMismatch
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
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
    MILVUS,
    MILVUS_SERVER,
    QDRANT,
    QDRANT_SERVER,
    batch,
    codes,
    every_database,
    indexed,
    mapped,
    milvus_schema,
    qdrant_schema,
)


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
