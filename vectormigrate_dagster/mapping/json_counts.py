"""How many profiled values of a key go into the JSON field, and what they are."""

from __future__ import annotations

import re

from vectormigrate_dagster.mapping.columns import accepted, as_ints
from vectormigrate_dagster.mapping.field_decision import FieldDecision
from vectormigrate_dagster.mapping.field_models import FieldContext
from vectormigrate_dagster.mapping.profile_models import FieldProfile
from vectormigrate_dagster.model import FieldSchema, FieldType

_LIST_TYPES = {
    "bool": FieldType.BOOL,
    "int": FieldType.INT64,
    "float": FieldType.FLOAT64,
    "text": FieldType.TEXT,
}


def packed_counts(decision: FieldDecision, column: FieldSchema | None) -> dict[str, int]:
    """What goes into the JSON field ("an int beyond 2^53") -> records; empty where there is no such field.

    Args:
        column: where fitting values go; None where they stay undeclared, or have no place either.
    """
    context, seen = decision.context, decision.seen
    if decision.whole(column):
        seen = as_ints(seen)
    if context.json_field is None:
        return {}
    possible = context.dynamic and context.limits.holds_key(decision.target) and decision.target != context.json_field
    if column is None and not possible:
        found = {_ARTICLES[kind]: count for kind, count in seen.types.items()}
    else:
        found = {_ARTICLES[kind]: count for kind, count in _wrong_types(context, seen, column).items()}
        found |= _unusual(context, seen, column)
    return {what: count for what, count in sorted(found.items()) if count}


def packed_text(context: FieldContext) -> str:
    """What happens to such values."""
    return f"kept exactly as JSON text in '{context.json_field}'; filters do not find it there"


_ARTICLES = {
    "null": "null",
    "bool": "a bool",
    "int": "an int",
    "float": "a float",
    "text": "a text",
    "list": "a list",
    "object": "an object",
}


def _wrong_types(context: FieldContext, seen: FieldProfile, column: FieldSchema | None) -> dict[str, int]:
    held = context.target.payload_types
    fitting = held if column is None else accepted(column.type) & held
    return {kind: count for kind, count in seen.types.items() if kind not in fitting}


def _unusual(context: FieldContext, seen: FieldProfile, column: FieldSchema | None) -> dict[str, int]:
    """Values of a type that is held, which are not held themselves."""
    takes = _takes(context, column)
    found: dict[str, int] = {}
    if "int" in takes and context.target.max_int <= 2**53:
        found["an int beyond 2^53"] = seen.big_ints
    if "float" in takes and not context.target.negative_zero:
        found["-0.0"] = seen.negative_zeros
    if "list" in takes:
        found |= _unusual_lists(context, seen, column)
    return found


def _takes(context: FieldContext, column: FieldSchema | None) -> frozenset[str]:
    return context.target.payload_types if column is None else accepted(column.type)


def _unusual_lists(context: FieldContext, seen: FieldProfile, column: FieldSchema | None) -> dict[str, int]:
    possible = context.target.list_elements
    if column is not None and column.element is not None:
        possible = frozenset(kind for kind, element in _LIST_TYPES.items() if element is column.element)
    found: dict[str, int] = {}
    for alike, count in seen.lists.items():
        if alike == "empty":
            found |= {} if context.target.empty_lists else {"an empty list": count}
        elif possible is not None and alike not in possible:
            name = "a mixed list" if alike == "mixed" else f"a list of {re.sub('y$', 'ie', alike)}s"
            found[name] = found.get(name, 0) + count
    return found
