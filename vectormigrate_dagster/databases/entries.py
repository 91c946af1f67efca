"""Objects as protobuf sends them, `map<string, Value>`: read from the octets themselves and written as such.

A client makes one Python object for each message, which are two or more for each value. Here the usual forms are read
where they lie. A `Value` is one of several fields, and its first octet says which; so a database needs no more than a
table of what reads and what writes each. Whatever has another form than the usual one is left to the client, both ways,
so that there is one opinion about what it means.

https://protobuf.dev/programming-guides/encoding/, of maps https://protobuf.dev/programming-guides/proto3/#backwards
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vectormigrate_dagster.databases.protobuf import VARINTS
from vectormigrate_dagster.model import Payload

FIRST, SECOND = 0x0A, 0x12
"""Fields 1 and 2 with counted octets: key and value of an entry, an entry of an object, an element of a list."""

MORE = 0x80
"""An octet from here on is not the last one of its number."""

_BITS = 70
"""Of the longest number, in octets of seven each."""

_unpack_double = struct.Struct("<d").unpack_from
_pack_double = struct.Struct("<Bd").pack
_REMEMBERED_KEYS = 100_000

Reader = Callable[[bytes, int, int, list[Any]], Any]
"""Reads a `Value`, of which the first octet was read before, from the second place to the third.

The list gets values that need another look, such as numbers that may have been other ones.
"""

Writer = Callable[[Any], bytes]
"""Writes a `Value`."""


class UnusualError(ValueError):
    """A form that the client is asked about."""


class UnfitError(ValueError):
    """A value that would not come back as it is; the message says which and why, of "its payload"."""


########################################################################
# In
########################################################################


def object_reader(
    readers: Mapping[int, Reader], by_client: Callable[[bytes, list[Any]], Payload]
) -> Callable[[Iterable[bytes], list[Any]], Payload]:
    """What makes an object of its entries.

    Args:
        readers: first octet of a value -> what reads it.
        by_client: makes the object of one entry that is not of the usual form.

    Returns:
        A function of the octets of entries, and of a list for values that need another look. It raises ValueError if
        they are no entries.
    """
    keys: dict[bytes, str] = {}  # beginnings of entries, up to the tag of the value

    def key_of(beginning: bytes) -> str:
        if (
            beginning[0] != FIRST
            or len(beginning) != beginning[1] + 3
            or beginning[1] >= MORE
            or beginning[-1] != SECOND
        ):
            raise UnusualError
        key = beginning[2:-1].decode()
        if len(keys) < _REMEMBERED_KEYS:
            keys[beginning] = key
        return key

    def object_of(entries: Iterable[bytes], noted: list[Any]) -> Payload:
        payload: Payload = {}
        for entry in entries:
            try:
                at = entry[1] + 3
                beginning, end = entry[:at], len(entry)
                key = keys.get(beginning) or key_of(beginning)
                # Mostly a size of one octet, for which no function is called.
                at = at + 1 if entry[at] < MORE and at + 1 + entry[at] == end else counted(entry, at, end)
                payload[key] = readers.get(entry[at], _unusual)(entry, at + 1, end, noted)
            except (UnusualError, IndexError):
                payload.update(by_client(entry, noted))
        return payload

    return object_of


def number(octets: bytes, at: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    value = octets[at]
    if value < MORE:
        return value, at + 1
    if (octet := octets[at + 1]) < MORE:
        return value & 0x7F | octet << 7, at + 2
    value = shift = 0
    while shift < _BITS:
        octet = octets[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < MORE:
            return value, at
        shift += 7
    raise UnusualError


def counted(octets: bytes, at: int, end: int) -> int:
    """Where octets begin whose number stands at `at`, if they reach to `end`."""
    size = octets[at]
    at += 1
    if size >= MORE:
        size, at = number(octets, at - 1)
    if at + size != end:
        raise UnusualError
    return at


def parts(octets: bytes, at: int, end: int, tag: int = FIRST) -> list[tuple[int, int]]:
    """Where the octets of each field behind `tag` begin and end, if there is nothing else from `at` to `end`."""
    found = []
    while at < end:
        if octets[at] != tag:
            raise UnusualError
        size = octets[at + 1]
        if size < MORE:
            at += 2
        else:
            size, at = number(octets, at + 1)
        found.append((at, at + size))
        at += size
    if at != end:
        raise UnusualError
    return found


def read_text(octets: bytes, at: int, end: int, _: list[Any]) -> str:
    """A text."""
    start = at + 1 if octets[at] < MORE and at + 1 + octets[at] == end else counted(octets, at, end)
    return octets[start:end].decode()


def read_int(octets: bytes, at: int, end: int, _: list[Any]) -> int:
    """An `int64`."""
    value, at = number(octets, at)
    if at != end or value >= 2**64:
        raise UnusualError
    return value if value < 2**63 else value - 2**64


def read_double(octets: bytes, at: int, end: int, _: list[Any]) -> float:
    """A `double`."""
    if at + 8 != end:
        raise UnusualError
    double: float = _unpack_double(octets, at)[0]
    return double


def read_bool(octets: bytes, at: int, end: int, _: list[Any]) -> bool:
    """A `bool`."""
    if at + 1 != end or octets[at] > 1:
        raise UnusualError
    return octets[at] == 1


def read_null(octets: bytes, at: int, end: int, _: list[Any]) -> None:
    """The only value of the enumeration `NullValue`."""
    if at + 1 != end or octets[at] != 0:
        raise UnusualError


def list_reader(readers: Mapping[int, Reader]) -> Reader:
    """What reads a message with values in its field 1."""

    def read(octets: bytes, at: int, end: int, noted: list[Any]) -> list[Any]:
        values = []
        for start, stop in parts(octets, counted(octets, at, end), end):
            if start == stop:
                raise UnusualError
            values.append(readers.get(octets[start], _unusual)(octets, start + 1, stop, noted))
        return values

    return read


def nested_reader(object_of: Callable[[Iterable[bytes], list[Any]], Payload]) -> Reader:
    """What reads a message with the entries of an object in its field 1."""

    def read(octets: bytes, at: int, end: int, noted: list[Any]) -> Payload:
        within = parts(octets, counted(octets, at, end), end)
        return object_of([octets[start:stop] for start, stop in within], noted)

    return read


def _unusual(_: bytes, __: int, ___: int, ____: list[Any]) -> Any:
    raise UnusualError


########################################################################
# Out
########################################################################

_SURROGATE = "its payload holds half of a surrogate pair"

_heads: dict[str, bytes] = {}
"""Key -> an entry up to the tag of its value."""


def object_writer(writers: Mapping[type, Writer], by_client: Writer) -> Callable[[Mapping[str, Any], bytes], bytes]:
    """What writes the entries of an object.

    Args:
        writers: type of a value -> what writes it.
        by_client: writes a value of any other type.

    Returns:
        A function of the object and of the tag that stands before each entry. It raises `UnfitError` if a value would
        not come back as it is.
    """

    def octets_of(fields: Mapping[str, Any], tag: bytes) -> bytes:
        pieces: list[bytes] = []
        for key, value in fields.items():
            head = _heads.get(key) or _head(key)
            octets = writers.get(type(value), by_client)(value)
            count = len(octets)
            size = VARINTS[count]
            pieces += (tag, VARINTS[len(head) + len(size) + count], head, size, octets)
        return b"".join(pieces)

    return octets_of


def _head(key: str) -> bytes:
    octets = text_octets(key)
    head = b"\x0a" + VARINTS[len(octets)] + octets + b"\x12"
    if len(octets) < MORE and len(_heads) < _REMEMBERED_KEYS:  # longer ones would take too much memory
        _heads[key] = head
    return head


def text_octets(text: str) -> bytes:
    """A text as UTF-8.

    Raises:
        UnfitError: it has no such form.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnfitError(_SURROGATE) from error


def text_writer(first: int) -> Writer:
    """What writes a text whose tag is the octet `first`."""
    tag = bytes((first,))

    def write(value: str) -> bytes:
        octets = text_octets(value)
        return tag + VARINTS[len(octets)] + octets

    return write


def double_octets(first: int, value: float) -> bytes:
    """A `double` behind the octet `first`."""
    return _pack_double(first, value)


def nested_writer(first: int, octets_of: Callable[[Mapping[str, Any], bytes], bytes]) -> Writer:
    """What writes an object as a message with its entries in field 1, whose tag is the octet `first`."""
    tag = bytes((first,))

    def write(value: Mapping[str, Any]) -> bytes:
        entries = octets_of(value, b"\x0a")
        return tag + VARINTS[len(entries)] + entries

    return write


def list_writer(first: int, writers: Mapping[type, Writer], by_client: Writer) -> Writer:
    """What writes a list as a message with values in field 1, whose tag is the octet `first`."""
    tag = bytes((first,))

    def write(values: Iterable[Any]) -> bytes:
        pieces: list[bytes] = []
        for value in values:
            octets = writers.get(type(value), by_client)(value)
            pieces += (b"\x0a", VARINTS[len(octets)], octets)
        inner = b"".join(pieces)
        return tag + VARINTS[len(inner)] + inner

    return write
