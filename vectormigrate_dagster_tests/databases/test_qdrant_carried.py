"""Payloads that go from Qdrant to Qdrant in the octets that they came in are those that the decoded way sends.

The official client is the judge of both: whatever a server answers, damaged answers included, the request that the raw
way makes holds the records that the client reads in the answer, or there is an error. What the decoded way cannot read
or send, the raw way does not send either.
"""

from __future__ import annotations

import struct
import sys
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_client.conversions.conversion import grpc_to_payload

from vectormigrate_dagster.databases.qdrant.point_reading import batch_of, points_of
from vectormigrate_dagster.databases.qdrant.point_writing import requests
from vectormigrate_dagster.databases.qdrant.values import FORM, are_usual, payload_octets, retagged
from vectormigrate_dagster.errors import DatabaseError, InvalidRecord
from vectormigrate_dagster.model import Batch, Dense, EncodedPayloads, IdColumn, IdKind, octets_in
from vectormigrate_dagster_tests.databases.test_wire_forms import (
    CHANGES,
    CUTS,
    DENSE,
    NO_LIMITS,
    PAGE,
    PAYLOADS,
    VALUES,
    VECTORS,
    by_the_client,
    damaged,
    exactly,
    only_dense,
    qdrant_batch,
    scrolled,
)


def read(answer: bytes, kind: IdKind = IdKind.U64, vectors: Any = DENSE) -> Batch:
    points, _ = points_of(answer, "ScrollResponse", vectors)
    return batch_of(points, kind, None, vectors)


def sent(batch: Batch) -> bytes:
    (points,) = requests(batch, NO_LIMITS, "here")
    return b"".join(points)


def told(request: bytes) -> list[tuple[Any, str, bytes]]:
    """What the client reads in a request."""
    return [
        (
            uuid.UUID(point.id.uuid) if point.id.WhichOneof("point_id_options") == "uuid" else point.id.num,
            exactly([grpc_to_payload(point.payload)]),
            point.vectors.SerializeToString(deterministic=True),
        )
        for point in grpc.UpsertPoints.FromString(request).points
    ]


@settings(deadline=None)
@given(
    st.lists(PAYLOADS, min_size=1, max_size=4), st.sampled_from([IdKind.U64, IdKind.UUID]), st.booleans(), st.booleans()
)
def test_the_raw_way_sends_what_the_decoded_way_sends(
    payloads: list[dict[str, Any]], kind: IdKind, several: bool, missing: bool
) -> None:
    batch = qdrant_batch(payloads, kind, missing=missing and several)
    vectors = VECTORS if several else DENSE
    if not several:
        batch = Batch(batch.ids, None, {"dense": batch.vectors["dense"]}, payloads)
    carried = read(scrolled(batch), kind, vectors)
    octets = octets_in(FORM, carried.payloads)
    assert octets is not None
    assert told(sent(carried)) == told(sent(carried.decoded())) == told(sent(batch))


_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 1000),
    st.integers(-800, 800).map(lambda eighths: eighths / 8),
    st.text("abc xyz é日本", max_size=300),
)
_ORDINARY = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("key", min_size=1), inner, max_size=4)
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text("key", min_size=1), _ORDINARY, max_size=4), max_size=4))
def test_ordinary_payloads_are_usual(payloads: list[dict[str, Any]]) -> None:
    assert are_usual([payload_octets(payload) for payload in payloads])


def test_a_page_of_ordinary_records_is_carried() -> None:
    """Else every assertion here could hold because nothing ever is."""
    batch = read(only_dense(PAGE))
    octets = octets_in(FORM, batch.payloads)
    assert octets is not None
    assert are_usual(octets)
    assert all(payload in sent(batch) for payload in octets)


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUTS)
def test_damaged_points_are_sent_as_the_client_reads_them_or_not_at_all(changes: Any, cut: float) -> None:
    answer = damaged(only_dense(PAGE), changes, cut)
    try:
        batch = read(answer)
        request = sent(batch)
    except (DatabaseError, InvalidRecord):
        return
    client = by_the_client(answer, 2)
    assert client is not None, "the client finds no records in it"
    ids, _, vectors = client
    written = told(request)
    points = grpc.ScrollResponse.FromString(answer).result
    assert [each[0] for each in written] == ids
    assert [each[1] for each in written] == [exactly([grpc_to_payload(point.payload)]) for point in points]
    assert batch.vectors["dense"].values.tobytes() == vectors
    assert written == told(sent(batch.decoded()))


DAMAGED_VALUES = {
    "no kind": b"",
    "a kind that there is not": b"\x48\x01",
    "a kind that there is not beside one": b"\x48\x01\x18\x01",
    "two kinds": b"\x28\x01\x18\x01",
    "half of a double": b"\x11\0\0\0",
    "a text that is no UTF-8": b"\x22\x01\xff",
    "an empty value in a list": b"\x3a\x02\x0a\x00",
    "an unknown value in a list": b"\x3a\x04\x0a\x02\x48\x01",
    "an entry without a value": b"\x32\x05\x0a\x03\x0a\x01k",
    "not a number": b"\x11" + struct.pack("<d", float("nan")),
    "infinity": b"\x11" + struct.pack("<d", float("-inf")),
    "a long zero": b"\x18\x80\x00",
}


@pytest.mark.parametrize("value", DAMAGED_VALUES.values(), ids=DAMAGED_VALUES)
def test_an_unusual_value_is_never_carried(value: bytes) -> None:
    entry = b"\x0a\x01k\x12" + bytes((len(value),)) + value
    octets = b"\x1a" + bytes((len(entry),)) + entry
    assert not are_usual([payload_octets({"a": 1}), octets])
    batch = Batch(
        IdColumn.of(IdKind.U64, [1]),
        None,
        {"dense": Dense(np.ones((1, 2), np.float32))},
        EncodedPayloads(FORM, [octets]),
    )
    try:
        whole = told(sent(batch))
    except (DatabaseError, InvalidRecord):
        return
    point = grpc.PointStruct.FromString(octets)
    assert [each[1] for each in whole] == [exactly([grpc_to_payload(point.payload)])]


@settings(deadline=None, max_examples=200)
@given(st.lists(PAYLOADS, min_size=1, max_size=4), CHANGES)
def test_entries_are_retagged_as_messages_say_or_left_to_them(payloads: list[dict[str, Any]], changes: Any) -> None:
    points = [grpc.RetrievedPoint(id=grpc.PointId(num=i)) for i in range(len(payloads))]
    octets = [
        point.SerializeToString() + _read_entries(payload) for point, payload in zip(points, payloads, strict=True)
    ]
    page = bytearray(b"".join(octets))
    ends = np.cumsum([len(each) for each in octets]).tolist()
    begins = [0, *ends[:-1]]
    assume(max(map(len, octets)) < 2**14)
    assert retagged(bytes(page), begins, ends) == [payload_octets(payload) for payload in payloads]
    torn = damaged(bytes(page), changes, 1.0)
    made = retagged(torn, begins, ends)
    if made is None:
        return
    for begin, end, found in zip(begins, ends, made, strict=True):
        # Every field of the point but its id is an entry that was found, in its place.
        skipped = 2 + torn[begin + 1]
        assert len(found) == end - begin - skipped
        assert [field[0] for field in _fields(found)] == [0x1A] * len(_fields(found))
        assert [field[1:] for field in _fields(found)] == [field[1:] for field in _fields(torn[begin + skipped : end])]


def _read_entries(payload: dict[str, Any]) -> bytes:
    """The field `payload` of a `RetrievedPoint`, in the payload's order."""
    return b"".join(b"\x12" + field[1:] for field in _fields(payload_octets(payload)))


def _fields(octets: bytes) -> list[bytes]:
    fields, at = [], 0
    while at < len(octets):
        begin, size, shift = at, 0, 0
        at += 1
        while True:
            size |= (octets[at] & 0x7F) << shift
            shift += 7
            at += 1
            if octets[at - 1] < 0x80:
                break
        at += size
        fields.append(octets[begin:at])
    assert at == len(octets)
    return fields


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=6), st.data())
def test_encoded_payloads_are_as_good_as_a_list(payloads: list[dict[str, Any]], data: st.DataObject) -> None:
    encoded = EncodedPayloads(FORM, [payload_octets(payload) for payload in payloads])
    assert len(encoded) == len(payloads)
    assert encoded == payloads
    assert list(reversed(encoded)) == payloads[::-1]
    start, stop = data.draw(st.integers(-7, 7)), data.draw(st.integers(-7, 7))
    assert encoded[start:stop] == payloads[start:stop]
    if payloads:
        rows = data.draw(st.lists(st.integers(0, len(payloads) - 1), max_size=5))
        assert encoded.take(rows) == [payloads[row] for row in rows]
        assert encoded[-1] == payloads[-1]
    for key in {key for payload in payloads for key in payload}:
        assert encoded.may_hold(key)


def test_a_batch_does_not_keep_the_page_that_it_was_read_from() -> None:
    answer = only_dense(PAGE)
    before = sys.getrefcount(answer)
    batch = read(answer)
    assert sys.getrefcount(answer) == before
    assert exactly(batch.payloads) == exactly(PAGE)
