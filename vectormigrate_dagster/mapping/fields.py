"""What becomes of payload keys and declared fields.

The simple, exact way comes first: where the target keeps undeclared keys, everything stays as it is there,
null and absent told apart. A column is declared only where the source has one, where `mapping.types` asks
for one, or where an indexed key is proven (by a full profile) to be always there and of one plain type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.mapping.columns import INT_RANGES, inferred, misfits
from vectormigrate_dagster.mapping.field_indexes import index_for, index_rows
from vectormigrate_dagster.mapping.keys import KeyRules, shadow
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.mapping.profile_models import FieldProfile, Profile
from vectormigrate_dagster.model import Capabilities, CollectionSchema, FieldSchema, FieldType


class FieldMapping(BaseModel):
    """What becomes of one payload key.

    Args:
        column: the target's declared column; None where the key stays undeclared.
        absent_as_null: a record without the key gets null, unless the column has a default, which every such
            record gets; otherwise such a record is refused by a column.
        rounds: floats may be rounded to float32; otherwise a record whose float would change is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    column: FieldSchema | None = None
    absent_as_null: bool = False
    rounds: bool = False

    @property
    def conversion(self) -> str:
        """What happens to values: `copy`, or the type of the column that takes them."""
        return "copy" if self.column is None else self.column.type.value


class Limits(BaseModel):
    """What one payload of the target may hold, whatever its keys; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_int: int
    max_int: int
    types: tuple[str, ...]
    max_text_bytes: int | None = None
    max_payload_bytes: int | None = None

    @classmethod
    def of(cls, target: Capabilities) -> Limits:
        """The limits that a database declares."""
        return cls(
            min_int=target.min_int,
            max_int=target.max_int,
            types=tuple(sorted(target.payload_types)),
            max_text_bytes=target.max_text_bytes,
            max_payload_bytes=target.max_payload_bytes,
        )


@dataclass(frozen=True)
class MappedFields:
    """The fields of a plan: what to do, what to create, what to report."""

    mappings: tuple[FieldMapping, ...]
    schemas: tuple[FieldSchema, ...]
    rows: tuple[LossRow, ...]


@dataclass(frozen=True)
class FieldContext:
    """What the decision about a field depends on."""

    source: CollectionSchema
    source_capabilities: Capabilities
    target: Capabilities
    options: MappingConfig
    profile: Profile
    keys: KeyRules
    existing: CollectionSchema | None = None

    @property
    def dynamic(self) -> bool:
        """Whether the target keeps keys that it does not declare."""
        return self.target.dynamic_fields if self.existing is None else self.existing.dynamic


def map_fields(
    context: FieldContext, removed: frozenset[str] = frozenset(), added: frozenset[str] = frozenset()
) -> MappedFields:
    """Decide for each key that the source declares, indexes or was seen to hold.

    Args:
        removed: keys that an earlier migration added and that now come back as ids or scopes.
        added: keys of the target that keep an id or scope.
    """
    known = {field.name: field for field in context.source.fields}
    keys = [key for key in dict.fromkeys([*known, *context.profile.fields]) if key not in removed]
    mappings: list[FieldMapping] = []
    schemas: list[FieldSchema] = []
    rows: list[LossRow] = []
    origin: dict[str, str] = {}
    for key in keys:
        target = context.keys.target_of(key)
        if target is None:
            rows.append(_row("", key, ("any", "dropped"), Grade.EXACT, "as asked for"))
            continue
        decision = _Decision(context, key, target, known.get(key), context.profile.fields.get(key))
        mappings.append(decision.mapping())
        rows += decision.rows()
        schemas += decision.schemas()
        if target in origin:
            reason = f"'{origin[target]}' and '{key}' would both be '{target}'; change mapping.rename"
            rows.append(_row("rename", key, (key, target), Grade.REFUSED, reason))
        origin[target] = key
    for column in _uncovered(context, {*origin, *added}):
        mappings.append(
            FieldMapping(source=column.name, target=column.name, column=column, absent_as_null=column.nullable)
        )
        rows.append(_uncovered_row(column))
    rows += _whole_payload(context)
    return MappedFields(tuple(mappings), tuple(schemas), tuple(rows))


@dataclass(frozen=True)
class _Decision:
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
            return there.get(self.target)
        column = self._asked() or self._declared_before() or self._proven()
        return None if column is None else column.model_copy(update={"index": self._index(column)})

    def _asked(self) -> FieldSchema | None:
        asked = self.context.options.types.get(self.key)
        if asked is None or not self.context.target.declared_fields:
            return None
        return self._new_column(FieldType(asked))

    def _declared_before(self) -> FieldSchema | None:
        target = self.context.target
        if self.known is None or not self.known.declared or not target.declared_fields:
            return None
        if self.known.type not in target.field_types or not self._may_be_named():
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
        indexed = self.known is not None and self.known.index is not None
        if not (target.declared_fields and indexed and self._in_every_record() and self._may_be_named()):
            return None
        plain = inferred(seen, target)
        column = None if plain is None else self._new_column(plain)
        return None if column is None or any(misfits(column, seen)) else column

    def _in_every_record(self) -> bool:
        return self.context.profile.complete and self.seen.present > 0 and self.seen.absent == 0

    def _new_column(self, type: FieldType) -> FieldSchema:
        target = self.context.target
        limit = target.max_text_bytes if type is FieldType.TEXT else None
        tenant = self.known is not None and self.known.tenant
        # A key that divides the collection has a value in every record.
        nullable = target.null_fields and not tenant
        return FieldSchema(
            name=self.target, type=type, declared=True, nullable=nullable, max_length=limit, tenant=tenant
        )

    def _may_be_named(self) -> bool:
        pattern = self.context.target.field_name_pattern
        return pattern is None or re.fullmatch(pattern, self.target) is not None

    def _cannot_be_null(self) -> bool:
        """Whether the source has a column that the target could have too, were it not for its nulls."""
        target, known = self.context.target, self.known
        could = (
            self.context.existing is None and known is not None and known.declared and known.type in target.field_types
        )
        return could and target.declared_fields and not target.null_fields and self._may_be_named()

    def _index(self, column: FieldSchema | None) -> Any:
        return None if self.known is None else index_for(self.known, column, self.context)

    def mapping(self) -> FieldMapping:
        column, allow = self.column, self.context.options.allow
        # A declared nullable field of the source cannot tell null from absent itself.
        same = self.known is not None and self.known.declared
        return FieldMapping(
            source=self.key,
            target=self.target,
            column=column,
            absent_as_null=column is not None and column.nullable and (same or f"field.{self.key}.absent" in allow),
            rounds=column is not None and f"field.{self.key}.float32" in allow,
        )

    def schemas(self) -> Iterator[FieldSchema]:
        """The field to create, if the target has to know of it."""
        column = self.column
        if self.context.existing is not None:
            return
        if column is not None:
            yield column
        elif self.known is not None and (index := self._index(None)) is not None:
            yield FieldSchema(name=self.target, type=self.known.type, index=index, tenant=self.known.tenant)

    def rows(self) -> Iterator[LossRow]:
        """One row for the key, one for its index, and one for each thing that could be lost."""
        column = self.column
        yield self._key_row(column)
        yield from self._data_rows(column)
        if self.known is not None and self.context.existing is None:
            yield from index_rows(self.known, column, self._index(column))

    def _key_row(self, column: FieldSchema | None) -> LossRow:
        before = self.known.type.value if self.known is not None and self.known.declared else self.seen.describe()
        after = f"column '{self.target}' {column.type.value}" if column is not None else f"key '{self.target}'"
        grade, reason = Grade.EXACT, "kept as it is"
        if column is None and not self.context.dynamic:
            grade = Grade.REFUSED
            reason = "the target keeps declared fields only; give it a type under mapping.types, or drop it"
        elif column is not None and not self._may_be_named():
            grade = Grade.REFUSED
            reason = f"the target does not accept '{self.target}' as a column's name; rename it under mapping.rename"
        elif (
            column is not None and self.context.existing is None and column.type not in self.context.target.field_types
        ):
            grade, reason = Grade.REFUSED, "the target has no columns of that type; name another under mapping.types"
        elif column is None and self._cannot_be_null():
            grade = Grade.WIDENED
            reason = (
                "the target's columns cannot be null, a key may; a full profile without a null, or a type under "
                "mapping.types, makes it a column"
            )
        elif self.target != self.key and self.key not in self.context.options.rename:
            grade, reason = Grade.WIDENED, f"'{self.key}' is a name that the target uses itself; a way back restores it"
            if self.target not in (self.key, shadow(self.key, self.context.keys.shadowed)):
                grade, reason = Grade.EXACT, "its name before an earlier migration"
        return _row("", self.key, (before, after), grade, reason)

    def _data_rows(self, column: FieldSchema | None) -> Iterator[LossRow]:
        seen, listed = self.seen, "such records are refused one by one and listed"
        target = self.context.target
        if column is not None:
            for what, count, why in misfits(column, seen):
                counted = why if count is None else f"{self.context.profile.of(count)} {why}"
                yield self._loss(what, column.type.value, f"{counted}; {listed}")
            yield from self._absent_or_rounded(column)
        if column is None or column.type not in INT_RANGES:
            yield from self._int_rows(listed)
        if seen.non_finite:
            odd = f"{seen.non_finite:,} values of '{self.key}' are NaN or infinite"
            yield self._loss("nan", "finite numbers", f"{odd}, which JSON has no form for; {listed}")
        missing = {kind: count for kind, count in seen.types.items() if kind not in target.payload_types}
        if missing and column is None:
            those = self.context.profile.of(sum(missing.values()))
            yield self._loss("type", "not held", f"{those} hold {', '.join(sorted(missing))}; {listed}")
        if column is None and target.max_text_bytes is not None and seen.max_text_bytes > target.max_text_bytes:
            reason = f"texts of up to {seen.max_text_bytes} bytes, the target holds {target.max_text_bytes}; {listed}"
            yield self._loss("text_length", "shorter text", reason)

    def _absent_or_rounded(self, column: FieldSchema) -> Iterator[LossRow]:
        seen, of = self.seen, self.context.profile.of
        if (
            (column.nullable or column.default is not None)
            and seen.absent
            and not (self.known is not None and self.known.declared)
        ):
            filled = "null" if column.default is None else f"the default {column.default!r}"
            reason = f"{of(seen.absent)} lack the key; a column cannot tell that from {filled}"
            yield self._loss("absent", filled, reason)
        if column.type is FieldType.FLOAT32 and seen.inexact_float32:
            reason = f"{seen.inexact_float32:,} sampled values of '{self.key}' are not float32 numbers and get rounded"
            yield self._loss("float32", "float32", reason)

    def _int_rows(self, listed: str) -> Iterator[LossRow]:
        seen, target = self.seen, self.context.target
        if (
            seen.min_int is None
            or seen.max_int is None
            or target.min_int <= seen.min_int <= seen.max_int <= target.max_int
        ):
            return
        if target.max_int <= 2**53:
            count, what, bound = seen.beyond_double, "int_precision", "2^53"
        else:
            count, what, bound = seen.beyond_int64, "int_range", "int64"
        which = "values" if self.context.profile.complete else "sampled values"
        reason = (
            f"{count:,} {which} of '{self.key}' are beyond {bound}, up to {max(seen.max_int, -seen.min_int)}; {listed}"
        )
        yield self._loss(what, f"ints within {bound}", reason)

    def _loss(self, what: str, target: str, reason: str) -> LossRow:
        return _row(what, self.key, (self.seen.describe(), target), Grade.LOSSY, reason)


def _uncovered(context: FieldContext, covered: set[str]) -> list[FieldSchema]:
    """Columns of a target that is there already for which the source has nothing."""
    there = context.existing.fields if context.existing is not None else ()
    return [field for field in there if field.declared and field.name not in covered]


def _uncovered_row(column: FieldSchema) -> LossRow:
    """What records get in a column for which the source has nothing."""
    filled = "its default" if column.default is not None else "null" if column.nullable else "no value"
    grade = Grade.REFUSED if filled == "no value" else Grade.WIDENED
    reason = "the source has no such field, and the column needs a value; rename a field to it under mapping.rename"
    return LossRow(
        code=f"column.{column.name}",
        subject=f"column '{column.name}' of the target",
        source="nothing",
        target=filled,
        grade=grade,
        reason=reason if grade is Grade.REFUSED else "the source has no such field",
    )


def _whole_payload(context: FieldContext) -> Iterator[LossRow]:
    limit, seen = context.target.max_payload_bytes, context.profile.max_payload_bytes
    if limit is not None and seen > limit:
        yield LossRow(
            code="payload.size",
            subject="payload",
            source=f"up to about {seen:,} bytes",
            target=f"{limit:,} bytes",
            grade=Grade.LOSSY,
            reason="records with a greater payload are refused one by one and listed; drop a field to make them fit",
        )


def _row(what: str, key: str, change: tuple[str, str], grade: Grade, reason: str) -> LossRow:
    code = f"field.{key}.{what}" if what else f"field.{key}"
    source, target = change
    return LossRow(code=code, subject=f"field '{key}'", source=source, target=target, grade=grade, reason=reason)
