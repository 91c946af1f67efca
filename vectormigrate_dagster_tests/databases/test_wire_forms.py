"""Frames that our codecs read and write are those of the official messages, and damaged ones are never misread.

The official client is the judge: of any octets our decoder says what the client would, or ends in a `DatabaseError`.
"""

from __future__ import annotations

import math
import uuid
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pymilvus import DataType
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import milvus_pb2
from qdrant_client import grpc
from qdrant_client.conversions.conversion import RestToGrpc, grpc_to_payload

from vectormigrate_dagster.databases.milvus.messages import Reply, batch_of_reply, reply_of
from vectormigrate_dagster.databases.milvus.requests import upsert_of
from vectormigrate_dagster.databases.milvus.values import dynamic_texts, misfits
from vectormigrate_dagster.databases.qdrant.limits import Limits
from vectormigrate_dagster.databases.qdrant.point_reading import batch_of, points_of
from vectormigrate_dagster.databases.qdrant.point_writing import requests
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    Multi,
    Sparse,
    VectorKind,
    VectorSchema,
    is_valid,
)

_INT64 = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    _INT64,
    st.integers(-300, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
VALUES = st.recursive(
    SCALARS | st.just("x" * 200) | st.just("é" * 9000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(st.text(max_size=5) | st.just("k" * 130), VALUES, max_size=4)

NO_LIMITS = Limits(vectors=(), page=1000, batch=2**31, fetch=1000, searches=1, indexes={}, filters_unindexed=True)
VECTORS = (
    VectorSchema(name="dense", dim=2),
    VectorSchema(name="words", kind=VectorKind.SPARSE, dim=None),
    VectorSchema(name="tokens", kind=VectorKind.MULTI, dim=2),
)


def exactly(payloads: Any) -> str:
    """What tells 1 from 1.0 and True, and -0.0 from 0.0, in whatever order keys are: official maps have none."""
    return repr([ordered(payload) for payload in payloads])


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, ordered(inner)) for key, inner in sorted(value.items())]
    return [ordered(inner) for inner in value] if isinstance(value, list) else value


########################################################################
# Qdrant
########################################################################


def qdrant_batch(payloads: list[dict[str, Any]], kind: IdKind, *, missing: bool) -> Batch:
    n = len(payloads)
    valid = np.arange(n) % 2 == 0 if missing else None
    ids = range(n) if kind is IdKind.U64 else [uuid.UUID(int=2**127 + i) for i in range(n)]
    there = n if valid is None else int(valid.sum())
    counts = np.ones(n, dtype=np.int64) if valid is None else valid.astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    vectors = {
        "dense": Dense(np.arange(2 * n, dtype=np.float32).reshape(n, 2), valid),
        "words": Sparse(bounds, np.full(there, 2**32 - 1, dtype=np.uint32), np.ones(there, dtype=np.float32), valid),
        "tokens": Multi(2 * bounds, np.arange(4 * there, dtype=np.float32).reshape(-1, 2), valid),
    }
    return Batch(IdColumn.of(kind, ids), None, vectors, payloads)


def scrolled(batch: Batch) -> bytes:
    """The `ScrollResponse` of a server that holds what was sent, by way of the official messages."""
    (points,) = requests(batch, NO_LIMITS, "here")
    sent = grpc.UpsertPoints.FromString(b"".join(points))
    answer = grpc.ScrollResponse()
    for point in sent.points:
        vectors = grpc.VectorsOutput.FromString(point.vectors.SerializeToString())
        answer.result.add(id=point.id, payload=point.payload, vectors=vectors)
    return answer.SerializeToString()


@settings(deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=4), st.sampled_from([IdKind.U64, IdKind.UUID]), st.booleans())
def test_points_are_the_official_messages_there_and_back(
    payloads: list[dict[str, Any]], kind: IdKind, missing: bool
) -> None:
    batch = qdrant_batch(payloads, kind, missing=missing)
    (points,) = requests(batch, NO_LIMITS, "here")
    official = [RestToGrpc.convert_payload(payload) for payload in payloads]
    sent = grpc.UpsertPoints.FromString(b"".join(points))
    assert [point.payload for point in sent.points] == [grpc.PointStruct(payload=each).payload for each in official]
    read, _ = points_of(scrolled(batch), "ScrollResponse", VECTORS)
    back = batch_of(read, kind, None, VECTORS)
    assert back.ids == batch.ids
    assert exactly(back.payloads) == exactly(payloads)
    for name, column in batch.vectors.items():
        assert is_valid(back.vectors[name]).tolist() == is_valid(column).tolist()
        chosen = back.vectors[name].take(np.flatnonzero(is_valid(column)))
        assert chosen.values.tobytes() == column.take(np.flatnonzero(is_valid(column))).values.tobytes()


def by_the_client(answer: bytes, dim: int) -> tuple[list[Any], str, bytes] | None:
    """Ids, payloads and dense vectors as the client reads them; None where it finds no such record."""
    try:
        points = grpc.ScrollResponse.FromString(answer).result
        payloads = [grpc_to_payload(point.payload) for point in points]
    except (DecodeError, ValueError):
        return None
    ids = [
        uuid.UUID(point.id.uuid) if point.id.WhichOneof("point_id_options") == "uuid" else point.id.num
        for point in points
    ]
    rows = []
    for point in points:
        which = point.vectors.WhichOneof("vectors_options")
        names = {"": point.vectors.vector} if which == "vector" else dict(point.vectors.vectors.vectors)
        if set(names) - {"dense"}:
            return None
        vector = names.get("dense")
        data = [] if vector is None else list(vector.dense.data if vector.HasField("dense") else vector.data)
        rows.append(np.asarray(data or [0.0] * dim, dtype=np.float32))
    return ids, exactly(payloads), np.concatenate([*rows, np.zeros(0, np.float32)]).tobytes()


PAGE = [
    {"text": "long " * 30, "n": -7, "real": 0.5, "yes": True, "none": None, "tags": ["a", "b"], "tree": {"x": [1, {}]}},
    {"text": "é", "n": 2**40, "real": 1e300, "yes": False, "tags": [], "tree": {"": 1}},
]
DENSE = (VectorSchema(name="dense", dim=2),)


def only_dense(payloads: list[dict[str, Any]]) -> bytes:
    vectors = {"dense": Dense(np.arange(1, 2 * len(payloads) + 1, dtype=np.float32).reshape(-1, 2))}
    return scrolled(Batch(IdColumn.of(IdKind.U64, range(1, len(payloads) + 1)), None, vectors, payloads))


SCROLLED = only_dense(PAGE)
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3)


def damaged(frame: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    """The frame with some octets changed, and its end cut off."""
    octets = bytearray(frame)
    for place, octet in changes:
        octets[int(place * len(octets))] = octet
    return bytes(octets[: max(1, math.ceil(cut * len(octets)))])


CUTS = st.sampled_from([1.0, 1.0, 1.0]) | st.floats(0, 1)


@settings(max_examples=600, deadline=None)
@given(CHANGES, CUTS)
def test_damaged_points_end_in_an_error_or_say_what_the_client_reads(changes: Any, cut: float) -> None:
    answer = damaged(SCROLLED, changes, cut)
    try:
        points, _ = points_of(answer, "ScrollResponse", DENSE)
        batch = batch_of(points, IdKind.U64, None, DENSE).decoded()
    except DatabaseError:
        return
    told = by_the_client(answer, 2)
    assert told is not None, "the client finds no records in it"
    assert (batch.ids.to_pylist(), exactly(batch.payloads), batch.vectors["dense"].values.tobytes()) == told


def test_every_cut_of_a_page_is_noticed_or_leaves_whole_points_only() -> None:
    whole = by_the_client(SCROLLED, 2)
    assert whole is not None
    counts = set()
    for size in range(len(SCROLLED)):
        try:
            points, _ = points_of(SCROLLED[:size], "ScrollResponse", DENSE)
            payloads = list(batch_of(points, IdKind.U64, None, DENSE).payloads)
        except DatabaseError:
            continue
        counts.add(len(points))
        assert exactly(payloads) == exactly(PAGE[: len(points)])
    assert counts == {0, 1}


########################################################################
# Milvus
########################################################################

FIELDS = (
    FieldSchema(name="flag", type=FieldType.BOOL, declared=True, nullable=True),
    FieldSchema(name="n", type=FieldType.INT64, declared=True, nullable=True),
    FieldSchema(name="small", type=FieldType.INT8, declared=True, nullable=True),
    FieldSchema(name="real", type=FieldType.FLOAT64, declared=True, nullable=True),
    FieldSchema(name="text", type=FieldType.TEXT, declared=True, nullable=True, max_length=60_000),
    FieldSchema(name="tree", type=FieldType.JSON, declared=True, nullable=True),
    FieldSchema(
        name="list", type=FieldType.ARRAY, element=FieldType.TEXT, declared=True, nullable=True, max_capacity=4
    ),
)
COLLECTION = CollectionSchema(
    name="c",
    ids=IdSchema(kinds=(IdKind.I64,), field="key"),
    vectors=(VectorSchema(name="v", dim=2),),
    fields=FIELDS,
)
_TYPES = {"flag": "BOOL", "n": "INT64", "small": "INT8", "real": "DOUBLE", "text": "VARCHAR", "tree": "JSON"}
DESCRIBED: dict[str, Any] = {
    "fields": [
        {"name": "key", "type": DataType.INT64, "is_primary": True, "params": {}},
        {"name": "v", "type": DataType.FLOAT_VECTOR, "params": {"dim": 2}},
        *({"name": name, "type": DataType[kind], "params": {}, "nullable": True} for name, kind in _TYPES.items()),
        {
            "name": "list",
            "type": DataType.ARRAY,
            "element_type": DataType.VARCHAR,
            "params": {"max_capacity": 4, "max_length": 65_535},
            "nullable": True,
        },
    ],
    "enable_dynamic_field": True,
}
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "flag": st.booleans() | st.none(),
        "n": _INT64,
        "small": st.integers(-128, 127) | st.none(),
        "real": st.floats(allow_nan=False, allow_infinity=False),
        "text": st.text(),
        "tree": VALUES,
        "list": st.lists(st.text(max_size=5), max_size=4),
        "other": VALUES,
        "é.b c": VALUES,
    },
)


def milvus_batch(payloads: list[dict[str, Any]]) -> Batch:
    vectors = {"v": Dense(np.arange(1, 2 * len(payloads) + 1, dtype=np.float32).reshape(-1, 2))}
    return Batch(IdColumn.of(IdKind.I64, range(1, len(payloads) + 1)), None, vectors, payloads)


def upserted(payloads: list[dict[str, Any]]) -> milvus_pb2.UpsertRequest:
    nowhere, texts = dynamic_texts(payloads, COLLECTION)
    assert (nowhere, misfits(payloads, COLLECTION)) == ({}, {})
    frames = upsert_of(milvus_batch(payloads), texts, collection="c", partition="p", described=DESCRIBED)
    return milvus_pb2.UpsertRequest.FromString(b"".join(frames))


def replied(request: milvus_pb2.UpsertRequest) -> bytes:
    octets: bytes = milvus_pb2.QueryResults(fields_data=request.fields_data).SerializeToString()
    return octets


@settings(deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
@example([{"list": []}, {"list": ["a"]}])
@example([{"n": 1, "real": 0.5, "text": "a", "flag": True, "small": -1, "list": ["a"], "tree": 1}] * 2)
def test_an_upsert_says_what_the_client_would(payloads: list[dict[str, Any]]) -> None:
    request = upserted(payloads)
    rows = [{"key": i, "v": [2.0 * i - 1, 2.0 * i], **payload} for i, payload in enumerate(payloads, 1)]
    for row in rows:
        if isinstance(row.get("tree"), str):
            assume(False)  # the client takes a text for JSON that is already written
    theirs = Prepare.row_upsert_param("c", rows, "p", DESCRIBED["fields"], enable_dynamic=True)
    assert (request.collection_name, request.partition_name, request.num_rows) == ("c", "p", len(payloads))
    ours, official = ({field.field_name: field for field in each.fields_data} for each in (request, theirs))
    assert ours.keys() == official.keys()
    for name, field in ours.items():
        if name not in ("tree", "$meta"):  # JSON, which may be spelt differently
            assert field == official[name]


COLUMNS = {
    "flag": st.booleans(),
    "n": _INT64,
    "small": st.integers(-128, 127),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "text": st.text(max_size=9),
    "tree": VALUES.filter(lambda value: value is not None),
    "list": st.lists(st.text(max_size=5), max_size=4),
}


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries(COLUMNS, optional={"other": VALUES, "é.b c": VALUES}), min_size=1, max_size=5))
def test_columns_and_dynamic_keys_come_back_as_they_were_sent(payloads: list[dict[str, Any]]) -> None:
    batch = batch_of_reply(reply_of(replied(upserted(payloads))), COLLECTION, None)
    sent = milvus_batch(payloads)
    assert batch.ids == sent.ids
    assert batch.vectors["v"].values.tobytes() == sent.vectors["v"].values.tobytes()
    assert exactly(batch.payloads) == exactly(payloads)


REPLIED = replied(
    upserted(
        [
            {
                "n": -7,
                "real": 0.5,
                "text": "long " * 30,
                "flag": True,
                "small": 3,
                "list": ["a", "b"],
                "tree": {"x": 1},
            },
            {"n": 2**40, "real": 1e300, "text": "é", "flag": False, "small": -1, "list": ["c"], "tree": [], "o": "k"},
        ]
    )
)


@settings(max_examples=600, deadline=None)
@given(CHANGES, CUTS)
def test_damaged_replies_end_in_an_error_or_say_what_the_client_reads(changes: Any, cut: float) -> None:
    octets = damaged(REPLIED, changes, cut)
    try:
        batch = batch_of_reply(reply_of(octets), COLLECTION, None)
    except DatabaseError:
        return
    message = milvus_pb2.QueryResults.FromString(octets)  # or the client would not read it
    # Read by the official message alone, dense vectors included.
    whole = batch_of_reply(Reply(message, {}, len(octets)), COLLECTION, None)
    assert batch.ids == whole.ids
    assert exactly(batch.payloads) == exactly(whole.payloads)
    assert batch.vectors["v"].values.tobytes() == whole.vectors["v"].values.tobytes()


def test_every_cut_of_a_reply_is_noticed() -> None:
    for size in range(len(REPLIED)):
        try:
            batch = batch_of_reply(reply_of(REPLIED[:size]), COLLECTION, None)
        except DatabaseError:
            continue
        raise AssertionError(f"{len(batch)} records were read out of {size} octets of {len(REPLIED)}")
