"""Payloads between Python's values and the octets of `qdrant.Value` messages.

The official client makes one Python object for each message, which are two for each value and one more for each object
or list: 21 us for a payload of five fields, there and back. Here the usual forms are read from the octets themselves
and written as such (`entries`), in about a third of the time; and a payload that is not looked at stays as it came.

The messages are in json_with_int.proto of the client.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.entries import (
    FIRST,
    Reader,
    UnfitError,
    Writer,
    double_octets,
    list_reader,
    list_writer,
    nested_reader,
    nested_writer,
    object_reader,
    object_writer,
    parts,
    read_bool,
    read_double,
    read_int,
    read_null,
    read_text,
    text_writer,
)
from vectormigrate_dagster.databases.protobuf import VARINTS, readable, varint
from vectormigrate_dagster.model import Payload, PayloadForm

# The first octet of a `Value`: the number of its field and how that is written.
_NULL, _DOUBLE, _INT, _TEXT, _BOOL, _OBJECT, _LIST = 0x08, 0x11, 0x18, 0x22, 0x28, 0x32, 0x3A

_UNSIGNED = (2.0**63, 2.0**64)
"""Least and largest double that an integer from 2^63 to 2^64 - 1 may have become."""

_LARGE = re.compile(rb"\x11.{6}[\xe0-\xf0]\x43", re.DOTALL)
"""Where such a double may stand; every one is found."""

_NO_NUMBER = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""Where a double may stand that is NaN or infinite; every one is found."""

_EMPTY = re.compile(rb"\x00(?<=[\x0a\x12]\x00)(?:[\x0a\x1a]|$)")
"""Where a `Value` may stand, in a list or in an entry, that holds nothing; every one is found, with what follows it."""

PAYLOAD = b"\x1a"
"""The tag of `payload` in a `PointStruct`."""

_ID, _READ_PAYLOAD = 0x0A, 0x12
"""The tags of `id` and `payload` in a `RetrievedPoint`."""

_POINT = b"\x1a"
"""The tag of a point in `UpsertPoints`."""


########################################################################
# In
########################################################################


def payload_of(octets: bytes) -> Payload:
    """The payload that a field `payload` of a `PointStruct` holds.

    Raises:
        DatabaseError: it holds none.
    """
    try:
        return _payload_of(_entries_of(octets), [])
    except Exception:
        with readable("a payload of qdrant"):  # not around all, as entering it costs a third of the reading
            raise


FORM = PayloadForm("payload of a Qdrant point", payload_of)


def is_rounded(octets: bytes) -> bool:
    """Whether a number may have been an integer above 2^63 - 1, of which a message makes a double.

    Raises:
        ValueError: they are no payload; what the client says of them.
    """
    large: list[Any] = []
    if _LARGE.search(octets):
        _payload_of(_entries_of(octets), large)
    return bool(large)


def _entries_of(octets: bytes) -> list[bytes]:
    return [octets[start:stop] for start, stop in parts(octets, 0, len(octets), PAYLOAD[0])]


def _payload_by_client(entry: bytes, large: list[Any]) -> Payload:
    """What the client makes of one entry.

    Raises:
        ValueError: nothing.
    """
    from google.protobuf.message import DecodeError
    from qdrant_client.conversions.conversion import grpc_to_payload
    from qdrant_client.grpc import json_with_int_pb2

    try:
        message = json_with_int_pb2.Struct.FromString(bytes((FIRST,)) + varint(len(entry)) + entry)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    payload: Payload = grpc_to_payload(message.fields)
    _note_large(payload, large)
    return payload


def _note_large(value: Any, large: list[Any]) -> None:
    if type(value) is float and _UNSIGNED[0] <= value <= _UNSIGNED[1]:
        large.append(value)
    elif type(value) is dict or type(value) is list:
        for inner in value.values() if type(value) is dict else value:
            _note_large(inner, large)


def _read_double(octets: bytes, at: int, end: int, large: list[Any]) -> float:
    double = read_double(octets, at, end, large)
    if _UNSIGNED[0] <= double <= _UNSIGNED[1]:
        large.append(double)
    return double


_READERS: dict[int, Reader] = {
    _NULL: read_null,
    _DOUBLE: _read_double,
    _INT: read_int,
    _TEXT: read_text,
    _BOOL: read_bool,
}
_payload_of = object_reader(_READERS, _payload_by_client)
_READERS |= {_OBJECT: nested_reader(_payload_of), _LIST: list_reader(_READERS)}


########################################################################
# Out
########################################################################


def payload_octets(payload: Payload) -> bytes:
    """The field `payload` of a `PointStruct`.

    Raises:
        UnfitError: a value would not come back as it is.
    """
    return _octets_of(payload, PAYLOAD)


def entries_octets(entries: Iterable[bytes]) -> bytes:
    """The same of entries that were read."""
    return b"".join([piece for entry in entries for piece in (PAYLOAD, VARINTS[len(entry)], entry)])


def retagged(points: bytes, begins: Sequence[int], ends: Sequence[int]) -> list[bytes] | None:
    """The same of points that were read; None unless each is an id and entries, none of which has 16 KiB.

    Entries have another tag where they are read, the same in every point. They are looked for in all points at a time:
    in the next one of each, then in that after it.

    Args:
        points: `RetrievedPoint` messages and what is around them.
        begins, ends: where each of them begins and ends; it ends after its entries.
    """
    octets = np.frombuffer(points + bytes(3), dtype=np.uint8).copy()  # no look is beyond the end
    at, end = np.asarray(begins, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    if (octets[at] != _ID).any() or (octets[at + 1] >= 0x80).any():
        return None
    at = at + 2 + octets[at + 1]
    starts = at.tolist()
    while len(at):
        left = at < end
        if (at > end).any() or (octets[at[left]] != _READ_PAYLOAD).any():
            return None
        at, end = at[left], end[left]
        octets[at] = PAYLOAD[0]
        size, more = octets[at + 1].astype(np.int64), octets[at + 2].astype(np.int64)
        long = size >= 0x80
        if (long & (more >= 0x80)).any():
            return None
        at += np.where(long, 3 + (size & 0x7F | more << 7), 2 + size)
    made = octets.tobytes()
    return [made[start:stop] for start, stop in zip(starts, ends, strict=True)]


def are_usual(payloads: Sequence[bytes]) -> bool:
    """Whether the client would read every value, and write it with as many octets, and all numbers are numbers.

    Then every part is known: without those that are not, there would be fewer octets. It is seldom False where it could
    be True.

    Args:
        payloads: of each point the octets of its field `payload`.
    """
    from google.protobuf.message import DecodeError
    from qdrant_client.grpc import UpsertPoints

    octets = b"".join([piece for payload in payloads for piece in (_POINT, VARINTS[len(payload)], payload)])
    try:
        message = UpsertPoints.FromString(octets)
    except DecodeError:
        return False
    message.DiscardUnknownFields()
    wire = message.SerializeToString()
    known = len(wire) == len(octets) and not _EMPTY.search(wire)
    return known and not _NO_NUMBER.search(octets)


def _int_value(value: int) -> bytes:
    if not -(2**63) <= value < 2**63:
        raise UnfitError(f"its payload holds {value}, an integer out of the range that can be sent")
    return b"\x18" + VARINTS[value & 0xFFFF_FFFF_FFFF_FFFF]


def _float_value(value: float) -> bytes:
    if not math.isfinite(value):
        raise UnfitError(f"its payload holds {value}, which JSON has no number for")
    return double_octets(_DOUBLE, value)


def _octets_by_client(value: Any) -> bytes:
    """A value of a type of its own, such as numpy's, as the client writes it."""
    from qdrant_client.conversions.conversion import json_to_value

    octets: bytes = json_to_value(value).SerializeToString()
    return octets


_WRITERS: dict[type, Writer] = {
    str: text_writer(_TEXT),
    int: _int_value,
    float: _float_value,
    bool: lambda value: b"\x28\x01" if value else b"\x28\x00",
    type(None): lambda _: b"\x08\x00",
}
_octets_of = object_writer(_WRITERS, _octets_by_client)
_WRITERS |= {dict: nested_writer(_OBJECT, _octets_of), list: list_writer(_LIST, _WRITERS, _octets_by_client)}
