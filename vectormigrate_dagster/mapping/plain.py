"""Payloads of which a look at each value proves that the target's limits are kept, without writing JSON."""

from __future__ import annotations

import math

from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.model import Payload

_TEXT_BYTES = 6
"""Most that a character of ASCII takes in JSON: a control character is written \\u0000."""

_NUMBER_BYTES = 26
"""More than an int of 64 bits, a float, a truth value or null takes in JSON, with a comma."""

_REMEMBERED_KEYS = 100_000
_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "text": str, "null": type(None)}


class Plain:
    """What a plain payload of a target holds: ASCII texts, ints, finite floats, truth values, null, lists of these.

    Args:
        limits: of the target.
        restricted: its limits of types, keys and lists count; else JSON holds what does not fit.
    """

    def __init__(self, limits: Limits, *, restricted: bool) -> None:
        self._limits = limits
        self._restricted = restricted
        self._max_bytes = limits.max_bytes
        possible = {kind for name, kind in _TYPES.items() if name in limits.types or not restricted}
        elements = {_TYPES[name] for name in limits.list_elements or () if name in _TYPES}
        only = restricted and limits.list_elements is not None
        self._elements = frozenset(possible & elements if only else possible)
        self._types = frozenset(possible | ({list} if "list" in limits.types or not restricted else set()))
        self._signs = not restricted or limits.negative_zero
        self._empty_lists = not restricted or limits.empty_lists
        self._keys: set[str] = set()

    def holds(self, payload: Payload) -> bool:  # noqa: PLR0911, PLR0912  # a call for each value costs more than the look
        """Whether a payload is plain, and within the limits. False says nothing: it may be so as well."""
        low, high = self._limits.min_int, self._limits.max_int
        size = 2
        for key, value in payload.items():
            kind = type(value)
            if kind not in self._types or (key not in self._keys and not self._possible(key)):
                return False
            if kind is str:
                if not value.isascii():
                    return False
                size += _TEXT_BYTES * len(value)
            elif kind is list:
                if not (value or self._empty_lists):
                    return False
                for element in value:
                    kind = type(element)
                    if kind not in self._elements:
                        return False
                    if kind is str:
                        if not element.isascii():
                            return False
                        size += _TEXT_BYTES * len(element)
                    elif (kind is int and not low <= element <= high) or (kind is float and element - element != 0):
                        return False
                size += _NUMBER_BYTES * len(value)
            elif kind is int:
                if not low <= value <= high:
                    return False
            elif kind is float and (value - value != 0 or (not value and self._is_altered(value))):
                return False  # NaN, infinite, or a zero whose sign is lost
            size += _TEXT_BYTES * len(key) + _NUMBER_BYTES
        return self._max_bytes is None or size <= self._max_bytes

    def _is_altered(self, zero: float) -> bool:
        return not self._signs and math.copysign(1.0, zero) < 0

    def _possible(self, key: str) -> bool:
        """Whether a key is within the limits, which is remembered."""
        if not key.isascii() or (self._restricted and not self._limits.holds_key(key)):
            return False
        if len(self._keys) < _REMEMBERED_KEYS:
            self._keys.add(key)
        return True
