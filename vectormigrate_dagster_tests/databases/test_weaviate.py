"""Weaviate beyond the contract: every type of property, names, references, splits, requests (H-13, H-15)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Database, open_target
from vectormigrate_dagster.databases.weaviate.plan import splits_of
from vectormigrate_dagster.errors import DatabaseError, InvalidRecord, SchemaMismatch
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    FieldType,
    IdColumn,
    IdKind,
    IndexSpec,
    Metric,
    Multi,
    Split,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster.model.compare import same_value
from vectormigrate_dagster_tests.databases.weaviate_support import (
    EVERYTHING,
    FIELDS,
    LISTS,
    ONE_UUID,
    VECTOR,
    batch,
    divided,
    endpoint,
    everything,
    field,
    ids,
    list_of,
    payloads_of,
    schema,
)
from vectormigrate_dagster_tests.emulators.weaviate import Settings, WeaviateServer, WeaviateStandIn


@pytest.fixture
def things(weaviate_server: WeaviateServer) -> Iterator[Database]:
    """The collection `things`, which is not there yet."""
    with open_target(endpoint(weaviate_server)) as database:
        database.drop()
        yield database
        database.drop()


########################################################################
# Values
########################################################################


def test_h13_a_value_of_every_type_comes_back_as_it_was(things: Database) -> None:
    things.create(schema(fields=FIELDS))
    written = [EVERYTHING, {}, {name: value for name, value in EVERYTHING.items() if isinstance(value, str)}]
    assert things.upsert(batch([1, 2, 3], written)) == []
    read = payloads_of(things)
    for number, payload in zip((1, 2, 3), written, strict=True):
        assert {key for key in payload if not same_value(payload[key], read[number].get(key))} == set()
        assert read[number].keys() == payload.keys()
    fetched = things.fetch(ids([1, 2, 3, 4]))
    assert [same_value(*pair) for pair in zip(fetched.batch.payloads, written, strict=True)] == [True] * 3
    assert fetched.missing == ids([4])


def test_h13_empty_lists_and_objects_are_kept(things: Database) -> None:
    things.create(schema(fields=FIELDS))
    empty: dict[str, Any] = {f"{one.value}s": [] for one in (*LISTS, FieldType.OBJECT)}
    empty |= {"object": {}, "text": "", "reference": []}
    inside = {"object": {"float64s": [], "deeper": {"texts": []}, "objects": []}}
    assert things.upsert(batch([1, 2], [empty, inside])) == []
    assert payloads_of(things) == {1: empty, 2: inside}


@pytest.mark.parametrize("second", ["12:00:00", "12:00:00.5", "12:00:00.000000001", "00:00:00.999999999", "23:59:59"])
@pytest.mark.parametrize("zone", ["Z", "+00:30", "-05:00", "+14:00"])
def test_a_date_keeps_its_nanoseconds_and_its_offset(things: Database, second: str, zone: str) -> None:
    things.create(schema(fields=[field("when", FieldType.DATETIME)]))
    assert things.upsert(batch([1], [{"when": f"2024-02-29T{second}{zone}"}])) == []
    assert payloads_of(things) == {1: {"when": f"2024-02-29T{second}{zone}"}}


UNFIT = [
    (FieldType.TEXT, 1), (FieldType.TEXT, "\ud800"), (FieldType.TEXT, ["a"]), (FieldType.TEXT, None),
    (FieldType.INT64, 1.0), (FieldType.INT64, True), (FieldType.INT64, "1"), (FieldType.INT64, 2**53 + 1),
    (FieldType.INT64, -(2**63)), (FieldType.FLOAT64, 1), (FieldType.FLOAT64, float("nan")),
    (FieldType.FLOAT64, float("inf")), (FieldType.BOOL, 0), (FieldType.BOOL, "true"),
    (FieldType.DATETIME, "2024-01-01"), (FieldType.DATETIME, "2024-01-01T00:00:00"),
    (FieldType.DATETIME, "2024-01-01T00:00:00+00:00"), (FieldType.DATETIME, "2024-01-01T00:00:00.10Z"),
    (FieldType.DATETIME, "2024-01-01T00:00:00.1234567891Z"), (FieldType.DATETIME, "2023-02-29T00:00:00Z"),
    (FieldType.DATETIME, "2024-01-01t00:00:00z"), (FieldType.DATETIME, "0000-01-01T00:00:00Z"),
    (FieldType.UUID, ONE_UUID.upper()), (FieldType.UUID, ONE_UUID.replace("-", "")), (FieldType.UUID, "x"),
    (FieldType.GEO, {"lat": 1.0, "lon": 2.0}), (FieldType.GEO, {"latitude": 0.1, "longitude": 1.0}),
    (FieldType.GEO, {"latitude": 1, "longitude": 1.0}), (FieldType.GEO, "1,2"),
    (FieldType.PHONE, "+31 20 1234567"), (FieldType.PHONE, {"defaultCountry": "nl"}),
    (FieldType.PHONE, {"input": "020 1234567", "defaultCountry": "nl"}),
    (FieldType.PHONE, {"input": "1", "valid": True}), (FieldType.BLOB, "no base64"), (FieldType.BLOB, ""),
    (FieldType.ARRAY, "a"), (FieldType.ARRAY, [1]), (FieldType.ARRAY, ["a", None]), (FieldType.ARRAY, {}),
    (FieldType.OBJECT, []), (FieldType.OBJECT, {"other": 1}), (FieldType.OBJECT, {"other": None}),
    (FieldType.OBJECT, {"number": 1.5}), (FieldType.REFERENCE, "weaviate://localhost/Things/" + ONE_UUID),
    (FieldType.REFERENCE, ["Things/" + ONE_UUID]), (FieldType.REFERENCE, ["weaviate://localhost/Other/" + ONE_UUID]),
    (FieldType.REFERENCE, [f"weaviate://localhost/Things/{ONE_UUID.replace('6', '-')}"]),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "value"), UNFIT, ids=lambda value: repr(value)[:40])
def test_h13_a_value_that_would_change_is_refused_by_its_id(things: Database, type_: FieldType, value: Any) -> None:
    more: dict[str, Any] = {
        FieldType.ARRAY: {"element": FieldType.TEXT},
        FieldType.OBJECT: {"fields": (field("number", FieldType.INT64),)},
        FieldType.REFERENCE: {"targets": ("Things",)},
    }.get(type_, {})
    things.create(schema(fields=[field("a", type_, **more)]))
    refusals = things.upsert(batch([1, 2], [{"a": value}, {}]))
    assert [refusal.id for refusal in refusals] == [str(uuid.UUID(int=1))]
    assert refusals[0].reason.startswith("'a' ")
    assert payloads_of(things) == {2: {}}


@pytest.mark.parametrize(
    "value",
    [{"latitude": 1.0, "longitude": 2.0}, dict.fromkeys(("input", "countryCode", "national"), "1")],
    ids=["geo", "phone"],
)
def test_an_object_that_no_page_would_bring_back_is_refused(things: Database, value: dict[str, Any]) -> None:
    """Its keys make a server take it for something else when it reads it, and the whole page fails."""
    value = value if "latitude" in value else {**value, "internationalFormatted": "1", "nationalFormatted": "1"}
    kind = FieldType.FLOAT64 if "latitude" in value else FieldType.TEXT
    inner = tuple(field(name, kind) for name in [*value, "beacon"])
    things.create(schema(fields=[field("a", FieldType.OBJECT, fields=inner), list_of(FieldType.OBJECT, fields=inner)]))
    beacons = {"objects": [{"beacon": next(iter(value.values()))}]}
    refusals = things.upsert(batch([1, 2, 3], [{"a": value}, beacons, {"a": {"beacon": value[inner[0].name]}}]))
    assert [refusal.id for refusal in refusals] == [str(uuid.UUID(int=number)) for number in (1, 2)]
    assert list(payloads_of(things)) == [3]


@pytest.mark.parametrize("value", [2**63, -(2**63), 2**62, -(2**53) - 2])
def test_h13_an_integer_that_grpc_spoils_is_read_as_it_is(things: Any, value: int) -> None:
    """A server keeps float64, and says -2^63 over gRPC of all that is too large for an int64."""
    inner = (field("number", FieldType.INT64),)
    more = [field("object", FieldType.OBJECT, fields=inner), list_of(FieldType.OBJECT, fields=inner)]
    things.create(schema(fields=[field("int64", FieldType.INT64), list_of(FieldType.INT64), *more]))
    inside = {"number": value}
    payload = {"int64": value, "int64s": [1, value, -1], "object": inside, "objects": [{}, inside]}
    # The largest that a server takes is stored as 2^63.
    given = min(value, 2**63 - 1)
    written = {
        "int64": given,
        "int64s": [1, given, -1],
        "object": {"number": given},
        "objects": [{}, {"number": given}],
    }
    stored = {"int64": 5, "object": {"number": 1}}
    with things._client("write") as wire:
        for number, one in ((1, written), (2, stored), (3, {})):
            body = {"class": "Things", "id": str(uuid.UUID(int=number)), "properties": one}
            wire.rest("POST", "objects", body=body)
    assert payloads_of(things) == {1: payload, 2: stored, 3: {}}


def test_h15_a_key_without_a_property_is_refused_and_makes_none(things: Database) -> None:
    things.create(schema(fields=[field("known", FieldType.TEXT)]))
    before = things.describe()
    payloads = [{"known": "a"}, {"known": "a", "new": "b"}, {"Known": "a"}, {"new": None}]
    refusals = things.upsert(batch([1, 2, 3, 4], payloads))
    assert [refusal.id for refusal in refusals] == [str(uuid.UUID(int=number)) for number in (2, 3, 4)]
    assert "'new', for which the collection has no property" in refusals[0].reason
    assert things.describe() == before
    assert payloads_of(things) == {1: {"known": "a"}}


########################################################################
# Vectors
########################################################################


def test_named_vectors_may_be_missing_each_by_itself(things: Database) -> None:
    several = VectorSchema(name="Several", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT)
    things.create(schema(VECTOR, several))
    columns = {
        "v": Dense(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([True, False, False])),
        "Several": Multi(
            np.array([0, 0, 2, 2]), np.arange(4, dtype=np.float32).reshape(2, 2), np.array([False, True, False])
        ),
    }
    things.upsert(Batch(ids([1, 2, 3]), None, columns, [{}] * 3))
    (back,) = everything(things)
    for name, column in columns.items():
        assert back.vectors[name].valid.tolist() == column.valid.tolist()
        assert back.vectors[name].values[: len(column.values)].tobytes()[:8] == column.values.tobytes()[:8]
    assert back.vectors["Several"].offsets.tolist() == [0, 0, 2, 2]
    hits = things.search(np.ones((1, 2), np.float32), 5, vector="Several")
    assert [hit.to_pylist() for hit in hits.ids] == [[uuid.UUID(int=2)]]


def test_a_vector_of_several_that_has_none_is_refused(things: Database) -> None:
    """A server takes it for a missing one."""
    things.create(schema(VectorSchema(name="m", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT)))
    column = Multi(np.array([0, 0, 1]), np.ones((1, 2), np.float32))
    refusals = things.upsert(Batch(ids([1, 2]), None, {"m": column}, [{}, {}]))
    assert [refusal.reason for refusal in refusals] == [
        "its vector 'm' holds no vectors, which Weaviate takes for a missing one"
    ]
    assert things.count() == 1


def test_vectors_that_are_none_of_the_collection_are_refused(things: Database) -> None:
    things.create(schema())
    two = Dense(np.ones((2, 2), np.float32))
    with pytest.raises(InvalidRecord, match="no vector 'w'; the collection has 'v'"):
        things.upsert(Batch(ids([1, 2]), None, {"w": two}, [{}, {}]))
    with pytest.raises(InvalidRecord, match="takes dense"):
        things.upsert(Batch(ids([1, 2]), None, {"v": Multi(np.array([0, 1, 2]), two.values)}, [{}, {}]))
    wrong = Dense(np.array([[1, 2], [np.inf, 0]], np.float32))
    with pytest.raises(InvalidRecord, match="NaN or infinite") as caught:
        things.upsert(Batch(ids([1, 2]), None, {"v": wrong}, [{}, {}]))
    assert caught.value.ids == (str(uuid.UUID(int=2)),)
    assert things.count() == 0


def test_exact_search_needs_a_flat_index(things: Database) -> None:
    things.create(schema())
    with pytest.raises(SchemaMismatch, match=r"'v' .* has index hnsw; only a plain flat one is exact"):
        things.search(np.ones((1, 2), np.float32), 1, vector="v", exact=True)
    with pytest.raises(SchemaMismatch, match="no vector 'w', but v"):
        things.search(np.ones((1, 2), np.float32), 1, vector="w")


def test_scores_follow_the_documented_convention(things: Database) -> None:
    metrics = (Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN, Metric.HAMMING)
    flat = IndexSpec(type="flat")
    things.create(schema(*(VectorSchema(name=one.value, dim=2, metric=one, index=flat) for one in metrics)))
    stored = np.array([[3, 4]], np.float32)
    things.upsert(Batch(ids([1]), None, {one.value: Dense(stored) for one in metrics}, [{}]))
    scores = {
        one: float(things.search(np.array([[3, 0]], np.float32), 1, vector=one.value, exact=True).scores[0][0])
        for one in metrics
    }
    assert scores == pytest.approx(
        {Metric.COSINE: 0.6, Metric.DOT: 9, Metric.EUCLIDEAN: 16, Metric.MANHATTAN: 4, Metric.HAMMING: 1}
    )


@pytest.mark.parametrize(("metric", "score"), [(Metric.DOT, 8.0), (Metric.COSINE, 4.0)])
def test_vectors_of_several_score_by_their_largest_products(things: Database, metric: Metric, score: float) -> None:
    """With cosine, a server normalises what is searched for, and not what is stored."""
    things.create(schema(VectorSchema(name="m", kind=VectorKind.MULTI, dim=2, metric=metric)))
    stored = Multi(np.array([0, 2]), np.array([[3, 4], [1, 0]], np.float32))
    things.upsert(Batch(ids([1]), None, {"m": stored}, [{}]))
    assert things.search(np.array([[0, 2]], np.float32), 1).scores[0].tolist() == [score]


########################################################################
# Splits
########################################################################


@pytest.mark.parametrize("start", [0, 2**127, int(uuid.UUID("018f0000-0000-7000-8000-000000000000"))])
def test_ids_that_lie_close_together_are_cut_evenly(start: int) -> None:
    """As those of UUID versions 1, 6 and 7 do, or those that are called after numbers."""
    there = [start + 1000 * number for number in range(1000)]
    calls = 0

    def first_after(after: uuid.UUID | None) -> uuid.UUID | None:
        nonlocal calls
        calls += 1
        return next((uuid.UUID(int=value) for value in there if after is None or value > after.int), None)

    splits = splits_of("t", 1000, 100, first_after)
    assert calls <= 130
    held = [sum(split.contains(uuid.UUID(int=value)) for value in there) for split in splits]
    assert sum(held) == 1000
    assert len(splits) == 10
    assert max(held) <= 120
    assert (splits[0].after, splits[-1].last, {split.scope for split in splits}) == (None, None, {"t"})


def test_random_ids_are_cut_with_few_calls() -> None:
    random = np.random.default_rng(0)
    there = sorted(int.from_bytes(random.bytes(16), "big") for _ in range(5000))
    calls = 0

    def first_after(after: uuid.UUID | None) -> uuid.UUID | None:
        nonlocal calls
        calls += 1
        return next((uuid.UUID(int=value) for value in there if after is None or value > after.int), None)

    splits = splits_of(None, 5000, 250, first_after)
    held = [sum(split.contains(uuid.UUID(int=value)) for value in there) for split in splits]
    assert sum(held) == 5000
    assert calls <= 12
    assert min(held) > 180
    assert max(held) < 320


def test_a_collection_that_is_one_split_is_planned_by_a_count(weaviate_stand_in: WeaviateStandIn) -> None:
    with open_target(endpoint(weaviate_stand_in)) as things:
        things.create(schema())
        things.upsert(batch(range(50)))
        weaviate_stand_in.clear_faults()
        assert [split.records for split in things.plan_splits(50)] == [50]
        assert weaviate_stand_in.calls() == {"Aggregate": 1}


########################################################################
# Pages and requests
########################################################################


def test_a_scan_stops_at_the_end_of_its_split(things: Database) -> None:
    things.create(schema())
    things.upsert(batch(range(100)))
    split = Split(kind=IdKind.UUID, after=str(uuid.UUID(int=9)), last=str(uuid.UUID(int=30)))
    for page in (1, 4, 21, 22, 100):
        seen = [value for part in things.scan(split, batch_records=page) for value in part.ids.to_pylist()]
        assert seen == ids(range(10, 31)).to_pylist()


def test_messages_stay_below_the_limit_of_the_server() -> None:
    """In both directions: a request is divided, and a page that does not fit is asked for again in smaller ones."""
    with (
        WeaviateStandIn(Settings(grpc_max_message_size=200_000)) as server,
        open_target(endpoint(server)) as things,
    ):
        things.create(schema(fields=[field("t", FieldType.TEXT)]))
        payloads = [{"t": "x" * 30_000} for _ in range(20)] + [{"t": "x" * 300_000}]
        refusals = things.upsert(batch(range(21), payloads))
        assert [refusal.id for refusal in refusals] == [str(uuid.UUID(int=20))]
        assert "a message to this server holds 180000" in refusals[0].reason
        assert [len(payload["t"]) for payload in payloads_of(things).values()] == [30_000] * 20
        assert len(things.fetch(ids(range(20))).batch) == 20


def test_a_record_that_no_message_holds_is_told_and_not_asked_for_for_ever() -> None:
    """One that came in over REST."""
    with (
        WeaviateStandIn(Settings(grpc_max_message_size=100_000)) as server,
        open_target(endpoint(server)) as things,
    ):
        things.create(schema(fields=[field("t", FieldType.TEXT)]))
        with things._client("write") as wire:  # type: ignore[attr-defined]
            large = {"class": "Things", "id": str(uuid.UUID(int=2)), "properties": {"t": "x" * 150_000}}
            wire.rest("POST", "objects", body=large)
        things.upsert(batch([1, 3], [{"t": "a"}, {"t": "b"}]))
        with pytest.raises(DatabaseError, match=r"behind id '0{8}.*01' .* raise its GRPC_MAX_MESSAGE_SIZE") as caught:
            everything(things)
        assert type(caught.value) is DatabaseError


def test_more_ids_are_fetched_and_deleted_than_one_filter_names(things: Database) -> None:
    things.create(schema())
    for start in range(0, 2500, 500):
        things.upsert(batch(range(start, start + 500)))
    assert len(things.fetch(ids(range(2600))).missing) == 100
    things.delete(ids(range(2400)))
    assert things.count() == 100


########################################################################
# References
########################################################################


def test_references_to_objects_that_are_not_there_are_kept(things: Database) -> None:
    """Over gRPC a server does not tell them, and an object that is sent with one is refused."""
    things.create(schema(fields=[field("to", FieldType.REFERENCE, targets=("Things",))]))
    beacons = [f"weaviate://localhost/Things/{uuid.UUID(int=number)}" for number in (2, 50)]
    assert things.upsert(batch([1, 2], [{"to": beacons}, {}])) == []
    assert things.upsert(batch([1], [{"to": beacons}])) == []
    assert payloads_of(things) == {1: {"to": beacons}, 2: {}}


def test_a_record_whose_reference_is_refused_is_not_left_half_written(things: Database) -> None:
    """Between tenants' records, a server wants both to be there."""
    things.create(divided(fields=[field("to", FieldType.REFERENCE, targets=("Things",))]))
    missing, there = (f"weaviate://localhost/Things/{uuid.UUID(int=number)}" for number in (9, 3))
    payloads = [{"to": [there, missing]}, {"to": [missing]}, {"to": [there]}]
    refusals = things.upsert(batch([1, 2, 3], payloads, "t"))
    assert [refusal.id for refusal in refusals] == [str(uuid.UUID(int=number)) for number in (1, 2)]
    assert str(uuid.UUID(int=9)) in refusals[0].reason
    assert payloads_of(things) == {3: {"to": [there]}}


def test_a_blob_beside_a_capital_name_says_that_nobody_can_ask_for_both(things: Database) -> None:
    inner = (field("data", FieldType.BLOB), field("Name", FieldType.TEXT))
    things.create(schema(fields=[field("file", FieldType.OBJECT, fields=inner)]))
    with pytest.raises(DatabaseError, match="'file' holds a blob and a property 'Name'"):
        everything(things)


def test_ids_that_begin_with_zeros_are_read_from_their_text(things: Database) -> None:
    things.create(schema())
    numbers = [0, 1, 255, 2**64, 2**120, 2**128 - 1]
    things.upsert(replace(batch(range(6)), ids=ids(numbers)))
    (part,) = everything(things)
    assert part.ids == IdColumn.of(IdKind.UUID, [uuid.UUID(int=number) for number in numbers])
