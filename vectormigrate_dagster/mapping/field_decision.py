"""Whether a payload key becomes a declared column of the target, and which.

The simple, exact way comes first: where the target keeps undeclared keys, everything stays as it is there,
null and absent told apart. A column is declared only where a source of the same database has one, where
`mapping.types` asks for one, or where an indexed key is proven (by a full profile) to be always there and of one
plain type. A target with declared fields only gets a column for every key whose profiled values are of one type; what
does not fit goes into the JSON field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vectormigrate_dagster.mapping.columns import INT_RANGES, fitting, inferred, misfits
from vectormigrate_dagster.mapping.field_indexes import has_index, index_for
from vectormigrate_dagster.mapping.field_models import FieldContext, FieldMapping
from vectormigrate_dagster.mapping.profile_models import FieldProfile
from vectormigrate_dagster.model import FieldSchema, FieldType, IndexSpec

_PATH = re.compile(r"[\w-]+", re.ASCII)
"""A key that stands for itself in a path, by which schemaless databases name what they index."""


@dataclass(frozen=True)
class FieldDecision:
    """What becomes of one payload key that is not dropped.

    Args:
        target: the key in the target.
        known: how the source declares or indexes it.
        profiled: what records hold, if any does.
    """

    context: FieldContext
    key: str
    target: str
    known: FieldSchema | None
    profiled: FieldProfile | None

    @property
    def seen(self) -> FieldProfile:
        """What records hold; a key that no sampled record has is absent in all of them."""
        return self.profiled or FieldProfile(absent=self.context.profile.records)

    @property
    def column(self) -> FieldSchema | None:
        """The target's declared column, there already or to create."""
        if self.context.existing is not None:
            there = {field.name: field for field in self.context.existing.fields if field.declared}
            return None if self.packed else there.get(self.target)
        if self.packed:
            return None
        column = self._asked() or self._declared_before() or self._proven() or self._fitting()
        return None if column is None else column.model_copy(update={"index": self.index(column)})

    @property
    def packed(self) -> bool:
        """Whether the owner wants all values of the key in the JSON field."""
        wanted = self.context.options.types.get(self.key) == FieldType.JSON
        return wanted and self.context.json_field is not None and FieldType.JSON not in self.context.target.field_types

    def index(self, column: FieldSchema | None) -> IndexSpec | None:
        """The index to create on the field; none on an undeclared key that would be read as a path, or not at all."""
        spelt = column is not None or self.context.same or _PATH.fullmatch(self.target) is not None
        return index_for(self.known, column, self.context) if spelt else None

    def may_be_named(self) -> bool:
        """Whether a column may have the key's name in the target."""
        pattern = self.context.target.field_name_pattern
        return pattern is None or re.fullmatch(pattern, self.target) is not None

    def cannot_be_null(self) -> bool:
        """Whether the source has a column that the target could have too, were it not for its nulls."""
        target, known = self.context.target, self.known
        could = (
            self.context.existing is None and known is not None and known.declared and known.type in target.field_types
        )
        return could and target.declared_fields and not target.null_fields and self.may_be_named()

    def whole(self, column: FieldSchema | None) -> bool:
        """Whether floats without a fraction become ints."""
        return column is not None and column.type in INT_RANGES and self.context.source_capabilities.numbers_are_floats

    def mapping(self) -> FieldMapping:
        """What to do with the key of each record."""
        column, allow = self.column, self.context.options.allow
        # A declared nullable field of the source cannot tell null from absent itself.
        known = self.known is not None and self.known.declared
        return FieldMapping(
            source=self.key,
            target=self.target,
            column=column,
            absent_as_null=column is not None and column.nullable and (known or f"field.{self.key}.absent" in allow),
            rounds=column is not None and f"field.{self.key}.float32" in allow,
            same=known and self.context.same,
            whole=self.whole(column),
            packed=self.packed,
        )

    def schemas(self) -> Iterator[FieldSchema]:
        """The field to create, if the target has to know of it."""
        column = self.column
        if self.context.existing is not None:
            return
        if column is not None:
            yield column
        elif self.known is not None and not self.packed and (index := self.index(None)) is not None:
            yield FieldSchema(name=self.target, type=self.known.type, index=index, tenant=self.known.tenant)

    def _asked(self) -> FieldSchema | None:
        asked = self.context.options.types.get(self.key)
        if asked is None or not self.context.target.declared_fields:
            return None
        return self._new_column(FieldType(asked))

    def _declared_before(self) -> FieldSchema | None:
        target = self.context.target
        if self.known is None or not self.known.declared or not target.declared_fields or not self.context.same:
            return None
        if self.known.type not in target.field_types or not self.may_be_named():
            return None
        column = self.known.model_copy(update={"name": self.target, "index": None})
        if target.null_fields:
            return column
        # A required column always has a value, whatever its default; of others only a full profile proves it.
        if column.nullable and not (self._in_every_record() and not self.seen.types.get("null")):
            return None
        return column.model_copy(update={"nullable": False, "default": None})

    def _proven(self) -> FieldSchema | None:
        target, seen = self.context.target, self.seen
        indexed = self.known is not None and has_index(self.known)
        if not (target.declared_fields and indexed and self._in_every_record() and self.may_be_named()):
            return None
        plain = inferred(seen, target)
        column = None if plain is None else self._new_column(plain)
        return None if column is None or any(misfits(column, seen)) else column

    def _fitting(self) -> FieldSchema | None:
        if self.context.dynamic or self.context.json_field is None or not self.may_be_named():
            return None
        earlier = next((field for field in self.context.declared_before if field.name == self.key), None)
        if earlier is not None and {earlier.type, earlier.element or earlier.type} <= set(
            self.context.target.field_types
        ):
            return earlier.model_copy(update={"name": self.target})
        return fitting(self.target, self.seen, self.known, self.context.target)

    def _in_every_record(self) -> bool:
        return self.context.profile.complete and self.seen.present > 0 and self.seen.absent == 0

    def _new_column(self, type: FieldType) -> FieldSchema:
        target = self.context.target
        limit = target.max_text_bytes if type is FieldType.TEXT else None
        tenant = self.known is not None and self.known.tenant
        # A key that divides the collection has a value in every record.
        nullable = target.null_fields and not tenant
        return FieldSchema(
            name=self.target,
            type=type,
            declared=True,
            nullable=nullable,
            element=self._element() if type is FieldType.ARRAY else None,
            max_length=limit,
            tenant=tenant,
        )

    def _element(self) -> FieldType | None:
        """What lists hold, where they hold one type and the target has columns of such lists."""
        column = fitting(self.target, self.seen, self.known, self.context.target)
        return None if column is None else column.element
