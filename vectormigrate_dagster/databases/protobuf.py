"""Packed floats of protobuf messages as arrays, without a Python number in between.

A message whose field 1 is `repeated float data` is, on the wire, a short header and the numbers as little-endian
float32: https://protobuf.dev/programming-guides/encoding/#packed
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_FLOATS = np.dtype("<f4")
_FIELD_1 = b"\x0a"
"""The tag of field 1, length-delimited."""


def floats_of(message: Any) -> npt.NDArray[np.float32]:
    """The numbers of a message that holds nothing but `data`: float32 (n,), a view of its wire form."""
    count = len(message.data)
    wire = message.SerializeToString()
    return np.frombuffer(wire, dtype=_FLOATS, count=count, offset=len(wire) - _FLOATS.itemsize * count)


def set_floats(message: Any, values: npt.NDArray[np.float32]) -> None:
    """Make `values`, of any shape, the `data` of a message."""
    packed = np.ascontiguousarray(values, dtype=_FLOATS).tobytes()
    message.ParseFromString(_FIELD_1 + _varint(len(packed)) + packed)


def _varint(number: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
