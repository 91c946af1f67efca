"""What a search asks for, in Weaviate's words: https://docs.weaviate.io/weaviate/search/filters."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster.databases.base import Where
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import CollectionSchema, FieldType

_WHOLE_TEXT = "field"
"""The only tokenization that keeps a text in one piece: https://docs.weaviate.io/weaviate/config-refs/collections."""

_TYPES = {FieldType.BOOL: "value_boolean", FieldType.INT64: "value_int", FieldType.TEXT: "value_text"}


def filter_of(where: Where | None, schema: CollectionSchema) -> Any:
    """A filter for records whose fields hold these values; None if there are none.

    Raises:
        SchemaMismatch: the server has no index to filter by, or only one of the words of a text.
    """
    from weaviate.proto.v1 import base_pb2

    equal = []
    for name, value in (where or {}).items():
        typed: dict[str, Any] = {_filterable(schema, name): value}
        target = base_pb2.FilterTarget(property=name)
        equal.append(base_pb2.Filters(operator=base_pb2.Filters.OPERATOR_EQUAL, target=target, **typed))
    if len(equal) < 2:
        return equal[0] if equal else None
    return base_pb2.Filters(operator=base_pb2.Filters.OPERATOR_AND, filters=equal)


def _filterable(schema: CollectionSchema, name: str) -> str:
    """Which kind of value a filter by this property takes."""
    field = next((field for field in schema.fields if field.name == name), None)
    if field is None or field.type not in _TYPES:
        found = "there is no such property" if field is None else f"it is {field.type.value}"
        raise SchemaMismatch(f"Weaviate cannot filter by '{name}': {found}; possible are bool, int64 and text")
    params = {} if field.index is None else field.index.params
    if params.get("indexFilterable") is False:
        raise SchemaMismatch(f"Weaviate cannot filter by '{name}': its indexFilterable is off")
    if field.type is FieldType.TEXT and params.get("tokenization") != _WHOLE_TEXT:
        raise SchemaMismatch(f"Weaviate compares the words of '{name}', not the whole text; tokenization 'field' would")
    return _TYPES[field.type]
