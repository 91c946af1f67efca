"""Whether payloads would come back as they are: usual values at one look, the others by the whole check of `values`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vectormigrate_dagster.databases.weaviate.capabilities import LARGEST_INT
from vectormigrate_dagster.databases.weaviate.values import by_name, misfit, unreadable
from vectormigrate_dagster.model import FieldSchema, FieldType, Payload


def misfits(payloads: Iterable[Payload], fields: Sequence[FieldSchema]) -> dict[int, str]:
    """Rows of payloads that a server would change or lose, and why.

    Args:
        fields: of the class.
    """
    known = by_name(fields)
    looks = {field.name: _look(field) for field in fields}
    rows: dict[int, str] = {}
    for row, payload in enumerate(payloads):
        for name, value in payload.items():
            look = looks.get(name)
            if look is None or not look(value):
                reason = misfit(payload, known) or unreadable(payload, known)
                rows |= {} if reason is None else {row: reason}
                break
    return rows


def _look(field: FieldSchema) -> Callable[[Any], bool] | None:
    """A function that is True only of values that come back as they are; None where one look tells nothing."""
    if field.type is not FieldType.ARRAY or field.element is None:
        return _LOOKS.get(field.type)
    one = _LOOKS.get(field.element)
    return None if one is None else lambda values: type(values) is list and all(map(one, values))


_LOOKS: dict[FieldType, Callable[[Any], bool]] = {
    FieldType.TEXT: lambda value: type(value) is str and value.isascii(),
    FieldType.INT64: lambda value: type(value) is int and -LARGEST_INT <= value <= LARGEST_INT,
    FieldType.FLOAT64: lambda value: type(value) is float and value - value == 0,  # neither NaN nor infinite
    FieldType.BOOL: lambda value: type(value) is bool,
}
