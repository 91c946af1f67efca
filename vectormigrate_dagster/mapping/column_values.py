"""Whether a declared column holds one value exactly."""

from __future__ import annotations

import base64
import math
import re
import uuid
from typing import Any

from vectormigrate_dagster.mapping.columns import INT_RANGES, accepted
from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.profiler import fits_float32, is_negative_zero, json_type
from vectormigrate_dagster.model import FieldSchema, FieldType

_RFC3339 = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
"""A time with its zone, without zeros that a database would leave out: https://www.rfc-editor.org/rfc/rfc3339"""


def misfit(column: FieldSchema, value: Any, *, rounds: bool = False) -> str | None:
    """Why a column cannot hold a value exactly; None if it can.

    Raises:
        TypeError: the value is not JSON.
    """
    if value is None:
        return _null_misfit(column)
    kind = json_type(value)
    if kind not in accepted(column.type):
        return f"is {kind}, the column is {column.type.value}"
    if column.type in INT_RANGES:
        low, high = INT_RANGES[column.type]
        return None if low <= value <= high else f"is {value}, the column holds {low} to {high}"
    if column.type is FieldType.FLOAT32 and math.isfinite(value) and not rounds and not fits_float32(value):
        return f"is {value!r}, which a float32 column would round"
    if column.type is FieldType.TEXT:
        return too_long(value, column.max_length)
    return _array_misfit(column, value) if column.type is FieldType.ARRAY else None


def holds(column: FieldSchema, value: Any, limits: Limits, *, same: bool = False) -> bool:
    """Whether a column of a database with a JSON field gives a value back as it is.

    Args:
        limits: of the database.
        same: the value comes out of such a column, so it is spelt as that spells it.

    Raises:
        TypeError: the value is not JSON.
    """
    if json_type(value) not in limits.types or misfit(column, value) is not None:
        return False
    if isinstance(value, list):
        element = column.model_copy(update={"type": column.element or FieldType.ANY, "element": None})
        return all(holds(element, one, limits, same=same) for one in value)
    if isinstance(value, float):
        return limits.negative_zero or not is_negative_zero(value)
    if type(value) is int:
        return bool(limits.min_int <= value <= limits.max_int)
    if isinstance(value, dict) and not same and column.type is FieldType.OBJECT:
        inner = {field.name: field for field in column.fields}
        return all(key in inner and holds(inner[key], one, limits) for key, one in value.items())
    return same or not _respelt(column.type, value)


def _respelt(type: FieldType, value: Any) -> bool:
    """Whether a column gives back a value of another database in another spelling."""
    if type is FieldType.DATETIME:
        return _RFC3339.fullmatch(value) is None or str(value).endswith(("+00:00", "-00:00"))
    if type is FieldType.UUID:
        try:
            return bool(str(uuid.UUID(value)) != value)
        except ValueError:
            return True
    if type is FieldType.GEO:
        return not _are_coordinates(value)
    if type is FieldType.BLOB:
        return not _is_base64(value)
    return type is FieldType.PHONE and not _is_telephone_number(value)


def _is_telephone_number(value: dict[str, Any]) -> bool:
    known = {"input"} <= value.keys() <= {"input", "defaultCountry"}
    if not known or not all(isinstance(part, str) for part in value.values()):
        return False
    country = value.get("defaultCountry", "NL")
    return bool(country) and country.isascii() and country == country.upper()


def _are_coordinates(value: Any) -> bool:
    """Whether an object is latitude and longitude that are float32 numbers."""
    if not isinstance(value, dict) or value.keys() != {"latitude", "longitude"}:
        return False
    return all(isinstance(part, float) and math.isfinite(part) and fits_float32(part) for part in value.values())


def _is_base64(value: str) -> bool:
    """Whether a text is what bytes are written as in base64."""
    try:
        return base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
    except ValueError:
        return False


def too_long(text: str, limit: int | None) -> str | None:
    """Why a text is longer than a limit in UTF-8 bytes; None if it is not."""
    if limit is None or len(text) * 4 <= limit:
        return None
    size = len(text.encode("utf-8", "surrogatepass"))
    return f"has a text of {size} bytes, the target holds {limit}" if size > limit else None


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
