"""Filters of gRPC requests, over the objects of a shard (adapters/handlers/grpc/v1/filters.go of server 1.39)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from weaviate.proto.v1 import base_pb2

from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.gotext import date, lower_first
from vectormigrate_dagster_tests.emulators.weaviate.shard import StoredObject
from vectormigrate_dagster_tests.emulators.weaviate.values import find, is_reference

Matches = Callable[[StoredObject], bool]

_OPERATOR = base_pb2.Filters.Operator
_BY_ORDER: dict[int, Callable[[Any, Any], bool]] = {
    base_pb2.Filters.OPERATOR_GREATER_THAN: lambda a, b: a > b,
    base_pb2.Filters.OPERATOR_GREATER_THAN_EQUAL: lambda a, b: a >= b,
    base_pb2.Filters.OPERATOR_LESS_THAN: lambda a, b: a < b,
    base_pb2.Filters.OPERATOR_LESS_THAN_EQUAL: lambda a, b: a <= b,
}
_VALUE_TYPES = {
    "text": str,
    "uuid": str,
    "date": str,
    "blob": str,
    "int": (int, float),
    "number": (int, float),
    "boolean": bool,
}


def matcher(definition: dict[str, Any], filters: base_pb2.Filters) -> Matches:
    """Whether an object passes a filter.

    Raises:
        Refused: the filter does not fit the class, or this stand-in does not play it.
    """
    operator = filters.operator
    if operator in (base_pb2.Filters.OPERATOR_AND, base_pb2.Filters.OPERATOR_OR):
        inner = [matcher(definition, each) for each in filters.filters]
        every = all if operator == base_pb2.Filters.OPERATOR_AND else any
        return lambda stored: every(each(stored) for each in inner)
    name = filters.target.property if filters.HasField("target") else (filters.on[0] if filters.on else "")
    if not name or len(filters.on) > 1:
        raise Refused("the stand-in does not play filters over references or counts of them")
    kind = filters.WhichOneof("test_value")
    if kind is None:
        raise Refused("unknown value type <nil>")
    value = getattr(filters, kind)
    value = list(value.values) if kind.endswith("_array") else value
    if name in ("_id", "id"):
        return _of_id(operator, value)
    return _of_property(definition, lower_first(name), operator, value)


def _of_id(operator: int, value: Any) -> Matches:
    if operator == base_pb2.Filters.OPERATOR_CONTAINS_ANY:
        ids = {each.lower() for each in value}
        return lambda stored: stored.id in ids
    if operator == base_pb2.Filters.OPERATOR_EQUAL:
        return lambda stored: stored.id == value.lower()
    if operator == base_pb2.Filters.OPERATOR_NOT_EQUAL:
        return lambda stored: stored.id != value.lower()
    if operator in _BY_ORDER:
        compare = _BY_ORDER[operator]
        return lambda stored: compare(stored.id, value.lower())
    raise Refused(f"the stand-in does not play {_OPERATOR.Name(operator)} of ids")


def _of_property(definition: dict[str, Any], name: str, operator: int, value: Any) -> Matches:
    each = find(definition, name)
    if is_reference(each["dataType"]):
        raise Refused("the stand-in does not play filters over references or counts of them")
    if operator == base_pb2.Filters.OPERATOR_IS_NULL:
        if not definition["invertedIndexConfig"].get("indexNullState"):
            raise Refused(
                "Nullstate must be indexed to be filterable! Add `IndexNullState: true` to the invertedIndexConfig"
            )
        return lambda stored: (stored.properties.get(name) in (None, [])) == value
    if not each["indexFilterable"]:
        raise Refused(
            f"Filtering by property '{name}' requires inverted index. Is `indexFilterable` option of property "
            f"'{name}' enabled? Set it to `true` or leave empty"
        )
    asked = value if isinstance(value, list) else [value]
    kind = each["dataType"][0].removesuffix("[]")
    if kind in ("int", "number") and isinstance(value, str):  # easy to get wrong, so the server helps
        asked = [_number(value, kind)]
    if not all(isinstance(one, _VALUE_TYPES.get(kind, ())) for one in asked):
        raise Refused(f'data type filter cannot use "{type(asked[0]).__name__}" on type "{kind}"')
    if kind == "date" and not all(map(date, asked)):
        raise Refused(f"trying parse time as RFC3339 string: parsing time {asked}")
    return _test(name, operator, _tokens(each), asked)


def _number(text: str, kind: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        word = "an integer" if kind == "int" else "a number"
        raise Refused(f"expected {word} value, but could not parse string '{text}'") from error


def _test(name: str, operator: int, tokens: Callable[[Any], set[Any]], asked: list[Any]) -> Matches:
    wanted = [tokens(one) for one in asked]

    def held(stored: StoredObject) -> set[Any]:
        value = stored.properties.get(name)
        if value is None:
            return set()
        return set().union(*map(tokens, value)) if isinstance(value, list) else tokens(value)

    match operator:
        case base_pb2.Filters.OPERATOR_EQUAL:
            return lambda stored: wanted[0] <= held(stored)
        case base_pb2.Filters.OPERATOR_NOT_EQUAL:
            return lambda stored: not wanted[0] <= held(stored)
        case base_pb2.Filters.OPERATOR_CONTAINS_ANY:
            return lambda stored: any(one <= held(stored) for one in wanted)
        case base_pb2.Filters.OPERATOR_CONTAINS_ALL:
            return lambda stored: all(one <= held(stored) for one in wanted)
        case base_pb2.Filters.OPERATOR_LIKE:
            pattern = re.compile(re.escape(asked[0].lower()).replace(r"\*", ".*").replace(r"\?", "."))
            return lambda stored: any(pattern.fullmatch(str(token).lower()) for token in held(stored))
    if operator in _BY_ORDER:
        compare, bound = _BY_ORDER[operator], next(iter(wanted[0]))
        return lambda stored: any(compare(token, bound) for token in held(stored))
    raise Refused(f"the stand-in does not play {_OPERATOR.Name(operator)}")


def _tokens(each: dict[str, Any]) -> Callable[[Any], set[Any]]:
    """What the inverted index holds of one value: texts by their words, unless the property says `field`."""
    kind = each["dataType"][0].removesuffix("[]")
    if kind == "date":
        return lambda value: {datetime.fromisoformat(value)}
    if kind != "text":
        return lambda value: {value}
    match each["tokenization"]:
        case "field":
            return lambda value: {value.strip()}
        case "whitespace":
            return lambda value: set(value.split())
        case "lowercase":
            return lambda value: set(value.lower().split())
        case "trigram":
            return lambda value: _trigrams("".join(c for c in value.lower() if c.isalnum()))
    return lambda value: {word for word in re.split(r"[\W_]+", value.lower()) if word}


def _trigrams(text: str) -> set[str]:
    return {text[start : start + 3] for start in range(len(text) - 2)}
