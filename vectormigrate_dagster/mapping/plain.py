"""Payloads of which a look at each value proves that any limit but the given ones is kept, without writing JSON."""

from __future__ import annotations

from vectormigrate_dagster.model import Payload

_TEXT_BYTES = 6
"""Most that a character of ASCII takes in JSON: a control character is written \\u0000."""

_NUMBER_BYTES = 26
"""More than an int of 64 bits, a float, a truth value or null takes in JSON, with a comma."""


def is_plain(payload: Payload, *, min_int: int, max_int: int, max_bytes: int | None) -> bool:
    """Whether a payload holds only ASCII texts, 64-bit ints, finite floats, truth values, null and lists of these.

    False says nothing: it may be within all limits as well.

    Args:
        min_int, max_int: the least and the greatest int that is possible.
        max_bytes: what it must not exceed as JSON; None is no limit.
    """
    size = 2
    for key, value in payload.items():
        kind = type(value)
        if kind is str:
            if not value.isascii():
                return False
            size += _TEXT_BYTES * len(value)
        elif kind is list:
            for element in value:
                kind = type(element)
                if kind is str and element.isascii():
                    size += _TEXT_BYTES * len(element)
                elif not (
                    (kind is int and min_int <= element <= max_int)
                    or (kind is float and element - element == 0)
                    or kind is bool
                    or element is None
                ):
                    return False
            size += _NUMBER_BYTES * len(value)
        elif not (
            (kind is int and min_int <= value <= max_int)
            or (kind is float and value - value == 0)  # neither NaN nor infinite
            or kind is bool
            or value is None
        ):
            return False
        if not key.isascii():
            return False
        size += _TEXT_BYTES * len(key) + _NUMBER_BYTES
    return max_bytes is None or size <= max_bytes
