"""What is particular to Milvus: declared fields, partitions, filters, Milvus Lite's peculiarities, its errors."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus.exceptions import DataNotMatchException, MilvusException, ParamError

from vectormigrate_dagster.databases import Database, Endpoint, open_target
from vectormigrate_dagster.databases.milvus.records import between, literal
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)
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
    ScopeKind,
    Split,
    VectorSchema,
)

VECTOR = VectorSchema(name="v", dim=2, metric=Metric.DOT, index=IndexSpec(type="FLAT"))


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with open_target(Endpoint(type="milvus", path=tmp_path / "milvus", collection="things")) as database:
        yield database


def schema(*fields: FieldSchema, **changes: Any) -> CollectionSchema:
    plain = CollectionSchema(
        name="things", ids=IdSchema(kinds=(IdKind.TEXT,), field="key", max_length=64), vectors=(VECTOR,), fields=fields
    )
    return plain.model_copy(update=changes)


def declared(name: str, type: FieldType, **settings: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **settings)


def batch(payloads: list[dict[str, Any]], scope: str | None = None, first: int = 0) -> Batch:
    ids = IdColumn.of(IdKind.TEXT, [f"k{first + i:03}" for i in range(len(payloads))])
    return Batch(ids, scope, {"v": Dense(np.ones((len(payloads), 2), dtype=np.float32))}, payloads)


def payloads(database: Database, scope: str | None = None) -> list[dict[str, Any]]:
    return [p for part in database.scan(Split(kind=IdKind.TEXT, scope=scope)) for p in part.payloads]


########################################################################
# Fields
########################################################################

FIELDS = (
    declared("flag", FieldType.BOOL),
    declared("i8", FieldType.INT8),
    declared("i64", FieldType.INT64, index=IndexSpec(type="INVERTED")),
    declared("f32", FieldType.FLOAT32),
    declared("f64", FieldType.FLOAT64),
    declared("text", FieldType.TEXT, max_length=100),
    declared("needed", FieldType.TEXT, max_length=10, nullable=False),
    declared("tree", FieldType.JSON),
    declared("numbers", FieldType.ARRAY, element=FieldType.INT64, max_capacity=5),
)


def test_declared_fields_are_described_as_they_were_made(database: Database) -> None:
    made = schema(*FIELDS, dynamic=False)
    database.create(made)
    described = database.describe()
    assert described.fields == made.fields
    assert described.ids == made.ids
    assert described.vectors == made.vectors
    assert not described.dynamic
    assert database.describe().scope is ScopeKind.NONE


def test_h14_every_type_of_field_keeps_its_values(database: Database) -> None:
    database.create(schema(*FIELDS))
    full = {
        "flag": True, "i8": -128, "i64": 2**63 - 1, "f32": float(np.float32(0.1)), "f64": 0.1, "text": "é\n\"'",
        "needed": "", "tree": {"a": [1, 1.0, None, {"b": "1"}]}, "numbers": [1, -2], "extra": {"x.y": 2**60},
    }  # fmt: skip
    empty = dict.fromkeys((field.name for field in FIELDS), None) | {"needed": "x"}
    assert database.upsert(batch([full, empty, empty | {"numbers": [], "tree": []}])) == []
    back = payloads(database)
    assert [repr(sorted(p.items())) for p in back] == [
        repr(sorted(p.items())) for p in (full, empty, empty | {"numbers": [], "tree": []})
    ]
    assert math.isclose(back[0]["f32"], 0.1, rel_tol=1e-7)


def test_h13_a_json_field_refuses_what_milvus_lite_would_change(database: Database) -> None:
    database.create(schema(declared("tree", FieldType.JSON)))
    values = [{"a": 1}, "123", "abc", 5, True, 1.5, [1], None]
    refusals = database.upsert(batch([{"tree": value} for value in values]))
    assert [refusal.id for refusal in refusals] == ["k001", "k002", "k003", "k004", "k005"]
    assert "'tree'" in refusals[0].reason
    assert payloads(database) == [{"tree": value} for value in ({"a": 1}, [1], None)]


def test_a_payload_key_that_would_overwrite_the_id_or_a_vector_is_refused(database: Database) -> None:
    database.create(schema())
    refusals = database.upsert(batch([{"key": "other"}, {"v": 1}, {"$meta": {}}, {"ok": 1}]))
    assert [refusal.id for refusal in refusals] == ["k000", "k001", "k002"]
    assert "'$meta'" in refusals[2].reason
    assert payloads(database) == [{"ok": 1}]


def test_an_undeclared_key_is_refused_where_there_is_no_dynamic_field(database: Database) -> None:
    database.create(schema(dynamic=False))
    (refusal,) = database.upsert(batch([{"unknown": 1}, {}]))
    assert (refusal.id, "'unknown'" in refusal.reason) == ("k000", True)
    assert database.count() == 1


def test_create_refuses_what_milvus_lite_cannot_keep(database: Database) -> None:
    optional = VECTOR.model_copy(update={"optional": True})
    with pytest.raises(SchemaMismatch, match="'v' may be missing"):
        database.create(schema(vectors=(optional,)))
    with pytest.raises(SchemaMismatch, match="'a b' is no name"):
        database.create(schema(declared("a b", FieldType.TEXT)))
    with pytest.raises(SchemaMismatch, match="compared by manhattan"):
        database.create(schema(vectors=(VECTOR.model_copy(update={"metric": Metric.MANHATTAN}),)))
    with pytest.raises(NotFound):
        database.describe()


def test_exact_search_needs_an_exact_index(database: Database) -> None:
    database.create(schema(vectors=(VECTOR.model_copy(update={"index": IndexSpec(type="HNSW", params={"M": 8})}),)))
    database.upsert(batch([{}, {}]))
    with pytest.raises(SchemaMismatch, match="HNSW"):
        database.search(np.ones((1, 2), dtype=np.float32), 1, exact=True)
    assert len(database.search(np.ones((1, 2), dtype=np.float32), 1).ids[0]) == 1


########################################################################
# Partitions and aliases
########################################################################


def test_h17_partitions_are_scopes(database: Database) -> None:
    database.create(schema())
    assert database.scopes() == []
    database.upsert(batch([{"n": i} for i in range(7)], scope="red"))
    database.upsert(batch([{"n": i} for i in range(5)], scope="blue", first=100))
    assert database.describe().scope is ScopeKind.PARTITION
    assert database.scopes() == ["_default", "blue", "red"]
    assert (database.count(), database.count("red"), database.count("blue"), database.count("_default")) == (
        12,
        7,
        5,
        0,
    )
    splits = database.plan_splits(3)
    assert {split.scope: sum(s.records for s in splits if s.scope == split.scope) for split in splits} == {
        "_default": 0,
        "blue": 5,
        "red": 7,
    }
    assert {split.scope for split in database.plan_splits(3, scopes=["red"])} == {"red"}
    parts = [part for split in splits for part in database.scan(split, batch_records=2)]
    assert {part.scope for part in parts} == {"red", "blue"}
    assert sum(len(part) for part in parts) == 12
    assert [p["n"] for p in payloads(database, "blue")] == [0, 1, 2, 3, 4]
    first = IdColumn.of(IdKind.TEXT, ["k000"])
    assert len(database.fetch(first, "red").batch) == 1
    assert len(database.fetch(first, "blue").batch) == 0
    database.delete(first, "red")
    assert database.count("red") == 6


def test_h22_an_id_that_stands_in_two_partitions_counts_twice(database: Database) -> None:
    """Milvus Lite takes an id from its old partition only as long as that has not been written to a file."""
    database.create(schema(scope=ScopeKind.PARTITION))
    database.upsert(batch([{"n": 1}, {"n": 2}], scope="a"))
    database.upsert(batch([{"n": 3}], scope="b", first=7))
    database.close()
    with open_target(database.endpoint) as opened:
        opened.upsert(batch([{"n": 1}], scope="b"))
        assert [opened.count("a"), opened.count("b"), opened.count()] == [2, 2, 4]


def test_an_unknown_partition_is_not_found(database: Database) -> None:
    database.create(schema())
    database.upsert(batch([{}], scope="somewhere"))
    readers = [
        lambda: database.count("nowhere"),
        lambda: database.plan_splits(10, scopes=["nowhere"]),
        lambda: payloads(database, "nowhere"),
        lambda: database.search(np.ones((1, 2), dtype=np.float32), 1, scope="nowhere"),
    ]
    for read in readers:
        with pytest.raises(NotFound, match="'nowhere'; it has _default, somewhere"):
            read()
    asked = IdColumn.of(IdKind.TEXT, ["k000"])
    assert database.fetch(asked, "nowhere").missing == asked
    database.delete(asked, "nowhere")
    assert database.count() == 1


def test_a_partition_key_is_a_tenant_field_and_not_a_scope(database: Database) -> None:
    database.create(schema(declared("tenant", FieldType.TEXT, max_length=20, nullable=False, tenant=True)))
    database.upsert(batch([{"tenant": f"t{i % 3}"} for i in range(9)]))
    assert database.describe().scope is ScopeKind.FIELD
    assert [f.name for f in database.describe().fields if f.tenant] == ["tenant"]
    assert database.scopes() == []
    assert len(payloads(database)) == 9


def test_aliases_are_described(database: Database) -> None:
    database.create(schema())
    with database._client("write") as client:
        client.create_alias("things", "other_name")
    assert database.describe().aliases == ("other_name",)


########################################################################
# Filters and errors
########################################################################


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_h16_a_literal_says_exactly_the_text(text: str) -> None:
    from milvus_lite.search.filter.tokens import tokenize  # noqa: PLC0415

    tokens = tokenize(literal(text))
    assert len(tokens) == 2
    assert tokens[0].value == text


def test_filters_of_ranges() -> None:
    assert between("id", None, None) == ""
    assert between("id", -5, None) == "id > -5"
    assert between("id", 'a"', "b") == 'id > "a\\"" and id <= "b"'


def test_failing_calls_log_nothing(database: Database, capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        database.create(schema())
        with open_target(Endpoint(type="milvus", path=database.endpoint.path, collection="missing")) as missing:
            for read in (missing.describe, missing.count):
                with pytest.raises(NotFound):
                    read()
        with pytest.raises(InvalidRecord):
            database.upsert(
                Batch(IdColumn.of(IdKind.TEXT, ["a"]), None, {"v": Dense(np.ones((1, 9), np.float32))}, [{}])
            )
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MilvusException(100, "can't find collection"), NotFound),
        (MilvusException(200, "partition not found"), NotFound),
        (MilvusException(8, "rate limit exceeded"), Throttled),
        (MilvusException(9, "force deny writing"), Throttled),
        (MilvusException(1400, "auth check failure"), AuthenticationFailed),
        (MilvusException(2, "Fail connecting to server"), Unavailable),
        (MilvusException(1, "[insert_rows] Retry timeout: 60s"), Unavailable),
        (MilvusException(1, "[insert_rows] Retry run out of 75 retry times, message: x"), Unavailable),
        (MilvusException(5, "service not ready", retriable=True), Unavailable),
        (MilvusException(grpc.StatusCode.UNAVAILABLE, "no route"), Unavailable),
        (MilvusException(grpc.StatusCode.UNAUTHENTICATED, "who?"), AuthenticationFailed),
        (MilvusException(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow"), Throttled),
        (MilvusException(3, "memory limit exceeded"), Unavailable),
        (MilvusException(5, "service internal error"), Unavailable),
        (MilvusException(902, "node offline"), Unavailable),
        (MilvusException(1302, "message queue internal error"), Unavailable),
        (MilvusException(7, "disk limit exceeded"), DatabaseError),
        (MilvusException(65535, "something new"), DatabaseError),
        (MilvusException(1, "index file is corrupt"), DatabaseError),
        (MilvusException(1, "[Errno 28] No space left on device"), DatabaseError),
        (MilvusException(grpc.StatusCode.FAILED_PRECONDITION, "not now"), DatabaseError),
        (MilvusException(grpc.StatusCode.INVALID_ARGUMENT, "bad row"), InvalidRecord),
        (MilvusException(1100, "not a number or infinity"), InvalidRecord),
        (MilvusException(1102, "parameter too large"), InvalidRecord),
        (MilvusException(6, "vector field 'v' expected dim 2, got 3"), InvalidRecord),
        (ParamError(message="sparse vector value must not be NaN"), InvalidRecord),
        (DataNotMatchException(message="The Input data type is inconsistent"), InvalidRecord),
        (OSError("disk"), DatabaseError),
        # Servers before 2.4 have one code for everything that is not foreseen.
        (MilvusException(65535, "the length(5) of float data should divide the dim(4)"), InvalidRecord),
        (MilvusException(65535, "value 'NaN' is not a number or infinity"), InvalidRecord),
        (MilvusException(65535, "the length (9) of 0th string exceeds max length (5)"), InvalidRecord),
        (MilvusException(65535, "the 0th element (300) out of range: [-128, 127]"), InvalidRecord),
        (MilvusException(65535, "the dim (3) of field data(v) is not equal to schema dim (4)"), InvalidRecord),
        (MilvusException(65535, "runtime error: index out of range [3] with length 3"), DatabaseError),
        (MilvusException(65535, "cannot find segments of collection dim_products"), DatabaseError),
        (MilvusException(65535, "fail to get shard leaders of collection dim_products"), Unavailable),
        (MilvusException(65535, "context deadline exceeded"), Unavailable),
        (MilvusException(10_000, "context canceled"), Unavailable),
        (MilvusException(65535, "stack trace: context canceled"), Unavailable),
        (MilvusException(65535, "rpc error: code = Unavailable desc = error reading from server: EOF"), Unavailable),
        (MilvusException(65535, "dial tcp 10.0.0.1:21123: connect: connection refused"), Unavailable),
        (MilvusException(65535, "distribution is not servcieable"), Unavailable),
        (MilvusException(65535, "failed to search/query delegator 2 for channel dml_0: gone"), Unavailable),
    ],
)
def test_errors_of_the_client_are_translated(database: Database, error: Exception, expected: type[Exception]) -> None:
    assert type(database._translate(error, "write")) is expected


def test_a_server_means_something_else_by_the_code_of_embedded_milvus(database: Database) -> None:
    server = open_target(Endpoint(type="milvus", url="http://localhost:1", collection="things"))
    routing = MilvusException(6, "cross cluster routing")
    assert type(server._translate(routing, "write")) is DatabaseError


def test_a_client_that_cannot_be_made_blames_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    server = open_target(Endpoint(type="milvus", url="http://localhost:1", collection="things"))

    def illegal() -> Any:
        raise ParamError(message="Illegal uri")

    monkeypatch.setattr(server, "_connect", illegal)
    with pytest.raises(DatabaseError, match="Illegal uri") as failed:
        server.drop()
    assert type(failed.value) is DatabaseError


def test_records_that_milvus_lite_calls_invalid_are_refused(database: Database) -> None:
    database.create(schema(declared("i8", FieldType.INT8), declared("s", FieldType.TEXT, max_length=5), dynamic=False))
    for payload in ({"i8": 300}, {"i8": "x"}, {"s": "too long"}, {"i8": 2**70}, {"s": "\ud800"}):
        (refusal,) = database.upsert(batch([{"i8": 1, "s": "", **payload}]))
        assert (refusal.id, f"'{next(iter(payload))}'" in refusal.reason) == ("k000", True)
    assert database.count() == 0
