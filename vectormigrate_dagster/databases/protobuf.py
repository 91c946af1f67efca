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

_FIELD_1 = b"\x0a"
"""The tag of field 1, length-delimited."""

Fields = Mapping[str, str]
"""Name of a field -> what it holds and its number, in the words of a .proto file: "repeated bytes = 2".

As in proto2 a field that is not repeated knows whether it was there.
"""


def messages(package: str, declared: Mapping[str, Fields]) -> dict[str, Any]:
    """Make message classes by name; each message in its own terms, as a .proto file would say it.

    There is no generated code, which would demand the version of protobuf that it was generated for.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, fields in declared.items():
        message = file.message_type.add(name=name)
        for field_name, words in fields.items():
            *label, kind, _, number = words.split()
            field = message.field.add(name=field_name, number=int(number), label=_LABELS["".join(label)])
            if kind in declared:
                field.type, field.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    made = pool.Add(file) or pool.FindFileByName(file.name)
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
    except (DecodeError, ValueError, IndexError, RecursionError) as error:
        raise DatabaseError(
            f"the server's answer cannot be read ({what}): {error}; nothing was taken from it"
        ) from error


def floats_of(message: Any) -> npt.NDArray[np.float32]:
    """The numbers of a message that holds nothing but `data`: float32 (n,), a view of its wire form."""
    count = len(message.data)
    wire = message.SerializeToString()
    return np.frombuffer(wire, dtype=FLOATS, count=count, offset=len(wire) - FLOATS.itemsize * count)


def set_floats(message: Any, values: npt.NDArray[np.float32]) -> None:
    """Make `values`, of any shape, the `data` of a message."""
    packed = np.ascontiguousarray(values, dtype=FLOATS).tobytes()
    message.ParseFromString(_FIELD_1 + varint(len(packed)) + packed)


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
