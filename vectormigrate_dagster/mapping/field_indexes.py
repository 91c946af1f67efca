"""What becomes of indexes on payload fields: they make filters fast, the data does not depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.model import Capabilities, FieldSchema, FieldType, IndexSpec

if TYPE_CHECKING:
    from vectormigrate_dagster.mapping.field_models import FieldContext

_WORDS: dict[FieldType, str] = {
    FieldType.BOOL: "bool",
    FieldType.INT8: "integer",
    FieldType.INT16: "integer",
    FieldType.INT32: "integer",
    FieldType.INT64: "integer",
    FieldType.FLOAT32: "float",
    FieldType.FLOAT64: "float",
    FieldType.TEXT: "keyword",
    FieldType.DATETIME: "datetime",
    FieldType.GEO: "geo",
    FieldType.UUID: "uuid",
}
"""The kind of payload index that answers filters on a field of this type, in the words of a schemaless database."""

_GENERAL = ("INVERTED", "AUTOINDEX")
"""Kinds of index that fit a column of any plain type."""


NO_INDEX = "none"
"""The type of an index specification that says that there is none, where a database makes one unless it is told."""


def index_for(known: FieldSchema | None, column: FieldSchema | None, context: FieldContext) -> IndexSpec | None:
    """The index to create for a field; None if there is none.

    Args:
        known: how the source declares or indexes the field.
        column: the target's declared column.
    """
    target = context.target
    if (
        known is not None
        and known.index is not None
        and context.same
        and (column is not None) == target.declared_fields
    ):
        return known.index
    if column is not None and not target.dynamic_fields and not (known is not None and context.same):
        # Where every key has to be declared, an index makes it as findable as an undeclared one is elsewhere.
        return IndexSpec(type=target.payload_indexes[0]) if target.payload_indexes else None
    if known is None or not (has_index(known) or known.tenant) or (column is None and target.declared_fields):
        return None
    if column is not None:
        word = next((word for word in _GENERAL if word in target.payload_indexes), None)
    else:
        word = _payload_word(known, target)
    return None if word is None else IndexSpec(type=word)


def unindexed(target: Capabilities) -> IndexSpec | None:
    """What tells a target to make no index on a column."""
    return IndexSpec(type=NO_INDEX) if NO_INDEX in target.payload_indexes else None


def has_index(field: FieldSchema) -> bool:
    """Whether the database has an index on the field."""
    return field.index is not None and field.index.type != NO_INDEX


def _payload_word(known: FieldSchema, target: Capabilities) -> str | None:
    plain = known.element if known.type is FieldType.ARRAY and known.element is not None else known.type
    word = _WORDS.get(plain)
    return word if word in target.payload_indexes else None


def index_rows(known: FieldSchema, column: FieldSchema | None, index: IndexSpec | None) -> Iterator[LossRow]:
    """Rows for the index, the division by this field, and the rules of a declared field of the source."""
    name = known.name
    if known.index is not None and (has_index(known) or known.index == index):
        after = index.type if index is not None else "none"
        yield _row("index", f"index on '{name}'", known.index.type, after, kept=known.index == index)
    if known.tenant:
        kept = index is not None if column is None else column.tenant
        yield _row("tenant", f"tenants by '{name}'", "divides", "divides" if kept else "plain field", kept=kept)
    if known.default is not None:
        kept = column is not None and column.default == known.default
        yield _row("default", f"default of '{name}'", str(known.default), "the same" if kept else "none", kept=kept)
    if known.declared and not known.nullable:
        kept = column is not None and not column.nullable
        yield _row("required", f"requirement of '{name}'", "not null", "not null" if kept else "none", kept=kept)


_WHY = {
    "index": "the index that answers the same filters; without one such a filter reads every record",
    "tenant": "filters still work; the target does not store tenants together",
    "default": "stored values are moved; the target does not fill in new ones",
    "required": "stored values are moved; the target does not insist on new ones",
}


def _row(what: str, subject: str, before: str, after: str, *, kept: bool) -> LossRow:
    name = subject.split("'", 1)[1][:-1]
    return LossRow(
        code=f"field.{name}.{what}",
        subject=subject,
        source=before,
        target=after,
        grade=Grade.EXACT if kept else Grade.WIDENED,
        reason="kept" if kept else _WHY[what],
    )
