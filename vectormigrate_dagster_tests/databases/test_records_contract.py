"""The contract of `databases.base.Database` for records: scans and splits, writes, values that come back.

For every database and mode in `conftest.CASES`.
"""

from __future__ import annotations

import itertools
import math
import uuid
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases.pinecone.api import IdPage
from vectormigrate_dagster.databases.pinecone.database import Pinecone
from vectormigrate_dagster.databases.qdrant import grpc as qdrant_grpc
from vectormigrate_dagster.databases.qdrant.records import Page
from vectormigrate_dagster.errors import BrokenScan, InvalidRecord
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    IdColumn,
    IdKind,
    Metric,
    Multi,
    Sparse,
    Split,
    VectorKind,
    VectorSchema,
    is_valid,
    tile,
)
from vectormigrate_dagster_tests.databases.conftest import (
    CASES,
    EACH_METRIC,
    DatabaseCase,
    Opener,
    content,
    everything,
    ids_of,
    kept,
    numbered,
    records,
    some_ids,
)

EACH_KIND = [pytest.param(case, kind, id=f"{case.name}-{kind.value}") for case in CASES for kind in case.kinds]


########################################################################
# Scans and splits
########################################################################


@pytest.mark.parametrize(("case", "kind"), EACH_KIND)
def test_h07_shuffled_ids_come_back_complete_and_in_order(case: DatabaseCase, kind: IdKind, opened: Opener) -> None:
    database = opened()
    database.create(case.schema(kind=kind))
    batch = records(case, some_ids(case, kind, 60), kind)
    for start in range(0, 60, 13):
        assert database.upsert(batch.take(range(start, min(start + 13, 60)))) == []
    assert database.count() == 60
    for page in (1, 7, 59, 60, 61):
        seen = everything(database, page=page)
        assert all(len(part) <= page for part in seen)
        assert ids_of(seen) == sorted(batch.ids.to_pylist())
    assert content(everything(database)) == content([batch])


@pytest.mark.parametrize(("case", "kind"), EACH_KIND)
def test_scan_goes_on_after_any_id(case: DatabaseCase, kind: IdKind, opened: Opener) -> None:
    database = opened()
    database.create(case.schema(kind=kind))
    ids = sorted(some_ids(case, kind, 30))
    database.upsert(records(case, ids, kind))
    whole = Split(kind=kind)
    middle = Split(kind=kind, after=str(ids[4]), last=str(ids[20]))
    for i, value in enumerate(ids):
        assert ids_of(list(database.scan(whole, after=str(value), batch_records=11))) == ids[i + 1 :]
    assert ids_of(list(database.scan(middle, batch_records=5))) == ids[5:21]
    assert ids_of(list(database.scan(middle, after=str(ids[10]), batch_records=5))) == ids[11:21]
    assert ids_of(list(database.scan(middle, after=str(ids[0]), batch_records=5))) == ids[5:21]
    assert ids_of(list(database.scan(middle, after=str(ids[20]), batch_records=5))) == []


@pytest.mark.parametrize(("case", "kind"), EACH_KIND)
def test_splits_tile_the_id_space(case: DatabaseCase, kind: IdKind, opened: Opener) -> None:
    database = opened()
    database.create(case.schema(kind=kind))
    ids = some_ids(case, kind, 47)
    database.upsert(records(case, ids, kind))
    kinds = case.kinds if case.capabilities.mixed_id_kinds else (kind,)
    for size in (1, 2, 3, 5, 10, 23, 46, 47, 48, 1000):
        splits = database.plan_splits(size)
        for each in kinds:
            edges = [(split.after, split.last) for split in splits if split.kind is each]
            assert edges[0][0] is None
            assert edges[-1][1] is None
            assert all(low[1] == high[0] is not None for low, high in itertools.pairwise(edges))
        assert sum(split.records for split in splits) == 47
        assert sum(split.kind is kind for split in splits) == math.ceil(47 / size)
        assert ids_of(everything(database, splits)) == sorted(ids)


def test_h02_an_empty_collection_is_planned_and_scanned(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    database.create(case.schema())
    splits = database.plan_splits(100)
    assert [(s.kind, s.after, s.last, s.records) for s in splits] == [
        (kind, None, None, 0) for kind in case.schema().ids.kinds
    ]
    assert everything(database, splits) == []
    assert database.count() == 0
    assert database.scopes() == []
    asked = numbered(case.kinds[0], [1, 2])
    fetched = database.fetch(asked)
    assert len(fetched.batch) == 0
    assert fetched.missing == asked


def test_records_written_after_the_plan_are_in_a_split(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    database.upsert(records(case, list(range(10, 20)), kind))
    splits = database.plan_splits(3)
    database.upsert(records(case, [0, 9, 13, 20, 2**62], kind))
    written = numbered(kind, [0, 9, *range(10, 21), 2**62])
    assert ids_of(everything(database, splits)) == written.to_pylist()


def test_integer_and_uuid_ids_live_in_one_collection(opened: Opener, case: DatabaseCase) -> None:
    if not case.capabilities.mixed_id_kinds:
        pytest.skip("one kind of id a collection")
    database = opened()
    database.create(case.schema())
    numbers, uuids = some_ids(case, IdKind.U64, 21), some_ids(case, IdKind.UUID, 19)
    database.upsert(records(case, uuids, IdKind.UUID))
    database.upsert(records(case, numbers, IdKind.U64))
    assert database.count() == 40
    for size in (1, 4, 10, 100):
        splits = database.plan_splits(size)
        assert {split.kind for split in splits} == {IdKind.U64, IdKind.UUID}
        for page in (1, 6, 100):
            assert ids_of(everything(database, splits, page)) == [*sorted(numbers), *sorted(uuids)]


def test_a_page_out_of_order_ends_the_scan(case: DatabaseCase, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    database.upsert(records(case, list(range(20)), kind))
    with database._client("read") as client:
        owner: Any = qdrant_grpc if case.name == "qdrant-grpc" else client
    if case.name == "milvus-server" or case.capabilities.type == "weaviate":
        owner = database
    if isinstance(database, Pinecone):
        owner = database._api()
    method = next(name for name in ("_page", "scroll", "list_ids", "query") if hasattr(owner, name))
    honest = getattr(owner, method)

    def shuffled(*args: Any, **settings: Any) -> Any:
        page = honest(*args, **settings)
        if isinstance(page, Batch):
            return page.take(range(len(page) - 1, -1, -1))
        if isinstance(page, IdPage):
            return IdPage(page.ids[::-1], page.token)
        if isinstance(page, Page):
            return Page(page.ids[::-1], page.points[::-1], page.more)
        return (page[0][::-1], page[1]) if isinstance(page, tuple) else list(page)[::-1]

    monkeypatch.setattr(owner, method, shuffled)
    with pytest.raises(BrokenScan, match="strictly"):
        list(database.scan(Split(kind=kind), batch_records=5))


def test_h08_more_records_than_one_page_can_hold(opened: Opener, case: DatabaseCase) -> None:
    """16,384 is the most that Milvus returns at once; embedded Qdrant writes too slowly for so many."""
    if case.capabilities.type != "milvus":
        pytest.skip("its pages are not limited")
    database = opened()
    database.create(case.schema(kind=IdKind.I64, dim=2))
    ids = [int(value) for value in np.random.default_rng(0).permutation(17_000) - 8_000]
    batch = records(case, ids, IdKind.I64, dim=2)
    for start in range(0, 17_000, 4250):
        database.upsert(batch.take(range(start, start + 4250)))
    database.finish_bulk_load()
    assert database.count() == 17_000
    whole = ids_of(everything(database, tile(IdKind.I64, []), page=100_000))
    assert whole == sorted(ids)
    splits = database.plan_splits(16_900)
    assert [split.records for split in splits] == [8500, 8500]
    assert [split.last for split in splits] == ["499", None]
    assert database.plan_splits(3_000_000)[0].records == 17_000


########################################################################
# Writes
########################################################################


@pytest.mark.parametrize(("case", "kind"), EACH_KIND)
def test_h16_fetch_and_delete_take_awkward_ids_literally(case: DatabaseCase, kind: IdKind, opened: Opener) -> None:
    database = opened()
    database.create(case.schema(kind=kind))
    ids = some_ids(case, kind, 30)
    batch = records(case, ids[:25], kind)
    database.upsert(batch)
    asked = IdColumn.of(kind, ids)
    fetched = database.fetch(asked)
    assert fetched.batch.ids.to_pylist() == sorted(ids[:25])
    assert content([fetched.batch]) == content([batch])
    assert set(fetched.missing.to_pylist()) == set(ids[25:])
    for value in ids[:10]:
        database.delete(IdColumn.of(kind, [value]))
        assert database.fetch(IdColumn.of(kind, [value])).missing.to_pylist() == [value]
    database.delete(asked.slice(20, 30))
    assert ids_of(everything(database)) == sorted(ids[10:20])
    assert database.count() == 10


def test_two_uuid_spellings_are_one_record(case: DatabaseCase, opened: Opener) -> None:
    if IdKind.UUID not in case.kinds:
        pytest.skip("no UUIDs")
    database = opened()
    database.create(case.schema())
    value = uuid.uuid4()
    for spelling in (str(value), value.hex, value.urn, str(value).upper()):
        database.upsert(records(case, [uuid.UUID(spelling)], IdKind.UUID))
    assert ids_of(everything(database)) == [value]


def test_h09_writing_twice_replaces_and_does_not_duplicate(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    ids = some_ids(case, kind, 20)
    database.upsert(records(case, ids, kind, seed=1))
    again = records(case, ids, kind, seed=2)
    again = Batch(again.ids, None, again.vectors, [{"only": i} for i in range(20)])
    database.upsert(again)
    database.finish_bulk_load()
    database.upsert(again)
    assert database.count() == 20
    assert content(everything(database)) == content([again])


def test_h18_counts_are_exact(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    database.upsert(records(case, list(range(30)), kind))
    database.upsert(records(case, list(range(20, 40)), kind))
    database.delete(numbered(kind, [0, 1, 2, 39, 1000]))
    assert database.count() == 36
    database.finish_bulk_load()
    assert database.count() == 36


def test_a_vector_of_another_dimension_is_refused(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema(dim=4))
    with pytest.raises(InvalidRecord):
        database.upsert(records(case, [1, 2], kind, dim=5))
    assert database.count() == 0


def test_h09_a_refused_batch_leaves_nothing_behind(case: DatabaseCase, opened: Opener) -> None:
    if case.capabilities.accepts_nan:
        pytest.skip("it accepts NaN")
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    batch = records(case, [1, 2, 3], kind)
    batch.vectors[case.vector].values[1, 1] = np.nan
    with pytest.raises(InvalidRecord):
        database.upsert(batch)
    assert database.count() == 0


########################################################################
# Values
########################################################################


PAYLOADS = [
    {},
    {"a": None},
    {"a": ""},
    {"a": "123"},
    {"a": "true"},
    {"a": "null"},
    {"a": '{"not": "parsed"}'},
    {"a": "2024-01-01T00:00:00Z"},
    {"a": 1},
    {"a": 1.0},
    {"a": True},
    {"a": False},
    {"a": 0},
    {"a": -0.5},
    {"a": 2**53 + 1},
    {"a": 2**63 - 1},
    {"a": -(2**63)},
    {"a": 0.1},
    {"a": 1e300},
    {"a": []},
    {"a": {}},
    {"a": [1, "1", 1.0, None, True, [], {}]},
    {"a": ["x", "y"]},
    {"a": {"b": {"c": [{"d": None}]}}},
    {"a": "é日本🎉\x00\n\"'\\"},
    {"dots.in.keys": 1, "sp ace": 2, "é": 3, 'qu"ote': 4, "": 5, "br[0]": 6},
]


def test_h13_payloads_come_back_as_they_were(case: DatabaseCase, opened: Opener) -> None:
    if not case.capabilities.dynamic_fields:
        pytest.skip("a key has one type there; its own tests write every type")
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    held = [payload for payload in PAYLOADS if kept(payload, case.capabilities) is not None]
    assert len(held) >= len(PAYLOADS) // 2
    ids = list(range(len(held)))
    database.upsert(Batch(numbered(kind, ids), None, records(case, ids, kind).vectors, held))
    back = [payload for batch in everything(database) for payload in batch.payloads]
    expected = [kept(payload, case.capabilities) or {} for payload in held]
    assert [repr(sorted(p.items())) for p in back] == [repr(sorted(p.items())) for p in expected]


@pytest.mark.parametrize(("case", "metric"), EACH_METRIC)
def test_h12_vectors_come_back_bit_by_bit(case: DatabaseCase, metric: Metric, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema(metric=metric, dim=8))
    values = (np.random.default_rng(3).standard_normal((12, 8)) * 100).astype(np.float32)
    values[0] = [0.1, 1e-38, -1e15, 1 / 3, np.pi, 16777217, 5e-324, -0.5]
    database.upsert(Batch(numbered(kind, range(12)), None, {case.vector: Dense(values)}, [{} for _ in values]))
    back = np.concatenate([batch.vectors[case.vector].values for batch in everything(database)])
    assert back.dtype == np.float32
    if metric is Metric.COSINE and case.capabilities.normalises_cosine:
        expected = values / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
        np.testing.assert_allclose(back, expected, rtol=1e-6, atol=1e-20)
    else:
        assert back.tobytes() == values.tobytes()


def several_vectors(case: DatabaseCase) -> CollectionSchema:
    vectors = [
        VectorSchema(name="first", dim=3, metric=Metric.DOT, index=case.exact_index),
        VectorSchema(name="second", dim=5, metric=Metric.EUCLIDEAN, index=case.exact_index),
        VectorSchema(name="sparse", kind=VectorKind.SPARSE, metric=Metric.DOT),
        VectorSchema(name="multi", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT),
    ]
    possible = tuple(v for v in vectors if v.kind in case.capabilities.vector_kinds)
    if case.capabilities.max_per_kind == 1:
        possible = tuple(v for v in possible if v.name != "second")
    return case.schema().model_copy(update={"vectors": possible[: case.capabilities.max_vectors]})


def test_h14_every_vector_of_a_record_is_kept(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    schema = several_vectors(case)
    database = opened()
    database.create(schema)
    columns = {
        "first": Dense(np.arange(9, dtype=np.float32).reshape(3, 3)),
        "second": Dense(np.arange(15, dtype=np.float32).reshape(3, 5) / 7),
        "sparse": Sparse(
            np.array([0, 2, 3, 6]),
            np.array([7, 1, 2**32 - 2, 0, 5, 3], dtype=np.uint32),
            np.array([0.5, 0.1, 1, 2, 3, 4], dtype=np.float32),
        ),
        "multi": Multi(np.array([0, 1, 3, 6]), np.arange(12, dtype=np.float32).reshape(6, 2)),
    }
    names = [vector.name for vector in schema.vectors]
    database.upsert(Batch(numbered(kind, [1, 2, 3]), None, {n: columns[n] for n in names}, [{}, {}, {}]))
    (back,) = everything(database)
    assert set(back.vectors) == set(names)
    for name in {"first", "second"} & set(names):
        assert back.vectors[name].values.tobytes() == columns[name].values.tobytes()
    if "sparse" in names:
        assert back.vectors["sparse"].indptr.tolist() == [0, 2, 3, 6]
        assert back.vectors["sparse"].indices.tolist() == [1, 7, 2**32 - 2, 0, 3, 5]
        assert back.vectors["sparse"].values.tolist() == np.array([0.1, 0.5, 1, 2, 4, 3], dtype=np.float32).tolist()
    if "multi" in names:
        assert back.vectors["multi"].offsets.tolist() == [0, 1, 3, 6]
        assert back.vectors["multi"].values.tobytes() == columns["multi"].values.tobytes()


def test_a_missing_vector_stays_missing_or_is_refused(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    column = Dense(np.ones((4, 4), dtype=np.float32), np.array([True, False, True, False]))
    refusals = database.upsert(Batch(numbered(kind, [1, 2, 3, 4]), None, {case.vector: column}, [{}] * 4))
    (back,) = everything(database)
    if case.capabilities.missing_vectors:
        assert refusals == []
        assert is_valid(back.vectors[case.vector]).tolist() == [True, False, True, False]
    else:
        assert [refusal.id for refusal in refusals] == [str(value) for value in numbered(kind, [2, 4]).to_pylist()]
        assert "lacks vector" in refusals[0].reason
        assert back.ids == numbered(kind, [1, 3])
        assert is_valid(back.vectors[case.vector]).all()
