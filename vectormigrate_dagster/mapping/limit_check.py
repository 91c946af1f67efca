"""Check a payload against the limits of the target, whatever its keys, before it is sent."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from vectormigrate_dagster.mapping.column_values import too_long
from vectormigrate_dagster.mapping.json_field import packed
from vectormigrate_dagster.mapping.limits import JSON_TYPES, Limits, is_finite
from vectormigrate_dagster.mapping.plain import Plain
from vectormigrate_dagster.mapping.profiler import json_type
from vectormigrate_dagster.model import Payload


class RefusedPayload(ValueError):
    """One payload has no place in the target; the message is the reason."""


class LimitCheck:
    """Checks a payload against the database's limits.

    Most payloads are proven by a look at their values (`plain`). Others are written as JSON once, in C; only where
    that text shows something that may be beyond a limit (NaN, a long number, its length) are values looked at again.

    Args:
        columns: names of declared columns, whose values do not count as undeclared bytes.
        packs: values without a place were put into the JSON field before, so that none is left here.
    """

    def __init__(self, limits: Limits, columns: frozenset[str], *, packs: bool) -> None:
        self._limits = limits
        self._columns = columns
        self._packs = packs
        self._encode = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
        ).encode
        digits = len(str(min(limits.max_int, -limits.min_int)))
        self._long_number = re.compile(rf"[0-9]{{{digits},}}")
        restricted = limits.list_elements is not None or not limits.empty_lists or limits.key_pattern is not None
        self._restricted = not packs and (restricted or len(limits.types) < JSON_TYPES)
        self._plain = Plain(limits, restricted=self._restricted)

    def check(self, payload: Payload) -> None:
        """Raise `RefusedPayload` if the payload is beyond a limit."""
        if self._plain.holds(payload):
            return
        size, text = self._size(payload)
        limits = self._limits
        beyond = limits.max_text_bytes is not None and size > limits.max_text_bytes
        if self._restricted or beyond or (not self._packs and self._long_number.search(text)):
            for key, value in payload.items():
                self._check_value(key, value)
        if limits.max_payload_bytes is not None and size > limits.max_payload_bytes:
            size, _ = self._size({key: value for key, value in payload.items() if key not in self._columns})
            if size > limits.max_payload_bytes:
                raise RefusedPayload(f"the payload has {size} bytes, the target holds {limits.max_payload_bytes}")

    def packed(self, values: Payload) -> str:
        """The JSON text of values; raise `RefusedPayload` if they have none."""
        try:
            return packed(values)
        except (TypeError, ValueError) as error:
            self._explain(values, error)

    def _size(self, payload: Payload) -> tuple[int, str]:
        """Bytes as JSON, and the JSON."""
        try:
            text = self._encode(payload)
            return (len(text) if text.isascii() else len(text.encode())), text
        except UnicodeEncodeError as error:
            raise RefusedPayload("a text holds half of a surrogate pair, which has no UTF-8 form") from error
        except (TypeError, ValueError) as error:
            self._explain(payload, error)

    def _explain(self, payload: Payload, error: Exception) -> NoReturn:
        """Raise the reason why a payload has no JSON."""
        for key, value in payload.items():
            _walk(key, value, self._limits, every_type=self._packs)
        raise RefusedPayload(f"the payload is not JSON: {error}") from error

    def _check_value(self, key: str, value: Any) -> None:
        limits = self._limits
        _walk(key, value, limits, every_type=self._packs)
        if self._restricted and not limits.holds_key(key):
            raise RefusedPayload(f"key '{key}' is not possible in the target")
        if self._restricted and not limits.holds(value):
            raise RefusedPayload(
                f"'{key}' holds {type_of(key, value)} {str(value)[:40]!r}, which the target would alter"
            )


def type_of(key: str, value: Any) -> str:
    """The JSON type of a value; raise `RefusedPayload` if it has none."""
    try:
        return json_type(value)
    except TypeError as error:
        raise RefusedPayload(f"'{key}': {error}") from error


def _walk(key: str, value: Any, limits: Limits, *, every_type: bool) -> None:
    """Raise `RefusedPayload` if a value at any depth is beyond a limit."""
    kind = type_of(key, value)
    if kind not in limits.types and not every_type:
        raise RefusedPayload(f"'{key}' holds {kind}, which the target does not hold")
    if kind == "int" and not every_type and not limits.min_int <= value <= limits.max_int:
        raise RefusedPayload(f"'{key}' holds {value}, the target holds ints from {limits.min_int} to {limits.max_int}")
    if not is_finite(value):
        raise RefusedPayload(f"'{key}' holds {value}, which JSON has no form for")
    if kind == "text" and (reason := too_long(value, limits.max_text_bytes)) is not None:
        raise RefusedPayload(f"'{key}' {reason}")
    if kind == "list":
        for element in value:
            _walk(key, element, limits, every_type=every_type)
    if kind == "object":
        for element in value.values():
            if element is not None or not limits.nulls_in_objects:
                _walk(key, element, limits, every_type=every_type)
