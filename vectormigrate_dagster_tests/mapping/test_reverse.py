"""Checks the way back of one plan in all sixteen directions, without a server.

What nobody has changed comes back bit for bit, what is new comes back as it was written, and what was changed leads to
the target's record again. `VECTORMIGRATE_EXAMPLES=10000` makes it a long run.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.reverse import ReverseMapper
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
    Metric,
    Packed,
    VectorSchema,
)
from vectormigrate_dagster.model.compare import Tolerance, compare
from vectormigrate_dagster_tests.mapping.support import (
    MILVUS_SERVER,
    PINECONE,
    QDRANT_SERVER,
    SERVERS,
    batch,
    canonical,
    mapped,
    milvus_schema,
    qdrant_schema,
    records,
    vectors,
)
from vectormigrate_dagster_tests.mapping.test_sixteen import DIRECTIONS, sources

EXAMPLES = int(os.environ.get("VECTORMIGRATE_EXAMPLES", "8"))
EVERY_DIRECTION = pytest.mark.parametrize(("here", "there"), DIRECTIONS, ids=[f"{a}-{b}" for a, b in DIRECTIONS])
QUICKLY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def forth(mapping: Mapping, one: Batch) -> list[tuple[Batch, Batch]]:
    """The parts of a batch in the target, each with those of its records in the source."""
    texts = dict(zip(one.ids.texts(), range(len(one)), strict=True))
    found = []
    for part in RecordMapper(mapping).map(one).batches:
        originals = [str(value) for _, value in RecordMapper(mapping).original_ids(part)]
        found.append((part, one.take([texts[text] for text in originals])))
    return found


def planned(here: str, there: str, data: st.DataObject, **options: Any) -> tuple[Mapping, list[Batch]]:
    schema, given_batches = data.draw(sources(here))
    mapping, report = mapped(schema, SERVERS[here], SERVERS[there], *given_batches, **options)
    assume(not report.refused)
    return mapping, given_batches


@EVERY_DIRECTION
@QUICKLY
@given(data=st.data())
def test_what_nobody_has_changed_comes_back_bit_for_bit(here: str, there: str, data: st.DataObject) -> None:
    mapping, given_batches = planned(here, there, data)
    for one in given_batches:
        for part, original in forth(mapping, one):
            back = ReverseMapper(mapping, SERVERS[here]).put(part, original.ids, one.scope, original)
            assert back.refused == ()
            assert records(*back.batches) == records(original)


@EVERY_DIRECTION
@QUICKLY
@given(data=st.data())
def test_what_is_new_comes_back_as_it_was_written(here: str, there: str, data: st.DataObject) -> None:
    mapping, given_batches = planned(here, there, data)
    floats = mapping.limits.floats and not SERVERS[here].numbers_are_floats
    for one in given_batches:
        for part, original in forth(mapping, one):
            back = ReverseMapper(mapping, SERVERS[here]).put(part, original.ids, one.scope, None)
            assert back.refused == ()
            expected = original if not floats else replace(original, payloads=[as_floats(p) for p in original.payloads])
            found = (
                list(back.batches)
                if not floats
                else [replace(got, payloads=[as_floats(p) for p in got.payloads]) for got in back.batches]
            )
            assert records(*found) == records(expected)


@EVERY_DIRECTION
@QUICKLY
@given(data=st.data())
def test_what_was_changed_leads_to_the_record_of_the_target(here: str, there: str, data: st.DataObject) -> None:
    mapping, given_batches = planned(here, there, data)
    one = given_batches[0]
    turned = replace(one, vectors={k: c.take(rolled(one)) for k, c in one.vectors.items()}, payloads=rotated(one))
    for part, original in forth(mapping, turned):
        rows = [one.ids.texts().index(text) for text in original.ids.texts()]
        back = ReverseMapper(mapping, SERVERS[here]).put(part, original.ids, one.scope, one.take(rows))
        assert back.refused == ()
        (again,) = (out for got in back.batches for out in RecordMapper(mapping).map(got).batches)
        assert compare(part, again).equal


@EVERY_DIRECTION
@QUICKLY
@given(data=st.data(), stands=st.booleans())
def test_h16_a_source_that_an_earlier_migration_made_gets_its_own_form_back(
    here: str, there: str, data: st.DataObject, stands: bool
) -> None:
    first, given_batches = planned(here, there, data)
    made = [part for one in given_batches for part in RecordMapper(first).map(one).batches]
    second, report = mapped(first.target_schema, SERVERS[there], SERVERS[here], *made)
    assume(not report.refused)
    for one in made:
        for part, original in forth(second, one):
            mapper = ReverseMapper(second, SERVERS[there])
            back = mapper.put(part, original.ids, one.scope, original if stands else None)
            assert back.refused == ()
            assert records(*back.batches) == records(original)


def rolled(one: Batch) -> list[int]:
    return [(row + 1) % len(one) for row in range(len(one))]


def rotated(one: Batch) -> list[dict[str, Any]]:
    return [one.payloads[row] for row in rolled(one)]


def as_floats(payload: dict[str, Any]) -> dict[str, Any]:
    return {key: float(v) if type(v) is int and abs(v) <= 2**53 else v for key, v in payload.items()}


########## What the target does not say ##########


def back_of(mapping: Mapping, here: Capabilities, part: Batch, original: Batch, stands: Batch | None) -> Batch:
    back = ReverseMapper(mapping, here).put(part, original.ids, original.scope, stands)
    assert back.refused == ()
    (out,) = back.batches
    return out


def test_what_was_dropped_stays_as_it_stands_in_the_source() -> None:
    schema = qdrant_schema(vectors=tuple(VectorSchema(name=n, dim=4, metric=Metric.DOT, optional=True) for n in "vw"))
    both = {"v": Dense(vectors(2)), "w": Dense(vectors(2, 1))}
    stands = Batch(IdColumn.of(IdKind.U64, [1, 2]), None, both, [{"a": 1, "secret": "x"}, {"a": 1, "secret": "y"}])
    mapping, report = mapped(schema, QDRANT_SERVER, MILVUS_SERVER, stands, drop=("secret", "vector.w"))
    report.check()
    ((part, original),) = forth(mapping, stands)
    changed = replace(part, vectors={"v": Dense(vectors(2, 7))}, payloads=[{**p, "a": 2} for p in part.payloads])
    out = back_of(mapping, QDRANT_SERVER, changed, original, stands)
    assert out.payloads == [{"a": 2, "secret": "x"}, {"a": 2, "secret": "y"}]
    assert np.array_equal(out.vectors["w"].values, both["w"].values)
    assert np.array_equal(out.vectors["v"].values, vectors(2, 7))
    new = back_of(mapping, QDRANT_SERVER, changed, original, None)
    assert new.payloads == [{"a": 2}, {"a": 2}]
    assert set(new.vectors) == {"v"}


def test_a_value_under_a_name_that_the_plan_drops_is_refused() -> None:
    stands = batch(IdKind.U64, [1], [{"a": 1, "secret": "x"}])
    mapping, _ = mapped(qdrant_schema(), QDRANT_SERVER, MILVUS_SERVER, stands, drop=("secret",))
    ((part, original),) = forth(mapping, stands)
    changed = replace(part, payloads=[{"a": 1, "secret": "theirs"}])
    back = ReverseMapper(mapping, QDRANT_SERVER).put(changed, original.ids, None, stands)
    assert back.batches == ()
    assert [(one.id, "field 'secret'" in one.reason) for one in back.refused] == [("1", True)]


def test_ints_and_floats_of_the_source_come_back_where_the_target_has_only_floats() -> None:
    stands = batch(IdKind.U64, [1], [{"year": 2000, "x": 1.0}])
    mapping, _ = mapped(qdrant_schema(), QDRANT_SERVER, SERVERS["pinecone"], stands)
    ((part, original),) = forth(mapping, stands)
    assert canonical(part.payloads[0]["year"]) == "2000.0"
    changed = replace(part, payloads=[{**part.payloads[0], "year": 2001.0, "x": 2.0}])
    out = back_of(mapping, QDRANT_SERVER, changed, original, stands)
    assert canonical(out.payloads[0]) == canonical({"year": 2001, "x": 2.0})


def test_an_id_that_the_plan_keeps_in_a_field_needs_not_be_written_by_the_application() -> None:
    named = batch(IdKind.TEXT, ["a"], [{"n": 1}], name="vector")
    mapping, _ = mapped(milvus_schema(), MILVUS_SERVER, QDRANT_SERVER, named)
    ((part, original),) = forth(mapping, named)
    assert "_source_id" in part.payloads[0]
    for payload in ({"n": 2}, {"n": 2, "_source_id": "text:a"}):
        out = back_of(mapping, MILVUS_SERVER, replace(part, payloads=[payload]), original, named)
        assert out.payloads == [{"n": 2}]
    wrong = replace(part, payloads=[{"n": 2, "_source_id": "text:b"}])
    back = ReverseMapper(mapping, MILVUS_SERVER).put(wrong, original.ids, None, named)
    assert "_source_id" in back.refused[0].reason


def test_a_vector_that_the_target_scales_stays_as_it_stands_in_the_source() -> None:
    schema = milvus_schema(vectors=(VectorSchema(name="vector", dim=4, metric=Metric.COSINE),))
    stands = batch(IdKind.TEXT, ["a", "b"], [{}, {}], name="vector")
    options = {"allow": ("vector.vector.norm",)}
    mapping, report = mapped(schema, MILVUS_SERVER, QDRANT_SERVER, stands, **options)
    report.check()
    ((part, original),) = forth(mapping, stands)
    (name,) = part.vectors
    values = part.vectors[name].values
    scaled = values / np.linalg.norm(values, axis=1, keepdims=True)
    scaled[1] = scaled[1][::-1]
    changed = replace(part, vectors={name: Dense(scaled.astype(np.float32))})
    tolerance = Tolerance(min_cosine={name: 0.999999}, normalised=frozenset({name}))
    back = ReverseMapper(mapping, MILVUS_SERVER, tolerance=tolerance).put(changed, original.ids, None, original)
    assert back.refused == ()
    found = back.batches[0].vectors["vector"].values
    assert np.array_equal(found[0], original.vectors["vector"].values[0])
    assert np.array_equal(found[1], scaled[1].astype(np.float32))


@pytest.mark.parametrize("element", [Element.FLOAT16, Element.BFLOAT16, Element.INT8, Element.UINT8])
def test_h12_widened_components_come_back_and_others_are_refused(element: Element) -> None:
    raw = np.array([[1, 2, 3, 4], [5, 6, 7, 8]]).astype(element.dtype)
    if element is Element.BFLOAT16:
        raw = (raw.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    schema = qdrant_schema(vectors=(VectorSchema(name="v", element=element, dim=4, metric=Metric.DOT),))
    stands = Batch(IdColumn.of(IdKind.U64, [1, 2]), None, {"v": Packed(element, 4, raw)}, [{}, {}])
    mapping, report = mapped(schema, QDRANT_SERVER, PINECONE, stands)
    report.check()
    ((part, original),) = forth(mapping, stands)
    out = back_of(mapping, QDRANT_SERVER, part, original, None)
    assert isinstance(out.vectors["v"], Packed)
    assert np.array_equal(out.vectors["v"].values, original.vectors["v"].values)
    (name,) = part.vectors
    values = part.vectors[name].values.copy()
    values[0, 0] = 0.1
    changed = replace(part, vectors={name: Dense(values)})
    back = ReverseMapper(mapping, QDRANT_SERVER).put(changed, original.ids, None, original)
    assert [one.id for one in back.refused] == [part.ids.texts()[0]]
    assert back.batches[0].ids.texts() == original.ids.texts()[1:]


def test_a_declared_column_of_the_source_gets_what_it_gives_back() -> None:
    fields = (
        FieldSchema(name="n", type=FieldType.INT64, declared=True, nullable=True),
        FieldSchema(name="t", type=FieldType.TEXT, declared=True, nullable=True, max_length=3),
    )
    stands = batch(IdKind.TEXT, ["a"], [{"n": 1, "t": "abc"}], name="vector")
    mapping, _ = mapped(milvus_schema(fields=fields), MILVUS_SERVER, QDRANT_SERVER, stands)
    ((part, original),) = forth(mapping, stands)
    one = replace(part, payloads=[{key: value for key, value in part.payloads[0].items() if key != "n"}])
    for stood in (original, None):
        back = ReverseMapper(mapping, MILVUS_SERVER).put(one, original.ids, None, stood)
        found = [*(reason.reason for reason in back.refused), *(p for out in back.batches for p in out.payloads)]
        assert found == [{"n": None, "t": "abc"}] or "field 'n'" in found[0]
    long = replace(part, payloads=[{**part.payloads[0], "t": "abcd"}])
    back = ReverseMapper(mapping, MILVUS_SERVER).put(long, original.ids, None, original)
    assert "'t' has a text of 4 bytes" in back.refused[0].reason
