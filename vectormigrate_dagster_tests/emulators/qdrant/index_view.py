"""What a filter by a range sees of payloads: where a field has an index, the values that this index has.

Seen on server 1.19: an index of integers has whole numbers up to 2^63, whichever way they are written, and no others;
one of times has no numbers. Any other index has all numbers, or is not asked for a range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qdrant_client import models
from qdrant_client.local.json_path_parser import parse_json_path

from vectormigrate_dagster_tests.emulators.qdrant.json_path import as_listed
from vectormigrate_dagster_tests.emulators.qdrant.limits import conditions_of


def index_view(condition: models.Filter | None, indexes: Mapping[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A function that leaves out of a payload what the filter's ranges do not find in the indexes that they ask."""
    asked = {
        parse_json_path(each.key)[0].key or "": _HELD[_type(indexes[as_listed(each.key)])]
        for each in (conditions_of(condition) if condition is not None else ())
        if isinstance(each, models.FieldCondition)
        and isinstance(each.range, models.Range)
        and _type(indexes.get(as_listed(each.key))) in _HELD
    }

    def seen(payload: dict[str, Any]) -> dict[str, Any]:
        return payload | {key: _held(payload[key], holds) for key, holds in asked.items() if key in payload}

    return seen if asked else lambda payload: payload


def _type(index: Any) -> str:
    return str(getattr(getattr(index, "type", index), "value", index))


def _held(value: Any, holds: Callable[[Any], bool]) -> Any:
    if isinstance(value, list):
        return [one for one in value if holds(one)]
    return value if holds(value) else None


def _is_whole(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and float(value).is_integer() and abs(float(value)) <= 2.0**63


_HELD: dict[str, Callable[[Any], bool]] = {"integer": _is_whole, "datetime": lambda value: isinstance(value, str)}
