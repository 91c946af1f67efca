"""Messages of our own for the wire form of other people's, and packed floats without a Python number in between.

On the wire a nested message, a text, packed numbers and bytes look the same: a tag, a length, and that many octets
(https://protobuf.dev/programming-guides/encoding/). So a message that says `bytes` where the official one says
`repeated float` reads and writes the same frames, and protobuf's C runtime hands the numbers over as they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.errors import DatabaseError

FLOATS = np.dtype("<f4")
"""Of packed `float` on the wire."""

Fields = Mapping[str, str]
"""Name of a field -> what it holds and its number, in the words of a .proto file: "repeated bytes = 2".

A field that is not repeated knows whether it was there.
"""


def messages(package: str, declared: Mapping[str, Fields], official: Any) -> dict[str, Any]:
    """Make message classes by name.

    There is no generated code, which would demand the version of protobuf that it was generated for. They are of the
    edition of 2023, in which texts are checked to be UTF-8 as the official messages check theirs.

    Args:
        package: what they belong to.
        declared: each message as a .proto file would say it. Types with a dot are messages of `official`.
        official: the descriptor of the file that holds the messages of which these are other views.
    """
    from google.protobuf import descriptor_pb2, message_factory

    edition = descriptor_pb2.EDITION_2023
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="editions", edition=edition
    )
    file.dependency.append(official.name)
    for name, fields in declared.items():
        message = file.message_type.add(name=name)
        for field_name, words in fields.items():
            *label, kind, _, number = words.split()
            field = message.field.add(name=field_name, number=int(number), label=_LABELS["".join(label)])
            if kind in declared or "." in kind:
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".{kind}" if "." in kind else f".{package}.{kind}"
            else:
                field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    made = official.pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(made.message_types_by_name[name]) for name in declared}


_LABELS = {"": 1, "repeated": 3}
"""`FieldDescriptorProto.Label`."""


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Have whatever is wrong with octets that are read in the block end in one error.

    Raises:
        DatabaseError: it does not; no record was made of them.
    """
    from google.protobuf.message import DecodeError

    try:
        yield
    except (DecodeError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise DatabaseError(
            f"the server's answer cannot be read ({what}): {error}; nothing was taken from it"
        ) from error


def floats_of(message: Any) -> npt.NDArray[np.float32]:
    """The numbers of a message that holds nothing but `data`: float32 (n,), a view of its wire form."""
    count = len(message.data)
    wire = message.SerializeToString()
    return np.frombuffer(wire, dtype=FLOATS, count=count, offset=len(wire) - FLOATS.itemsize * count)


def varint(number: int) -> bytes:
    """A number from 0 to 2^64 - 1: https://protobuf.dev/programming-guides/encoding/#varints."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


class _Varints(dict[int, bytes]):
    """Looked up and, the longer ones, made: most lengths are below 2^14, and a look-up costs less than a call."""

    def __missing__(self, number: int) -> bytes:
        return varint(number)


VARINTS = _Varints((number, varint(number)) for number in range(2**14))
"""Number -> its octets."""


def sized(tag: bytes, size: int) -> bytes:
    """What stands before `size` octets of a field: its tag and their number."""
    return tag + VARINTS[size]


def tag(number: int) -> bytes:
    """The tag of a field whose octets are counted (a message, a text, packed numbers)."""
    return varint(number << 3 | 2)


def fields_of(octets: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message from `start` to `end`: number, where its tag begins, where its octets begin and end.

    Fields whose octets are not counted (numbers) have number 0.

    Raises:
        ValueError: it is no message.
    """
    at = start
    while at < end:
        begins = at
        key, at = number_at(octets, at, end)
        kind = key & 7
        if key < 8:
            raise ValueError("a field has number 0, which there is not")
        if kind == 2:
            size, at = number_at(octets, at, end)
        elif kind == 0:
            size = number_at(octets, at, end)[1] - at
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"a field is of kind {kind}, which there is not")
        if at + size > end:
            raise ValueError("a field is longer than what it is part of")
        yield (key >> 3 if kind == 2 else 0), begins, at, at + size
        at += size


_FIXED = {1: 8, 5: 4}
"""Kind of a field -> its size: https://protobuf.dev/programming-guides/encoding/#structure."""


def number_at(octets: bytes, at: int, end: int) -> tuple[int, int]:
    """A number that begins at `at` and ends before `end`, and the place behind it.

    Raises:
        ValueError: it has no end.
    """
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        octet = octets[at]
        at += 1
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number, at
    raise ValueError("a number has no end")
