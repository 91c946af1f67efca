"""Payloads between Python's values and the octets of `qdrant.Value` messages.

The official client makes one Python object for each message, which are two for each value and one more for each object
or list: 21 us for a payload of five fields, there and back. Here the usual forms are read from the octets themselves
and written as such, in about a third of the time. Whatever has another form than the usual one is left to the client,
both ways, so that there is one opinion about what it means.

The messages are in json_with_int.proto of the client; their wire form is told by
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vectormigrate_dagster.databases.protobuf import VARINTS, varint
from vectormigrate_dagster.model import Payload

# The first octet of a `Value`: the number of its field and how that is written.
_NULL, _DOUBLE, _INT, _TEXT, _BOOL, _OBJECT, _LIST = 0x08, 0x11, 0x18, 0x22, 0x28, 0x32, 0x3A
_FIRST, _SECOND = 0x0A, 0x12
"""Fields 1 and 2 with counted octets: key and value of an entry, an entry of an object, an element of a list."""

_MORE = 0x80
"""An octet from here on is not the last one of its number."""

_BITS = 70
"""Of the longest number, in octets of seven each."""

_UNSIGNED = (2.0**63, 2.0**64)
"""Least and largest double that an integer from 2^63 to 2^64 - 1 may have become."""

_unpack_double = struct.Struct("<d").unpack_from
_pack_double = struct.Struct("<Bd").pack
_REMEMBERED_KEYS = 100_000


class _UnusualError(ValueError):
    """A form that the client is asked about."""


class UnfitError(ValueError):
    """A value that would not come back as it is; the message says which and why, of "its payload"."""


########################################################################
# In
########################################################################

_keys: dict[bytes, str] = {}
"""Beginnings of entries, up to the tag of the value -> key."""


def payload_of(entries: Iterable[bytes], large: list[float]) -> Payload:
    """The payload whose entries (`map<string, Value>`) these are.

    Args:
        entries: their octets.
        large: gets every double that an integer above 2^63 - 1 may have become.

    Raises:
        ValueError: they are no entries; what the client says of them.
    """
    payload: Payload = {}
    for entry in entries:
        try:
            at = entry[1] + 3
            beginning, end = entry[:at], len(entry)
            key = _keys.get(beginning) or _key(beginning)
            # Mostly a size of one octet, for which no function is called.
            at = at + 1 if entry[at] < _MORE and at + 1 + entry[at] == end else _counted(entry, at, end)
            payload[key] = _READERS.get(entry[at], _unusual)(entry, at + 1, end, large)
        except (_UnusualError, IndexError):
            payload.update(_payload_by_client(entry, large))
    return payload


def _key(beginning: bytes) -> str:
    if (
        beginning[0] != _FIRST
        or len(beginning) != beginning[1] + 3
        or beginning[1] >= _MORE
        or beginning[-1] != _SECOND
    ):
        raise _UnusualError
    key = beginning[2:-1].decode()
    if len(_keys) < _REMEMBERED_KEYS:
        _keys[beginning] = key
    return key


def _number(octets: bytes, at: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    number = shift = 0
    while shift < _BITS:
        octet = octets[at]
        at += 1
        number |= (octet & 0x7F) << shift
        if octet < _MORE:
            return number, at
        shift += 7
    raise _UnusualError


def _counted(octets: bytes, at: int, end: int) -> int:
    """Where octets begin whose number stands at `at`, if they reach to `end`."""
    size = octets[at]
    at += 1
    if size >= _MORE:
        size, at = _number(octets, at - 1)
    if at + size != end:
        raise _UnusualError
    return at


# What reads a `Value`, of which the first octet was read before, from `at` to `end`.


def _read_text(octets: bytes, at: int, end: int, _: list[float]) -> str:
    start = at + 1 if octets[at] < _MORE and at + 1 + octets[at] == end else _counted(octets, at, end)
    return octets[start:end].decode()


def _read_int(octets: bytes, at: int, end: int, _: list[float]) -> int:
    number, at = _number(octets, at)
    if at != end or number >= 2**64:
        raise _UnusualError
    return number if number < 2**63 else number - 2**64


def _read_double(octets: bytes, at: int, end: int, large: list[float]) -> float:
    if at + 8 != end:
        raise _UnusualError
    double: float = _unpack_double(octets, at)[0]
    if _UNSIGNED[0] <= double <= _UNSIGNED[1]:
        large.append(double)
    return double


def _read_bool(octets: bytes, at: int, end: int, _: list[float]) -> bool:
    if at + 1 != end or octets[at] > 1:
        raise _UnusualError
    return octets[at] == 1


def _read_null(octets: bytes, at: int, end: int, _: list[float]) -> None:
    if at + 1 != end or octets[at] != 0:
        raise _UnusualError


def _read_list(octets: bytes, at: int, end: int, large: list[float]) -> list[Any]:
    parts = _parts(octets, _counted(octets, at, end), end)
    return [_READERS.get(octets[start], _unusual)(octets, start + 1, stop, large) for start, stop in parts]


def _read_object(octets: bytes, at: int, end: int, large: list[float]) -> Payload:
    parts = _parts(octets, _counted(octets, at, end), end)
    return payload_of([octets[start:stop] for start, stop in parts], large)


def _unusual(_: bytes, __: int, ___: int, ____: list[float]) -> Any:
    raise _UnusualError


_READERS: dict[int, Callable[[bytes, int, int, list[float]], Any]] = {
    _NULL: _read_null,
    _DOUBLE: _read_double,
    _INT: _read_int,
    _TEXT: _read_text,
    _BOOL: _read_bool,
    _OBJECT: _read_object,
    _LIST: _read_list,
}


def _parts(octets: bytes, at: int, end: int) -> list[tuple[int, int]]:
    """Where the octets of each field 1 begin and end, if there is nothing else from `at` to `end`."""
    parts = []
    while at < end:
        if octets[at] != _FIRST:
            raise _UnusualError
        size = octets[at + 1]
        if size < _MORE:
            at += 2
        else:
            size, at = _number(octets, at + 1)
        if size == 0:
            raise _UnusualError
        parts.append((at, at + size))
        at += size
    if at != end:
        raise _UnusualError
    return parts


def _payload_by_client(entry: bytes, large: list[float]) -> Payload:
    """What the client makes of one entry.

    Raises:
        ValueError: nothing.
    """
    from google.protobuf.message import DecodeError
    from qdrant_client.conversions.conversion import grpc_to_payload
    from qdrant_client.grpc import json_with_int_pb2

    try:
        message = json_with_int_pb2.Struct.FromString(bytes((_FIRST,)) + varint(len(entry)) + entry)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    payload: Payload = grpc_to_payload(message.fields)
    _note_large(payload, large)
    return payload


def _note_large(value: Any, large: list[float]) -> None:
    if type(value) is float and _UNSIGNED[0] <= value <= _UNSIGNED[1]:
        large.append(value)
    elif type(value) is dict or type(value) is list:
        for inner in value.values() if type(value) is dict else value:
            _note_large(inner, large)


########################################################################
# Out
########################################################################

_heads: dict[str, bytes] = {}
"""Key -> an entry up to the tag of its value."""

_SURROGATE = "its payload holds half of a surrogate pair"

_PAYLOAD = b"\x1a"
"""The tag of a point's `payload`."""


def payload_octets(payload: Payload) -> bytes:
    """The field `payload` of a `PointStruct`.

    Raises:
        UnfitError: a value would not come back as it is.
    """
    return _entries(payload, _PAYLOAD)


def _entries(fields: Mapping[str, Any], tag: bytes) -> bytes:
    """Entries of a map, each of which begins with `tag`."""
    parts: list[bytes] = []
    for key, value in fields.items():
        head = _heads.get(key) or _head(key)
        octets = _WRITERS.get(type(value), _octets_by_client)(value)
        count = len(octets)
        size = VARINTS[count]
        parts += (tag, VARINTS[len(head) + len(size) + count], head, size, octets)
    return b"".join(parts)


def _head(key: str) -> bytes:
    try:
        octets = key.encode()
    except UnicodeEncodeError as error:
        raise UnfitError(_SURROGATE) from error
    head = bytes((_FIRST,)) + VARINTS[len(octets)] + octets + bytes((_SECOND,))
    if len(_heads) < _REMEMBERED_KEYS:
        _heads[key] = head
    return head


def _text_value(value: str) -> bytes:
    try:
        octets = value.encode()
    except UnicodeEncodeError as error:
        raise UnfitError(_SURROGATE) from error
    return b'"' + VARINTS[len(octets)] + octets


def _int_value(value: int) -> bytes:
    if not -(2**63) <= value < 2**63:
        raise UnfitError(f"its payload holds {value}, an integer out of the range that can be sent")
    return b"\x18" + VARINTS[value & 0xFFFF_FFFF_FFFF_FFFF]


def _float_value(value: float) -> bytes:
    if not math.isfinite(value):
        raise UnfitError(f"its payload holds {value}, which JSON has no number for")
    return _pack_double(_DOUBLE, value)


def _list_value(values: list[Any]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        octets = _WRITERS.get(type(value), _octets_by_client)(value)
        parts += (b"\x0a", VARINTS[len(octets)], octets)
    inner = b"".join(parts)
    return b"\x3a" + VARINTS[len(inner)] + inner


def _object_value(value: dict[str, Any]) -> bytes:
    fields = _entries(value, b"\x0a")
    return b"\x32" + VARINTS[len(fields)] + fields


def _octets_by_client(value: Any) -> bytes:
    """A value of a type of its own, such as numpy's, as the client writes it."""
    from qdrant_client.conversions.conversion import json_to_value

    octets: bytes = json_to_value(value).SerializeToString()
    return octets


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    str: _text_value,
    int: _int_value,
    float: _float_value,
    bool: lambda value: b"\x28\x01" if value else b"\x28\x00",
    type(None): lambda _: b"\x08\x00",
    list: _list_value,
    dict: _object_value,
}
