"""Properties of a class as our fields, and back.

https://docs.weaviate.io/weaviate/config-refs/datatypes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import FieldSchema, FieldType, IndexSpec

_TYPES: dict[str, FieldType] = {
    "text": FieldType.TEXT,
    "string": FieldType.TEXT,  # what text was called before 1.19
    "int": FieldType.INT64,
    "number": FieldType.FLOAT64,
    "boolean": FieldType.BOOL,
    "date": FieldType.DATETIME,
    "uuid": FieldType.UUID,
    "geoCoordinates": FieldType.GEO,
    "phoneNumber": FieldType.PHONE,
    "blob": FieldType.BLOB,
    "blobHash": FieldType.TEXT,  # the hash is what it gives back
    "object": FieldType.OBJECT,
}
_WORDS: dict[FieldType, str] = {one: word for word, one in _TYPES.items() if word not in ("string", "blobHash")}
_IN_ARRAYS = frozenset(_WORDS) - {FieldType.GEO, FieldType.PHONE, FieldType.BLOB}
_NOT_NESTED = frozenset({FieldType.GEO, FieldType.PHONE, FieldType.REFERENCE})
"""usecases/schema/validation.go: `validateNestedPropertyDataType`."""

_SWITCHES = ("indexFilterable", "indexSearchable", "indexRangeFilters")
_OWN_PLACE = ("name", "dataType", "nestedProperties", "moduleConfig")

NO_INDEX = "none"
INVERTED = "inverted"


def read_property(raw: Mapping[str, Any]) -> FieldSchema:
    """A property, or one within an object, as the server describes it."""
    words: list[str] = raw["dataType"]
    word = words[0].removesuffix("[]")
    own = {key: value for key, value in raw.items() if key not in _OWN_PLACE and value not in (None, "")}
    indexed = any(own.get(switch) for switch in _SWITCHES)
    field = FieldSchema(
        name=raw["name"],
        declared=True,
        index=IndexSpec(type=INVERTED if indexed else NO_INDEX, params=own),
        fields=tuple(read_property(nested) for nested in raw.get("nestedProperties") or ()),
    )
    if word not in _TYPES:  # the names of the classes that it may point to begin with a capital
        return field.model_copy(update={"type": FieldType.REFERENCE, "targets": tuple(words)})
    if words[0].endswith("[]"):
        return field.model_copy(update={"type": FieldType.ARRAY, "element": _TYPES[word]})
    return field.model_copy(update={"type": _TYPES[word]})


def write_property(field: FieldSchema, *, nested: bool = False) -> dict[str, Any]:
    """A property to create; without an index specification it is indexed as the server does it by default.

    Raises:
        SchemaMismatch: Weaviate has no such property.
    """
    written: dict[str, Any] = {"name": field.name, "dataType": _data_type(field, nested=nested)}
    index = field.index
    if index is not None and index.type == NO_INDEX:
        written |= {"indexFilterable": False, "indexSearchable": False}
    if index is not None and index.type in (INVERTED, NO_INDEX):
        written |= index.params
    if FieldType.OBJECT in (field.type, field.element):
        written["nestedProperties"] = [write_property(one, nested=True) for one in field.fields]
    return written


def walk(fields: tuple[FieldSchema, ...]) -> Iterator[FieldSchema]:
    """Every field and those within it."""
    for field in fields:
        yield field
        yield from walk(field.fields)


def _data_type(field: FieldSchema, *, nested: bool) -> list[str]:
    if nested and field.type in _NOT_NESTED:
        raise SchemaMismatch(f"Weaviate has no {field.type.value} within an object (field '{field.name}')")
    if field.type is FieldType.REFERENCE:
        if not field.targets:
            raise SchemaMismatch(f"reference '{field.name}' names no collection that it may point to")
        return list(field.targets)
    if field.type is FieldType.ARRAY:
        if field.element not in _IN_ARRAYS:
            element = "any type" if field.element is None else field.element.value
            raise SchemaMismatch(f"Weaviate has no lists of {element} (field '{field.name}')")
        return [f"{_WORDS[field.element]}[]"]
    if field.type not in _WORDS:
        raise SchemaMismatch(
            f"Weaviate has no type {field.type.value} (field '{field.name}'); "
            f"possible are {', '.join(sorted(one.value for one in _WORDS))}"
        )
    return [_WORDS[field.type]]
