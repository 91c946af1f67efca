"""Values that a target has no place for are kept as JSON text, named in the plan, and come back; nothing vanishes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.mapping.json_field import packed, unpacked
from vectormigrate_dagster.mapping.keys import column_names
from vectormigrate_dagster.mapping.loss import LossReport
from vectormigrate_dagster.mapping.records import Mapped, RecordMapper
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    Payload,
    Sparse,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.mapping.support import (
    MILVUS,
    PINECONE,
    QDRANT,
    WEAVIATE,
    batch,
    codes,
    mapped,
    milvus_schema,
    pinecone_schema,
    qdrant_schema,
    vectors,
    weaviate_schema,
)

ONE = uuid.UUID(int=1)


def moved(target: Capabilities, payloads: list[Payload], **options: Any) -> tuple[Mapping, LossReport, Mapped]:
    """Records of Qdrant, mapped."""
    records = batch(IdKind.U64, list(range(1, len(payloads) + 1)), payloads)
    mapping, report = mapped(qdrant_schema(), QDRANT, target, records, **options)
    return mapping, report, RecordMapper(mapping).map(records)


def payloads_of(done: Mapped) -> list[Payload]:
    """What was mapped, without original ids."""
    return [
        {key: value for key, value in payload.items() if key != "_source_id"}
        for one in done.batches
        for payload in one.payloads
    ]


# --- the text ---


@pytest.mark.parametrize("values", [{"a": None}, {"b": [1, 1.0, -0.0], "a": {"y": 2**70, "x": "é\n"}}, {"": {}}])
def test_the_text_has_one_spelling_and_comes_back_exactly(values: Payload) -> None:
    text = packed(values)
    assert packed(dict(reversed(values.items()))) == text
    assert repr(unpacked(text)) == repr(json.loads(text))
    assert json.dumps(unpacked(text), sort_keys=True) == json.dumps(values, sort_keys=True)


@pytest.mark.parametrize("text", ["", "{}", '{"a": 1}', '{"b":1,"a":2}', '{"a":1', "[1]", '"a"', '{"a":NaN}', 5, None])
def test_a_text_that_we_did_not_write_is_left_alone(text: Any) -> None:
    assert unpacked(text) is None


# --- what goes there ---


def test_h13_pinecone_keeps_what_it_can_and_the_rest_as_text() -> None:
    payload = {
        "t": "x",
        "n": 1,
        "f": 1.5,
        "b": True,
        "l": ["a"],
        "z": None,
        "o": {"a": [1]},
        "m": [1],
        "$d": 1,
        "e": [],
    }
    _, report, done = moved(PINECONE, [{**payload, "big": 2**53 + 1, "neg": -0.0}])
    (out,) = payloads_of(done)
    kept = json.loads(out.pop("_source_json"))
    assert out == {"t": "x", "n": 1.0, "f": 1.5, "b": True, "l": ["a"]}
    assert type(out["n"]) is float
    assert kept == {"z": None, "o": {"a": [1]}, "m": [1], "$d": 1, "e": [], "big": 2**53 + 1, "neg": -0.0}
    report.check()


def test_the_report_speaks_of_this_data() -> None:
    _, report, _ = moved(PINECONE, [{"n": 2**60}, {"n": 1}, {"n": None}, {}])
    rows = {row.code: row.reason for row in report.rows}
    assert rows["field.n.json"].startswith("2 of 4 records hold an int beyond 2^53 or null: kept exactly as JSON text")
    assert rows["field.n.float"].startswith("1 of 4 records hold an int, which comes back as the same number")


def test_h15_weaviate_gets_a_property_for_every_key_of_one_type() -> None:
    payloads = [{"Title": "A", "title": "b", "id": "x", "mixed": 1, "n": 2**60}, {"mixed": 1.0, "n": 1, "l": [[1]]}]
    mapping, report, done = moved(WEAVIATE, payloads)
    names = {field.name: field.type for field in mapping.target_schema.fields}
    assert names.items() >= {"title": FieldType.TEXT, "title_2": FieldType.TEXT, "n": FieldType.INT64}.items()
    first, second = payloads_of(done)
    assert first == {"title_2": "A", "title": "b", "id_2": "x", "_source_json": packed({"mixed": 1, "n": 2**60})}
    assert second == {"n": 1, "_source_json": packed({"mixed": 1.0, "l": [[1]]})}
    assert codes(report)["field.Title"] == codes(report)["field.mixed"] == "widened"


def test_a_key_that_the_profile_did_not_see_goes_there_too() -> None:
    records = batch(IdKind.U64, [1], [{"Title": "A"}])
    mapping, _ = mapped(qdrant_schema(), QDRANT, WEAVIATE, records)
    later = batch(IdKind.U64, [2], [{"title": "late", "Title": "B"}])
    assert payloads_of(RecordMapper(mapping).map(later)) == [{"title": "B", "_source_json": '{"title":"late"}'}]


def test_names_that_differ_in_capitals_only_never_meet() -> None:
    keys = ["aB", "ab", "AB", "a b", "a_b", "1", "é", "", "id", "x" * 400]
    pattern = WEAVIATE.field_name_pattern or ""
    made = column_names(keys, pattern, {"id"})
    names = [made.get(key, key) for key in keys]
    assert len({name.lower() for name in names}) == len(keys)
    assert column_names(reversed(keys), pattern, {"id"}) == made


def test_a_key_of_that_name_stays_what_it_was() -> None:
    mapping, _, done = moved(PINECONE, [{"_source_json": 5}])
    assert payloads_of(done) == [{"_source_json": '{"_source_json":5}'}]
    back, _ = mapped(mapping.target_schema, PINECONE, QDRANT, *done.batches)
    (out,) = RecordMapper(back).map(done.batches[0]).batches
    assert list(out.payloads) == [{"_source_json": 5}]


def test_the_owner_can_want_otherwise() -> None:
    payload = {"a": [1], "b": 1, "c": None}
    _, _, done = moved(PINECONE, [payload], drop=("a",), types={"b": "json"}, json_field="_rest")
    assert payloads_of(done) == [{"_rest": '{"b":1,"c":null}'}]
    _, report, done = moved(PINECONE, [payload, {"b": 2}], json_field=None)
    assert "field.c.type" in {row.code for row in report.rows if row.blocks}
    assert ([r.id for r in done.refused], payloads_of(done)) == (["1"], [{"b": 2.0}])


# --- coming back ---


def test_a_collection_without_a_note_gives_back_what_is_there() -> None:
    records = batch(IdKind.TEXT, ["a", "b"], [{"_source_json": '{"x":null}'}, {"_source_json": "mine"}], name="_values")
    mapping, report = mapped(pinecone_schema(), PINECONE, QDRANT, records)
    assert codes(report)["unpacked"] == "widened"
    assert payloads_of(RecordMapper(mapping).map(records)) == [{"x": None}, {"_source_json": "mine"}]


def test_a_key_that_stands_both_there_and_outside_refuses_the_record() -> None:
    records = batch(IdKind.TEXT, ["a"], [{"_source_json": '{"x":null}', "x": 1.0}], name="_values")
    for target in (QDRANT, WEAVIATE):
        mapping, report = mapped(pinecone_schema(), PINECONE, target, records)
        assert codes(report)["repeated"] == "lossy"
        assert [refusal.id for refusal in RecordMapper(mapping).map(records).refused] == ["a"]


def test_declared_properties_come_back_with_their_types() -> None:
    fields = (
        FieldSchema(name="n", type=FieldType.INT64, declared=True),
        FieldSchema(name="at", type=FieldType.DATETIME, declared=True),
    )
    records = batch(IdKind.UUID, [ONE], [{"n": 5, "at": "2026-01-01T00:00:00Z"}])
    there, _ = mapped(weaviate_schema(fields=fields), WEAVIATE, PINECONE, records)
    (part,) = RecordMapper(there).map(records).batches
    assert part.payloads[0]["n"] == 5.0
    back, _ = mapped(there.target_schema, PINECONE, WEAVIATE, part)
    assert {f.name: f.type for f in back.target_schema.fields}.items() >= {f.name: f.type for f in fields}.items()
    assert payloads_of(RecordMapper(back).map(part)) == [{"n": 5, "at": "2026-01-01T00:00:00Z"}]


# --- targets that are there already ---


def test_an_existing_collection_needs_a_text_of_that_name() -> None:
    n = FieldSchema(name="n", type=FieldType.INT64, declared=True)
    text = FieldSchema(name="_source_json", type=FieldType.TEXT, declared=True)
    kept = FieldSchema(name="_source_id", type=FieldType.TEXT, declared=True)
    payloads = [{"n": 2**60, "new": "x"}]
    _, report, done = moved(WEAVIATE, payloads, existing=weaviate_schema(fields=(n, text, kept)))
    report.check()
    assert payloads_of(done) == [{"_source_json": packed(payloads[0])}]
    _, report, done = moved(WEAVIATE, payloads, existing=weaviate_schema(fields=(n, kept)))
    assert codes(report)["field.new"] == "refused"
    assert len(done.refused) == 1


# --- limits, vectors ---


def test_the_limit_of_bytes_counts_what_is_sent() -> None:
    _, _, done = moved(PINECONE, [{"o": {"a": "é" * 20_500}}, {"o": {"a": "e" * 20_000}}])
    assert [refusal.id for refusal in done.refused] == ["1"]
    assert "40960" in done.refused[0].reason.replace(",", "")


def test_vectors_that_pinecone_refuses_are_named_before_and_refused_one_by_one() -> None:
    values = vectors(3)
    values[1] = 0
    sparse = Sparse(np.array([0, 1, 1, 3]), np.array([1, 2, 3], dtype=np.uint32), np.array([1, 1, 1], dtype=np.float32))
    terms = VectorSchema(name="terms", kind=VectorKind.SPARSE)
    schema = qdrant_schema(vectors=(*qdrant_schema().vectors, terms))
    records = Batch(IdColumn.of(IdKind.U64, [1, 2, 3]), None, {"": Dense(values), "terms": sparse}, [{}, {}, {}])
    target = PINECONE.but(max_nonzeros=1)
    mapping, report = mapped(schema, QDRANT, target, records)
    assert [vector.name for vector in mapping.target_schema.vectors] == ["_values", "_sparse_values"]
    lossy = {row.code for row in report.rows if row.blocks}
    assert lossy == {"vector..zero", "vector.terms.zero", "vector.terms.nonzeros"}
    assert {refusal.id for refusal in RecordMapper(mapping).map(records).refused} == {"2", "3"}
    back, _ = mapped(mapping.target_schema, PINECONE, QDRANT)
    assert [vector.name for vector in back.target_schema.vectors] == ["", "terms"]


def test_a_dimension_that_nobody_says_is_read_from_records() -> None:
    source = weaviate_schema(vectors=(VectorSchema(name="", metric=weaviate_schema().vectors[0].metric),))
    mapping, _ = mapped(source, WEAVIATE, QDRANT, batch(IdKind.UUID, [ONE]))
    assert mapping.target_schema.vectors[0].dim == 4
    none = Batch(IdColumn.of(IdKind.UUID, [ONE]), None, {}, [{}])
    mapping, report = mapped(source, WEAVIATE, QDRANT, none)
    report.check()
    assert mapping.target_schema.vectors == ()
    (refusal,) = RecordMapper(mapping).map(batch(IdKind.UUID, [ONE])).refused
    assert "plan again" in refusal.reason
    assert codes(mapped(source, WEAVIATE, QDRANT, none, complete=False)[1])["vector."] == "refused"


# --- ids ---


def test_null_within_a_declared_object_is_kept_between_databases_that_store_it() -> None:
    inner = (FieldSchema(name="flag", type=FieldType.BOOL, declared=True),)
    fields = (
        FieldSchema(name="one", type=FieldType.OBJECT, declared=True, fields=inner),
        FieldSchema(name="many", type=FieldType.ARRAY, element=FieldType.OBJECT, declared=True, fields=inner),
    )
    payloads: list[Payload] = [{"one": {"flag": None}, "many": [{"flag": True}, {"flag": None}]}, {"one": None}]
    records = batch(IdKind.UUID, [ONE, uuid.UUID(int=2)], payloads)
    mapping, report = mapped(weaviate_schema(fields=fields), WEAVIATE, WEAVIATE, records.slice(0, 1))
    report.check()
    done = RecordMapper(mapping).map(records)
    assert payloads_of(done) == payloads[:1]
    assert [refusal.reason for refusal in done.refused] == ["'one' holds null, which the target does not hold"]


def test_ids_that_pinecone_cannot_spell_become_uuids_and_come_back() -> None:
    ids = ["plain", "é", "x" * 600]
    records = batch(IdKind.TEXT, list(ids), name="vector")
    schema = milvus_schema().model_copy(update={"ids": IdSchema(kinds=(IdKind.TEXT,), field="id", max_length=1000)})
    there, report = mapped(schema, MILVUS, PINECONE, records)
    report.check()
    (part,) = RecordMapper(there).map(records).batches
    assert part.ids.kind is IdKind.TEXT
    back, _ = mapped(there.target_schema, PINECONE, MILVUS, part)
    assert [value for one in RecordMapper(back).map(part).batches for value in one.ids.to_pylist()] == ids
    native, report = mapped(schema, MILVUS, PINECONE, records, ids={"policy": "native"})
    assert {"ids.spelling", "ids.length"} <= {row.code for row in report.rows if row.blocks}
    assert [refusal.id for refusal in RecordMapper(native).map(records).refused] == ids[1:]


def test_h31_a_load_of_qdrant_migration_is_continued_with_its_ids() -> None:
    options: dict[str, Any] = {"ids": {"policy": "uuid5", "namespace": "qdrant-migration"}}
    texts = ["doc#1", str(ONE), str(ONE).upper()]
    records = batch(IdKind.TEXT, list(texts), name="_values")
    mapping, report = mapped(pinecone_schema(), PINECONE, QDRANT, records, **options)
    report.check()
    done = RecordMapper(mapping).map(records)
    (part,) = done.batches
    assert part.ids.to_pylist() == [uuid.uuid5(uuid.NAMESPACE_URL, "doc#1"), ONE]
    assert [refusal.id for refusal in done.refused] == [texts[2]]
    back, _ = mapped(mapping.target_schema, QDRANT, PINECONE, part)
    (returned,) = RecordMapper(back).map(part).batches
    assert returned.ids.to_pylist() == texts[:2]
