"""What the loss report says about a payload key, its index, and what of this data is not kept as it is."""

from __future__ import annotations

from collections.abc import Iterator

from vectormigrate_dagster.mapping.columns import INT_RANGES, misfits
from vectormigrate_dagster.mapping.field_decision import FieldDecision
from vectormigrate_dagster.mapping.field_indexes import index_rows
from vectormigrate_dagster.mapping.field_models import FieldContext
from vectormigrate_dagster.mapping.json_counts import packed_counts, packed_text
from vectormigrate_dagster.mapping.keys import shadow
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.model import FieldSchema, FieldType

_LISTED = "such records are refused one by one and listed"


def rows_of(decision: FieldDecision) -> Iterator[LossRow]:
    """One row for the key, one for its index, and one for each thing that is not kept as it is."""
    rows = _Rows(decision)
    yield rows.key_row()
    yield from rows.data_rows()
    if decision.known is not None and decision.context.existing is None:
        column = decision.column
        yield from index_rows(decision.known, column, decision.index(column))


class _Rows:
    def __init__(self, decision: FieldDecision) -> None:
        self._decision = decision
        self._column = decision.column
        self._context = decision.context
        self._seen = decision.seen
        self._packed = packed_counts(decision, self._column)

    def key_row(self) -> LossRow:
        """What becomes of the key itself."""
        decision, column, context = self._decision, self._column, self._context
        known = decision.known
        before = known.type.value if known is not None and known.declared else self._seen.describe()
        after = f"column '{column.name}' {column.type.value}" if column is not None else f"key '{decision.target}'"
        if context.json_field is not None and column is None and (not context.dynamic or self._all_packed()):
            after, reason = f"in '{context.json_field}'", f"{self._why_packed()}, {packed_text(context)}"
            return row("", decision.key, (before, after), Grade.WIDENED, reason)
        return row("", decision.key, (before, after), *self._key_grade(column))

    def _key_grade(self, column: FieldSchema | None) -> tuple[Grade, str]:
        decision, context = self._decision, self._context
        if (refused := self._key_refusal(column)) is not None:
            return Grade.REFUSED, refused
        if column is None and decision.cannot_be_null():
            return Grade.WIDENED, (
                "the target's columns cannot be null, a key may; a full profile without a null, or a type under "
                "mapping.types, makes it a column"
            )
        if decision.target == decision.key or decision.key in context.options.rename:
            return Grade.EXACT, "kept as it is"
        if decision.target == shadow(decision.key, context.keys.shadowed):
            return Grade.WIDENED, f"'{decision.key}' is a name that the target uses itself; a way back restores it"
        return Grade.WIDENED, f"no column can be called '{decision.key}' there; a way back restores it"

    def _key_refusal(self, column: FieldSchema | None) -> str | None:
        """Why the target cannot have the key at all."""
        target, context = self._decision.target, self._context
        if column is None:
            wanted = "give it a type under mapping.types, or drop it"
            return None if context.dynamic else f"the target keeps declared fields only; {wanted}"
        if not self._decision.may_be_named():
            return f"the target does not accept '{target}' as a column's name; rename it under mapping.rename"
        if context.existing is None and column.type not in context.target.field_types:
            return "the target has no columns of that type; name another under mapping.types"
        return None

    def _all_packed(self) -> bool:
        return self._seen.present > 0 and sum(self._packed.values()) >= self._seen.present

    def _why_packed(self) -> str:
        held = packed_counts(self._decision, None)
        if self._decision.packed or not held:
            return "as asked for" if self._decision.packed else "no value was seen"
        return f"{self._context.profile.of(self._seen.present)} hold {' or '.join(held)}"

    def data_rows(self) -> Iterator[LossRow]:
        """What profiled records hold that is not kept as it is."""
        seen, context, target = self._seen, self._context, self._context.target
        column = self._column
        if context.json_field is not None:
            yield from self._packed_rows()
        elif column is not None:
            for what, count, why in misfits(column, seen, whole=self._decision.whole(column)):
                counted = why if count is None else f"{context.profile.of(count)} {why}"
                yield self._loss(what, column.type.value, f"{counted}; {_LISTED}")
        if column is not None:
            yield from self._absent_or_rounded(column)
        if context.json_field is None:
            yield from self._unplaced_rows(column)
        if seen.non_finite:
            odd = f"{seen.non_finite:,} values of '{self._decision.key}' are NaN or infinite"
            yield self._loss("nan", "finite numbers", f"{odd}, which JSON has no form for; {_LISTED}")
        if column is None and target.max_text_bytes is not None and seen.max_text_bytes > target.max_text_bytes:
            reason = f"texts of up to {seen.max_text_bytes} bytes, the target holds {target.max_text_bytes}; {_LISTED}"
            yield self._loss("text_length", "shorter text", reason)
        ints = seen.types.get("int", 0) - seen.big_ints
        if target.numbers_are_floats and ints and not self._all_packed() and not self._decision.packed:
            reason = (
                f"{context.profile.of(ints)} hold an int, which comes back as the same number with a fraction (1.0)"
            )
            yield row("float", self._decision.key, ("int", "float"), Grade.WIDENED, reason)

    def _packed_rows(self) -> Iterator[LossRow]:
        """A row for values that go into the JSON field, beside those that stay where they are."""
        context = self._context
        if not self._packed or self._decision.packed or (self._column is None and not context.dynamic):
            return
        if self._column is None and self._all_packed():
            return
        count, held = sum(self._packed.values()), " or ".join(self._packed)
        reason = f"{context.profile.of(count)} hold {held}: {packed_text(context)}"
        yield row("json", self._decision.key, (held, f"in '{context.json_field}'"), Grade.WIDENED, reason)

    def _unplaced_rows(self, column: FieldSchema | None) -> Iterator[LossRow]:
        """What a target without a JSON field has no place for."""
        seen, context = self._seen, self._context
        if column is None or column.type not in INT_RANGES:
            yield from self._int_rows()
        missing = {kind: count for kind, count in seen.types.items() if kind not in context.target.payload_types}
        if missing and column is None:
            those = context.profile.of(sum(missing.values()))
            yield self._loss("type", "not held", f"{those} hold {', '.join(sorted(missing))}; {_LISTED}")

    def _absent_or_rounded(self, column: FieldSchema) -> Iterator[LossRow]:
        seen, of, known = self._seen, self._context.profile.of, self._decision.known
        fills = column.nullable or column.default is not None
        tells_apart = "null" not in self._context.target.payload_types and column.default is None
        if fills and seen.absent and not tells_apart and not (known is not None and known.declared):
            filled = "null" if column.default is None else f"the default {column.default!r}"
            reason = f"{of(seen.absent)} lack the key; a column cannot tell that from {filled}"
            yield self._loss("absent", filled, reason)
        if column.type is FieldType.FLOAT32 and seen.inexact_float32:
            key = self._decision.key
            reason = f"{seen.inexact_float32:,} sampled values of '{key}' are not float32 numbers and get rounded"
            yield self._loss("float32", "float32", reason)

    def _int_rows(self) -> Iterator[LossRow]:
        seen, target, profile = self._seen, self._context.target, self._context.profile
        if seen.min_int is None or seen.max_int is None:
            return
        if target.min_int <= seen.min_int <= seen.max_int <= target.max_int:
            return
        if target.max_int <= 2**53:
            count, what, bound = seen.beyond_double, "int_precision", "2^53"
        else:
            count, what, bound = seen.beyond_int64, "int_range", "int64"
        which = "values" if profile.complete else "sampled values"
        greatest = max(seen.max_int, -seen.min_int)
        reason = f"{count:,} {which} of '{self._decision.key}' are beyond {bound}, up to {greatest}; {_LISTED}"
        yield self._loss(what, f"ints within {bound}", reason)

    def _loss(self, what: str, target: str, reason: str) -> LossRow:
        return row(what, self._decision.key, (self._seen.describe(), target), Grade.LOSSY, reason)


def uncovered_row(column: FieldSchema) -> LossRow:
    """What records get in a column of an existing target for which the source has nothing."""
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


def payload_rows(context: FieldContext) -> Iterator[LossRow]:
    """Rows for whole payloads: their size, and the field that keeps what has no other place."""
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
    unpacked, repeated = context.profile.unpacked, context.profile.repeated
    if unpacked:
        reason = f"{context.profile.of(unpacked)} hold values there that an earlier migration kept; they come back"
        # Without a note in the collection, such a text could also be the application's own.
        grade = Grade.EXACT if context.source.marker else Grade.WIDENED
        yield _json_row("unpacked", f"'{context.before.json_field}'", "keys of their own", grade, reason)
    if repeated:
        reason = f"{context.profile.of(repeated)} have a key both there and outside; {_LISTED}"
        yield _json_row("repeated", f"'{context.before.json_field}'", "one value", Grade.LOSSY, reason)
    if context.json_field is not None:
        reason = "also keeps values that the profile has not seen and that have no other place"
        yield _json_row("json_field", "none", f"'{context.json_field}' where needed", Grade.EXACT, reason)


def _json_row(code: str, source: str, target: str, grade: Grade, reason: str) -> LossRow:
    return LossRow(code=code, subject="values as JSON text", source=source, target=target, grade=grade, reason=reason)


def row(what: str, key: str, change: tuple[str, str], grade: Grade, reason: str) -> LossRow:
    """A row about a payload key."""
    code = f"field.{key}.{what}" if what else f"field.{key}"
    source, target = change
    return LossRow(code=code, subject=f"field '{key}'", source=source, target=target, grade=grade, reason=reason)
