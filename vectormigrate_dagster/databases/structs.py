"""Payloads between Python's values and the octets of `google.protobuf.Struct`, which Pinecone and Weaviate take.

All of its numbers are doubles: https://protobuf.dev/reference/protobuf/google.protobuf/#value
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
    read_bool,
    read_double,
    read_null,
    read_text,
    text_writer,
)
from vectormigrate_dagster.databases.protobuf import varint
from vectormigrate_dagster.model import Payload

# The first octet of a `Value`: the number of its field and how that is written.
_NULL, _NUMBER, _TEXT, _BOOL, _OBJECT, _LIST = 0x08, 0x11, 0x1A, 0x20, 0x2A, 0x32


def struct_of(entries: Iterable[bytes]) -> Payload:
    """The object whose entries these are.

    Raises:
        ValueError: they are no entries; what protobuf says of them.
    """
    return _object_of(entries, [])


def struct_octets(fields: Mapping[str, Any], tag: bytes) -> bytes:
    """The entries of an object, each behind `tag`.

    Raises:
        UnfitError: a value has no such form.
    """
    return _octets_of(fields, tag)


def _by_client(entry: bytes, _: list[Any]) -> Payload:
    """What protobuf makes of one entry.

    Raises:
        ValueError: nothing.
    """
    from google.protobuf.message import DecodeError
    from google.protobuf.struct_pb2 import Struct

    try:
        message = Struct.FromString(bytes((FIRST,)) + varint(len(entry)) + entry)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return {key: _value_of(value) for key, value in message.fields.items()}


def _value_of(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    value = getattr(message, kind)
    if kind == "struct_value":
        return {key: _value_of(inner) for key, inner in value.fields.items()}
    return [_value_of(inner) for inner in value.values] if kind == "list_value" else value


_READERS: dict[int, Reader] = {_NULL: read_null, _NUMBER: read_double, _TEXT: read_text, _BOOL: read_bool}
_object_of = object_reader(_READERS, _by_client)
_READERS |= {_OBJECT: nested_reader(_object_of), _LIST: list_reader(_READERS)}


def _no_value(value: Any) -> bytes:
    raise UnfitError(f"its payload holds a {type(value).__name__}, which has no form to be sent in")


_WRITERS: dict[type, Writer] = {
    str: text_writer(_TEXT),
    bool: lambda value: b"\x20\x01" if value else b"\x20\x00",
    int: lambda value: double_octets(_NUMBER, float(value)),
    float: lambda value: double_octets(_NUMBER, value),
    type(None): lambda _: b"\x08\x00",
}
_octets_of = object_writer(_WRITERS, _no_value)
_WRITERS |= {dict: nested_writer(_OBJECT, _octets_of), list: list_writer(_LIST, _WRITERS, _no_value)}
