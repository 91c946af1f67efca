"""Objects as Weaviate's gRPC replies hold them, with properties read from the octets themselves.

Replies are read by messages of our own, in which the entries of an object are octets; what is not of the usual form is
read by the official messages (`values.payload_of`). The messages are in search_get.proto and properties.proto of the
client.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from vectormigrate_dagster.databases.entries import (
    FIRST,
    Reader,
    UnusualError,
    counted,
    nested_reader,
    object_reader,
    parts,
    read_bool,
    read_double,
    read_int,
    read_null,
    read_text,
)
from vectormigrate_dagster.databases.protobuf import messages, readable, varint
from vectormigrate_dagster.databases.weaviate.integers import SPOILT, is_doubtful
from vectormigrate_dagster.databases.weaviate.values import values_of
from vectormigrate_dagster.model import Payload


class Found(NamedTuple):
    """An object as it was read.

    Args:
        metadata: a `MetadataResult`: its id and vectors.
        doubtful: whether an integer of the payload may be another one.
    """

    metadata: Any
    payload: Payload
    doubtful: bool


@cache
def _search_reply() -> Any:
    """Every field that the official messages have, so that a damaged one is not taken for one that is unknown."""
    from weaviate.proto.v1 import search_get_pb2

    made = messages(
        "vectormigrate.weaviate",
        {
            "Entries": {"entries": "repeated bytes = 1"},
            "PropertiesResult": {
                "non_ref_properties": "google.protobuf.Struct = 1",
                "ref_props": "repeated weaviate.v1.RefPropertiesResult = 2",
                "target_collection": "string = 3",
                "metadata": "weaviate.v1.MetadataResult = 4",
                "number_array_properties": "repeated weaviate.v1.NumberArrayProperties = 5",
                "int_array_properties": "repeated weaviate.v1.IntArrayProperties = 6",
                "text_array_properties": "repeated weaviate.v1.TextArrayProperties = 7",
                "boolean_array_properties": "repeated weaviate.v1.BooleanArrayProperties = 8",
                "object_properties": "repeated weaviate.v1.ObjectProperties = 9",
                "object_array_properties": "repeated weaviate.v1.ObjectArrayProperties = 10",
                "non_ref_props": "Entries = 11",
                "ref_props_requested": "bool = 12",
            },
            "SearchResult": {
                "properties": "PropertiesResult = 1",
                "metadata": "weaviate.v1.MetadataResult = 2",
                "generative": "weaviate.v1.GenerativeResult = 3",
            },
            "SearchReply": {
                "took": "float = 1",
                "results": "repeated SearchResult = 2",
                "generative_grouped_result": "string = 3",
                "group_by_results": "repeated weaviate.v1.GroupByResult = 4",
                "generative_grouped_results": "weaviate.v1.GenerativeResult = 5",
            },
        },
        search_get_pb2.SearchReply.DESCRIPTOR.file,
    )
    return made["SearchReply"]


def found_in(reply: bytes) -> list[Found]:
    """The objects of a `SearchReply`, in its order, without references.

    Raises:
        DatabaseError: it cannot be read.
    """
    with readable("objects of weaviate"):
        objects: list[Found] = []
        noted: list[int] = []
        for result in _search_reply().FromString(reply).results:
            payload = _object_of(result.properties.non_ref_props.entries, noted)
            # A server says null of every property that an object does not have.
            if None in payload.values():
                payload = {name: value for name, value in payload.items() if value is not None}
            objects.append(Found(result.metadata, payload, bool(noted)))
            noted.clear()
        return objects


def _by_client(entry: bytes, noted: list[int]) -> Payload:
    """What the official messages say of one entry.

    Raises:
        ValueError: nothing.
    """
    from google.protobuf.message import DecodeError
    from weaviate.proto.v1 import properties_pb2

    try:
        message = properties_pb2.Properties.FromString(bytes((FIRST,)) + varint(len(entry)) + entry)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    values = values_of(message)
    if is_doubtful(values):
        noted.append(0)
    return values


def _read_int(octets: bytes, at: int, end: int, noted: list[int]) -> int:
    value = read_int(octets, at, end, noted)
    if value in SPOILT:
        noted.append(value)
    return value


def _read_list(octets: bytes, at: int, end: int, noted: list[int]) -> list[Any]:
    """A `ListValue`: one of several messages, all of which have their values in field 1."""
    at = counted(octets, at, end)
    values = parts(octets, counted(octets, at + 1, end), end)
    kind = octets[at]
    if kind in _TEXTS:
        return [octets[start:stop].decode() for start, stop in values]
    if kind not in _PACKED or len(values) != 1:
        raise UnusualError
    start, stop = values[0]
    numbers: list[Any] = np.frombuffer(octets[start:stop], dtype=_PACKED[kind]).tolist()
    if kind == _INTS and is_doubtful(numbers):
        noted.append(0)
    return numbers


_INTS = 0x3A
_PACKED = {0x12: np.dtype("<f8"), _INTS: np.dtype("<i8")}
_TEXTS = frozenset({0x2A, 0x32, 0x42})
"""Dates, UUIDs and texts."""

_READERS: dict[int, Reader] = {
    0x09: read_double,
    0x18: read_bool,
    0x2A: _read_list,
    0x32: read_text,  # a date
    0x3A: read_text,  # a UUID
    0x40: _read_int,
    0x52: read_text,  # a blob
    0x60: read_null,
    0x6A: read_text,
}
"""The first octet of a `Value`: the number of its field and how that is written."""

_object_of = object_reader(_READERS, _by_client)
_READERS[0x22] = nested_reader(_object_of)
