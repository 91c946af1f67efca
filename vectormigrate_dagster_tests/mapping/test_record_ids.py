"""Ids of records: they come back, are looked up both ways, and never meet one that was added since."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.mapping.ids import DEFAULT_NAMESPACE, mapped_uuid, mark
from vectormigrate_dagster.mapping.loss import Grade
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, id_text
from vectormigrate_dagster_tests.mapping.strategies import batches
from vectormigrate_dagster_tests.mapping.support import (
    MILVUS,
    QDRANT,
    QDRANT_SERVER,
    batch,
    mapped,
    milvus_schema,
    qdrant_schema,
    records,
)


def test_h16_two_ids_that_become_one_refuse_the_later() -> None:
    mapping, _ = mapped(milvus_schema(), MILVUS, QDRANT, batch(IdKind.TEXT, ["1"], name="vector"))
    repeated = batch(IdKind.TEXT, ["1", "2", "1"], [{"n": 1}, {"n": 2}, {"n": 3}], name="vector")
    done = RecordMapper(mapping).map(repeated)
    assert [(r.id, "another record" in r.reason) for r in done.refused] == [("1", True)]
    assert [p["n"] for one in done.batches for p in one.payloads] == [1, 2]


def test_mixed_ids_become_one_batch_per_kind() -> None:
    one = uuid.uuid4()
    given_batch = batch(IdKind.TEXT, ["1", str(one), "2"], name="vector")
    mapping, _ = mapped(milvus_schema(), MILVUS, QDRANT, given_batch)
    done = RecordMapper(mapping).map(given_batch)
    assert {b.ids.kind: b.ids.to_pylist() for b in done.batches} == {IdKind.U64: [1, 2], IdKind.UUID: [one]}
    rows = {IdKind.U64: [0, 2], IdKind.UUID: [1]}
    for out in done.batches:
        assert np.array_equal(out.vectors["vector"].values, given_batch.vectors["vector"].values[rows[out.ids.kind]])


def test_an_original_id_that_is_not_ours_is_refused() -> None:
    given_batch = batch(IdKind.TEXT, ["a", "b"], name="vector")
    there, _ = mapped(milvus_schema(), MILVUS, QDRANT, given_batch)
    (moved,) = RecordMapper(there).map(given_batch).batches
    back, _ = mapped(there.target_schema, QDRANT, MILVUS, moved)
    forged = [dict(moved.payloads[0]), {"_source_id": "text:a"}]
    done = RecordMapper(back).map(Batch(moved.ids, None, moved.vectors, forged))
    assert [r.id for r in done.refused] == [id_text(moved.ids[1])]
    added = batch(IdKind.U64, [7], [{"new": 1}], name="vector")
    (refusal,) = RecordMapper(back).map(added).refused
    assert refusal.id == "7"
    unknown = mapped_uuid(DEFAULT_NAMESPACE, 7, IdKind.U64, None, tagged=False)
    other = Batch(IdColumn.of(IdKind.UUID, [unknown]), None, {}, [{"_source_id": "u64:7"}])
    (refusal,) = RecordMapper(back).map(other).refused
    assert "u64 id, the target holds none" in refusal.reason


def test_h31_a_load_of_another_tool_comes_back_by_its_namespace() -> None:
    theirs = uuid.uuid4()
    moved = batch(IdKind.UUID, [uuid.uuid5(theirs, "a")], [{"_source_id": "text:a"}])
    back, _ = mapped(qdrant_schema(), QDRANT, MILVUS, moved, ids={"namespace": str(theirs)})
    (out,) = RecordMapper(back).map(moved).batches
    assert out.ids.to_pylist() == ["a"]
    assert list(out.payloads) == [{}]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from([IdKind.U64, IdKind.UUID, IdKind.TEXT, IdKind.I64]), data=st.data())
def test_ids_can_be_looked_up_both_ways(kind: IdKind, data: st.DataObject) -> None:
    qdrant = kind in (IdKind.U64, IdKind.UUID)
    (given_batch,) = data.draw(batches((kind,), "" if qdrant else "vector"))
    schema = qdrant_schema() if qdrant else milvus_schema(kind)
    mapping, _ = mapped(schema, *((QDRANT, MILVUS) if qdrant else (MILVUS, QDRANT)), given_batch)
    mapper = RecordMapper(mapping)
    done = mapper.map(given_batch)
    found = [original for one in done.batches for original in mapper.original_ids(one)]
    assert sorted(found, key=str) == sorted(((kind, value) for value in given_batch.ids.to_pylist()), key=str)


def test_records_of_the_application_are_told_from_restored_ones() -> None:
    made = mapped_uuid(DEFAULT_NAMESPACE, uuid.UUID(int=7), IdKind.UUID, None, tagged=False)
    moved = batch(IdKind.UUID, [made], [{"_source_id": mark(uuid.UUID(int=7), IdKind.UUID)}])
    mapping, report = mapped(qdrant_schema(), QDRANT, QDRANT_SERVER, moved)
    report.check()
    back = RecordMapper(mapping)
    for one, target in ((moved, uuid.UUID(int=7)), (batch(IdKind.U64, [42]), 42)):
        (returned,) = back.map(one).batches
        assert returned.ids.to_pylist() == [target]
        assert back.original_ids(returned) == [(one.ids.kind, one.ids[0])]
    (refusal,) = back.map(batch(IdKind.UUID, [uuid.UUID(int=7)])).refused
    assert "could overwrite" in refusal.reason


@pytest.mark.parametrize(
    ("kind", "value"), [(IdKind.U64, 42), (IdKind.UUID, uuid.UUID("0f0e0d0c-0b0a-0908-0706-050403020100"))]
)
def test_h16_an_id_added_since_never_meets_a_restored_one_in_another_batch(kind: IdKind, value: Id) -> None:
    given_batch = batch(IdKind.TEXT, [str(value), "b"], name="vector")
    there, _ = mapped(milvus_schema(), MILVUS, QDRANT, given_batch, ids={"policy": "uuid5"})
    (moved,) = RecordMapper(there).map(given_batch).batches
    added = batch(kind, [value], [{"new": 1}], name="vector")

    back, report = mapped(there.target_schema, QDRANT, MILVUS, moved, added)
    (row,) = (row for row in report.rows if row.code == "ids.added_since")
    assert (row.grade, row.blocks) == (Grade.LOSSY, True)
    assert row.reason.startswith("1 of 3 records have no original id in '_source_id'")
    mapper = RecordMapper(back)
    (first,), second = mapper.map(moved).batches, mapper.map(added)
    assert first.ids.to_pylist() == [str(value), "b"]
    assert second.batches == ()
    assert [refusal.id for refusal in second.refused] == [str(value)]
    assert "mapping.ids.policy: uuid5" in second.refused[0].reason

    # The way out that both messages name moves every record.
    anew, report = mapped(
        there.target_schema, QDRANT, MILVUS, moved, added, ids={"policy": "uuid5", "field": "_qdrant_id"}
    )
    report.check()
    mapper = RecordMapper(anew)
    done = [mapper.map(one) for one in (moved, added)]
    assert not any(one.refused for one in done)
    assert len({value for one in done for out in one.batches for value in out.ids.to_pylist()}) == 3


def test_without_records_added_since_all_go_back_and_the_plan_says_what_would_not() -> None:
    given_batch = batch(IdKind.TEXT, ["42", "b"], name="vector")
    there, _ = mapped(milvus_schema(), MILVUS, QDRANT, given_batch)
    (moved,) = RecordMapper(there).map(given_batch).batches
    back, report = mapped(there.target_schema, QDRANT, MILVUS, moved)
    report.check()
    rows = {row.code: row.reason for row in report.rows}
    assert "ids.added_since" not in rows
    assert "refused one by one if they would get a text id" in rows["ids"]
    done = RecordMapper(back).map(moved)
    assert not done.refused
    assert records(*done.batches) == records(given_batch)


def test_a_restored_number_comes_from_a_uuid_even_where_the_target_holds_none() -> None:
    given_batch = batch(IdKind.I64, [-5], name="vector")
    there, _ = mapped(milvus_schema(IdKind.I64), MILVUS, QDRANT, given_batch)
    (moved,) = RecordMapper(there).map(given_batch).batches
    assert moved.ids.kind is IdKind.UUID
    back = RecordMapper(mapped(there.target_schema, QDRANT, MILVUS, moved)[0])
    (returned,) = back.map(moved).batches
    assert returned.ids.to_pylist() == [-5]
    assert back.original_ids(returned) == [(IdKind.UUID, moved.ids[0])]
