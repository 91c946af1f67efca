"""The contract of `Database.scan_field`: no vectors where they can be left out, and every record that a poll reports.

What a database leaves out is compared with what `live.polling.Poll` reports of all records, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Database, Endpoint, open_target
from vectormigrate_dagster.live.polling import Poll, Watermark
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
from vectormigrate_dagster_tests.databases.conftest import CASES, DatabaseCase, Opener, kept, numbered, records
from vectormigrate_dagster_tests.databases.milvus_support import declared
from vectormigrate_dagster_tests.databases.qdrant_support import schema
from vectormigrate_dagster_tests.memory import MemoryDatabase

VALUES: list[Any] = [
    *(5, 5.5, -5, -5.5, 0, -0.0, 7.0, 1e-7, 1e300, -1e300, 1795341600, 1795341600.25),
    *(2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
    *(None, True, "7", "2026-11-22T10:00:00Z", [1, 9], {"a": 9}),
]
FROM: list[float] = [
    *(0.0, 5.0, 5.3, -5.2, -5.5, -0.0, 1.5e-7, 1e20, 1e300, -1e300, 1795341540.0),
    *(2.0**53, 2.0**53 + 2, -(2.0**53) - 2, 2.0**63, 1.8e19, -(2.0**63)),
]
NAMES = ["at", "a b", "a.b", "a[0]", "é", "in", "a/b~c", 'a"b', "a\\b", "a\tb"]
"""Of keys; some have no name in a path or in a filter."""


def read(batches: Iterable[Batch]) -> dict[Any, Any]:
    """id -> payload."""
    return {value: batch.payloads[i] for batch in batches for i, value in enumerate(batch.ids.to_pylist())}


def is_from(value: Any, number: float) -> bool:
    """Whether a poll reports such a value, if it looks from a number on."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= number


def valued(case: DatabaseCase, values: Sequence[dict[str, Any]]) -> Batch:
    """Records with these payloads, the first of id 0."""
    batch = records(case, range(len(values)), case.kinds[0])
    return Batch(batch.ids, None, batch.vectors, list(values))


def test_a_scan_of_a_field_has_its_values_and_no_vectors(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    batch = records(case, range(30), kind)
    database.upsert(batch)
    database.wait_visible()
    ids, split = numbered(kind, range(30)).to_pylist(), Split(kind=kind)

    found = list(database.scan_field(split, batch_records=7, field="n"))
    assert {value: payload["n"] for value, payload in read(found).items()} == dict(zip(ids, range(30), strict=True))
    whole, dynamic = case.capabilities.type == "pinecone", case.capabilities.type == "milvus"
    assert all(bool(part.vectors) is whole for part in found)
    assert {key for part in found for payload in part.payloads for key in payload} - {"n"} == (
        {"name"} if whole or dynamic else set()
    )

    # It takes up a scan wherever that was, and leaves out what it can tell.
    filters = case.capabilities.type in ("milvus", "qdrant")
    assert database.filters_by("n") is filters
    first = 20 if filters else 10
    pages = list(database.scan_field(split, str(ids[9]), 4, field="n", at_least=20))
    assert [value for part in pages for value in part.ids.to_pylist()] == ids[first:]
    assert all(len(part) <= 4 for part in pages)
    part = Split(kind=kind, after=str(ids[21]), last=str(ids[25]))
    assert list(read(database.scan_field(part, field="n", at_least=20))) == ids[22:26]
    assert list(read(database.scan_field(split, field="n", at_least=31))) == ([] if filters else ids)


def test_nothing_is_left_out_that_is_as_high_whatever_it_is_and_is_called(case: DatabaseCase, opened: Opener) -> None:
    if not case.capabilities.dynamic_fields or case.capabilities.type == "pinecone":
        pytest.skip("it reads all records")
    payloads = [kept(dict.fromkeys(NAMES, value), case.capabilities) for value in VALUES]
    database = opened()
    database.create(case.schema())
    database.upsert(valued(case, [payload or {} for payload in payloads] + [{}]))
    split = Split(kind=case.kinds[0])
    whole = read(database.scan(split))
    for name in NAMES:
        assert {key: payload.get(name) for key, payload in whole.items()} == {
            key: payload.get(name) for key, payload in read(database.scan_field(split, field=name)).items()
        }
    for number in FROM:
        for name in NAMES if number == 5.3 else NAMES[:1]:
            found = read(database.scan_field(split, field=name, at_least=number))
            assert {key for key, payload in whole.items() if is_from(payload.get(name), number)} <= found.keys()
            assert database.filters_by(name) or found.keys() == whole.keys()
    assert len(read(database.scan_field(split, field="at", at_least=1e20))) < len(whole) / 2
    assert [name for name in NAMES if not database.filters_by(name)] in (NAMES[7:], NAMES[7:9])


COLUMNS: dict[FieldType, list[Any]] = {
    FieldType.INT8: [-128, -5, 0, 5, 127],
    FieldType.INT64: [-(2**63), -(2**63) + 1, -5, 2**53 + 1, 2**63 - 1],
    FieldType.FLOAT32: [-3.4e38, -5.5, 0.1, 16777217.0, 3.4028234663852886e38],
    FieldType.FLOAT64: [-1e300, -5.5, 0.1, 2.0**53, 1e300],
}


@pytest.mark.parametrize("case", [one for one in CASES if one.capabilities.type == "milvus"], ids=lambda one: one.name)
def test_columns_of_milvus_are_compared_in_their_own_type(case: DatabaseCase, opened: Opener) -> None:
    fields = tuple(declared(kind.value, kind) for kind in COLUMNS)
    fields += (declared("text", FieldType.TEXT, max_length=10), declared("json", FieldType.JSON))
    database = opened()
    database.create(case.schema().model_copy(update={"fields": fields, "dynamic": False}))
    columns = [{kind.value: values[i] for kind, values in COLUMNS.items()} for i in range(5)]
    assert database.upsert(valued(case, [{**row, "text": "7", "json": {"a": 7}} for row in columns])) == []
    split = Split(kind=case.kinds[0])
    whole = read(database.scan(split))
    for kind, values in COLUMNS.items():
        name = kind.value
        assert database.filters_by(name)
        with database.as_of_now():
            for number in [0.1, -5.5, 200, 3.5e38, -1e300, 1e20, -(2.0**63), *values[1:]]:
                found = read(database.scan_field(split, field=name, at_least=number))
                assert found.keys() >= {key for key, row in whole.items() if is_from(row[name], number)}
                assert all(row == {name: whole[key][name]} for key, row in found.items())
    for name in ("text", "json", "nothing"):
        assert not database.filters_by(name)
        assert read(database.scan_field(split, field=name, at_least=5)).keys() == whole.keys()


########################################################################
# Qdrant's indexes
########################################################################


@pytest.mark.parametrize(
    ("index", "name"),
    [(None, "at"), ("float", "at"), ("datetime", "at"), ("keyword", "at")]
    + [("integer", name) for name in ("at", "a b", "a.b", "é")],
)
def test_an_index_that_lacks_some_numbers_leaves_none_out(
    index: str | None, name: str, on_server: Any, transport: str
) -> None:
    """A range asks the index, where there is one: by `gte`, all that an index of integers lacks would be missing."""
    field = FieldSchema(name=f'"{name}"', index=None if index is None else IndexSpec(type=index))
    database = on_server()
    database.create(schema(fields=(field,) if index is not None else ()))
    stored = [value for value in VALUES if transport == "rest" or not isinstance(value, int) or value < 2**63]
    _put(database, [{name: value} for value in stored] + [{}])
    split = Split(kind=IdKind.U64)
    whole = read(database.scan(split))
    assert len(whole) == len(stored) + 1
    for number in FROM:
        found = read(database.scan_field(split, field=name, at_least=number))
        assert found.keys() >= {key for key, row in whole.items() if is_from(row.get(name), number)}
        assert len(found) < len(whole) or number < 0 or index == "datetime"


@pytest.mark.parametrize(
    ("index", "filters"),
    [(None, False), ("float", True), ("integer", True), ("keyword", False)],
)
def test_a_strict_collection_is_filtered_by_what_it_allows(index: str | None, filters: bool, on_server: Any) -> None:
    strict = {"strict_mode_config": {"enabled": True, "unindexed_filtering_retrieve": False}}
    fields = () if index is None else (FieldSchema(name="at", index=IndexSpec(type=index)),)
    database = on_server()
    database.create(schema(fields=fields, settings=strict))
    _put(database, [{"at": 1}, {"at": 2.5}, {"at": 3}])
    assert database.filters_by("at") is filters
    found = read(database.scan_field(Split(kind=IdKind.U64), field="at", at_least=2.5))
    assert list(found) == ([1, 2] if filters else [0, 1, 2])


def _put(database: Database, payloads: Sequence[dict[str, Any]], kind: IdKind = IdKind.U64) -> None:
    (name,) = database.describe().vectors
    vectors = Dense(np.ones((len(payloads), name.dim or 0), dtype=np.float32))
    database.upsert(Batch(IdColumn.of(kind, range(len(payloads))), None, {name.name: vectors}, list(payloads)))


########################################################################
# What a poll reports
########################################################################


@pytest.fixture(scope="module", params=["memory", "qdrant", "milvus"])
def polled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, IdKind]]:
    """An embedded database, and the kind of its ids."""
    kind = IdKind.I64 if request.param == "milvus" else IdKind.U64
    vector = VectorSchema(
        name="v", dim=2, metric=Metric.DOT, index=IndexSpec(type="FLAT") if kind is IdKind.I64 else None
    )
    described = CollectionSchema(name="things", ids=IdSchema(kinds=(kind,)), vectors=(vector,))
    if request.param == "memory":
        yield MemoryDatabase(schema=described), kind
        return
    folder = tmp_path_factory.mktemp("polled") / "embedded.db"
    with open_target(Endpoint(type=request.param, path=folder, collection="things")) as database:
        database.create(described)
        yield database, kind


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
PAYLOADS = st.one_of(NUMBERS, st.sampled_from([None, True, "7", "2026-11-22T10:00:00Z"])).map(lambda one: {"at": one})


@settings(max_examples=40, deadline=None)
@given(
    payloads=st.lists(PAYLOADS | st.just({}), min_size=1, max_size=8),
    floor=NUMBERS,
    overlap=st.sampled_from([0, 0.5, 60.0]) | st.floats(0, 1e300),
)
@example(payloads=[{"at": -(2**53) - 1}], floor=-(2**53) - 1, overlap=0)
@example(payloads=[{"at": 2**53 + 1}], floor=2**53 + 1, overlap=0)
def test_a_filtered_poll_reports_what_a_whole_one_does(
    polled: tuple[Database, IdKind], payloads: list[dict[str, Any]], floor: float, overlap: float
) -> None:
    database, kind = polled
    _put(database, payloads + [{}] * (8 - len(payloads)), kind)
    after = Watermark(unit="number", floor=floor, high=floor)
    filtered, whole = Poll("at", after, overlap=overlap), Poll("at", after, overlap=overlap)
    split = Split(kind=kind)
    some = [
        key
        for keys in filtered.changed(database.scan_field(split, field="at", at_least=filtered.at_least))
        for key in keys
    ]
    assert some == [key for keys in whole.changed(database.scan(split)) for key in keys]
    assert filtered.watermark() == whole.watermark()
    assert filtered.seen <= whole.seen == 8
