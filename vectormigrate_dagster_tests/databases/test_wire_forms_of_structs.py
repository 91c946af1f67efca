"""Frames of Pinecone and Weaviate, and `google.protobuf.Struct`, are those of the official messages, damaged or not.

Protobuf's own reading is the judge: of any octets our decoders say what it says, or end in a `DatabaseError`.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from hypothesis import example, given, settings
from hypothesis import strategies as st
from weaviate.proto.v1 import base_pb2, batch_pb2, properties_pb2, search_get_pb2

from vectormigrate_dagster.databases.columns import packed_dense
from vectormigrate_dagster.databases.entries import parts
from vectormigrate_dagster.databases.pinecone.grpc_vectors import GrpcVectorsApi
from vectormigrate_dagster.databases.pinecone.records import batch_of
from vectormigrate_dagster.databases.pinecone.requests import outgoing
from vectormigrate_dagster.databases.pinecone.vector_reading import page_of, rows_in
from vectormigrate_dagster.databases.pinecone.vector_writing import request_of
from vectormigrate_dagster.databases.structs import struct_octets, struct_of
from vectormigrate_dagster.databases.weaviate import records as weaviate
from vectormigrate_dagster.databases.weaviate.checking import misfits
from vectormigrate_dagster.databases.weaviate.object_reading import found_in
from vectormigrate_dagster.databases.weaviate.object_writing import objects_of
from vectormigrate_dagster.databases.weaviate.object_writing import request_of as weaviate_request
from vectormigrate_dagster.databases.weaviate.values import by_name, set_properties, values_of
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind, VectorKind, VectorSchema, is_valid
from vectormigrate_dagster_tests.databases.pinecone_support import DENSE, SPARSE, sparse
from vectormigrate_dagster_tests.databases.test_wire_forms import CHANGES, CUTS, PAYLOADS, damaged, exactly
from vectormigrate_dagster_tests.databases.weaviate_support import EVERYTHING, FIELDS, VECTOR, schema
from vectormigrate_dagster_tests.emulators.pinecone.grpc_messages import MESSAGES
from vectormigrate_dagster_tests.emulators.weaviate.grpc_replies import writer

########################################################################
# Objects of plain values
########################################################################


def as_floats(value: Any) -> Any:
    """What a `Struct` keeps of a value: every number is a double."""
    if isinstance(value, dict):
        return {key: as_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_floats(inner) for inner in value]
    return float(value) if type(value) is int else value


def entries_of(octets: bytes) -> list[bytes]:
    return [octets[start:stop] for start, stop in parts(octets, 0, len(octets))]


@settings(deadline=None)
@given(PAYLOADS)
def test_a_struct_is_that_of_protobuf_there_and_back(payload: dict[str, Any]) -> None:
    octets = struct_octets(payload, b"\x0a")
    assert Struct.FromString(octets) == ParseDict(as_floats(payload), Struct())
    official: bytes = Struct.FromString(octets).SerializeToString()
    for frame in (octets, official):
        assert exactly([struct_of(entries_of(frame))]) == exactly([as_floats(payload)])


########################################################################
# Pinecone
########################################################################

VECTORS = (DENSE, SPARSE.model_copy(update={"optional": True}))
IDS = st.lists(st.text(st.characters(max_codepoint=127, min_codepoint=1), min_size=1, max_size=200), unique=True)
METADATA = st.dictionaries(
    st.text(max_size=5) | st.just("k" * 130),
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.just("é" * 9000)
    | st.lists(st.text(max_size=5), min_size=1, max_size=3),
    max_size=4,
)


def pinecone_batch(ids: list[str], payloads: list[dict[str, Any]]) -> Batch:
    rows = [{n: n + 0.5, 2**32 - 1: 1.0} if n % 2 else None for n in range(len(ids))]
    values = np.arange(1, 2 * len(ids) + 1, dtype=np.float32).reshape(-1, 2)
    vectors = {"_values": Dense(values), "_sparse_values": sparse(*rows)}
    return Batch(IdColumn.of(IdKind.TEXT, ids), None, vectors, payloads)


def fetched(request: Any) -> bytes:
    """The `FetchResponse` of a server that holds what was sent, as protobuf writes it."""
    answer = MESSAGES["FetchResponse"](namespace="here", usage=MESSAGES["Usage"](read_units=1))
    for vector in request.vectors:
        answer.vectors.add(key=vector.id, value=vector)
    octets: bytes = answer.SerializeToString()
    return octets


@settings(deadline=None)
@given(IDS.filter(bool), st.lists(METADATA, min_size=3, max_size=3))
@example(["a", "b"], [{}, {"n": 1}, {}])
def test_vectors_are_the_official_messages_there_and_back(ids: list[str], payloads: list[dict[str, Any]]) -> None:
    batch = pinecone_batch(ids, [payloads[n % 3] for n in range(len(ids))])
    records, refused = outgoing(batch, GrpcVectorsApi(None, VECTORS, None))  # type: ignore[arg-type]  # nothing is sent
    sent = MESSAGES["UpsertRequest"].FromString(request_of([one.record for one in records], "there"))
    assert (refused, sent.namespace, [vector.id for vector in sent.vectors]) == ([], "there", ids)
    for vector, payload in zip(sent.vectors, batch.payloads, strict=True):
        assert MessageToDict(vector.metadata) == as_floats(payload)
    read = rows_in(fetched(sent))
    back = batch_of(list(read.values()), None, VECTORS)
    assert back.ids == batch.ids
    assert exactly(back.payloads) == exactly(as_floats(batch.payloads))
    for name, column in batch.vectors.items():
        assert back.vectors[name].values.tobytes() == column.values.tobytes()
        assert is_valid(back.vectors[name]).tolist() == is_valid(column).tolist()


def by_protobuf(answer: bytes) -> dict[str, Any] | None:
    """Records by id as protobuf reads them; None where it finds none."""
    try:
        found = MESSAGES["FetchResponse"].FromString(answer).vectors
    except DecodeError:
        return None
    return {entry.key: told(entry.value) for entry in found}


def numbers_of(indices: Any, values: Any) -> tuple[list[int], bytes]:
    """Of a sparse vector, with weights as octets: damage makes a NaN, which equals nothing."""
    return list(indices), np.asarray(values, dtype=np.float32).tobytes()


def told(vector: Any) -> tuple[Any, ...]:
    numbers = numbers_of(vector.sparse_values.indices, vector.sparse_values.values)
    dense = np.asarray(vector.values, dtype=np.float32).tobytes()
    entries = entries_of(vector.metadata.SerializeToString())
    return dense, numbers if vector.HasField("sparse_values") else None, exactly([struct_of(entries)])


def ours(answer: bytes) -> dict[str, Any]:
    def shown(row: Any) -> tuple[Any, ...]:
        lists = row.vectors.get("_sparse_values")
        numbers = None if lists is None else numbers_of(*lists)
        return bytes(row.vectors.get("_values", b"")), numbers, exactly([row.payload])

    return {key: shown(row) for key, row in rows_in(answer).items()}


RECORDS = pinecone_batch(
    ["a", "b" * 130], [{"text": "long " * 30, "n": -7, "yes": True, "tags": ["a", "b"]}, {"x": "é"}]
)
FETCHED = fetched(
    MESSAGES["UpsertRequest"].FromString(
        request_of([one.record for one in outgoing(RECORDS, GrpcVectorsApi(None, VECTORS, None))[0]], "")  # type: ignore[arg-type]  # nothing is sent
    )
)


@settings(max_examples=600, deadline=None)
@given(CHANGES, CUTS)
def test_damaged_fetches_end_in_an_error_or_say_what_protobuf_reads(changes: Any, cut: float) -> None:
    answer = damaged(FETCHED, changes, cut)
    try:
        read = ours(answer)
    except DatabaseError:
        return
    assert read == by_protobuf(answer)


def test_every_cut_of_a_fetch_is_noticed_or_leaves_whole_records_only() -> None:
    whole, counts = by_protobuf(FETCHED), set()
    assert whole is not None
    for size in range(len(FETCHED)):
        try:
            read = ours(FETCHED[:size])
        except DatabaseError:
            continue
        counts.add(len(read))
        assert read == dict(list(whole.items())[: len(read)])
    assert counts == {0, 1, 2}


VALUES = b"\x12\x08" + np.array([1, 2], "<f4").tobytes()
UNPACKED = b"\x15" + np.array([1], "<f4").tobytes()
STRUCT = b"\x1a\x09\x0a\x07\x0a\x01k\x12\x02\x20\x01"


@pytest.mark.parametrize(
    "vector",
    [
        b"",
        VALUES,
        STRUCT + VALUES,
        VALUES + VALUES,
        UNPACKED + UNPACKED,
        VALUES + UNPACKED,
        VALUES + STRUCT + STRUCT,
        b"\x0a\x01b\x0a\x01a" + VALUES,
        VALUES + b"\x22\x00",
        VALUES + b"\x22\x0d\x0a\x05\xff\xff\xff\xff\x0f\x12\x04" + np.array([1], "<f4").tobytes(),
    ],
)
def test_a_vector_of_any_form_is_read_as_protobuf_reads_it(vector: bytes) -> None:
    entry = b"\x0a\x01a\x12" + bytes((len(vector),)) + vector
    for changed in (entry, b"\x12" + bytes((len(vector),)) + vector + b"\x0a\x01a"):
        answer = b"\x0a" + bytes((len(changed),)) + changed
        assert ours(answer) == by_protobuf(answer)


@pytest.mark.parametrize("more", [b"", VALUES + VALUES], ids=["usual", "by protobuf"])
def test_a_record_under_the_id_of_another_is_not_taken(more: bytes) -> None:
    vector = b"\x0a\x01b" + VALUES + more
    entry = b"\x0a\x01a\x12" + bytes((len(vector),)) + vector
    with pytest.raises(DatabaseError, match="record 'b' stands under id 'a'"):
        rows_in(b"\x0a" + bytes((len(entry),)) + entry)


@pytest.mark.parametrize("sizes", [[0, 8], [4, 12], [8, 12]])
def test_vectors_of_other_lengths_are_not_taken(sizes: list[int]) -> None:
    with pytest.raises(DatabaseError, match="components, the collection's have 2"):
        packed_dense([bytes(size) for size in sizes], 2)


@settings(max_examples=200, deadline=None)
@given(CHANGES, CUTS)
def test_damaged_lists_end_in_an_error_or_say_what_protobuf_reads(changes: Any, cut: float) -> None:
    items = [MESSAGES["ListItem"](id=each) for each in ("a", "b", "c" * 130)]
    page = MESSAGES["ListResponse"](vectors=items, pagination=MESSAGES["Pagination"](next="more"))
    answer = damaged(page.SerializeToString(), changes, cut)
    try:
        read = page_of(answer)
    except DatabaseError:
        return
    official = MESSAGES["ListResponse"].FromString(answer)
    assert read.ids == [item.id for item in official.vectors]
    assert read.token == (official.pagination.next or None)


########################################################################
# Weaviate
########################################################################

THINGS = schema(VECTOR, VectorSchema(name="other", dim=2), fields=FIELDS)
CHANGED = st.dictionaries(st.sampled_from(sorted(EVERYTHING)), st.just(None))
NAMES = st.sets(st.sampled_from(sorted(EVERYTHING)))


def weaviate_batch(payloads: list[dict[str, Any]]) -> Batch:
    n = len(payloads)
    values = np.arange(1, 2 * n + 1, dtype=np.float32).reshape(-1, 2)
    vectors = {"v": Dense(values), "other": Dense(-values, np.arange(n) % 2 == 0)}
    return Batch(IdColumn.of(IdKind.UUID, [uuid.UUID(int=2**100 + i) for i in range(n)]), "t", vectors, payloads)


def replied(payloads: list[dict[str, Any]]) -> bytes:
    """The `SearchReply` of a server that holds these records."""
    properties = {field.name: definition(field) for field in FIELDS}
    reply = search_get_pb2.SearchReply(took=0.5)
    for number, payload in enumerate(payloads, 1):
        result = reply.results.add()
        result.metadata.id = str(uuid.UUID(int=number))
        octets = np.array([number, -number], "<f4").tobytes()
        result.metadata.vectors.add(name="v", vector_bytes=octets, type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32)
        result.properties.target_collection = "Things"
        result.properties.non_ref_props.SetInParent()
        for name in (name for name in properties if name != "reference"):
            message = result.properties.non_ref_props.fields[name]
            if name in payload:
                writer(properties[name])(message, stored(payload[name]))
            else:
                message.null_value = 0
    return reply.SerializeToString()


def definition(field: Any) -> dict[str, Any]:
    from vectormigrate_dagster.databases.weaviate.properties import write_property  # noqa: PLC0415

    return write_property(field)


def stored(value: Any) -> Any:
    """A value as a server keeps it: telephone numbers are worked out."""
    return {**value, "valid": True, "national": 201234567} if isinstance(value, dict) and "input" in value else value


def by_the_client(answer: bytes) -> list[Any] | None:
    """Ids, payloads and vectors as the official messages hold them; None where they hold nothing."""
    try:
        results = search_get_pb2.SearchReply.FromString(answer).results
    except DecodeError:
        return None
    return [
        (
            one.metadata.id,
            exactly([{k: v for k, v in values_of(one.properties.non_ref_props).items() if v is not None}]),
            [(vector.name, vector.vector_bytes) for vector in one.metadata.vectors],
        )
        for one in results
    ]


def by_us(answer: bytes) -> list[Any]:
    return [
        (
            one.metadata.id,
            exactly([one.payload]),
            [(vector.name, vector.vector_bytes) for vector in one.metadata.vectors],
        )
        for one in found_in(answer)
    ]


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=3))
def test_objects_are_the_official_messages(chosen: list[set[str]]) -> None:
    payloads = [{name: EVERYTHING[name] for name in sorted(names)} for names in chosen]
    batch = weaviate_batch(payloads)
    assert misfits(payloads, FIELDS) == {}
    sent = batch_pb2.BatchObjectsRequest.FromString(weaviate_request(objects_of(batch, THINGS, "Things"), 2))
    assert sent.consistency_level == base_pb2.CONSISTENCY_LEVEL_QUORUM
    for row, one in enumerate(sent.objects):
        expected = batch_pb2.BatchObject(uuid=str(batch.ids[row]), collection="Things", tenant="t")
        expected.properties.non_ref_properties.SetInParent()
        set_properties(expected.properties, payloads[row], by_name(FIELDS))
        for name, column in batch.vectors.items():
            if is_valid(column)[row]:
                expected.vectors.append(weaviate.named_vector(name, column.values[row].tobytes(), multi=False))
        assert one == expected


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=3))
@example([set(EVERYTHING)])
@example([set()])
def test_replies_hold_what_the_official_messages_hold(chosen: list[set[str]]) -> None:
    payloads = [{name: EVERYTHING[name] for name in sorted(names)} for names in chosen]
    assert by_us(replied(payloads)) == by_the_client(replied(payloads))
    for one, payload in zip(found_in(replied(payloads)), payloads, strict=True):
        assert set(one.payload) == set(payload) - {"reference"}
        for name in set(payload) - {"reference", "file"}:  # a blob in an object comes only to who asks for it
            assert exactly([one.payload[name]]) == exactly([payload[name]])


REPLIED = replied([EVERYTHING, {"text": "long " * 30, "int64": -7, "bools": [True]}])


@settings(max_examples=600, deadline=None)
@given(CHANGES, CUTS)
def test_damaged_replies_end_in_an_error_or_say_what_the_client_reads(changes: Any, cut: float) -> None:
    answer = damaged(REPLIED, changes, cut)
    try:
        read = by_us(answer)
    except DatabaseError:
        return
    assert read == by_the_client(answer)


@pytest.mark.parametrize(
    "value",
    [
        properties_pb2.Value(),
        properties_pb2.Value.FromString(b"\x12\x06of old"),  # `string_value`, which newer clients do not know
        properties_pb2.Value(int_value=-1),
        properties_pb2.Value(text_value=""),
        properties_pb2.Value(null_value=0),
        properties_pb2.Value(list_value=properties_pb2.ListValue()),
        properties_pb2.Value(list_value=properties_pb2.ListValue(text_values=properties_pb2.TextValues())),
        properties_pb2.Value(
            list_value=properties_pb2.ListValue(int_values=properties_pb2.IntValues(values=b"\x00" * 16))
        ),
        properties_pb2.Value(object_value=properties_pb2.Properties(fields={"": properties_pb2.Value(null_value=0)})),
    ],
    ids=lambda value: value.WhichOneof("kind") or "none",
)
def test_a_value_of_any_form_is_read_as_the_client_reads_it(value: Any) -> None:
    reply = search_get_pb2.SearchReply()
    reply.results.add().properties.non_ref_props.fields["v"].CopyFrom(value)
    assert by_us(reply.SerializeToString()) == by_the_client(reply.SerializeToString())


@pytest.mark.parametrize("spoilt", [-(2**63), 2**63 - 1])
def test_integers_that_may_be_others_are_noticed_wherever_they_are(spoilt: int) -> None:
    integers = properties_pb2.ListValue(int_values=properties_pb2.IntValues(values=np.array([spoilt], "<i8").tobytes()))
    within = properties_pb2.Properties(fields={"n": properties_pb2.Value(int_value=spoilt)})
    objects = properties_pb2.ListValue(object_values=properties_pb2.ObjectValues(values=[within]))
    for value in (
        properties_pb2.Value(int_value=spoilt),
        properties_pb2.Value(list_value=integers),
        properties_pb2.Value(object_value=within),
        properties_pb2.Value(list_value=objects),
    ):
        reply = search_get_pb2.SearchReply()
        reply.results.add().properties.non_ref_props.fields["v"].CopyFrom(value)
        reply.results.add().properties.non_ref_props.fields["v"].int_value = 1
        assert [one.doubtful for one in found_in(reply.SerializeToString())] == [True, False]


ROW = np.ones(2, "<f4").tobytes()


@pytest.mark.parametrize(
    ("dim", "matrices"),
    [
        (2, [b"\x02\x00" + ROW + ROW[:4], b"\x02\x00" + ROW + ROW[:4]]),
        (2, [b"\x02"]),
        (2, [b"\x01\x00" + ROW]),
        (None, [b"\x00\x00"]),
        (None, [b"\x02\x00" + ROW, b"\x01\x00" + ROW]),
    ],
    ids=["halves of rows", "no length", "another length", "rows of nothing", "two lengths"],
)
def test_damaged_vectors_of_several_are_not_taken(dim: int | None, matrices: list[bytes]) -> None:
    reply = search_get_pb2.SearchReply()
    for matrix in matrices:
        metadata = reply.results.add().metadata
        metadata.id = str(uuid.UUID(int=1))
        metadata.vectors.add(name="v", vector_bytes=matrix, type=base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32)
    of_several = schema(VectorSchema(name="v", dim=dim, kind=VectorKind.MULTI), fields=())
    with pytest.raises(DatabaseError):
        weaviate.batch_of(found_in(reply.SerializeToString()), of_several, None)


def test_an_object_without_a_whole_id_is_not_taken() -> None:
    reply = search_get_pb2.SearchReply()
    reply.results.add().metadata.id = str(uuid.UUID(int=1))[:-2]
    with pytest.raises(DatabaseError, match=r"cannot be read \(ids of weaviate\)"):
        weaviate.batch_of(found_in(reply.SerializeToString()), schema(fields=()), None)
