"""Which values Milvus would store as something else; a record that holds one is refused here, by its id.

Seen on server 2.3.5 and Milvus Lite 3.2: True becomes 1 in a column of integers and 1 becomes True in one of booleans,
1e300 becomes infinity in a FLOAT column, 2^53 + 1 loses its last digit in a DOUBLE column, NaN becomes null in JSON.
The server keeps arrays above their `max_capacity` and their texts above `max_length`, which the next reader may not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from vectormigrate_dagster.model import CollectionSchema, FieldSchema, FieldType, Payload

INT_BITS = {FieldType.INT8: 8, FieldType.INT16: 16, FieldType.INT32: 32, FieldType.INT64: 64}
_ACCEPTED: dict[FieldType, type] = {
    FieldType.BOOL: bool,
    **dict.fromkeys(INT_BITS, int),
    FieldType.FLOAT32: float,
    FieldType.FLOAT64: float,
    FieldType.TEXT: str,
    FieldType.DATETIME: str,
    FieldType.GEO: str,
    FieldType.ARRAY: list,
}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ABSENT = object()

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode

_ZEROS = str.maketrans("123456789", "000000000")
_LONG = "0" * 19
"""Digits of the shortest number that may have more than 64 bits."""

Misfits = dict[int, str]
"""Row -> why its value has no place; empty in the usual case, which costs no Python code per value."""


def misfits(payloads: Sequence[Payload], schema: CollectionSchema) -> Misfits:
    """The records of which a value would not come back from its column as it is; the first reason of each."""
    found: Misfits = {}
    for field in schema.fields:
        if field.declared:
            _merge(found, _column_misfits([payload.get(field.name, _ABSENT) for payload in payloads], field))
    return found


def dynamic_texts(payloads: Sequence[Payload], schema: CollectionSchema) -> tuple[Misfits, list[str]]:
    """What becomes of keys that are no columns: the records for which there is no way, and the JSON of each record.

    The JSON is for the dynamic field; there is none where the collection has no such field.
    """
    names = {field.name for field in schema.fields if field.declared}
    if not schema.dynamic:
        return _strange_keys(payloads, names), []
    rest = payloads
    if names:
        rest = [{key: value for key, value in payload.items() if key not in names} for payload in payloads]
    return _json_texts(rest)


def json_text(value: Any) -> str:
    """A value as JSON.

    Raises:
        TypeError, ValueError: it has none, or the server would make another number of one of its own.
    """
    text = _encode(value)
    if _LONG in text.translate(_ZEROS):
        _require_64_bits(value)
    text.encode()  # half of a surrogate pair has no UTF-8 form
    return text


def _json_texts(values: Sequence[Any]) -> tuple[Misfits, list[str]]:
    """Each value as JSON, "" for those that have none, with the reason."""
    texts: list[str] = []
    found: Misfits = {}
    for row, value in enumerate(values):
        try:
            texts.append(json_text(value))
        except (TypeError, ValueError, RecursionError) as error:
            texts.append("")
            found[row] = f"its payload is not JSON: {error}"
    return found, texts


def _require_64_bits(value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError(f"{value} has more than 64 bits")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _require_64_bits(inner)


def _strange_keys(payloads: Sequence[Payload], names: set[str]) -> Misfits:
    """Of a collection without a dynamic field: keys that have no place."""
    return {
        row: f"its payload has a key '{min(payload.keys() - names)}', and the collection has no such field"
        for row, payload in enumerate(payloads)
        if not payload.keys() <= names
    }


def _column_misfits(values: list[Any], field: FieldSchema) -> Misfits:
    """`values` has `_ABSENT` where a record lacks the key, which a null or the column's default stands for."""
    named = f"'{field.name}'"
    types = set(map(type, values))
    if types.isdisjoint({object, type(None)}):
        return {row: f"{named} {reason}" for row, reason in _value_misfits(values, field).items()}
    fills = field.nullable or field.default is not None
    found: Misfits = {}
    for row, value in enumerate(values):
        if value is _ABSENT and not fills:
            found[row] = f"it lacks {named}, and the column needs a value"
        elif value is None and not field.nullable:
            found[row] = f"{named} is null, and the column needs a value"
        elif value is None and field.default is not None:
            found[row] = f"{named} is null, which the column replaces by its default"
    there = [row for row, value in enumerate(values) if value is not None and value is not _ABSENT]
    odd = _value_misfits([values[row] for row in there], field)
    return found | {there[i]: f"{named} {reason}" for i, reason in odd.items()}


def _value_misfits(values: list[Any], field: FieldSchema) -> Misfits:
    """Of values that are not null."""
    accepted = _ACCEPTED.get(field.type)
    if field.type is FieldType.JSON:
        return _json_misfits(values)
    if accepted is None or not values:
        return {}
    if set(map(type, values)) != {accepted}:
        wrong = {
            row: f"is {_shown(value)}, and the column is {field.type.value}"
            for row, value in enumerate(values)
            if type(value) is not accepted
        }
        rest = [row for row in range(len(values)) if row not in wrong]
        odd = _value_misfits([values[row] for row in rest], field)
        return wrong | {rest[i]: reason for i, reason in odd.items()}
    check = _CHECKS.get(field.type)
    return {} if check is None else check(values, field)


def _int_misfits(values: list[int], field: FieldSchema) -> Misfits:
    high = 2 ** (INT_BITS[field.type] - 1) - 1
    low = -high - 1
    if low <= min(values) and max(values) <= high:
        return {}
    reason = f"which is not within {low} to {high}"
    return {row: f"is {value}, {reason}" for row, value in enumerate(values) if not low <= value <= high}


def _float32_misfits(values: list[float], field: FieldSchema) -> Misfits:
    del field
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        lost = np.isinf(array.astype(np.float32)) & np.isfinite(array)
    return {
        row: f"is {values[row]!r}, which is beyond {_FLOAT32_MAX:.3g}, the largest of float32"
        for row in np.flatnonzero(lost).tolist()
    }


def _text_misfits(values: list[str], field: FieldSchema) -> Misfits:
    limit = field.max_length
    try:
        # UTF-8 has at most 4 bytes per character; joining them finds out whether all have a UTF-8 form.
        "".join(values).encode()
        if limit is None or 4 * max(map(len, values)) <= limit:
            return {}
    except UnicodeEncodeError:
        pass
    return {row: reason for row, value in enumerate(values) if (reason := _text_reason(value, limit)) is not None}


def _text_reason(value: str, limit: int | None) -> str | None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which has no UTF-8 form"
    return f"has a text of {size} bytes, and the column holds {limit}" if limit is not None and size > limit else None


def _array_misfits(values: list[list[Any]], field: FieldSchema) -> Misfits:
    sizes = list(map(len, values))
    found: Misfits = {}
    if field.max_capacity is not None and max(sizes) > field.max_capacity:
        found = {
            row: f"has {size} elements, and the column holds {field.max_capacity}"
            for row, size in enumerate(sizes)
            if size > field.max_capacity
        }
    if field.element is not None:
        element = FieldSchema(name=field.name, type=field.element, max_length=field.max_length)
        odd = _value_misfits(list(chain.from_iterable(values)), element)
        ends = np.cumsum(sizes)
        for i, reason in sorted(odd.items(), reverse=True):
            row = int(np.searchsorted(ends, i, side="right"))
            found[row] = f"has an element that {reason}"
    return found


def _json_misfits(values: list[Any]) -> Misfits:
    """Of a JSON column: NaN and infinity, for which JSON has no form."""
    return {row: f"is no JSON: {reason}" for row, reason in _json_texts(values)[0].items()}


def _merge(found: Misfits, more: Mapping[int, str]) -> None:
    for row, reason in more.items():
        found.setdefault(row, reason)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"


_CHECKS: dict[FieldType, Callable[[list[Any], FieldSchema], Misfits]] = {
    **dict.fromkeys(INT_BITS, _int_misfits),
    FieldType.FLOAT32: _float32_misfits,
    FieldType.TEXT: _text_misfits,
    FieldType.ARRAY: _array_misfits,
}
