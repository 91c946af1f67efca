"""Records: what the plan grades exact or widened comes back equal, everything else is refused with a reason."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.mapping.keys import shadow
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    Element,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    Metric,
    Multi,
    Packed,
    ScopeKind,
    Sparse,
    VectorKind,
    VectorSchema,
    id_text,
)
from vectormigrate_dagster_tests.mapping.strategies import batches
from vectormigrate_dagster_tests.mapping.support import (
    MILVUS,
    MILVUS_SERVER,
    QDRANT,
    QDRANT_SERVER,
    batch,
    mapped,
    milvus_schema,
    profile_of,
    qdrant_schema,
    records,
    vectors,
)

SHADOWED = ("id", "vector", "$meta")


def there_and_back(
    schema: CollectionSchema, source: Capabilities, target: Capabilities, given_batches: list[Batch], **options: Any
) -> tuple[list[Batch], list[Batch]]:
    there, report = mapped(schema, source, target, *given_batches, **options)
    report.check()
    moved = []
    for one in given_batches:
        done = RecordMapper(there).map(one)
        assert not done.refused, done.refused
        moved += done.batches
    back, report = mapped(there.target_schema, target, source, *moved)
    report.check()
    returned = []
    for one in moved:
        done = RecordMapper(back).map(one)
        assert not done.refused, done.refused
        returned += done.batches
    return moved, returned


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_batches=batches((IdKind.U64, IdKind.UUID), ""))
def test_h13_qdrant_to_milvus_and_back_is_the_identity(given_batches: list[Batch]) -> None:
    before = copy.deepcopy([one.payloads for one in given_batches])
    moved, returned = there_and_back(qdrant_schema(), QDRANT, MILVUS, given_batches)
    assert records(*returned) == records(*given_batches)
    assert [one.payloads for one in given_batches] == before
    assert not any({"$meta", "vector"} & payload.keys() for one in moved for payload in one.payloads)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([IdKind.TEXT, IdKind.I64]),
    data=st.data(),
    policy=st.sampled_from(["auto", "uuid5"]),
    rename=st.sampled_from([{}, {"x": "y z"}, {"vector.vector": "emb"}]),
)
def test_h16_milvus_to_qdrant_and_back_gives_the_original_ids(
    kind: IdKind, data: st.DataObject, policy: str, rename: dict[str, str]
) -> None:
    given_batches = data.draw(batches((kind,), "vector"))
    options = {"ids": {"policy": policy}, "rename": rename}
    for one in given_batches:
        for payload in one.payloads:
            # What a Milvus collection with these fields cannot hold.
            for name in ("id", "vector", "$meta"):
                payload.pop(name, None)
    _, returned = there_and_back(milvus_schema(kind), MILVUS, QDRANT, given_batches, **options)
    # A key "id_" moves aside once more, because Qdrant may have got a key "id" meanwhile; the plan says so.
    expected = [
        replace(one, payloads=[{shadow(key, SHADOWED): value for key, value in p.items()} for p in one.payloads])
        for one in given_batches
    ]
    assert records(*returned) == records(*expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_batches=batches((IdKind.U64, IdKind.UUID), "", scopes=("a", "b")))
def test_h17_scopes_come_back_from_a_field(given_batches: list[Batch]) -> None:
    schema = qdrant_schema(scope=ScopeKind.SHARD_KEY)
    moved, returned = there_and_back(schema, QDRANT_SERVER, MILVUS, given_batches, scope_as="field")
    assert {one.scope for one in moved} == {None}
    assert len(records(*moved)) == sum(map(len, given_batches))
    assert records(*returned) == records(*given_batches)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    given_batches=batches((IdKind.U64, IdKind.UUID), ""),
    odd=st.sampled_from([2**63, -(2**63) - 1, float("nan"), float("-inf"), "x" * 65_536, "\ud800"]),
    deep=st.booleans(),
    row=st.integers(0, 5),
)
def test_h14_what_a_sample_did_not_show_is_refused_one_by_one(
    given_batches: list[Batch], odd: Any, deep: bool, row: int
) -> None:
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, *given_batches, complete=False)
    report.check()
    first = given_batches[0]
    row %= len(first)
    payloads = [dict(payload) for payload in first.payloads]
    payloads[row]["odd"] = {"a": [odd]} if deep else odd
    done = RecordMapper(mapping).map(Batch(first.ids, None, first.vectors, payloads))
    assert [refusal.id for refusal in done.refused] == [id_text(first.ids[row])]
    assert done.refused[0].reason
    assert sum(map(len, done.batches)) == len(first) - 1
    kept = RecordMapper(mapping).map(first.take([i for i in range(len(first)) if i != row]))
    assert records(*done.batches) == records(*kept.batches)


def test_vectors_are_not_copied_and_payloads_not_rebuilt_when_nothing_changes() -> None:
    payloads = [{"a": 1}, {"a": None}]
    given_batch = batch(IdKind.U64, [1, 2], payloads)
    mapping, _ = mapped(qdrant_schema(), QDRANT, QDRANT_SERVER, given_batch)
    (out,) = RecordMapper(mapping).map(given_batch).batches
    assert out.vectors[""].values is given_batch.vectors[""].values
    mapper = RecordMapper(mapping)
    mapper.map(given_batch)
    (out,) = mapper.map(given_batch).batches
    assert all(mine is theirs for mine, theirs in zip(out.payloads, payloads, strict=True))


@pytest.mark.parametrize("element", [Element.FLOAT16, Element.BFLOAT16, Element.INT8, Element.UINT8])
def test_h12_widening_is_exact(element: Element) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (64, 8), dtype=np.uint8).view(element.dtype)
    dim = raw.shape[1]
    if element is Element.FLOAT16:
        raw = np.where(np.isfinite(raw), raw, np.float16(1))
    if element is Element.BFLOAT16:
        raw = raw & np.uint16(0xBFFF)
    schema = qdrant_schema(vectors=(VectorSchema(name="v", element=element, dim=dim, metric=Metric.DOT),))
    given_batch = Batch(
        IdColumn.of(IdKind.U64, range(64)), None, {"v": Packed(element, dim, raw)}, [{} for _ in range(64)]
    )
    mapping, report = mapped(schema, QDRANT, MILVUS, given_batch)
    report.check()
    (out,) = RecordMapper(mapping).map(given_batch).batches
    column = out.vectors["v"]
    assert isinstance(column, Dense)
    assert column.values.dtype == np.float32
    if element is Element.BFLOAT16:
        assert np.array_equal(column.values.view(np.uint32) >> 16, raw.astype(np.uint32))
    else:
        assert np.array_equal(column.values.astype(raw.dtype), raw)


def refused_rows(schema: CollectionSchema, target: Capabilities, one: Batch, **options: Any) -> dict[str, str]:
    mapping, _ = mapped(schema, MILVUS_SERVER, target, **options)
    done = RecordMapper(mapping).map(one)
    assert sum(map(len, done.batches)) + len(done.refused) == len(one)
    return {refusal.id: refusal.reason for refusal in done.refused}


def test_vectors_that_the_target_cannot_hold_are_refused_by_row() -> None:
    values = vectors(4)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[1] *= 2
    values[2, 0] = np.nan
    column = Dense(values, np.array([True, True, True, False]))
    one = Batch(IdColumn.of(IdKind.TEXT, ["a", "b", "c", "d"]), None, {"v": column}, [{}, {}, {}, {}])
    schema = milvus_schema(vectors=(VectorSchema(name="v", dim=4, metric=Metric.COSINE),))
    found = refused_rows(schema, QDRANT, one)
    assert found.keys() == {"b", "c"}
    assert "norm 1" in found["b"]
    assert "NaN" in found["c"]
    assert refused_rows(schema, QDRANT, one, allow=("vector.v.norm",)).keys() == {"c"}
    assert refused_rows(schema, MILVUS, one).keys() == {"d"}
    assert refused_rows(schema, MILVUS_SERVER, one).keys() == {"c"}
    short = Batch(one.ids, None, {"v": Dense(values[:, :3], column.valid)}, one.payloads)
    assert refused_rows(schema, MILVUS_SERVER, short).keys() == {"a", "b", "c"}


def test_sparse_and_multi_vectors_are_checked_by_row() -> None:
    sparse = Sparse(
        np.array([0, 1, 2, 2]), np.array([1, 2], dtype=np.uint32), np.array([-1.0, 1.0], dtype=np.float32), None
    )
    one = Batch(IdColumn.of(IdKind.TEXT, ["a", "b", "c"]), None, {"s": sparse}, [{}, {}, {}])
    schema = milvus_schema(vectors=(VectorSchema(name="s", kind=VectorKind.SPARSE, metric=Metric.DOT),))
    assert refused_rows(schema, MILVUS, one).keys() == {"a"}
    assert refused_rows(schema, QDRANT, one) == {}
    multi = Multi(np.array([0, 2, 2, 3]), np.array([[1, 0], [0, 1], [3, 4]], dtype=np.float32))
    one = Batch(IdColumn.of(IdKind.TEXT, ["a", "b", "c"]), None, {"m": multi}, [{}, {}, {}])
    schema = milvus_schema(vectors=(VectorSchema(name="m", kind=VectorKind.MULTI, dim=2, metric=Metric.COSINE),))
    assert refused_rows(schema, QDRANT, one).keys() == {"c"}


def test_a_vector_that_the_plan_does_not_know_stops_the_work() -> None:
    mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS)
    with pytest.raises(PlanOutdated, match="vector 'new'"):
        RecordMapper(mapping).map(batch(IdKind.U64, [1], name="new"))


def test_columns_check_each_value() -> None:
    columns = (
        FieldSchema(name="n", type=FieldType.INT8, declared=True),
        FieldSchema(name="f", type=FieldType.FLOAT32, declared=True),
        FieldSchema(name="t", type=FieldType.TEXT, declared=True, max_length=3, nullable=False, default=""),
        FieldSchema(name="l", type=FieldType.ARRAY, element=FieldType.INT64, declared=True, max_capacity=2),
    )
    full = batch(IdKind.U64, [1], [{"n": 1, "f": 0.5, "t": "abc", "l": [1]}])
    mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS, full, existing=milvus_schema(fields=columns))
    payloads = [
        {"n": 1, "f": 0.5, "t": "abc", "l": [1]},
        {"n": 128, "f": 0.5, "t": "", "l": []},
        {"n": True, "f": 0.5, "t": "", "l": []},
        {"n": None, "f": 0.1, "t": "", "l": []},
        {"n": 1, "f": None, "t": "abcd", "l": []},
        {"n": 1, "f": None, "t": None, "l": []},
        {"n": 1, "f": None, "l": [1, 2, 3]},
        {"n": 1, "f": None, "l": [1.5]},
        {"f": None, "l": []},
        {"n": 1, "f": None, "l": None},
    ]
    ids = list(range(1, len(payloads) + 1))
    mapping = mapping.model_copy(update={"vectors": ()})
    column = IdColumn.of(IdKind.U64, ids)
    found = {r.id: r.reason for r in RecordMapper(mapping).map(Batch(column, None, {}, payloads)).refused}
    assert found == {
        "2": "'n' is 128, the column holds -128 to 127",
        "3": "'n' is bool, the column is int8",
        "4": "'f' is 0.1, which a float32 column would round",
        "5": "'t' has a text of 4 bytes, the target holds 3",
        "6": "'t' is null, the column needs a value",
        "7": "'l' has 3 elements, the column holds 2",
        "8": "'l' has an element that is float, the column is int64",
        "9": "the payload lacks 'n'; a column of the target cannot tell that from null",
    }


def test_an_allowed_absence_becomes_null() -> None:
    given_batch = batch(IdKind.U64, [1, 2], [{"x": 1}, {}])
    mapping, report = mapped(
        qdrant_schema(), QDRANT, MILVUS, given_batch, types={"x": "int64"}, allow=("field.x.absent",)
    )
    report.check()
    (out,) = RecordMapper(mapping).map(given_batch).batches
    assert list(out.payloads) == [{"x": 1}, {"x": None}]
    assert list(given_batch.payloads) == [{"x": 1}, {}]


def test_renames_that_meet_in_one_record_refuse_it() -> None:
    mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS, rename={"a": "b"}, drop=("c",))
    payloads = [{"a": 1, "c": 2}, {"a": 1, "b": 2}, {"b": 2}]
    done = RecordMapper(mapping).map(batch(IdKind.U64, [1, 2, 3], payloads))
    assert [r.id for r in done.refused] == ["2"]
    assert [p for one in done.batches for p in one.payloads] == [{"b": 1}, {"b": 2}]


def test_an_empty_batch_maps_to_nothing() -> None:
    mapping, _ = mapped(qdrant_schema(), QDRANT, MILVUS)
    done = RecordMapper(mapping).map(batch(IdKind.U64, []))
    assert (done.batches, done.refused) == ((), ())


def test_a_profile_without_records_still_plans() -> None:
    mapping, report = mapped(milvus_schema(), MILVUS, QDRANT)
    report.check()
    assert profile_of().records == 0
    done = RecordMapper(mapping).map(batch(IdKind.TEXT, ["any id"], name="vector"))
    assert not done.refused
