"""Map one payload: keys, added and removed fields, and the checks that a sample cannot prove."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any

from vectormigrate_dagster.mapping.columns import INT_RANGES, accepted
from vectormigrate_dagster.mapping.fields import FieldMapping, Limits
from vectormigrate_dagster.mapping.profiler import fits_float32, json_type
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import FieldSchema, FieldType, Payload

_REMEMBERED_KEYS = 100_000


class RefusedPayload(ValueError):
    """One payload has no place in the target; the message is the reason."""


class PayloadMapper:
    """Maps payloads by a plan. Payloads of the source are never changed; one that needs no change is passed on."""

    def __init__(self, mapping: Mapping) -> None:
        self._keys = mapping.keys
        self._dynamic = mapping.dynamic
        self._target_of: dict[str, str | None] = {}
        declared = [field for field in mapping.target_schema.fields if field.declared]
        self._columns = {
            field.name: FieldMapping(source=field.name, target=field.name, column=field) for field in declared
        }
        self._columns |= {m.target: m for m in mapping.fields if m.column is not None}
        self._check = _LimitCheck(mapping.limits, frozenset(self._columns))

    def map(self, payload: Payload, *, without: Collection[str] = (), added: Payload | None = None) -> Payload:
        """The payload for the target.

        Args:
            without: keys of the source that become ids or scopes again.
            added: keys of the target that keep an id or scope.

        Raises:
            RefusedPayload: the target cannot hold it exactly, and the plan did not allow a loss.
        """
        mapped = self._rename(payload, without)
        if added:
            taken = sorted(added.keys() & mapped.keys())
            if taken:
                raise RefusedPayload(f"the payload has a key '{taken[0]}' already, which is to keep what is ours")
            mapped = {**mapped, **added}
        if self._columns:
            mapped = self._fill(mapped)
        elif not self._dynamic and mapped:
            raise RefusedPayload(f"key '{next(iter(mapped))}' is not declared in the target")
        self._check.check(mapped)
        return mapped

    def _rename(self, payload: Payload, without: Collection[str]) -> Payload:
        known = self._target_of
        if not without and all(known.get(key) == key for key in payload):
            return payload
        mapped: Payload = {}
        for key, value in payload.items():
            if key in without:
                continue
            target = self._target(key)
            if target is None:
                continue
            if target in mapped:
                raise RefusedPayload(f"two keys of the payload would be '{target}', one of them is '{key}'")
            mapped[target] = value
        return mapped

    def _target(self, key: str) -> str | None:
        if key in self._target_of:
            return self._target_of[key]
        target = self._keys.target_of(key)
        if len(self._target_of) < _REMEMBERED_KEYS:
            self._target_of[key] = target
        return target

    def _fill(self, payload: Payload) -> Payload:
        """Check values of columns, and give those that stand for absent keys what the target will say they hold."""
        filled = payload
        for name, field in self._columns.items():
            column = _column(field)
            if name in payload:
                reason = misfit(column, payload[name], rounds=field.rounds)
                if reason is not None:
                    raise RefusedPayload(f"'{name}' {reason}")
            elif column.default is not None or field.absent_as_null:
                filled = {**filled, name: column.default}
            else:
                raise RefusedPayload(f"the payload lacks '{name}'; a column of the target cannot tell that from null")
        if not self._dynamic:
            unknown = next((key for key in payload if key not in self._columns), None)
            if unknown is not None:
                raise RefusedPayload(f"key '{unknown}' is not declared in the target")
        return filled


def _column(field: FieldMapping) -> FieldSchema:
    if field.column is None:
        raise ValueError(f"field '{field.target}' has no column")
    return field.column


def misfit(column: FieldSchema, value: Any, *, rounds: bool = False) -> str | None:
    """Why a column cannot hold a value exactly; None if it can."""
    if value is None:
        return _null_misfit(column)
    kind = _json_type(column.name, value)
    if kind not in accepted(column.type):
        return f"is {kind}, the column is {column.type.value}"
    if column.type in INT_RANGES:
        low, high = INT_RANGES[column.type]
        return None if low <= value <= high else f"is {value}, the column holds {low} to {high}"
    if column.type is FieldType.FLOAT32 and math.isfinite(value) and not rounds and not fits_float32(value):
        return f"is {value!r}, which a float32 column would round"
    if column.type is FieldType.TEXT:
        return _too_long(value, column.max_length)
    return _array_misfit(column, value) if column.type is FieldType.ARRAY else None


def _null_misfit(column: FieldSchema) -> str | None:
    if not column.nullable:
        return "is null, the column needs a value"
    # https://milvus.io/docs/nullable-and-default.md
    return None if column.default is None else "is null, which the column replaces by its default"


def _array_misfit(column: FieldSchema, values: list[Any]) -> str | None:
    if column.max_capacity is not None and len(values) > column.max_capacity:
        return f"has {len(values)} elements, the column holds {column.max_capacity}"
    if column.element is None:
        return None
    element = FieldSchema(name=column.name, type=column.element, nullable=False, max_length=column.max_length)
    return next((f"has an element that {reason}" for v in values if (reason := misfit(element, v)) is not None), None)


def _too_long(text: str, limit: int | None) -> str | None:
    if limit is None or len(text) * 4 <= limit:
        return None
    size = len(text.encode("utf-8", "surrogatepass"))
    return f"has a text of {size} bytes, the target holds {limit}" if size > limit else None


class _LimitCheck:
    """Checks a payload against the database's limits.

    The payload is written as JSON once, in C; only where that text shows something that may be beyond a
    limit (NaN, a long number, its length) are the values looked at one by one.
    """

    def __init__(self, limits: Limits, columns: frozenset[str]) -> None:
        self._limits = limits
        self._columns = columns
        self._encode = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
        ).encode
        digits = len(str(min(limits.max_int, -limits.min_int)))
        self._long_number = re.compile(rf"[0-9]{{{digits},}}")
        self._always = len(limits.types) < 7

    def check(self, payload: Payload) -> None:
        """Raise `RefusedPayload` if the payload is beyond a limit."""
        size, text = self._size(payload)
        limits = self._limits
        beyond = limits.max_text_bytes is not None and size > limits.max_text_bytes
        if self._always or beyond or self._long_number.search(text):
            for key, value in payload.items():
                _walk(key, value, limits)
        if limits.max_payload_bytes is not None and size > limits.max_payload_bytes:
            size, _ = self._size({key: value for key, value in payload.items() if key not in self._columns})
            if size > limits.max_payload_bytes:
                raise RefusedPayload(f"the payload has {size} bytes, the target holds {limits.max_payload_bytes}")

    def _size(self, payload: Payload) -> tuple[int, str]:
        """Bytes as JSON, and the JSON."""
        try:
            text = self._encode(payload)
            return (len(text) if text.isascii() else len(text.encode())), text
        except UnicodeEncodeError as error:
            raise RefusedPayload("a text holds half of a surrogate pair, which has no UTF-8 form") from error
        except (TypeError, ValueError) as error:
            for key, value in payload.items():
                _walk(key, value, self._limits)
            raise RefusedPayload(f"the payload is not JSON: {error}") from error


def _json_type(key: str, value: Any) -> str:
    try:
        return json_type(value)
    except TypeError as error:
        raise RefusedPayload(f"'{key}': {error}") from error


def _walk(key: str, value: Any, limits: Limits) -> None:
    """Raise `RefusedPayload` if a value at any depth is beyond a limit."""
    kind = _json_type(key, value)
    if kind not in limits.types:
        raise RefusedPayload(f"'{key}' holds {kind}, which the target does not hold")
    if kind == "int" and not limits.min_int <= value <= limits.max_int:
        raise RefusedPayload(f"'{key}' holds {value}, the target holds ints from {limits.min_int} to {limits.max_int}")
    if kind == "float" and not math.isfinite(value):
        raise RefusedPayload(f"'{key}' holds {value}, which JSON has no form for")
    if kind == "text" and (reason := _too_long(value, limits.max_text_bytes)) is not None:
        raise RefusedPayload(f"'{key}' {reason}")
    if kind == "list":
        for element in value:
            _walk(key, element, limits)
    if kind == "object":
        for element in value.values():
            _walk(key, element, limits)
