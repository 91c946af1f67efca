"""Declared columns of the target: which JSON values they hold, and which profiled values they would alter."""

from __future__ import annotations

from collections.abc import Iterator

from vectormigrate_dagster.mapping.profile_models import FieldProfile
from vectormigrate_dagster.model import Capabilities, FieldSchema, FieldType

INT_RANGES: dict[FieldType, tuple[int, int]] = {
    FieldType.INT8: (-(2**7), 2**7 - 1),
    FieldType.INT16: (-(2**15), 2**15 - 1),
    FieldType.INT32: (-(2**31), 2**31 - 1),
    FieldType.INT64: (-(2**63), 2**63 - 1),
}

_ANYTHING = frozenset({"bool", "int", "float", "text", "list", "object"})
_ACCEPTED: dict[FieldType, frozenset[str]] = {
    FieldType.ANY: _ANYTHING,
    FieldType.JSON: _ANYTHING,
    FieldType.BOOL: frozenset({"bool"}),
    FieldType.INT8: frozenset({"int"}),
    FieldType.INT16: frozenset({"int"}),
    FieldType.INT32: frozenset({"int"}),
    FieldType.INT64: frozenset({"int"}),
    FieldType.FLOAT32: frozenset({"float"}),
    FieldType.FLOAT64: frozenset({"float"}),
    FieldType.TEXT: frozenset({"text"}),
    FieldType.ARRAY: frozenset({"list"}),
    FieldType.DATETIME: frozenset({"text"}),
    FieldType.GEO: frozenset({"text", "object"}),
    FieldType.UUID: frozenset({"text"}),
    FieldType.OBJECT: frozenset({"object"}),
    FieldType.BLOB: frozenset({"text"}),
    FieldType.PHONE: frozenset({"object"}),
    FieldType.REFERENCE: frozenset({"list"}),
}
_PLAIN = {
    "bool": FieldType.BOOL,
    "int": FieldType.INT64,
    "float": FieldType.FLOAT64,
    "text": FieldType.TEXT,
}
_GENERAL = {
    FieldType.BOOL: FieldType.BOOL,
    FieldType.INT8: FieldType.INT64,
    FieldType.INT16: FieldType.INT64,
    FieldType.INT32: FieldType.INT64,
    FieldType.INT64: FieldType.INT64,
    FieldType.FLOAT32: FieldType.FLOAT64,
    FieldType.FLOAT64: FieldType.FLOAT64,
    FieldType.TEXT: FieldType.TEXT,
}
"""The type that every database with columns has for the values of a more special one."""


def accepted(type: FieldType) -> frozenset[str]:
    """JSON types whose values a column of this type holds exactly, null aside."""
    return _ACCEPTED[type]


def inferred(field: FieldProfile, target: Capabilities) -> FieldType | None:
    """The column type that holds every profiled value exactly; None if there is none or not just one JSON type."""
    kinds = set(field.types) - {"null"}
    plain = _PLAIN.get(next(iter(kinds))) if len(kinds) == 1 else None
    return plain if plain in target.field_types and not field.beyond_int64 and not field.non_finite else None


def fitting(name: str, field: FieldProfile, known: FieldSchema | None, target: Capabilities) -> FieldSchema | None:
    """A column for values of one JSON type, where others have a place beside it; None if there are several types.

    Args:
        known: what the source declares, which decides where no value was seen.
    """
    kinds = set(field.types) - {"null"}
    if not kinds:
        return _column(name, None if known is None else _GENERAL.get(known.type), target)
    if len(kinds) > 1 or field.big_ints == field.present - field.types.get("null", 0):
        return None
    (kind,) = kinds
    if kind != "list":
        return _column(name, _PLAIN.get(kind), target)
    elements = set(field.lists) - {"empty"}
    element = _PLAIN.get(next(iter(elements))) if len(elements) == 1 else None
    return None if element is None else _column(name, FieldType.ARRAY, target, element)


def as_ints(field: FieldProfile) -> FieldProfile:
    """The profile of a field whose floats without a fraction become ints."""
    types = {**field.types, "float": field.types.get("float", 0) - field.whole}
    types["int"] = types.get("int", 0) + field.whole
    return field.model_copy(update={"types": {kind: count for kind, count in types.items() if count}})


def _column(
    name: str, type: FieldType | None, target: Capabilities, element: FieldType | None = None
) -> FieldSchema | None:
    if type is None or not {type, element or type} <= set(target.field_types):
        return None
    return FieldSchema(name=name, type=type, declared=True, element=element)


def misfits(column: FieldSchema, field: FieldProfile, *, whole: bool = False) -> Iterator[tuple[str, int | None, str]]:
    """What profiled values do not fit a column: (what, records if counted, why), worst first.

    Args:
        whole: floats without a fraction become ints.
    """
    fitting = accepted(column.type)
    field = as_ints(field) if whole else field
    wrong = {kind: count for kind, count in field.types.items() if kind not in fitting and kind != "null"}
    if wrong:
        yield "type", sum(wrong.values()), f"hold {', '.join(sorted(wrong))}, the column is {column.type.value}"
    if field.types.get("null") and (column.default is not None or not column.nullable):
        yield "null", field.types["null"], "hold null, the column does not"
    if field.absent and column.default is None and not column.nullable:
        yield "absent", field.absent, "lack the key, the column needs a value"
    if column.type in INT_RANGES and "int" in field.types and field.min_int is not None and field.max_int is not None:
        low, high = INT_RANGES[column.type]
        if not low <= field.min_int <= field.max_int <= high:
            yield "int_range", None, f"ints from {field.min_int} to {field.max_int}, the column holds {low} to {high}"
    limit = column.max_length if column.type in (FieldType.TEXT, FieldType.ARRAY) else None
    if limit is not None and field.max_text_bytes > limit:
        yield "text_length", None, f"texts of up to {field.max_text_bytes} bytes, the column holds {limit}"
    if column.type is FieldType.ARRAY:
        yield from _array_misfits(column, field)


def _array_misfits(column: FieldSchema, field: FieldProfile) -> Iterator[tuple[str, int | None, str]]:
    fitting = accepted(column.element) if column.element is not None else _ANYTHING
    wrong = sorted(set(field.elements) - fitting)
    if wrong and column.element is not None:
        count = sum(field.elements[kind] for kind in wrong)
        yield "elements", count, f"hold lists of {', '.join(wrong)}, the column's elements are {column.element.value}"
    if column.max_capacity is not None and field.max_list > column.max_capacity:
        yield "list_length", None, f"lists of up to {field.max_list} elements, the column holds {column.max_capacity}"
