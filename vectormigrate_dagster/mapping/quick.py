"""Values of which one look proves that a column holds them exactly: most of them, at a fraction of the whole check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vectormigrate_dagster.mapping.columns import INT_RANGES
from vectormigrate_dagster.model import FieldSchema, FieldType

_UTF8_BYTES = 4
"""Most that a character takes."""

Fits = Callable[[Any], bool]


def quick_check(column: FieldSchema) -> Fits:
    """A function that is True only of values that the column holds exactly; False says nothing."""
    if column.type is FieldType.BOOL:
        return lambda value: type(value) is bool
    if column.type in INT_RANGES:
        low, high = INT_RANGES[column.type]
        return lambda value: type(value) is int and low <= value <= high
    if column.type is FieldType.FLOAT64:
        return lambda value: type(value) is float
    if column.type is FieldType.TEXT:
        return _text_check(column.max_length)
    if column.type is FieldType.ARRAY and column.element is not None:
        return _array_check(column, column.element)
    return lambda _: False


def _text_check(max_bytes: int | None) -> Fits:
    if max_bytes is None:
        return lambda value: type(value) is str
    longest = max_bytes // _UTF8_BYTES
    return lambda value: type(value) is str and len(value) <= longest


def _array_check(column: FieldSchema, element: FieldType) -> Fits:
    fits = quick_check(FieldSchema(name=column.name, type=element, max_length=column.max_length))
    most = column.max_capacity
    return lambda values: type(values) is list and (most is None or len(values) <= most) and all(map(fits, values))
