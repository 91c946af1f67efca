"""Filters of metadata, compiled to a predicate.

Operators: https://docs.pinecone.io/guides/index-data/indexing-overview#metadata-filter-expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.records import Metadata

Predicate = Callable[[Metadata], bool]

MAX_VALUES = 10_000
"""Values of one $in or $nin."""
_ABSENT = object()
_OF_TEXT = ("$match_phrase", "$match_all", "$match_any")


def compiled(condition: Any, data_fields: Collection[str] = ()) -> Predicate:
    """A predicate over metadata; an empty filter is true.

    Args:
        condition: the filter.
        data_fields: fields of vectors and texts, which cannot be compared.

    Raises:
        Refused: it is no filter.
    """
    if not isinstance(condition, dict):
        raise invalid("filter must be an object")
    parts = [_part(key, value, data_fields) for key, value in condition.items()]
    return lambda values: all(part(values) for part in parts)


def _part(key: str, value: Any, data_fields: Collection[str]) -> Predicate:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise invalid(f"{key} must be followed by a non-empty list of filters")
        parts = [compiled(each, data_fields) for each in value]
        if key == "$and":
            return lambda values: all(part(values) for part in parts)
        return lambda values: any(part(values) for part in parts)
    if key.startswith("$"):
        raise invalid(f"{key} is not a valid operator")
    if key in data_fields:
        if isinstance(value, dict) and value.keys() <= set(_OF_TEXT):
            raise Refused(Kind.UNIMPLEMENTED, "the stand-in matches no text")
        raise invalid(f"'{key}' is a data field, which cannot be compared")
    if not isinstance(value, dict):
        return _on(key, _equal(_scalar("$eq", value)))
    if not value:
        raise invalid(f"the condition on '{key}' is empty")
    tests = [_on(key, _operator(name, operand)) for name, operand in value.items()]
    return lambda values: all(test(values) for test in tests)


def _on(key: str, test: Callable[[Any], bool]) -> Predicate:
    return lambda values: test(values.get(key, _ABSENT))


def _operator(name: str, operand: Any) -> Callable[[Any], bool]:
    match name:
        case "$eq":
            return _equal(_scalar(name, operand))
        case "$ne":
            equal = _equal(_scalar(name, operand))
            return lambda found: not equal(found)
        case "$in":
            return _any(name, operand)
        case "$nin":
            one = _any(name, operand)
            return lambda found: not one(found)
        case "$exists":
            if not isinstance(operand, bool):
                raise invalid("$exists must be followed by a boolean")
            return lambda found: (found is not _ABSENT) is operand
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _order(name, operand)
    raise invalid(f"{name} is not a valid operator")


def _order(name: str, operand: Any) -> Callable[[Any], bool]:
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise invalid(f"the {name} operator must be followed by a number, got {operand!r} instead")
    limit = float(operand)
    compare: Callable[[float], bool] = {
        "$gt": lambda found: found > limit,
        "$gte": lambda found: found >= limit,
        "$lt": lambda found: found < limit,
        "$lte": lambda found: found <= limit,
    }[name]
    return lambda found: isinstance(found, float) and compare(found)


def _scalar(name: str, operand: Any) -> str | float | bool:
    if isinstance(operand, str | bool):
        return operand
    if isinstance(operand, int | float):
        return float(operand)
    raise invalid(f"the {name} operator must be followed by a string, boolean or a number, got {operand!r} instead")


def _equal(expected: str | float | bool) -> Callable[[Any], bool]:
    def equal(found: Any) -> bool:
        if isinstance(found, list):
            return expected in found
        return type(found) is type(expected) and found == expected

    return equal


def _any(name: str, operand: Any) -> Callable[[Any], bool]:
    if not isinstance(operand, list) or len(operand) > MAX_VALUES:
        raise invalid(f"the {name} operator must be followed by a list of at most {MAX_VALUES} values")
    tests = [_equal(_scalar(name, each)) for each in operand]
    return lambda found: any(test(found) for test in tests)
